// SPDX-License-Identifier: Apache-2.0
// Chunks of centres: from pairs to moments, descriptor, energies and pulls.
#pragma once

#include "centres.h"
#include "series.h"

namespace deepspin {
namespace DEEPSPIN_ISA {
namespace {

// What a chunk computes on the way to forces; all that the gradient needs of it.
template <class T>
struct Values {
  T* p;        // P: (ld, 4, columns)
  T* pull_m;   // dE/dM / nnei: (ld, 4, padded channels)
  T* m;        // M: (4, channels, ld)
  T* pull_d;   // dE/dD: (channels, axis, ld)
  std::vector<T*> t, y, pull_y, a;  // of each hidden layer; pull_y is dE/dy
  T* last_mask;                     // 1 where a lane is an atom

  void place(const Problem& q, const Series<T>& s, const Chunk& c, Arena& arena) {
    const size_t ld = c.ld;
    p = arena.get<T>(ld * 4 * s.columns[c.type]);
    pull_m = arena.get<T>(ld * 4 * s.padded_channels);
    m = arena.get<T>(4 * q.channels * ld);
    pull_d = arena.get<T>(size_t(q.channels) * q.axis * ld);
    last_mask = arena.get<T>(ld);
    const Net& net = q.fitting[c.type];
    for (auto* list : {&t, &y, &pull_y, &a}) {
      list->resize(net.size() - 1);
      for (size_t l = 0; l + 1 < net.size(); ++l) (*list)[l] = arena.get<T>(net[l].n_out * ld);
    }
  }
};

// Work space of a chunk.
template <class T>
struct Work {
  Pairs pairs;
  T* rows;  // (ld, 4, padded channels)
  T* d;     // (channels, axis, ld)
  T* dp;    // (ld, 4, columns)

