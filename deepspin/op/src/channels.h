// SPDX-License-Identifier: Apache-2.0
// Pairs of the scheme `invariant`: radial functions and local components of neighbours, their
// sums P = sum_j B_k L_l over those of a centre, and what a pull on P is to each of them.
//
// Eight pairs at a time; N is an Octet, or a dual of it along given directions.
#pragma once

#include <algorithm>
#include <limits>

#include "centres.h"
#include "dual.h"
#include "gemm.h"
#include "invariant.h"
#include "memory.h"
#include "octet.h"

namespace deepspin {
namespace DEEPSPIN_ISA {
namespace {

constexpr int MOST_LOCAL = 32;  // local components, to whole octets
constexpr double REST = 0.2;    // as in deepspin/descriptor/spin_channels.py
constexpr double WALL = 100.0;  // as in deepspin/fit/baseline.py

// Where the local components stand; -1 for those that are not there.
struct Components {
  int one = 0, u = 1, s = -1, us = -1, ss = -1, uu = -1, uus = -1;
  int width = 4, padded;  // to whole octets
  Components(bool magnetic, bool soc) {
    auto next = [this](int size) { return width += size, width - size; };
    if (magnetic) s = next(3), us = next(9), ss = next(6);
    if (soc) uu = next(6);
    if (soc && magnetic) uus = next(3);
    padded = round_up(width, 8);
  }
};

// axes of the elements of a symmetric matrix, as they are stored
constexpr int FIRST[6] = {0, 1, 2, 0, 0, 1}, SECOND[6] = {0, 1, 2, 1, 2, 2};

// Neighbours of one centre in one block; arrays (3, planes, room) for separations, spins and
// their tangents, rows (planes, room, padded) for products with P.
struct PairRows {
  int n = 0, room = 0;  // pairs, to whole octets
  int* slot;            // where in the list
  double *apart, *spin;
  double *radial, *slopes, *local;  // B, dB/dr, L
  double *on_local, *on_radial;     // pulls on L, and on what multiplies dB/dr

  static PairRows in(Arena& arena, const Invariant& p, int planes) {
    PairRows a;
    a.room = std::max(round_up(*std::max_element(p.width.begin(), p.width.end()), 8), 8);
    const size_t rows = size_t(planes) * a.room;
    const int wide = Components(true, p.soc).padded, radial = round_up(p.nradial, 8);
    a.slot = arena.get<int>(a.room);
    for (double** x : {&a.apart, &a.spin}) *x = arena.get<double>(3 * rows);
    for (double** x : {&a.radial, &a.slopes}) *x = arena.get<double>(radial * rows);
    for (double** x : {&a.local, &a.on_local, &a.on_radial}) *x = arena.get<double>(wide * rows);
    return a;
  }
};

// Separation of one pair; the arithmetic of `deepspin.model.pairs.separations`.
inline void separation(const Invariant& p, int f, int i, int j, const int32_t* shift, double* x) {
  const double* coord = p.coord + size_t(f) * p.nall * 3;
  const double* box = p.box + f * 9;
  for (int c = 0; c < 3; ++c) {
    const double image = shift[0] * box[c] + shift[1] * box[3 + c] + shift[2] * box[6 + c];
    x[c] = coord[3 * j + c] + image - coord[3 * i + c];
  }
}

// Neighbours of centre i in block e; with duals along what `along` says of each pair: the
// tangents of its separation and of the neighbour's spin.
template <class N, class Along>
void gather(const Invariant& p, int f, int i, int e, const Along& along, PairRows& a) {
  const size_t row = (size_t(f) * p.nloc + i) * p.width[e];
  const int32_t *list = p.nlist[e] + row, *shift = p.shift[e] + 3 * row;
  const double* spin = p.spin + size_t(f) * p.nall * 3;
  int n = 0;
  for (int j = 0; j < p.width[e]; ++j)
    if (list[j] >= 0) a.slot[n++] = j;
  a.n = n;
  const int planes = PLANES<N>;
  for (int k = 0; k < round_up(n, 8); ++k) {
    double x[3] = {2 * p.rcut, 0.0, 0.0}, s[3] = {}, v[6] = {};  // beyond all functions
    if (k < n) {
      const int j = list[a.slot[k]];
      separation(p, f, i, j, shift + 3 * a.slot[k], x);
      if (p.magnetic[e]) std::copy(spin + 3 * j, spin + 3 * j + 3, s);
      if (planes == 2) along(f, i, j, x, v);
    }
    for (int c = 0; c < 3; ++c) {
      double *to = a.apart + size_t(c) * planes * a.room + k, *on = a.spin + (to - a.apart);
      to[0] = x[c], on[0] = s[c];
      if (planes == 2) to[a.room] = v[c], on[a.room] = p.magnetic[e] ? v[3 + c] : 0.0;
    }
  }
}

// Numbers of eight pairs, as N has them: with their derivatives or without.
template <class N>
using OctetOf = std::conditional_t<PLANES<N> == 1, Octet, Dual<Octet>>;

// Eight pairs: distance and direction, and the neighbours' spins.
template <class N>
struct Eight {
  N r, inv, u[3], s[3], near;  // near: nearest / r - 1 where that is above 0, else 0
  double nearest;

