// SPDX-License-Identifier: Apache-2.0
// Nets, and the embedding nets' series: from weights to coefficients.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "net.h"
#include "pairs.h"

namespace deepspin {
namespace DEEPSPIN_ISA {
namespace {

constexpr double CELL = 2.0;       // width in u of the widest piece of a series
constexpr int MAX_HALVINGS = 12;   // of the pieces
constexpr double STEEP = 200.0;    // slope x width from which a step may hide between nodes
constexpr int MAX_CELLS = 4096;    // of a net
constexpr double UNRESOLVED_DOUBLE = 1e-14, UNRESOLVED_FLOAT = 1e-8;

template <class T>
constexpr int order() {
  return order_of(sizeof(T) == 4);
}

// Embedding nets in double precision, whatever the model's.
struct Embedding {
  std::vector<std::vector<double>> store;
  std::vector<std::vector<Layer>> nets;

  template <class T>
  void read(const std::vector<Net>& from) {
    nets = from;
    if (sizeof(T) == sizeof(double)) return;
    auto convert = [&](const void*& p, size_t n) {
      if (!p) return;
      const T* values = static_cast<const T*>(p);
      store.emplace_back(values, values + n);
      p = store.back().data();
    };
    for (Net& net : nets)
      for (Layer& l : net) {
        convert(l.matrix, size_t(l.n_in) * l.n_out);
        convert(l.bias, l.n_out);
        convert(l.idt, l.n_out);
      }
  }
};

// Activations of a net at the nodes of one piece.
struct NodeValues {
  std::vector<std::vector<double>> t, y;  // of each layer; y[0] is the input

  // at the nodes of the series, or at as many points in between, the ends among them
  void run(const Net& net, int order, double begin, double width, bool between = false) {
    t.resize(net.size() + 1);
    y.resize(net.size() + 1);
    y[0].resize(order);
    for (int k = 0; k < order; ++k) {
      const double angle = between ? M_PI * k / (order - 1) : M_PI * (2 * k + 1) / (2 * order);
      y[0][k] = begin + 0.5 * width * (1.0 + std::cos(angle));
    }
    for (size_t l = 0; l < net.size(); ++l) {
      size_t size = size_t(net[l].n_out) * order;
      t[l + 1].resize(size);
      y[l + 1].resize(size);
      layer_forward<Vec<double>>(Weights<double>(net[l]), order, y[l].data(), t[l + 1].data(),
                                 y[l + 1].data());
    }
  }
};

// Coefficients from values at nodes: (node, k), so that c_gk = sum_node G_g,node X_node,k.
struct Transform {
  std::vector<double> forward, adjoint, between;  // between: values in between of c_gk
  explicit Transform(int order)
      : forward(order * order), adjoint(order * order), between(order * order) {
    for (int node = 0; node < order; ++node)
      for (int k = 0; k < order; ++k) {
        between[k * order + node] = std::cos(M_PI * (node * k % (2 * order - 2)) / (order - 1));
        double angle = M_PI * ((2 * node + 1) * k % (4 * order)) / (2 * order);
        double value = std::cos(angle) * (k ? 2.0 : 1.0) / order;
        forward[node * order + k] = adjoint[k * order + node] = value;
      }
  }
};

// Bound of the slopes of all arguments of tanh in a net.
double steepest(const Net& net) {
  double result = 0.0;
  std::vector<double> slope(1, 1.0);  // of the layer's input
  for (const Layer& layer : net) {
    const Weights<double> w(layer);
    std::vector<double> next(w.n_out);
    for (int o = 0; o < w.n_out; ++o) {
      double all = 0.0;
      for (int i = 0; i < w.n_in; ++i) all += std::abs(w.matrix[size_t(i) * w.n_out + o]) * slope[i];
      result = std::max(result, all);
      next[o] = std::abs(w.idt ? w.idt[o] : 1.0) * all + (w.residual ? slope[o % w.n_in] : 0.0);
    }
    slope.swap(next);
  }
  return result;
}

// Whether the series of one piece is right in between of its nodes too. A tanh that steps
// from one node to the next, or beyond the last, leaves no trace in the last terms.
bool right_between(const Net& net, int order, double unresolved, const Transform& transform,
                   double begin, double width, const double* coefficients, double largest) {
  const int channels = net.back().n_out;
  NodeValues points;
  points.run(net, order, begin, width, true);
  std::vector<double> values(size_t(channels) * order);
  gemm<double>(channels, order, order, coefficients, order, 1, transform.between.data(), order,
               values.data(), order);
  for (size_t k = 0; k < values.size(); ++k)
    if (std::abs(values[k] - points.y.back()[k]) > 100.0 * unresolved * largest) return false;
  return true;
}

// Halve [begin, begin + width) until the series resolve the net. False if they never do.
bool expand(const Net& net, double slope, int order, double unresolved, const Transform& transform,
            double begin, double width, int halvings, NodeValues& nodes, Leaves& leaves,
            std::vector<double>& coefficients) {
  nodes.run(net, order, begin, width);
  const int channels = net.back().n_out;
  const size_t offset = coefficients.size();
  coefficients.resize(offset + size_t(channels) * order);
  double* c = coefficients.data() + offset;
  gemm<double>(channels, order, order, nodes.y.back().data(), order, 1, transform.forward.data(), order,
               c, order);
  double largest = 0.0, tail = 0.0;
  for (int g = 0; g < channels; ++g)
    for (int k = 0; k < order; ++k) {
      double value = std::abs(c[g * order + k]);
      largest = std::max(largest, value);
      if (k >= order - 2) tail = std::max(tail, value);
    }
  const bool resolved = !(tail > unresolved * largest) &&
                        (!(slope * width > STEEP) ||
                         right_between(net, order, unresolved, transform, begin, width, c, largest));
  if (resolved || !std::isfinite(largest)) {
    leaves.begin.push_back(begin);
    leaves.width.push_back(width);
    return true;
  }
  coefficients.resize(offset);
  if (halvings == 0) return false;
  for (double from : {begin, begin + 0.5 * width})
    if (!expand(net, slope, order, unresolved, transform, from, 0.5 * width, halvings - 1, nodes,
                leaves, coefficients))
      return false;
  return true;
}

// Cells of width CELL in which a net is asked for, found in parallel.
class Cells {
 public:
  Cells() { std::fill(seen_, seen_ + 64, std::numeric_limits<int64_t>::min()); }
  void add(double u) {
    if (!(std::abs(u) < 1e15)) {
      far |= std::isfinite(u);
      return;
    }
    int64_t cell = int64_t(std::floor(u / CELL));
    int64_t& seen = seen_[cell & 63];
    if (seen == cell) return;
    seen = cell;
    cells.push_back(cell);
  }
  std::vector<int64_t> cells;
  bool far = false;  // asked for where no cell is

