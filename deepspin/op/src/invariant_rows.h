// SPDX-License-Identifier: Apache-2.0
// Rows of the least-squares fit of the baseline: derivatives of each column along each axis of
// each pair. Eight pairs are eight lanes of duals, so the columns are those of linear.h.
#pragma once

#include "invariant_chunk.h"

namespace deepspin {
namespace DEEPSPIN_ISA {
namespace {

constexpr int ROW_PARTS = 8;  // of a frame, each with sums of its own; whatever the threads

// Takes columns as they are.
struct Columns {
  Dual<Octet>* to;
  Dual<Octet> operator()(Dual<Octet> column) {
    *to++ = column;
    return {Octet{}, Octet{}};
  }
};

// In place of a pull that nobody asks for.
struct Nowhere {
  Nowhere from(int64_t) const { return {}; }
  template <class N>
  void add(int64_t, N) const {}
};

// Sums of rows, as `InvariantRows` has them, of one frame.
struct RowSums {
  double *energy, *force, *force_mag, *virial;
  static size_t size(const Invariant& p, int numbers) { return (10 + 6 * size_t(p.nloc)) * numbers; }
  RowSums(const Invariant& p, int numbers, double* at)
      : energy(at),
        force(at + numbers),
        force_mag(force + size_t(3) * p.nloc * numbers),
        virial(force_mag + size_t(3) * p.nloc * numbers) {}
};

// The columns of one centre, and where their derivatives go.
class CentreRows {
  using N = Dual<Octet>;

 public:
  CentreRows(const Invariant& p, const Shape& s, const InvariantRows& out, const RowSums& to)
      : p_(p), s_(s), out_(out), to_(to), sums_(p.ntypes) {
    Arena measure;
    PairRows::in(measure, p, 2);
    pair_memory_.resize(measure.used() / sizeof(double) + 8);
    const uintptr_t at = reinterpret_cast<uintptr_t>(pair_memory_.data());
    Arena arena(reinterpret_cast<char*>((at + 63) / 64 * 64));
    pairs_ = PairRows::in(arena, p, 2);
    for (int e = 0; e < p.ntypes; ++e) sums_[e].resize(size_t(p.nradial) * s.blocks[e].width * LANE);
    rows_.resize(size_t(p.ntypes) * p.ncross * s.row.width * LANE);
  }

  // Rows of centre i of type t with given sums of each block.
  void add(int t, int f, int i, const std::vector<const double*>& given) {
    const int count = numbers_of(p_, t);
    columns_.resize(count);
    turned_.resize(size_t(8) * round_up(count, 8));
    own_.assign(size_t(12) * count, 0.0);
    for (int e = 0; e < p_.ntypes; ++e)
      for (size_t k = 0; k < sums_[e].size() / LANE; ++k)
        put(&sums_[e][k * LANE], 8, N{Octet{} + given[e][k], Octet{}});
    const double* spin = p_.spin + (size_t(f) * p_.nall + i) * 3;
    N s[3];
    for (int x = 0; x < 3; ++x) {
      s[x] = {Octet{} + (p_.magnetic[t] ? spin[x] : 0.0), Octet{}};
      s[x].d[x] = 1.0;  // lanes are axes of the centre's spin
    }
    run(t, s);
    for (int n = 0; n < count; ++n) {
      to_.energy[out_.place[t][n]] += columns_[n].x[0];
      for (int x = 0; p_.magnetic[t] && x < 3; ++x)
        to_.force_mag[at(i, x) + out_.place[t][n]] -= columns_[n].d[x];
    }
    for (int x = 0; x < 3; ++x) s[x].d = Octet{};
    for (int e = 0; e < p_.ntypes; ++e)
      for (int axis = 0; axis < (p_.magnetic[e] ? 6 : 3); ++axis) add_block(t, f, i, e, axis, s);
    for (int n = 0; n < count; ++n)
      for (int x = 0; x < 3; ++x) {
        to_.force[at(i, x) + out_.place[t][n]] += own_[size_t(x) * count + n];
        for (int y = 0; y < 3; ++y)
          to_.virial[size_t(3 * x + y) * out_.numbers + out_.place[t][n]] -=
              own_[size_t(3 + 3 * x + y) * count + n];
      }
  }

