// SPDX-License-Identifier: Apache-2.0
// Chunks of centres of the scheme `invariant`: from pairs to sums and energies, and back to the
// pulls on pairs.
#pragma once

#include "linear.h"
#include "net.h"

namespace deepspin {
namespace DEEPSPIN_ISA {
namespace {

// Neighbours' components among those of all types: first in the block, in the row, how many.
struct Segment {
  int from, to, size;
};

std::vector<Segment> segments_of(const Components& c, const Row& r) {
  std::vector<Segment> all = {{c.one, r.c.one, 1}, {c.u, r.c.u, 3}};
  const int own[5] = {c.s, c.us, c.ss, c.uu, c.uus};
  const int whole[5] = {r.c.s, r.c.us, r.c.ss, r.c.uu, r.c.uus}, sizes[5] = {3, 9, 6, 6, 3};
  for (int k = 0; k < 5; ++k)
    if (own[k] >= 0) all.push_back({own[k], whole[k], sizes[k]});
  return all;
}

// What the whole call shares.
struct Shape {
  Row row;
  std::vector<Kind> kinds;
  std::vector<Components> blocks;
  std::vector<std::vector<Segment>> segments;
  int dim;  // components of the descriptor
  explicit Shape(const Invariant& p) : row(p.soc), kinds(kinds_of(row)) {
    for (int b = 0; b < p.ntypes; ++b) {
      blocks.emplace_back(p.magnetic[b], p.soc);
      segments.push_back(segments_of(blocks[b], row));
    }
    dim = components_of(int(kinds.size()), p.soc, p.channels, p.axis);
  }
};

// Arrays of a chunk; `x`, `y` and `a` are what gradients of the nets are made of.
template <class N, class T>
struct Arrays {
  PairRows pairs;
  double *spin, *on_spin, *seed, *wall;  // (3, planes, ld), likewise, (planes, ld), (ld)
  std::vector<double*> p, on_p;          // of each block: (nradial, width, planes, ld)
  double *m, *on_m;                      // (channels, row, planes, ld)
  double *rows, *on_rows;                // (ntypes x ncross, row, planes, ld)
  double *d, *lanes;                     // (dim, planes, ld), (8, planes, nradial, padded)
  T *x, *pull[2];                        // (dim, planes, ld), (widest, planes, ld)
  std::vector<T*> t, y, a;               // of each hidden layer: (n_out, planes, ld)

  Arrays(Arena& arena, const Invariant& q, const Shape& s, const Chunk& c) {
    constexpr int planes = PLANES<N>;
    const size_t lane = size_t(planes) * c.ld;
    pairs = PairRows::in(arena, q, planes);
    for (double** to : {&spin, &on_spin}) *to = arena.get<double>(3 * lane);
    for (double** to : {&seed, &wall}) *to = arena.get<double>(lane);
    for (const Components& block : s.blocks)
      for (auto* list : {&p, &on_p}) list->push_back(arena.get<double>(q.nradial * block.width * lane));
    for (double** to : {&m, &on_m}) *to = arena.get<double>(q.channels * s.row.width * lane);
    const size_t crossed = q.baseline ? size_t(q.ntypes) * q.ncross * s.row.width : 0;
    for (double** to : {&rows, &on_rows}) *to = arena.get<double>(crossed * lane);
    d = arena.get<double>(s.dim * lane);
    lanes = arena.get<double>(size_t(8) * planes * q.nradial * Components(true, q.soc).padded);
    x = arena.get<T>(s.dim * lane);
    int widest = s.dim;
    const Net& net = q.fitting[c.type];
    for (size_t l = 0; l + 1 < net.size(); ++l) {
      widest = std::max(widest, net[l].n_out);
      for (auto* list : {&t, &y, &a}) list->push_back(arena.get<T>(net[l].n_out * lane));
    }
    for (T** to : {&pull[0], &pull[1]}) *to = arena.get<T>(widest * lane);
  }
};

// Gives a chunk's arrays memory that its thread keeps from call to call.
template <class N, class T>
Arrays<N, T> arrays_of(const Invariant& p, const Shape& s, const Chunk& c) {
  static thread_local Scratch scratch;
  Arena measure;
  Arrays<N, T>(measure, p, s, c);
  Arena arena(scratch.at_least(measure.used()));
  return Arrays<N, T>(arena, p, s, c);
}

// Upstream gradients as directions: along them all is differentiated in a backward run.
struct Along {
  const Invariant* p = nullptr;
  const InvariantBackward* in = nullptr;