  Eight(const PairRows& a, int first, double nearest_distance) : nearest(nearest_distance) {
    N d[3];
    for (int c = 0; c < 3; ++c) {
      const size_t at = size_t(c) * PLANES<N> * a.room + first;
      d[c] = get<N>(a.apart + at, a.room);
      s[c] = get<N>(a.spin + at, a.room);
    }
    const N square = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
    // no energy rather than a wrong one
    const N nan = Constant<N>::of(std::numeric_limits<double>::quiet_NaN());
    r = pick(value(square) > Octet{}, root(square), nan);
    inv = inverse(r);
    for (int c = 0; c < 3; ++c) u[c] = d[c] * inv;
    near = pick(below(value(r), nearest), nearest * inv + -1.0, Constant<N>::of(0.0));
  }

  // Radial functions b, and their slopes db unless null.
  void radial(const Invariant& p, N* b, N* db) const {
    const N zero = Constant<N>::of(0.0), one = Constant<N>::of(1.0);
    // they rest below the nearest distance
    const auto close = below(value(r), nearest);
    N x = (1.0 / REST) * (nearest - r);
    x = pick(below(value(x), 1.0), x, one);
    const N resting = nearest - REST * (x * (1.0 - x * x + 0.5 * (x * x * x)));
    const N held = pick(close, resting, r);
    const N x2 = x * x;
    const N motion = pick(close, 1.0 - 3.0 * x2 + 2.0 * (x2 * x), one);
    const double length = p.rcut - p.rcut_smth, unit = 2.0 / p.rcut;
    const N v = (1.0 / length) * (held + -p.rcut_smth), out = v + -1.0;
    const auto inside = below(value(held), p.rcut_smth);
    const auto seen = below(value(held), p.rcut);
    N w = v * v * v * (v * (15.0 - 6.0 * v) + -10.0) + 1.0;
    w = pick(inside, one, pick(seen, w, zero));
    const N tau = unit * held + -1.0, twice = 2.0 * tau;
    N term[2] = {one, tau}, slope[2] = {zero, one};
    N dw = zero, w_slope = zero;
    if (db) {
      dw = (-30.0 / length) * (v * v * out * out);
      dw = motion * pick(inside, zero, pick(seen, dw, zero));
      w_slope = unit * (motion * w);
    }
    for (int k = 0; k < p.nradial; ++k) {
      N t = k < 2 ? term[k] : twice * term[1] - term[0];
      if (k >= 2) term[0] = term[1], term[1] = t;
      b[k] = t * w;
      if (!db) continue;
      N d = k < 2 ? slope[k] : 2.0 * term[0] + twice * slope[1] - slope[0];
      if (k >= 2) slope[0] = slope[1], slope[1] = d;
      db[k] = d * w_slope + t * dw;
    }
  }