 private:
  static constexpr int LANE = 16;  // doubles of a number of eight lanes

  size_t at(int atom, int axis) const { return (size_t(atom) * 3 + axis) * out_.numbers; }

  // Columns of the present sums.
  void run(int t, const N* s) {
    const size_t row = size_t(s_.row.width) * LANE;
    for (int e = 0; e < p_.ntypes; ++e)
      for (int k = 0; k < p_.ncross; ++k)
        for (const Segment& part : s_.segments[e]) {
          const double* from = &sums_[e][(size_t(k) * s_.blocks[e].width + part.from) * LANE];
          std::copy(from, from + part.size * LANE,
                    &rows_[(size_t(e) * p_.ncross + k) * row + part.to * LANE]);
        }
    N nothing[3] = {};
    Linear<N, Columns> linear{p_, s_.row, t, s, nothing, {columns_.data()}};
    for (int e = 0; e < p_.ntypes; ++e) linear.first(e, Lane<N>{sums_[e].data(), 8}, Nowhere());
    linear.site();
    if (p_.ncross == 0) return;
    const Lane<N> rows{rows_.data(), 8};
    for (int n = 0; n < p_.ntypes * p_.ncross; ++n) derive(s_.row, s, rows.from(n * s_.row.width));
    linear.second(rows, Nowhere());
  }

  // Rows of the neighbours in a block along one axis, of the separation or of their spins.
  void add_block(int t, int f, int i, int e, int axis, const N* s) {
    const Components& c = s_.blocks[e];
    const int count = int(columns_.size()), padded = round_up(count, 8);
    gather<N>(p_, f, i, e, [axis](int, int, int, const double*, double* v) { v[axis] = 1.0; }, pairs_);
    for (int first = 0; first < pairs_.n; first += 8) {
      const Eight<N> pairs(pairs_, first, p_.nearest[t * p_.ntypes + e]);
      N b[MOST_RADIAL], l[MOST_LOCAL];
      pairs.radial(p_, b, nullptr);
      pairs.local(c, l);
      for (int k = 0; k < p_.nradial; ++k)
        for (int n = 0; n < c.width; ++n)
          store8(&sums_[e][(size_t(k) * c.width + n) * LANE + 8], (b[k] * l[n]).d);
      run(t, s);
      for (int n = 0; n < padded; n += 8) {
        Octet block[8] = {};
        for (int k = 0; k < std::min(8, count - n); ++k) block[k] = columns_[n + k].d;
        transpose8(block);
        for (int k = 0; k < 8; ++k) store8(&turned_[size_t(k) * padded + n], block[k]);
      }
      for (int k = first; k < std::min(first + 8, pairs_.n); ++k)
        add_pair(t, f, i, e, axis, k, &turned_[size_t(k - first) * padded]);
    }
    for (size_t k = 0; k < sums_[e].size(); k += LANE) store8(&sums_[e][k + 8], Octet{});
  }

  void add_pair(int t, int f, int i, int e, int axis, int k, const double* slopes) {
    const int32_t* place = out_.place[t];
    const size_t slot = (size_t(f) * p_.nloc + i) * p_.width[e] + pairs_.slot[k];
    const int j = p_.nlist[e][slot], count = int(columns_.size());
    double* to = (axis < 3 ? to_.force : to_.force_mag) + at(j, axis % 3);
    for (int n = 0; n < count; ++n) to[place[n]] -= slopes[n];
    if (axis >= 3) return;
    double* force = &own_[size_t(axis) * count];
    for (int n = 0; n < count; ++n) force[n] += slopes[n];
    for (int y = 0; y < 3; ++y) {
      const double x = pairs_.apart[size_t(y) * 2 * pairs_.room + k];
      double* virial = &own_[size_t(3 + 3 * axis + y) * count];
      for (int n = 0; n < count; ++n) virial[n] += slopes[n] * x;
    }
  }