  // dL/d(pull): from forces on both ends, the virial of the neighbour, and its spin's pull
  void operator()(int f, int i, int j, const double* x, double* v) const {
    const double* force = in->force + size_t(f) * p->nall * 3;
    const double* virial = in->atom_virial + (size_t(f) * p->nall + j) * 9;
    for (int d = 0; d < 3; ++d) {
      v[d] = force[3 * i + d] - force[3 * j + d];
      for (int b = 0; b < 3; ++b) v[d] -= virial[3 * d + b] * x[b];
      v[3 + d] = in->spin_pull[(size_t(f) * p->nall + j) * 3 + d];
    }
  }
};

// Calls visit(lane, frame, centre) for the atoms among eight lanes.
template <class Visit>
void for_atoms(const Invariant& p, const Chunk& c, int first, Visit visit) {
  for (int lane = first; lane < std::min(first + 8, c.n); ++lane) {
    int f, i;
    centre(p, c, lane, f, i);
    if (p.mask[size_t(f) * p.nloc + i] != 0.0) visit(lane, f, i);
  }
}

// Spins, seeds and sums of a chunk.
template <class N, class T>
void read_chunk(const Invariant& p, const Shape& s, const Chunk& c, const Along& along,
                Arrays<N, T>& w) {
  constexpr int planes = PLANES<N>;
  std::fill(w.spin, w.spin + 3 * planes * c.ld, 0.0);
  std::fill(w.seed, w.seed + planes * c.ld, 0.0);
  std::fill(w.wall, w.wall + c.ld, 0.0);
  for (int first = 0; first < c.ld; first += 8)
    for_atoms(p, c, first, [&](int lane, int f, int i) {
      w.seed[lane] = p.mask[size_t(f) * p.nloc + i];
      if (planes == 2) w.seed[c.ld + lane] = along.in->atom_ener[size_t(f) * p.nloc + i];
      const size_t at = (size_t(f) * p.nall + i) * 3;
      for (int x = 0; p.magnetic[c.type] && x < 3; ++x) {
        w.spin[x * planes * c.ld + lane] = p.spin[at + x];
        if (planes == 2) w.spin[(x * planes + 1) * c.ld + lane] = along.in->spin_pull[at + x];
      }
    });
  using O = OctetOf<N>;
  for (int e = 0; e < p.ntypes; ++e) {
    const Components& block = s.blocks[e];
    const size_t rows = size_t(p.nradial) * block.padded;
    for (int first = 0; first < c.ld; first += 8) {
      std::fill(w.lanes, w.lanes + 8 * planes * rows, 0.0);
      for_atoms(p, c, first, [&](int lane, int f, int i) {
        gather<O>(p, f, i, e, along, w.pairs);
        double* to = w.lanes + (lane - first) * planes * rows;
        w.wall[lane] += sums<O>(p, c.type, e, block, w.pairs, to);
      });
      for (size_t k = 0; k < planes * rows; k += 8) {
        Octet numbers[8];
        for (int l = 0; l < 8; ++l) numbers[l] = load8(w.lanes + l * planes * rows + k);
        transpose8(numbers);
        const int plane = int(k / rows), number = int(k % rows);
        const int radial = number / block.padded, component = number % block.padded;
        for (int l = 0; l < 8 && component + l < block.width; ++l)
          store8(
              w.p[e] + ((size_t(radial) * block.width + component + l) * planes + plane) * c.ld + first,
              numbers[l]);
      }
    }
  }
}

// M = mixing^T P, and the pulls back.
template <class N, class T>
void mix(const Invariant& p, const Shape& s, const Chunk& c, Arrays<N, T>& w) {
  const int lane = PLANES<N> * c.ld, row = s.row.width * lane;
  std::fill(w.m, w.m + int64_t(p.channels) * row, 0.0);
  for (int e = 0; e < p.ntypes; ++e) {
    const double* mixing = p.mixing + (size_t(c.type) * p.ntypes + e) * p.nradial * p.channels;
    for (const Segment& part : s.segments[e])
      gemm<double>(p.channels, part.size * lane, p.nradial, mixing, 1, p.channels,
                   w.p[e] + part.from * lane, s.blocks[e].width * lane, w.m + part.to * lane, row,
                   true);
  }
}

template <class N, class T>
void mix_back(const Invariant& p, const Shape& s, const Chunk& c, Arrays<N, T>& w) {
  const int lane = PLANES<N> * c.ld, row = s.row.width * lane;
  for (int e = 0; e < p.ntypes; ++e) {
    const double* mixing = p.mixing + (size_t(c.type) * p.ntypes + e) * p.nradial * p.channels;
    for (const Segment& part : s.segments[e])
      gemm<double>(p.nradial, part.size * lane, p.channels, mixing, p.channels, 1,
                   w.on_m + part.to * lane, row, w.on_p[e] + part.from * lane,
                   s.blocks[e].width * lane);
  }
}

// Sums that gradients of the weights need of a chunk: of each hidden layer bias and idt, of the
// last one its matrix and bias, and of the numbers of the linear part.
template <class T>
struct Sums {
  std::vector<T*> layers;
  double* theta = nullptr;
};

template <class T>
T sum_of_gradient(Vec<T> a) {
  return sum<T>(a);
}
template <class T>
T sum_of_gradient(Dual<Vec<T>> a) {
  return sum<T>(a.d);
}

// Energies by the net, from D to E and back to the pulls on D, which replace it.
template <class N, class M, class T>  // N of doubles, M of T
void net_chunk(const Invariant& p, const Shape& s, const Chunk& c, Arrays<N, T>& w, double* energy,
               const Sums<T>* sums) {
  constexpr int W = Simd<T>::W, planes = PLANES<N>;
  const Net& net = p.fitting[c.type];
  const int hidden = int(net.size()) - 1, lane = planes * c.ld;
  const double *average = p.average + size_t(c.type) * s.dim, *inv = p.inverse + size_t(c.type) * s.dim;
  const double scale = p.scale[c.type];
  for (int i = 0; i < s.dim; ++i)
    for (int k = 0; k < lane; ++k) {
      const double mean = k < c.ld ? average[i] : 0.0;
      w.x[size_t(i) * lane + k] = T((w.d[size_t(i) * lane + k] - mean) * inv[i]);
    }
  const T* x = w.x;
  for (int l = 0; l < hidden; ++l) {
    layer_forward<M>(Weights<T>(net[l]), c.ld, x, w.t[l], w.y[l]);
    x = w.y[l];
  }
  const Weights<T> last(net[hidden]);
  T *pull = w.pull[0], *next = w.pull[1];
  for (int k = 0; k < c.ld; k += W) {
    M answer = Constant<M>::of(last.bias[0]);
    for (int o = 0; o < last.n_in; ++o)
      answer += last.matrix[o] * get<M>(x + size_t(o) * lane + k, c.ld);
    T values[W];
    std::memcpy(values, &part(answer, 0), sizeof values);
    for (int i = 0; i < W; ++i) energy[k + i] += scale * double(values[i]);
  }
  std::vector<T> seed(lane);
  for (int k = 0; k < lane; ++k) seed[k] = T(scale * w.seed[k]);
  for (int o = 0; o < last.n_in; ++o) {
    M total = Constant<M>::of(0);
    for (int k = 0; k < c.ld; k += W) {
      const M own = get<M>(seed.data() + k, c.ld);
      total += own * get<M>(x + size_t(o) * lane + k, c.ld);
      put(pull + size_t(o) * lane + k, c.ld, last.matrix[o] * own);
    }
    if (sums) sums->layers[hidden][o] = sum_of_gradient<T>(total);
  }
  if (sums) {
    T total = 0;
    for (int k = c.ld; k < lane; ++k) total += seed[k];
    sums->layers[hidden][last.n_in] = total;
  }
  for (int l = hidden; l-- > 0;) {
    const Weights<T> layer(net[l]);
    layer_backward<M>(layer, c.ld, w.t[l], pull, w.a[l], next);
    for (int o = 0; sums && o < layer.n_out; ++o) {
      M bias = Constant<M>::of(0), idt = bias;
      for (int k = 0; k < c.ld; k += W) {
        const size_t at = size_t(o) * lane + k;
        bias += get<M>(w.a[l] + at, c.ld);
        idt += get<M>(pull + at, c.ld) * get<M>(w.t[l] + at, c.ld);
      }
      sums->layers[l][o] = sum_of_gradient<T>(bias);
      sums->layers[l][layer.n_out + o] = sum_of_gradient<T>(idt);
    }
    std::swap(pull, next);
  }
  for (int i = 0; i < s.dim; ++i)
    for (int k = 0; k < lane; ++k)
      w.d[size_t(i) * lane + k] = inv[i] * double(pull[size_t(i) * lane + k]);
}

// Rows of the second tier: the first sums of each block, and what is missing there as zeros.
template <class N, class T>
void copy_rows(const Invariant& p, const Shape& s, const Chunk& c, Arrays<N, T>& w) {
  const int lane = PLANES<N> * c.ld, row = s.row.width * lane;
  std::fill(w.rows, w.rows + int64_t(p.ntypes) * p.ncross * row, 0.0);
  std::fill(w.on_rows, w.on_rows + int64_t(p.ntypes) * p.ncross * row, 0.0);
  for (int e = 0; e < p.ntypes; ++e)
    for (int k = 0; k < p.ncross; ++k)
      for (const Segment& part : s.segments[e]) {
        const double* from = w.p[e] + (int64_t(k) * s.blocks[e].width + part.from) * lane;
        std::copy(from, from + part.size * lane,
                  w.rows + (int64_t(e) * p.ncross + k) * row + part.to * lane);
      }
}

template <class N, class T>
void add_rows_back(const Invariant& p, const Shape& s, const Chunk& c, Arrays<N, T>& w) {
  const int lane = PLANES<N> * c.ld, row = s.row.width * lane;
  for (int e = 0; e < p.ntypes; ++e)
    for (int k = 0; k < p.ncross; ++k)
      for (const Segment& part : s.segments[e]) {
        const double* from = w.on_rows + (int64_t(e) * p.ncross + k) * row + part.to * lane;
        double* to = w.on_p[e] + (int64_t(k) * s.blocks[e].width + part.from) * lane;
        for (int l = 0; l < part.size * lane; ++l) to[l] += from[l];
      }
}

// Lanes k, k + 1, ... of an array of numbers, and three of them.
template <class N>
Lane<N> lanes_of(double* at, int k, int ld) {
  return {at + k, ld};
}
template <class N>
void vector_of(const double* at, int k, int ld, N* to) {
  for (int x = 0; x < 3; ++x) to[x] = get<N>(at + size_t(x) * PLANES<N> * ld + k, ld);
}

// Mixtures and descriptor of a chunk from its sums.
template <class N, class T>
void describe(const Invariant& p, const Shape& s, const Chunk& c, Arrays<N, T>& w) {
  mix(p, s, c, w);
  for (int k = 0; k < c.ld; k += LANES) {
    N own[3];
    vector_of(w.spin, k, c.ld, own);
    const Lane<N> m = lanes_of<N>(w.m, k, c.ld);
    for (int g = 0; g < p.channels; ++g) derive(s.row, own, m.from(int64_t(g) * s.row.width));
    descriptor(s.row, s.kinds, p.channels, p.axis, own, m, lanes_of<N>(w.d, k, c.ld));
  }
}

// Energies (ld) of a chunk from its sums, and the pulls on these and on the spins.
template <class N, class M, class T>
void energies(const Invariant& p, const Shape& s, const Chunk& c, Arrays<N, T>& w, double* energy,
              const Sums<T>* sums) {
  const int planes = PLANES<N>, lane = planes * c.ld;
  std::copy(w.wall, w.wall + c.ld, energy);
  describe<N, T>(p, s, c, w);
  std::fill(w.on_m, w.on_m + int64_t(p.channels) * s.row.width * lane, 0.0);
  net_chunk<N, M, T>(p, s, c, w, energy, sums);
  for (int k = 0; k < c.ld; k += LANES) {
    N own[3], on_own[3];
    vector_of(w.spin, k, c.ld, own);
    std::fill(on_own, on_own + 3, Constant<N>::of(0.0));
    const Lane<N> m = lanes_of<N>(w.m, k, c.ld), on_m = lanes_of<N>(w.on_m, k, c.ld);
    descriptor_back(s.row, s.kinds, p.channels, p.axis, own, m, lanes_of<N>(w.d, k, c.ld), on_m,
                    on_own);
    for (int g = 0; g < p.channels; ++g) {
      const int64_t row = int64_t(g) * s.row.width;
      derive_back(s.row, own, m.from(row), on_m.from(row), on_own);
    }
    for (int x = 0; x < 3; ++x) put(w.on_spin + size_t(x) * lane + k, c.ld, on_own[x]);
  }
  mix_back(p, s, c, w);
  if (!p.baseline) return;
  copy_rows(p, s, c, w);
  for (int k = 0; k < c.ld; k += LANES) {
    N own[3], on_own[3];
    vector_of(w.spin, k, c.ld, own);
    vector_of(w.on_spin, k, c.ld, on_own);
    const N seed = get<N>(w.seed + k, c.ld);
    double* gradient = sums ? sums->theta : nullptr;
    Linear<N, Energies<N>> linear{p, s.row, c.type, own, on_own, {p.theta[c.type], seed, gradient}};
    for (int e = 0; e < p.ntypes; ++e)
      linear.first(e, lanes_of<N>(w.p[e], k, c.ld), lanes_of<N>(w.on_p[e], k, c.ld));
    linear.site();
    if (p.ncross) {
      const Lane<N> rows = lanes_of<N>(w.rows, k, c.ld), on = lanes_of<N>(w.on_rows, k, c.ld);
      for (int n = 0; n < p.ntypes * p.ncross; ++n)
        derive(s.row, own, rows.from(int64_t(n) * s.row.width));
      linear.second(rows, on);
      for (int n = 0; n < p.ntypes * p.ncross; ++n) {
        const int64_t row = int64_t(n) * s.row.width;
        derive_back(s.row, own, rows.from(row), on.from(row), on_own);
      }
    }
    wall(p, c.type, own, seed, linear.take.energy, linear.on_square);
    linear.finish();
    for (int x = 0; x < 3; ++x) put(w.on_spin + size_t(x) * lane + k, c.ld, on_own[x]);
    double values[LANES];
    std::memcpy(values, &part(linear.take.energy, 0), sizeof values);
    for (int i = 0; i < LANES; ++i) energy[k + i] += values[i];
  }
  add_rows_back(p, s, c, w);
}

// What a pull of a pair is, of a forward run its value, of a backward run its derivative too.
constexpr int SIX = 6;  // on the separation, on the neighbour's spin

// Pulls on each pair of a chunk into (nf, nloc, width, planes, 6) of each block, values first.
template <class N, class T>
void pull_chunk(const Invariant& p, const Shape& s, const Chunk& c, const Along& along, Arrays<N, T>& w,
                const std::vector<double*>& to) {
  using O = OctetOf<N>;
  constexpr int planes = PLANES<N>;
  for (int e = 0; e < p.ntypes; ++e) {
    const Components& block = s.blocks[e];
    const size_t rows = size_t(p.nradial) * block.padded;
    for (int first = 0; first < c.ld; first += 8) {
      for (size_t k = 0; k < planes * rows; k += 8) {
        Octet numbers[8] = {};
        const int plane = int(k / rows), number = int(k % rows);
        const int radial = number / block.padded, component = number % block.padded;
        for (int l = 0; l < 8 && component + l < block.width; ++l)
          numbers[l] =
              load8(w.on_p[e] +
                    ((size_t(radial) * block.width + component + l) * planes + plane) * c.ld + first);
        transpose8(numbers);
        for (int l = 0; l < 8; ++l) store8(w.lanes + l * planes * rows + k, numbers[l]);
      }
      for_atoms(p, c, first, [&](int lane, int f, int i) {
        gather<O>(p, f, i, e, along, w.pairs);
        O seed;
        for (int plane = 0; plane < planes; ++plane)
          part(seed, plane) = Octet{} + w.seed[plane * c.ld + lane];
        double* at = to[e] + (size_t(f) * p.nloc + i) * p.width[e] * planes * SIX;
        pulls<O>(p, c.type, e, block, w.pairs, w.lanes + (lane - first) * planes * rows, seed,
                 [&](int begin, O* apart, O* spin) {
                   for (int k = begin; k < std::min(begin + 8, w.pairs.n); ++k) {
                     double* own = at + size_t(w.pairs.slot[k]) * planes * SIX;
                     for (int plane = 0; plane < planes; ++plane)
                       for (int x = 0; x < 3; ++x) {
                         own[plane * SIX + x] = part(apart[x], plane)[k - begin];
                         own[plane * SIX + 3 + x] = part(spin[x], plane)[k - begin];
                       }
                   }
                 });
      });
    }
  }
}

template <class T>
std::vector<Chunk> chunks_for(const Invariant& p) {
  return chunks_of(p, std::max(8, Simd<T>::W), 1);
}

}  // namespace
}  // namespace DEEPSPIN_ISA
}  // namespace deepspin
