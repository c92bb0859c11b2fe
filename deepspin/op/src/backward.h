// SPDX-License-Identifier: Apache-2.0
// Gradients with respect to weights and positions.
#pragma once

#include "forward.h"

namespace deepspin {
namespace DEEPSPIN_ISA {
namespace {

// Adjoints that a chunk leaves for the gradients of the weights. `y[0]` is the descriptor;
// the other arrays of the fitting net are of its hidden layers.
template <class T>
struct Adjoints {
  T *d, *d_dot;              // D and its tangent: (channels x axis, ld)
  std::vector<T*> y_dot;     // (n_out, ld)
  std::vector<T*> z_bar;     // adjoints of W^T x + b, then of its tangent: (2, ld, n_out)
  T *p_dot, *m_bar;          // (ld, 4, columns), (ld, 4, padded channels)
  std::vector<T*> sums;      // of each hidden layer: bias, idt; of the last: matrix, bias

  void place(const Problem& q, const Series<T>& s, const Chunk& c, Arena& arena) {
    const size_t ld = c.ld;
    const Net& net = q.fitting[c.type];
    d = arena.get<T>(size_t(q.channels) * q.axis * ld);
    d_dot = arena.get<T>(size_t(q.channels) * q.axis * ld);
    p_dot = arena.get<T>(ld * 4 * s.columns[c.type]);
    m_bar = arena.get<T>(ld * 4 * s.padded_channels);
    y_dot.resize(net.size() - 1);
    z_bar.resize(net.size() - 1);
    for (size_t l = 0; l + 1 < net.size(); ++l) {
      y_dot[l] = arena.get<T>(net[l].n_out * ld);
      z_bar[l] = arena.get<T>(2 * net[l].n_out * ld);
    }
    sums.resize(net.size());
    for (size_t l = 0; l < net.size(); ++l)
      sums[l] = arena.get<T>(l + 1 < net.size() ? 2 * net[l].n_out : net[l].n_in + 1);
  }
};

template <class T>
T total(const T* x, int ld) {  // in the order of lanes
  T result = 0;
  for (int k = 0; k < ld; ++k) result += x[k];
  return result;
}

// Tangent of a chunk's energies along v, and adjoints of the weights and of M.
template <class T>
void backward_chunk(const Problem& p, const Series<T>& s, const Chunk& c, const Values<T>& v,
                    const Backward& in, Adjoints<T>& adj, Arena arena, T* m_dot_out, Pairs& pairs) {
  constexpr int W = Simd<T>::W;
  const Net& net = p.fitting[c.type];
  const int hidden = int(net.size()) - 1, ld = c.ld;
  // v = dL/d(pull): from forces on both ends and from the virial of the owner
  auto along = [&](int f, int i, int e, const Pairs& a, int k, double* to) {
    const int j = p.nlist[e][(size_t(f) * p.nloc + i) * p.width[e] + a.slot[k]];
    const double* force = in.force + size_t(f) * p.npoints() * 3;
    const double* offset = p.offset + (size_t(f) * p.npoints() + j) * 3;
    const double* virial = in.atom_virial + (size_t(f) * p.nloc + p.owner(j)) * 9;
    const double x[3] = {a.x[k] - offset[0], a.y[k] - offset[1], a.z[k] - offset[2]};
    for (int d = 0; d < 3; ++d) {
      to[d] = force[3 * i + d] - force[3 * j + d];
      for (int b = 0; b < 3; ++b) to[d] -= virial[3 * d + b] * x[b];
    }
  };
  moments_tangent(p, s, c, pairs, along, adj.p_dot);
  T* rows = arena.get<T>(size_t(ld) * 4 * s.padded_channels);
  T* m_bar = arena.get<T>(4 * size_t(p.channels) * ld);
  contract(p, s, c, adj.p_dot, rows, m_dot_out);
  descriptor(p, ld, v.m, static_cast<T*>(nullptr), adj.d);
  descriptor(p, ld, v.m, m_dot_out, adj.d_dot);
  std::vector<T*> z_dot(hidden);
  const T* x_dot = adj.d_dot;
  for (int l = 0; l < hidden; ++l) {
    const Weights<T> w(net[l]);
    z_dot[l] = arena.get<T>(size_t(w.n_out) * ld);
    gemm<T>(w.n_out, ld, w.n_in, w.matrix, 1, w.n_out, x_dot, ld, z_dot[l], ld);
    for (int o = 0; o < w.n_out; ++o) {
      const Vec<T> idt = broadcast(w.idt ? w.idt[o] : T(1));
      for (int k = 0; k < ld; k += W) {
        const size_t at = size_t(o) * ld + k;
        Vec<T> t = load(v.t[l] + at), dot = idt * (T(1) - t * t) * load(z_dot[l] + at);
        if (w.residual) dot += load(x_dot + size_t(o % w.n_in) * ld + k);
        store(adj.y_dot[l] + at, dot);
      }
    }
    x_dot = adj.y_dot[l];
  }
  // seeds of psi: mask x dL/d(atom_ener)
  T* seed = arena.get<T>(ld);
  for (int lane = 0; lane < ld; ++lane) {
    seed[lane] = 0;
    if (lane >= c.n) continue;
    int f, i;
    centre(p, c, lane, f, i);
    seed[lane] = T(p.mask[size_t(f) * p.nloc + i] * in.atom_ener[size_t(f) * p.nloc + i]);
  }
  const Weights<T> last(net[hidden]);
  const T* top = hidden ? v.y[hidden - 1] : adj.d;
  for (int o = 0; o < last.n_in; ++o) {
    T value = 0;
    for (int k = 0; k < ld; ++k)
      value += seed[k] * top[size_t(o) * ld + k] + v.last_mask[k] * x_dot[size_t(o) * ld + k];
    adj.sums[hidden][o] = value;
  }
  adj.sums[hidden][last.n_in] = total(seed, ld);
  int widest = p.channels * p.axis;
  for (const Layer& l : net) widest = std::max(widest, l.n_out);
  T *y_bar = arena.get<T>(size_t(widest) * ld), *x_bar = arena.get<T>(size_t(widest) * ld);
  T* z_bar = arena.get<T>(size_t(widest) * ld);
  for (int o = 0; o < last.n_in; ++o)
    for (int k = 0; k < ld; k += W) store(y_bar + size_t(o) * ld + k, last.matrix[o] * load(seed + k));
  for (int l = hidden; l-- > 0;) {
    const Weights<T> w(net[l]);
    for (int o = 0; o < w.n_out; ++o) {
      const Vec<T> idt = broadcast(w.idt ? w.idt[o] : T(1));
      Vec<T> bias_sum = {}, idt_sum = {};
      for (int k = 0; k < ld; k += W) {
        const size_t at = size_t(o) * ld + k;
        const Vec<T> t = load(v.t[l] + at), slope = T(1) - t * t, bar = load(y_bar + at);
        const Vec<T> dot = load(z_dot[l] + at), pull = load(v.pull_y[l] + at);
        const Vec<T> bent = slope * dot * pull;  // of the tangent
        const Vec<T> z = idt * (slope * bar - T(2) * t * bent);
        store(z_bar + at, z);
        bias_sum += z;
        idt_sum += bar * t + bent;
      }
      adj.sums[l][o] = sum<T>(bias_sum);
      adj.sums[l][w.n_out + o] = sum<T>(idt_sum);
    }
    gemm<T>(w.n_in, ld, w.n_out, w.matrix, w.n_out, 1, z_bar, ld, x_bar, ld);
    if (w.residual)
      for (int o = 0; o < w.n_out; ++o)
        for (int k = 0; k < ld; k += W) {
          T* to = x_bar + size_t(o % w.n_in) * ld + k;
          store(to, load(to) + load(y_bar + size_t(o) * ld + k));
        }
    transpose(w.n_out, ld, z_bar, adj.z_bar[l]);
    transpose(w.n_out, ld, v.a[l], adj.z_bar[l] + size_t(w.n_out) * ld);
    std::swap(y_bar, x_bar);
  }
  descriptor_backward(p, ld, y_bar, v.m, m_bar, false);
  descriptor_backward(p, ld, v.pull_d, m_dot_out, m_bar, true);
  to_rows(p, s, c, m_bar, adj.m_bar);
}

// Positions of a net's weights in the flat list: matrix, bias and perhaps idt of each layer.
std::vector<std::vector<int>> weight_slots(const std::vector<Net>& nets, int& next) {
  std::vector<std::vector<int>> first;
  for (const Net& net : nets) {
    first.emplace_back();
    for (const Layer& l : net) {
      first.back().push_back(next);
      next += l.idt ? 3 : 2;
    }
  }
  return first;
}

// Gradients of the fitting nets, in blocks of rows.
template <class T>
void fitting_gradients(const Problem& p, const std::vector<Chunk>& chunks,
                       const std::vector<Values<T>>& values, const std::vector<Adjoints<T>>& adj,
                       const std::vector<std::vector<int>>& slots, const std::vector<void*>& out) {
  constexpr int ROWS = 96;
  struct Task {
    int t, l, row;
  };
  std::vector<Task> tasks;
  for (int t = 0; t < p.ntypes; ++t)
    for (size_t l = 0; l < p.fitting[t].size(); ++l)
      for (int row = 0; row < (l + 1 < p.fitting[t].size() ? p.fitting[t][l].n_in : 1); row += ROWS)
        tasks.push_back({t, int(l), row});
  parallel(p.threads, int(tasks.size()), [&](int task) {
    const auto [t, l, row] = tasks[task];
    const Net& net = p.fitting[t];
    const Layer& w = net[l];
    T* matrix = static_cast<T*>(out[slots[t][l]]);
    T* bias = static_cast<T*>(out[slots[t][l] + 1]);
    if (row == 0) {  // the sums over atoms
      const bool last = l + 1 == int(net.size());
      T* idt = w.idt ? static_cast<T*>(out[slots[t][l] + 2]) : nullptr;
      std::fill(bias, bias + w.n_out, T(0));
      if (idt) std::fill(idt, idt + w.n_out, T(0));
      if (last) std::fill(matrix, matrix + w.n_in, T(0));
      for (size_t k = 0; k < chunks.size(); ++k) {
        if (chunks[k].type != t) continue;
        const T* sums = adj[k].sums[l];
        if (last) {
          for (int i = 0; i < w.n_in; ++i) matrix[i] += sums[i];
          bias[0] += sums[w.n_in];
          continue;
        }
        for (int o = 0; o < w.n_out; ++o) bias[o] += sums[o];
        for (int o = 0; idt && o < w.n_out; ++o) idt[o] += sums[w.n_out + o];
      }
      if (last) return;
    }
    // matrix = sum over chunks of [x x_dot] [z_bar; a], as one product
    const int rows = std::min(ROWS, w.n_in - row);
    std::vector<T> left, right;
    int depth = 0, count = 0;
    for (size_t k = 0; k < chunks.size(); ++k)
      if (chunks[k].type == t) depth += 2 * chunks[k].ld, ++count;
    left.resize(size_t(rows) * depth);
    const T* all = nullptr;
    int at = 0;
    for (size_t k = 0; k < chunks.size(); ++k) {
      if (chunks[k].type != t) continue;
      const int ld = chunks[k].ld;
      const T* x = (l ? values[k].y[l - 1] : adj[k].d) + size_t(row) * ld;
      const T* x_dot = (l ? adj[k].y_dot[l - 1] : adj[k].d_dot) + size_t(row) * ld;
      for (int r = 0; r < rows; ++r) {
        std::copy(x + size_t(r) * ld, x + size_t(r + 1) * ld, &left[size_t(r) * depth + at]);
        std::copy(x_dot + size_t(r) * ld, x_dot + size_t(r + 1) * ld,
                  &left[size_t(r) * depth + at + ld]);
      }
      all = adj[k].z_bar[l];
      if (count > 1) right.insert(right.end(), all, all + size_t(2) * ld * w.n_out);
      at += 2 * ld;
    }
    if (count > 1) all = right.data();
    gemm<T>(rows, w.n_out, depth, left.data(), depth, 1, all, w.n_out, matrix + size_t(row) * w.n_out,
            w.n_out);
  });
}

// Gradients of the embedding nets: back through the series and through the nets at nodes.
template <class T>
void embedding_gradients(const Problem& p, const Series<T>& s, const Embedding& embedding,
                         const std::vector<Chunk>& chunks, const std::vector<Values<T>>& values,
                         const std::vector<Adjoints<T>>& adj,
                         const std::vector<std::vector<int>>& slots, const std::vector<void*>& out) {
  const int n = order<T>(), padded = s.padded_channels, nnets = p.nnets();
  struct Task {
    int net, leaf;
    std::vector<std::vector<double>> matrix, bias, idt;  // of each layer
  };
  std::vector<Task> tasks;
  for (int k = 0; k < nnets; ++k)
    for (int l = 0; l < s.leaves[k].size(); ++l) tasks.push_back({k, l, {}, {}, {}});
  static const Transform transform_double(order_of(false)), transform_float(order_of(true));
  const Transform& transform = sizeof(T) == 4 ? transform_float : transform_double;
  parallel(p.threads, int(tasks.size()), [&](int k) {
    Task& task = tasks[k];
    std::vector<T> c_bar(size_t(n) * padded, T(0));
    bool used = false;
    for (size_t i = 0; i < chunks.size(); ++i)
      for (int e = 0; e < p.nblocks; ++e) {
        const int t = chunks[i].type, columns = s.columns[t];
        if (p.net(t, e) != task.net || p.excluded[t * p.nblocks + e] || p.sel[e] == 0) continue;
        const size_t column = s.first[t][e] + size_t(task.leaf) * n;
        const int rows = 4 * chunks[i].ld;
        gemm<T>(n, padded, rows, values[i].p + column, 1, columns, adj[i].m_bar, padded, c_bar.data(),
                padded, true);
        gemm<T>(n, padded, rows, adj[i].p_dot + column, 1, columns, values[i].pull_m, padded,
                c_bar.data(), padded, true);
        used = true;
      }
    if (!used) return;
    const Net& net = embedding.nets[task.net];
    const Leaves& leaves = s.leaves[task.net];
    NodeValues nodes;
    nodes.run(net, n, leaves.begin[task.leaf], leaves.width[task.leaf]);
    std::vector<double> turned(size_t(p.channels) * n), pull(size_t(p.channels) * n);
    for (int m = 0; m < n; ++m)
      for (int g = 0; g < p.channels; ++g) turned[size_t(g) * n + m] = c_bar[size_t(m) * padded + g];
    gemm<double>(p.channels, n, n, turned.data(), n, 1, transform.adjoint.data(), n, pull.data(), n);
    task.matrix.resize(net.size());
    task.bias.resize(net.size());
    task.idt.resize(net.size());
    for (int l = int(net.size()); l-- > 0;) {
      const Weights<double> w(net[l]);
      std::vector<double> a(size_t(w.n_out) * n), a_rows(a.size()), pull_x(size_t(w.n_in) * n);
      layer_backward<Vec<double>>(w, n, nodes.t[l + 1].data(), pull.data(), a.data(), pull_x.data());
      transpose(w.n_out, n, a.data(), a_rows.data());
      task.matrix[l].resize(size_t(w.n_in) * w.n_out);
      gemm<double>(w.n_in, w.n_out, n, nodes.y[l].data(), n, 1, a_rows.data(), w.n_out,
                   task.matrix[l].data(), w.n_out);
      for (int o = 0; o < w.n_out; ++o) {
        double idt = 0;
        for (int i = 0; i < n; ++i) idt += pull[size_t(o) * n + i] * nodes.t[l + 1][size_t(o) * n + i];
        task.bias[l].push_back(total(a.data() + size_t(o) * n, n));
        task.idt[l].push_back(idt);
      }
      pull.swap(pull_x);
    }
  });
  parallel(p.threads, nnets, [&](int k) {
    const Net& net = p.embedding[k];
    for (size_t l = 0; l < net.size(); ++l) {
      auto add = [&](int which, size_t size, std::vector<std::vector<double>> Task::* part) {
        std::vector<double> all(size, 0.0);
        for (const Task& task : tasks)
          if (task.net == k && !task.matrix.empty())
            for (size_t i = 0; i < size; ++i) all[i] += (task.*part)[l][i];
        T* to = static_cast<T*>(out[slots[k][l] + which]);
        for (size_t i = 0; i < size; ++i) to[i] = T(all[i]);
      };
      add(0, size_t(net[l].n_in) * net[l].n_out, &Task::matrix);
      add(1, net[l].n_out, &Task::bias);
      if (net[l].idt) add(2, net[l].n_out, &Task::idt);
    }
  });
}

// --- Positions ---

using Tangent = Dual<double>;  // along v

// d/d(eps) of dE/dx at x + eps v for given dE/dP: what `pull_of_pair` computes, in duals.
template <class T>
void pull_tangent(const Problem& p, int t, const Pairs& a, int k, int n, size_t columns,
                  const T* pull_p, const double* v, double* g) {
  const double* dstd = p.dstd + 4 * t;
  const T* at = pull_p + a.leaf[k] * n;
  const Tangent x[3] = {{a.x[k], v[0]}, {a.y[k], v[1]}, {a.z[k], v[2]}};
  const Tangent r = root(x[0] * x[0] + x[1] * x[1] + x[2] * x[2]), inv = inverse(r);
  Tangent w = {1.0, 0.0}, dw = {0.0, 0.0};
  if (r.x >= p.rcut) w.x = 0.0;
  if (r.x >= p.rcut_smth && r.x < p.rcut) {
    const Tangent one = {1.0, 0.0}, h = (1.0 / p.length) * (r - Tangent{p.rcut_smth, 0.0});
    w = h * h * h * (h * (Tangent{15.0, 0.0} - 6.0 * h) - Tangent{10.0, 0.0}) + one;
    dw = (-30.0 / p.length) * (h * h * (h - one) * (h - one));
  }
  const Tangent s = w * inv, ds = (dw - s) * inv, q = s * inv, dq = (ds - q) * inv;
  const Tangent u = (1.0 / dstd[0]) * (s - Tangent{p.davg[4 * t], 0.0});
  const Tangent tau = {a.tau[k], a.scale[k] * u.d};
  Tangent row[4] = {u};
  for (int c = 0; c < 3; ++c) row[c + 1] = (1.0 / dstd[c + 1]) * (q * x[c]);
  Tangent y[4] = {}, bend = {};
  Tangent term[2] = {{1.0, 0.0}, tau}, slope[2] = {{0.0, 0.0}, {1.0, 0.0}};
  const bool inside = a.over[k] == 0.0;
  for (int m = 0; m < n; ++m) {
    Tangent tm = m < 2 ? term[m] : 2.0 * (tau * term[1]) - term[0];
    Tangent sm = m < 2 ? slope[m] : 2.0 * (term[1] + tau * slope[1]) - slope[0];
    if (m >= 2) term[0] = term[1], term[1] = tm, slope[0] = slope[1], slope[1] = sm;
    if (!inside)  // a straight line
      tm = {a.terms[k * n + m], a.slopes[k * n + m] * tau.d}, sm = {a.slopes[k * n + m], 0.0};
    Tangent all = {};
    for (int d = 0; d < 4; ++d) {
      const double pull = at[d * columns + m];
      y[d] = y[d] + pull * tm;
      all = all + pull * row[d];
    }
    bend = bend + all * sm;
  }
  Tangent radial = (1.0 / dstd[0]) * ((y[0] + a.scale[k] * bend) * ds), direct[3];
  for (int c = 0; c < 3; ++c) {
    direct[c] = (1.0 / dstd[c + 1]) * y[c + 1];
    radial = radial + dq * direct[c] * x[c];
  }
  for (int c = 0; c < 3; ++c) g[c] = (radial * inv * x[c] + q * direct[c]).d;
}

// dL/d(separation) of every pair and dE/d(separation), for the positions' gradient.
template <class T>
void positions_chunk(const Problem& p, const Series<T>& s, const Chunk& c, const Values<T>& v,
                     const Adjoints<T>& adj, const Backward& in, T* p_bar, T* pull_p, Pairs& pairs,
                     const std::vector<double*>& x_bar, const std::vector<double*>& pull) {
  const int columns = s.columns[c.type], n = order<T>();
  gemm<T>(4 * c.ld, columns, p.channels, adj.m_bar, s.padded_channels, 1, s.ct[c.type], columns, p_bar,
          columns);
  gemm<T>(4 * c.ld, columns, p.channels, v.pull_m, s.padded_channels, 1, s.ct[c.type], columns, pull_p,
          columns);
  for_blocks(p, s, c, [&](int, int f, int i, int e, size_t row) {
    prepare_pairs(p, s, c.type, f, i, e, pairs);
    const size_t at = (size_t(f) * p.nloc + i) * p.width[e];
    for (int k = 0; k < pairs.n; ++k) {
      const int j = p.nlist[e][at + pairs.slot[k]];
      const int owner = p.owner(j);
      const double* force = in.force + size_t(f) * p.npoints() * 3;
      const double* virial = in.atom_virial + (size_t(f) * p.nloc + owner) * 9;
      const double* offset = p.offset + (size_t(f) * p.npoints() + j) * 3;
      const double x[3] = {pairs.x[k] - offset[0], pairs.y[k] - offset[1], pairs.z[k] - offset[2]};
      double along[3], bent[3], straight[3];
      for (int d = 0; d < 3; ++d) {
        along[d] = force[3 * i + d] - force[3 * j + d];
        for (int b = 0; b < 3; ++b) along[d] -= virial[3 * d + b] * x[b];
      }
      double* g = pull[e] + 3 * (at + pairs.slot[k]);
      pull_of_pair(pairs, k, n, columns, pull_p + row, g);
      pull_of_pair(pairs, k, n, columns, p_bar + row, straight);
      pull_tangent(p, c.type, pairs, k, n, columns, pull_p + row, along, bent);
      double* to = x_bar[e] + 3 * (at + pairs.slot[k]);
      for (int b = 0; b < 3; ++b) {
        to[b] = straight[b] + bent[b];
        for (int d = 0; d < 3; ++d) to[b] -= virial[3 * d + b] * g[d];
      }
    }
  });
}

void collect_positions(const Problem& p, const Backward& in, const std::vector<double*>& x_bar,
                       const std::vector<double*>& pull, int f) {
  double* points = in.points + size_t(f) * p.npoints() * 3;
  double* offset = in.offset + size_t(f) * p.npoints() * 3;
  double* box = in.box + f * 9;
  std::fill(points, points + 3 * p.npoints(), 0.0);
  std::fill(offset, offset + 3 * p.npoints(), 0.0);
  std::fill(box, box + 9, 0.0);
  for (int i = 0; i < p.nloc; ++i) {
    if (p.mask[size_t(f) * p.nloc + i] == 0.0) continue;
    for (int e = 0; e < p.nblocks; ++e)
      for (int k = 0; k < p.width[e]; ++k) {
        const size_t at = (size_t(f) * p.nloc + i) * p.width[e] + k;
        const int j = p.nlist[e][at];
        if (j < 0) continue;
        const double *bar = x_bar[e] + 3 * at, *g = pull[e] + 3 * at;
        const int32_t* shift = p.shift[e] + 3 * at;
        const double* virial = in.atom_virial + (size_t(f) * p.nloc + p.owner(j)) * 9;
        for (int b = 0; b < 3; ++b) {
          points[3 * j + b] += bar[b];
          points[3 * i + b] -= bar[b];
          for (int d = 0; d < 3; ++d) {
            offset[3 * j + b] += virial[3 * d + b] * g[d];
            box[3 * d + b] += shift[d] * bar[b];
          }
        }
      }
  }
}

// --- Both ---

template <class T>
const char* backward(const Problem& p, Backward& in) {
  static const char* wrong = "`kept` is not of the same model and batch";
  Series<T> s;
  const double* head = static_cast<const double*>(in.kept);
  const double* end = head + in.kept_bytes / sizeof(double);
  if (head == end || !(*head >= 1) || !(*head <= double(end - head))) return wrong;
  const size_t header = size_t(*head);
  end = head++ + header;
  for (int k = 0; k < p.nnets(); ++k) {
    if (head >= end || !(*head >= 1) || !(2 * *head <= double(end - head - 1))) return wrong;
    const size_t count = size_t(*head++);
    s.leaves.emplace_back();
    s.leaves.back().begin.assign(head, head + count);
    s.leaves.back().width.assign(head + count, head + 2 * count);
    head += 2 * count;
  }
  s.count(p);
  const std::vector<Chunk> chunks = chunks_of(p, Simd<T>::W, 2);
  std::vector<Values<T>> values;
  auto lay_out = [&](Arena arena) {
    arena.get<double>(header);
    place_kept(p, s, chunks, values, arena);
    return arena.used();
  };
  if (lay_out(Arena()) != in.kept_bytes) return wrong;
  lay_out(Arena(static_cast<char*>(const_cast<void*>(in.kept))));

  std::vector<Adjoints<T>> adj(chunks.size());
  auto place_adjoints = [&](Arena arena) {
    for (size_t k = 0; k < chunks.size(); ++k) adj[k].place(p, s, chunks[k], arena);
    return arena.used();
  };
  static thread_local Scratch kept_adjoints;
  place_adjoints(Arena(kept_adjoints.at_least(place_adjoints(Arena()))));
  const bool positions = in.points != nullptr;
  const size_t centres = size_t(p.nf) * p.nloc;
  std::vector<Buffer> memory;
  std::vector<double*> x_bar, pull;
  for (int k = 0; positions && k < 2 * p.nblocks; ++k) {
    const size_t bytes = centres * p.width[k / 2] * 3 * sizeof(double);
    memory.push_back(allocate(bytes));
    std::memset(memory.back().get(), 0, bytes);
    (k % 2 ? pull : x_bar).push_back(reinterpret_cast<double*>(memory.back().get()));
  }
  int widest = p.channels * p.axis, layers = 0, narrow = 0;
  for (const Net& net : p.fitting) {
    int here = 0;
    for (const Layer& l : net) widest = std::max(widest, l.n_out), here += l.n_out;
    layers = std::max(layers, int(net.size())), narrow = std::max(narrow, here);
  }
  parallel(p.threads, int(chunks.size()), [&](int k) {
    static thread_local Scratch scratch;
    const Chunk& c = chunks[k];
    const size_t columns = s.columns[c.type], ld = c.ld;
    Pairs pairs;
    T *m_dot, *p_bar, *pull_p;
    auto lay_out_work = [&](Arena& arena) {
      pairs = Pairs::in(arena, *std::max_element(p.width.begin(), p.width.end()), order<T>());
      m_dot = arena.get<T>(4 * p.channels * ld);
      p_bar = arena.get<T>(positions ? ld * 4 * columns : 0);
      pull_p = arena.get<T>(positions ? ld * 4 * columns : 0);
    };
    Arena measure;
    lay_out_work(measure);
    const size_t rest =
        sizeof(T) * ld * (4 * s.padded_channels + 4 * p.channels + narrow + 1 + 3 * widest) +
        128 * (layers + 8);
    Arena arena(scratch.at_least(measure.used() + rest));
    lay_out_work(arena);
    backward_chunk(p, s, c, values[k], in, adj[k], arena, m_dot, pairs);
    if (positions) positions_chunk(p, s, c, values[k], adj[k], in, p_bar, pull_p, pairs, x_bar, pull);
  });
  if (positions) parallel(p.threads, p.nf, [&](int f) { collect_positions(p, in, x_bar, pull, f); });
  if (in.weights.empty()) return nullptr;
  Embedding embedding;
  embedding.read<T>(p.embedding);
  int next = 0;
  const auto embedding_slots = weight_slots(p.embedding, next);
  const auto fitting_slots = weight_slots(p.fitting, next);
  fitting_gradients(p, chunks, values, adj, fitting_slots, in.weights);
  embedding_gradients(p, s, embedding, chunks, values, adj, embedding_slots, in.weights);
  return nullptr;
}

}  // namespace
}  // namespace DEEPSPIN_ISA
}  // namespace deepspin