  void place(const Problem& q, const Series<T>& s, const Chunk& c, Arena& arena) {
    pairs = Pairs::in(arena, *std::max_element(q.width.begin(), q.width.end()), order<T>());
    rows = arena.get<T>(size_t(c.ld) * 4 * s.padded_channels);
    d = arena.get<T>(size_t(q.channels) * q.axis * c.ld);
    dp = arena.get<T>(size_t(c.ld) * 4 * s.columns[c.type]);
  }
};

// Calls visit(lane, frame, centre, block, row of P at the block's first column) for all
// blocks of all atoms of a chunk.
template <class T, class Visit>
void for_blocks(const Problem& p, const Series<T>& s, const Chunk& c, Visit visit) {
  for (int lane = 0; lane < c.n; ++lane) {
    int f, i;
    centre(p, c, lane, f, i);
    if (p.mask[size_t(f) * p.nloc + i] == 0.0) continue;
    for (int e = 0; e < p.nblocks; ++e)
      if (!p.excluded[c.type * p.nblocks + e] && p.sel[e] > 0)
        visit(lane, f, i, e, size_t(lane) * 4 * s.columns[c.type] + s.first[c.type][e]);
  }
}

template <class T>
int64_t prepare_pairs(const Problem& p, const Series<T>& s, int t, int f, int i, int e, Pairs& a) {
  gather(p, t, f, i, e, a);
  int64_t outside = locate(s.leaves[p.net(t, e)], a.n, a.u, a.leaf, a.tau, a.scale, a.over);
  series(order<T>(), a);
  return outside;
}

// P += sum over neighbours of R_d T_k, and the empty slots' row, all alike.
template <class T>
int64_t moments(const Problem& p, const Series<T>& s, const Chunk& c, Pairs& a, T* to) {
  const int n = order<T>(), columns = s.columns[c.type];
  const double* dstd = p.dstd + 4 * c.type;
  std::fill(to, to + size_t(c.ld) * 4 * columns, T(0));
  int64_t outside = 0;
  for_blocks(p, s, c, [&](int, int f, int i, int e, size_t row) {
    outside += prepare_pairs(p, s, c.type, f, i, e, a);
    auto add = [&](const double* terms, int leaf, int d, double factor) {
      T* at = to + row + size_t(d) * columns + leaf * n;
      DEEPSPIN_INDEPENDENT
      for (int k = 0; k < n; ++k) at[k] += T(factor * terms[k]);
    };
    const int count = a.n, empty = p.sel[e] - count;
    for (int k = 0; k < count; ++k) {
      const double r[4] = {a.u[k], a.q[k] * a.x[k] * a.inv_dstd[1], a.q[k] * a.y[k] * a.inv_dstd[2],
                           a.q[k] * a.z[k] * a.inv_dstd[3]};
      for (int d = 0; d < 4; ++d) add(a.terms + k * n, a.leaf[k], d, r[d]);
    }
    if (empty == 0) return;
    a.n = 1;
    a.u[0] = -p.davg[4 * c.type] / dstd[0];
    for (int k = 1; k < BATCH; ++k) a.u[k] = a.u[0];
    locate(s.leaves[p.net(c.type, e)], 1, a.u, a.leaf, a.tau, a.scale, a.over);
    series(n, a);
    add(a.terms, a.leaf[0], 0, empty * a.u[0]);
  });
  return outside;
}

// P_dot along v, given for each pair by a function.
template <class T, class Along>
void moments_tangent(const Problem& p, const Series<T>& s, const Chunk& c, Pairs& a, Along along,
                     T* to) {
  const int n = order<T>(), columns = s.columns[c.type];
  std::fill(to, to + size_t(c.ld) * 4 * columns, T(0));
  for_blocks(p, s, c, [&](int, int f, int i, int e, size_t row) {
    prepare_pairs(p, s, c.type, f, i, e, a);
    for (int k = 0; k < a.n; ++k) {
      double v[3];
      along(f, i, e, a, k, v);
      const double x[3] = {a.x[k], a.y[k], a.z[k]};
      const double r_dot = (x[0] * v[0] + x[1] * v[1] + x[2] * v[2]) * a.inv_r[k];
      const double u_dot = a.ds[k] * r_dot * a.inv_dstd[0], q_dot = a.dq[k] * r_dot;
      const double tau_dot = u_dot * a.scale[k];
      double r[4] = {a.u[k]}, dot[4] = {u_dot};
      for (int d = 0; d < 3; ++d) {
        r[d + 1] = a.q[k] * x[d] * a.inv_dstd[d + 1] * tau_dot;
        dot[d + 1] = (q_dot * x[d] + a.q[k] * v[d]) * a.inv_dstd[d + 1];
      }
      r[0] *= tau_dot;
      const double *terms = a.terms + k * n, *slopes = a.slopes + k * n;
      T* at = to + row + a.leaf[k] * n;
      for (int d = 0; d < 4; ++d) DEEPSPIN_INDEPENDENT
      for (int m = 0; m < n; ++m)
        at[size_t(d) * columns + m] += T(dot[d] * terms[m] + r[d] * slopes[m]);
    }
  });
}

// dE/dx of pair k from dE/dP.
template <class T>
inline void pull_of_pair(const Pairs& a, int k, int n, size_t columns, const T* pull_p, double* g) {
  const T* at = pull_p + a.leaf[k] * n;
  const double *terms = a.terms + k * n, *slopes = a.slopes + k * n, *inv_dstd = a.inv_dstd;
  const double x[3] = {a.x[k], a.y[k], a.z[k]};
  const double r[4] = {a.u[k], a.q[k] * x[0] * inv_dstd[1], a.q[k] * x[1] * inv_dstd[2],
                       a.q[k] * x[2] * inv_dstd[3]};
  Octet y[4] = {};
  for (int m = 0; m < n; m += 8) {
    const Octet term = load8(terms + m);
    Octet all = {};
    for (int d = 0; d < 4; ++d) {
      const Octet pull = load8(at + d * columns + m);
      y[d] += pull * term;
      all += pull * r[d];
    }
    y[0] += all * load8(slopes + m) * a.scale[k];
  }
  double total[4];
  sum4(y, total);
  double radial = total[0] * inv_dstd[0] * a.ds[k], direct[3];
  for (int c = 0; c < 3; ++c) {
    direct[c] = total[c + 1] * inv_dstd[c + 1];
    radial += a.dq[k] * direct[c] * x[c];
  }
  for (int c = 0; c < 3; ++c) g[c] = radial * a.inv_r[k] * x[c] + a.q[k] * direct[c];
}

// M (4, channels, ld) = P C / nnei, by way of `rows`.
template <class T>
void contract(const Problem& p, const Series<T>& s, const Chunk& c, const T* moments, T* rows, T* m) {
  const int padded = s.padded_channels, columns = s.columns[c.type];
  gemm<T>(4 * c.ld, padded, columns, moments, columns, 1, s.c[c.type], padded, rows, padded);
  const T factor = T(1.0 / p.nnei);
  for (int lane = 0; lane < c.ld; ++lane)
    for (int d = 0; d < 4; ++d)
      for (int g = 0; g < p.channels; ++g)
        m[(size_t(d) * p.channels + g) * c.ld + lane] =
            factor * rows[(size_t(lane) * 4 + d) * padded + g];
}

// rows (ld, 4, padded) = m / nnei of (4, channels, ld).
template <class T>
void to_rows(const Problem& p, const Series<T>& s, const Chunk& c, const T* m, T* rows) {
  const int padded = s.padded_channels;
  const T factor = T(1.0 / p.nnei);
  for (int lane = 0; lane < c.ld; ++lane)
    for (int d = 0; d < 4; ++d) {
      T* row = rows + (size_t(lane) * 4 + d) * padded;
      for (int g = 0; g < p.channels; ++g)
        row[g] = factor * m[(size_t(d) * p.channels + g) * c.ld + lane];
      for (int g = p.channels; g < padded; ++g) row[g] = 0;
    }
}

// D_ga = sum_d M_dg M_da; with `dot`, its tangent.
template <class T>
void descriptor(const Problem& p, int ld, const T* m, const T* dot, T* out) {
  constexpr int W = Simd<T>::W;
  const size_t plane = size_t(p.channels) * ld;
  for (int g = 0; g < p.channels; ++g)
    for (int k = 0; k < ld; k += W) {
      Vec<T> left[4], left_dot[4];
      for (int d = 0; d < 4; ++d) {
        left[d] = load(m + d * plane + size_t(g) * ld + k);
        if (dot) left_dot[d] = load(dot + d * plane + size_t(g) * ld + k);
      }
      for (int a = 0; a < p.axis; ++a) {
        Vec<T> total = {};
        for (int d = 0; d < 4; ++d) {
          const size_t at = d * plane + size_t(a) * ld + k;
          if (dot)
            total += left_dot[d] * load(m + at) + left[d] * load(dot + at);
          else
            total += left[d] * load(m + at);
        }
        store(out + (size_t(g) * p.axis + a) * ld + k, total);
      }
    }
}

// out_dg (+)= sum_a pull_ga M_da, and out_da += sum_g pull_ga M_dg: dE/dM from dE/dD.
template <class T>
void descriptor_backward(const Problem& p, int ld, const T* pull, const T* m, T* out, bool add) {
  constexpr int W = Simd<T>::W;
  const size_t plane = size_t(p.channels) * ld;
  if (!add) std::fill(out, out + 4 * plane, T(0));
  for (int g = 0; g < p.channels; ++g)
    for (int k = 0; k < ld; k += W) {
      Vec<T> left[4], total[4] = {};
      for (int d = 0; d < 4; ++d) left[d] = load(m + d * plane + size_t(g) * ld + k);
      for (int a = 0; a < p.axis; ++a) {
        const Vec<T> value = load(pull + (size_t(g) * p.axis + a) * ld + k);
        for (int d = 0; d < 4; ++d) {
          const size_t at = d * plane + size_t(a) * ld + k;
          total[d] += value * load(m + at);
          store(out + at, load(out + at) + value * left[d]);
        }
      }
      for (int d = 0; d < 4; ++d) {
        T* at = out + d * plane + size_t(g) * ld + k;
        store(at, load(at) + total[d]);
      }
    }
}

// Energies of a chunk's atoms, and the pull on each separation.
template <class T>
int64_t forward_chunk(const Problem& p, const Series<T>& s, const Chunk& c, Values<T>& v, Work<T>& w,
                      double* atom_ener, const std::vector<double*>& pull) {
  constexpr int W = Simd<T>::W;
  const Net& net = p.fitting[c.type];
  const int hidden = int(net.size()) - 1, columns = s.columns[c.type];
  const int64_t outside = moments(p, s, c, w.pairs, v.p);
  contract(p, s, c, v.p, w.rows, v.m);
  descriptor(p, c.ld, v.m, static_cast<T*>(nullptr), w.d);
  const T* x = w.d;
  for (int l = 0; l < hidden; ++l) {
    layer_forward<Vec<T>>(Weights<T>(net[l]), c.ld, x, v.t[l], v.y[l]);
    x = v.y[l];
  }
  const Weights<T> last(net[hidden]);
  for (int k = 0; k < c.ld; k += W) {
    Vec<T> energy = broadcast(last.bias[0]);
    for (int o = 0; o < last.n_in; ++o) energy += last.matrix[o] * load(x + size_t(o) * c.ld + k);
    for (int lane = k; lane < k + W; ++lane) {
      v.last_mask[lane] = 0;
      if (lane >= c.n) continue;
      int f, i;
      centre(p, c, lane, f, i);
      const double mask = p.mask[size_t(f) * p.nloc + i];
      v.last_mask[lane] = T(mask);
      atom_ener[size_t(f) * p.nloc + i] = mask == 0.0 ? 0.0 : mask * double(energy[lane - k]);
    }
  }
  T* pull_y = hidden ? v.pull_y[hidden - 1] : v.pull_d;
  for (int o = 0; o < last.n_in; ++o)
    for (int k = 0; k < c.ld; k += W)
      store(pull_y + size_t(o) * c.ld + k, last.matrix[o] * load(v.last_mask + k));
  for (int l = hidden; l-- > 0;)
    layer_backward<Vec<T>>(Weights<T>(net[l]), c.ld, v.t[l], v.pull_y[l], v.a[l],
                           l ? v.pull_y[l - 1] : v.pull_d);
  T* pull_m = w.d;  // room enough: 4 x channels of channels x axis, or its own
  Buffer own(nullptr, &std::free);
  if (p.axis < 4) {
    own = allocate(sizeof(T) * 4 * p.channels * c.ld);
    pull_m = reinterpret_cast<T*>(own.get());
  }
  descriptor_backward(p, c.ld, v.pull_d, v.m, pull_m, false);
  to_rows(p, s, c, pull_m, v.pull_m);
  gemm<T>(4 * c.ld, columns, p.channels, v.pull_m, s.padded_channels, 1, s.ct[c.type], columns, w.dp,
          columns);
  for_blocks(p, s, c, [&](int, int f, int i, int e, size_t row) {
    prepare_pairs(p, s, c.type, f, i, e, w.pairs);
    const size_t at = (size_t(f) * p.nloc + i) * p.width[e];
    for (int k = 0; k < w.pairs.n; ++k)
      pull_of_pair(w.pairs, k, order<T>(), columns, w.dp + row, pull[e] + 3 * (at + w.pairs.slot[k]));
  });
  return outside;
}

// Forces on points first ... last - 1 of a frame, and virials of their owners. Each point
// collects its pairs in the order of the list.
void collect(const Problem& p, const std::vector<double*>& pull, int f, int first, int last,
             Forward& out) {
  double* force = out.force + size_t(f) * p.npoints() * 3;
  double* virial = out.atom_virial + size_t(f) * p.nloc * 9;
  const double* offset = p.offset + size_t(f) * p.npoints() * 3;
  for (int i = 0; i < p.nloc; ++i) {
    if (p.mask[size_t(f) * p.nloc + i] == 0.0) continue;
    double own[3] = {};
    const bool mine = i >= first && i < last;
    for (int e = 0; e < p.nblocks; ++e) {
      const size_t row = (size_t(f) * p.nloc + i) * p.width[e];
      for (int k = 0; k < p.width[e]; ++k) {
        const int j = p.nlist[e][row + k];
        if (j < 0) continue;
        const int owner = p.owner(j);
        if (!mine && !(owner >= first && owner < last)) continue;
        const double* g = pull[e] + 3 * (row + k);
        if (mine)
          for (int c = 0; c < 3; ++c) own[c] += g[c];
        if (!(owner >= first && owner < last)) continue;
        double x[3];
        separation(p, f, i, j, p.shift[e] + 3 * (row + k), x);
        for (int a = 0; a < 3; ++a) {
          force[3 * j + a] -= g[a];
          for (int b = 0; b < 3; ++b)
            virial[9 * owner + 3 * a + b] -= g[a] * (x[b] - offset[3 * j + b]);
        }
      }
    }
    if (mine)
      for (int c = 0; c < 3; ++c) force[3 * i + c] += own[c];
  }
}

}  // namespace
}  // namespace DEEPSPIN_ISA
}  // namespace deepspin