  // Local components.
  void local(const Components& c, N* l) const {
    const N one = Constant<N>::of(1.0);
    l[c.one] = one;
    for (int x = 0; x < 3; ++x) l[c.u + x] = u[x];
    if (c.s >= 0) {
      for (int x = 0; x < 3; ++x) {
        l[c.s + x] = s[x];
        for (int y = 0; y < 3; ++y) l[c.us + 3 * x + y] = u[x] * s[y];
      }
      for (int k = 0; k < 6; ++k) l[c.ss + k] = s[FIRST[k]] * s[SECOND[k]];
    }
    if (c.uu >= 0)
      for (int k = 0; k < 6; ++k) l[c.uu + k] = u[FIRST[k]] * u[SECOND[k]] + (k < 3 ? -1.0 / 3.0 : 0.0);
    if (c.uus >= 0) {
      const N along = u[0] * s[0] + u[1] * s[1] + u[2] * s[2];
      for (int x = 0; x < 3; ++x) l[c.uus + x] = u[x] * along;
    }
  }

  // From pulls y on L and `on_r` on the distance: pulls on the separation and on the spin.
  void pull(const Components& c, const N* y, N on_r, N* on_apart, N* on_spin) const {
    N on_u[3];
    for (int x = 0; x < 3; ++x) on_u[x] = y[c.u + x], on_spin[x] = Constant<N>::of(0.0);
    if (c.s >= 0) {
      for (int x = 0; x < 3; ++x) {
        on_spin[x] += y[c.s + x];
        for (int k = 0; k < 3; ++k) {
          on_u[x] += y[c.us + 3 * x + k] * s[k];
          on_spin[x] += y[c.us + 3 * k + x] * u[k];
        }
      }
      for (int k = 0; k < 6; ++k) {
        on_spin[FIRST[k]] += y[c.ss + k] * s[SECOND[k]];
        on_spin[SECOND[k]] += y[c.ss + k] * s[FIRST[k]];
      }
    }
    if (c.uu >= 0)
      for (int k = 0; k < 6; ++k) {
        on_u[FIRST[k]] += y[c.uu + k] * u[SECOND[k]];
        on_u[SECOND[k]] += y[c.uu + k] * u[FIRST[k]];
      }
    if (c.uus >= 0) {
      const N* z = y + c.uus;
      const N along = u[0] * s[0] + u[1] * s[1] + u[2] * s[2];
      const N turned = u[0] * z[0] + u[1] * z[1] + u[2] * z[2];
      for (int x = 0; x < 3; ++x) {
        on_u[x] += z[x] * along + turned * s[x];
        on_spin[x] += turned * u[x];
      }
    }
    const N radial = on_r - inv * (u[0] * on_u[0] + u[1] * on_u[1] + u[2] * on_u[2]);
    for (int x = 0; x < 3; ++x) on_apart[x] = u[x] * radial + inv * on_u[x];
  }
};

// `count` numbers of eight pairs from lanes to rows (planes, room, padded), zeros behind them.
template <class N>
void to_rows(N* numbers, int count, int padded, int room, int first, double* rows) {
  for (int plane = 0; plane < PLANES<N>; ++plane)
    for (int c = 0; c < padded; c += 8) {
      Octet block[8];
      for (int k = 0; k < 8; ++k) block[k] = c + k < count ? part(numbers[c + k], plane) : Octet{};
      transpose8(block);
      double* to = rows + (size_t(plane) * room + first) * padded + c;
      for (int k = 0; k < 8; ++k) store8(to + size_t(k) * padded, block[k]);
    }
}

template <class N>
void from_rows(const double* rows, int padded, int room, int first, N* numbers) {
  for (int plane = 0; plane < PLANES<N>; ++plane)
    for (int c = 0; c < padded; c += 8) {
      Octet block[8];
      const double* at = rows + (size_t(plane) * room + first) * padded + c;
      for (int k = 0; k < 8; ++k) block[k] = load8(at + size_t(k) * padded);
      transpose8(block);
      for (int k = 0; k < 8; ++k) part(numbers[c + k], plane) = block[k];
    }
}

// C (+)= A B in numbers: planes of A are `a_plane` apart, and so on.
template <class N>
void product(int m, int n, int depth, const double* a, int64_t rs, int64_t cs, size_t a_plane,
             const double* b, int64_t ldb, size_t b_plane, double* c, int64_t ldc, size_t c_plane) {
  gemm<double>(m, n, depth, a, rs, cs, b, ldb, c, ldc);
  if (PLANES<N> == 1) return;
  gemm<double>(m, n, depth, a, rs, cs, b + b_plane, ldb, c + c_plane, ldc);
  gemm<double>(m, n, depth, a + a_plane, rs, cs, b, ldb, c + c_plane, ldc, true);
}

// P of one centre in one block, (planes, nradial, padded); returns its pairs' walls in eV.
template <class N>
double sums(const Invariant& p, int t, int e, const Components& c, PairRows& a, double* to) {
  const int padded = round_up(a.n, 8), radial = round_up(p.nradial, 8);
  Octet walls = {};
  for (int first = 0; first < padded; first += 8) {
    const Eight<N> pairs(a, first, p.nearest[t * p.ntypes + e]);
    N numbers[MOST_RADIAL];
    pairs.radial(p, numbers, nullptr);
    to_rows(numbers, p.nradial, radial, a.room, first, a.radial);
    pairs.local(c, numbers);
    to_rows(numbers, c.width, c.padded, a.room, first, a.local);
    const Octet near = value(pairs.near);
    walls += near * near * near;
  }
  product<N>(p.nradial, c.padded, padded, a.radial, 1, radial, size_t(a.room) * radial, a.local,
             c.padded, size_t(a.room) * c.padded, to, c.padded, size_t(p.nradial) * c.padded);
  double total = 0.0;
  for (int k = 0; k < 8; ++k) total += walls[k];
  return p.baseline ? 0.5 * WALL * total : 0.0;
}

// Pulls of each pair of one centre in one block, from those on P; `seed` is the centre's.
// Calls visit(pair, Octets of eight pairs, which of them).
template <class N, class Visit>
void pulls(const Invariant& p, int t, int e, const Components& c, PairRows& a, const double* on_p,
           N seed, Visit visit) {
  const int padded = round_up(a.n, 8), radial = round_up(p.nradial, 8);
  for (int first = 0; first < padded; first += 8) {
    const Eight<N> pairs(a, first, p.nearest[t * p.ntypes + e]);
    N b[MOST_RADIAL], db[MOST_RADIAL];
    pairs.radial(p, b, db);
    to_rows(b, p.nradial, radial, a.room, first, a.radial);
    to_rows(db, p.nradial, radial, a.room, first, a.slopes);
  }
  const size_t rows = size_t(a.room) * radial, out = size_t(a.room) * c.padded;
  const size_t plane = size_t(p.nradial) * c.padded;
  product<N>(padded, c.padded, p.nradial, a.radial, radial, 1, rows, on_p, c.padded, plane, a.on_local,
             c.padded, out);
  product<N>(padded, c.padded, p.nradial, a.slopes, radial, 1, rows, on_p, c.padded, plane, a.on_radial,
             c.padded, out);
  for (int first = 0; first < padded; first += 8) {
    const Eight<N> pairs(a, first, p.nearest[t * p.ntypes + e]);
    N y[MOST_LOCAL], l[MOST_LOCAL], on_r = Constant<N>::of(0.0);
    from_rows(a.on_radial, c.padded, a.room, first, y);
    pairs.local(c, l);
    for (int k = 0; k < c.width; ++k) on_r += y[k] * l[k];
    if (p.baseline) {  // the slope of the walls
      const N steep = (-1.5 * WALL * pairs.nearest) * (pairs.near * pairs.near * pairs.inv * pairs.inv);
      on_r += seed * steep;
    }
    from_rows(a.on_local, c.padded, a.room, first, y);
    N on_apart[3], on_spin[3];
    pairs.pull(c, y, on_r, on_apart, on_spin);
    visit(first, on_apart, on_spin);
  }
}

}  // namespace
}  // namespace DEEPSPIN_ISA
}  // namespace deepspin