  const Invariant& p_;
  const Shape& s_;
  const InvariantRows& out_;
  const RowSums to_;
  std::vector<std::vector<double>> sums_;  // of each block: (nradial, width, 2, 8)
  std::vector<double> rows_, own_, turned_, pair_memory_;
  std::vector<N> columns_;
  PairRows pairs_;
};

// Scalars of all centres, and their sums: of each block (nf, nloc, nradial, width).
std::vector<std::vector<double>> sums_of_all(const Invariant& p, const Shape& s, double* scalars) {
  using N = Vec<double>;
  std::vector<std::vector<double>> result(p.ntypes);
  for (int e = 0; e < p.ntypes; ++e)
    result[e].resize(size_t(p.nf) * p.nloc * p.nradial * s.blocks[e].width);
  std::fill(scalars, scalars + size_t(p.nf) * p.nloc * s.dim, 0.0);
  const std::vector<Chunk> chunks = chunks_for<double>(p);
  parallel(p.threads, int(chunks.size()), [&](int k) {
    const Chunk& c = chunks[k];
    Arrays<N, double> w = arrays_of<N, double>(p, s, c);
    read_chunk<N, double>(p, s, c, Along(), w);
    describe<N, double>(p, s, c, w);
    for (int first = 0; first < c.ld; first += 8)
      for_atoms(p, c, first, [&](int lane, int f, int i) {
        const size_t own = size_t(f) * p.nloc + i;
        for (int d = 0; d < s.dim; ++d) scalars[own * s.dim + d] = w.d[size_t(d) * c.ld + lane];
        for (int e = 0; e < p.ntypes; ++e) {
          const size_t size = size_t(p.nradial) * s.blocks[e].width;
          for (size_t n = 0; n < size; ++n) result[e][own * size + n] = w.p[e][n * c.ld + lane];
        }
      });
  });
  return result;
}

void rows(const Invariant& p, InvariantRows& out) {
  const Shape s(p);
  const std::vector<std::vector<double>> sums = sums_of_all(p, s, out.scalars);
  if (out.numbers == 0) return;
  const size_t size = RowSums::size(p, out.numbers);
  std::vector<std::vector<double>> parts(ROW_PARTS);
  for (int f = 0; f < p.nf; ++f) {
    parallel(p.threads, ROW_PARTS, [&](int part) {
      parts[part].assign(size, 0.0);
      CentreRows centre(p, s, out, RowSums(p, out.numbers, parts[part].data()));
      for (int t = 0, i = 0; t < p.ntypes; ++t)
        for (const int end = i + p.natoms[t]; i < end; ++i) {
          const size_t own = size_t(f) * p.nloc + i;
          if (int64_t(i) * ROW_PARTS / p.nloc != part || p.mask[own] == 0.0) continue;
          std::vector<const double*> given;
          for (int e = 0; e < p.ntypes; ++e)
            given.push_back(&sums[e][own * p.nradial * s.blocks[e].width]);
          centre.add(t, f, i, given);
        }
    });
    const RowSums to(p, out.numbers, parts[0].data());
    for (int part = 1; part < ROW_PARTS; ++part)
      for (size_t k = 0; k < size; ++k) parts[0][k] += parts[part][k];
    const size_t atoms = size_t(3) * p.nloc * out.numbers;
    std::copy(to.energy, to.energy + out.numbers, out.energy + size_t(f) * out.numbers);
    std::copy(to.force, to.force + atoms, out.force + f * atoms);
    std::copy(to.force_mag, to.force_mag + atoms, out.force_mag + f * atoms);
    std::copy(to.virial, to.virial + 9 * out.numbers, out.virial + size_t(f) * 9 * out.numbers);
  }
}

}  // namespace
}  // namespace DEEPSPIN_ISA
}  // namespace deepspin