 private:
  int64_t seen_[64];
};

// Everything that is made of the weights: the same for all centres of a type.
template <class T>
struct Series {
  std::vector<Leaves> leaves;           // of each net
  std::vector<std::vector<int>> first;  // column of the first leaf of (type, block)
  std::vector<int> columns;             // columns of P of each type
  int padded_channels = 0;
  std::vector<T*> c, ct;  // of each type: (columns, padded channels), (channels, columns)

  void count(const Problem& p) {
    for (Leaves& l : leaves) l.set_factors();
    padded_channels = round_up(p.channels, Simd<T>::W);
    first.assign(p.ntypes, std::vector<int>(p.nblocks, 0));
    columns.assign(p.ntypes, 0);
    for (int t = 0; t < p.ntypes; ++t)
      for (int e = 0; e < p.nblocks; ++e) {
        first[t][e] = columns[t];
        if (!p.excluded[t * p.nblocks + e] && p.sel[e] > 0)
          columns[t] += order<T>() * leaves[p.net(t, e)].size();
      }
  }

  void place(const Problem& p, Arena& arena) {
    c.resize(p.ntypes);
    ct.resize(p.ntypes);
    for (int t = 0; t < p.ntypes; ++t) {
      c[t] = arena.get<T>(size_t(columns[t]) * padded_channels);
      ct[t] = arena.get<T>(size_t(columns[t]) * p.channels);
    }
  }

  // `coefficients` of each net: (leaf, channel, order), or of tables (leaf, order, channel),
  // of which the leaves are those that `source` numbers
  template <class X>
  void fill(const Problem& p, const std::vector<const X*>& coefficients,
            const std::vector<std::vector<int>>* source = nullptr) {
    const int n = order<T>();
    for (int t = 0; t < p.ntypes; ++t) {
      std::fill(c[t], c[t] + size_t(columns[t]) * padded_channels, T(0));
      for (int e = 0; e < p.nblocks; ++e) {
        if (p.excluded[t * p.nblocks + e] || p.sel[e] == 0) continue;
        const int net = p.net(t, e);
        const X* from = coefficients[net];
        for (int l = 0; l < leaves[net].size(); ++l)
          for (int k = 0; k < n; ++k)
            for (int g = 0; g < p.channels; ++g) {
              X value = source ? from[(size_t((*source)[net][l]) * n + k) * p.channels + g]
                               : from[(size_t(l) * p.channels + g) * n + k];
              size_t column = first[t][e] + l * n + k;
              c[t][column * padded_channels + g] = T(value);
              ct[t][size_t(g) * columns[t] + column] = T(value);
            }
      }
    }
  }
};

}  // namespace
}  // namespace DEEPSPIN_ISA
}  // namespace deepspin
