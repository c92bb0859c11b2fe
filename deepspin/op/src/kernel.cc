// SPDX-License-Identifier: Apache-2.0
// Energies of atoms and their derivatives, from separations to forces and back.
//
// The embedding net is a function of one number, so it is not run for each neighbour: it
// is expanded anew in each call into pieces of Chebyshev series, exact to rounding. Then
//
//   M = P C / nnei,   P_dk = sum_j R_jd T_k(u_j),   D = M^T M_<,   E = fitting net(D)
//
// with the coefficients C of the series and the moments P of the centre's environment
// matrix R in the series' terms. P knows no weights and C no neighbours; what is between
// them are products of matrices.
//
// Derivatives are written out by hand. With x a separation and v given, the gradient of
//
//   psi = sum_i ebar_i E_i + sum_j v_j dE/dx_j
//
// with respect to the weights is that of a tangent along v, so it needs no second
// derivative of P. Adjoints of psi are called `bar`, tangents along v `dot`, and `pull`
// is dE/d(something).
//
// Centres of one type are worked on in chunks, an atom a lane of the vectors: an array
// (features, ld) has its `ld` atoms side by side. Chunks, and so the order
// of all sums, do not depend on the number of threads: results are the same to the bit.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>

#include "gemm.h"
#include "potential.h"

namespace deepspin {
namespace DEEPSPIN_ISA {
namespace {

constexpr double CELL = 2.0;       // width in u of the widest piece of a series
constexpr int MAX_HALVINGS = 12;   // of the pieces
constexpr int CHUNK_VECTORS = 4;   // most vectors of atoms in a chunk
constexpr int FEW_CHUNKS = 4;      // with fewer than these, chunks are smaller
constexpr double STEEP = 200.0;    // slope x width from which a step may hide between nodes
constexpr int MAX_CELLS = 4096;    // of a net
constexpr int BATCH = 8;           // pairs are padded to a multiple of this
constexpr double UNRESOLVED_DOUBLE = 1e-14, UNRESOLVED_FLOAT = 1e-8;

template <class T>
constexpr int order() {
  return order_of(sizeof(T) == 4);
}

// Memory for one purpose after another: first measured, then given out.
class Arena {
 public:
  explicit Arena(char* base = nullptr) : base_(base) {}
  template <class X>
  X* get(size_t n) {
    X* result = base_ ? reinterpret_cast<X*>(base_ + used_) : nullptr;
    used_ += (n * sizeof(X) + 127) / 64 * 64;
    return result;
  }
  size_t used() const { return used_; }

 private:
  char* base_;
  size_t used_ = 0;
};

// A thread's memory, kept from call to call.
class Scratch {
 public:
  ~Scratch() { std::free(memory_); }
  char* at_least(size_t bytes) {
    if (bytes > size_) {
      std::free(memory_);
      memory_ = static_cast<char*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64));
      size_ = memory_ ? bytes : 0;
      if (!memory_) throw std::bad_alloc();
    }
    return memory_;
  }

 private:
  char* memory_ = nullptr;
  size_t size_ = 0;
};

using Buffer = std::unique_ptr<char, decltype(&std::free)>;

Buffer allocate(size_t bytes) {
  Buffer result(static_cast<char*>(std::aligned_alloc(64, (bytes + 127) / 64 * 64)), &std::free);
  if (!result) throw std::bad_alloc();
  return result;
}

template <class T>
void transpose(int rows, int columns, const T* from, T* to) {  // to: (columns, rows)
  constexpr int B = 8;
  for (int r0 = 0; r0 < rows; r0 += B)
    for (int c0 = 0; c0 < columns; c0 += B)
      for (int r = r0; r < std::min(r0 + B, rows); ++r)
        for (int c = c0; c < std::min(c0 + B, columns); ++c)
          to[int64_t(c) * rows + r] = from[int64_t(r) * columns + c];
}

// --- Eights of numbers ---------------------------------------------------------------

typedef double Octet __attribute__((vector_size(64)));
typedef double OctetInMemory __attribute__((vector_size(64), aligned(8)));
const Octet COUNT = {1, 2, 3, 4, 5, 6, 7, 8};

inline Octet load8(const double* p) { return *reinterpret_cast<const OctetInMemory*>(p); }
inline Octet load8(const float* p) {
  typedef float Eight __attribute__((vector_size(32), aligned(4)));
  return __builtin_convertvector(*reinterpret_cast<const Eight*>(p), Octet);
}
inline void store8(double* p, Octet v) { *reinterpret_cast<OctetInMemory*>(p) = v; }
inline void store7(double* p, Octet v) {
  for (int i = 0; i < 7; ++i) p[i] = v[i];
}

#if defined(__clang__)
#define DEEPSPIN_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int64_t OctetMask __attribute__((vector_size(64)));
#define DEEPSPIN_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, OctetMask{__VA_ARGS__})
#endif

// (x, v7, v6, ..., v1)
inline Octet back(Octet v, double x) {
  v[0] = x;
  return DEEPSPIN_SHUFFLE(v, v, 0, 7, 6, 5, 4, 3, 2, 1);
}

// (v6, v5, ..., v0, 0)
inline Octet back_from_6(Octet v) { return DEEPSPIN_SHUFFLE(v, Octet{}, 6, 5, 4, 3, 2, 1, 0, 8); }

// total[i] = sum of the elements of v[i]
inline void sum4(const Octet* v, double* total) {
  Octet pairs[2];
  for (int i = 0; i < 2; ++i)
    pairs[i] = DEEPSPIN_SHUFFLE(v[2 * i], v[2 * i + 1], 0, 8, 2, 10, 4, 12, 6, 14) +
               DEEPSPIN_SHUFFLE(v[2 * i], v[2 * i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
  const Octet halves = DEEPSPIN_SHUFFLE(pairs[0], pairs[1], 0, 1, 8, 9, 4, 5, 12, 13) +
                       DEEPSPIN_SHUFFLE(pairs[0], pairs[1], 2, 3, 10, 11, 6, 7, 14, 15);
  for (int i = 0; i < 4; ++i) total[i] = halves[i] + halves[i + 4];
}

inline void transpose8(Octet* r) {
  for (int i = 0; i < 4; ++i) {
    Octet a = r[i], b = r[i + 4];
    r[i] = DEEPSPIN_SHUFFLE(a, b, 0, 1, 2, 3, 8, 9, 10, 11);
    r[i + 4] = DEEPSPIN_SHUFFLE(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
  }
  for (int i : {0, 1, 4, 5}) {
    Octet a = r[i], b = r[i + 2];
    r[i] = DEEPSPIN_SHUFFLE(a, b, 0, 1, 8, 9, 4, 5, 12, 13);
    r[i + 2] = DEEPSPIN_SHUFFLE(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
  }
  for (int i : {0, 2, 4, 6}) {
    Octet a = r[i], b = r[i + 1];
    r[i] = DEEPSPIN_SHUFFLE(a, b, 0, 8, 2, 10, 4, 12, 6, 14);
    r[i + 1] = DEEPSPIN_SHUFFLE(a, b, 1, 9, 3, 11, 5, 13, 7, 15);
  }
}

// --- Pairs ---------------------------------------------------------------------------

// Neighbours of one centre in one block, and what is needed of them.
struct Pairs {
  int n = 0;     // how many
  int *slot;     // where in the list
  int *leaf;     // piece of the series; -1 where the separation is not a number
  double *x, *y, *z;
  double *s, *ds;  // s(r) = w(r)/r and its derivative
  double *q, *dq;  // s/r
  double *inv_r;
  double *u;            // (s - davg) / dstd, argument of the embedding net
  double *tau, *scale;  // u within the piece, in [-1, 1]; 2 / width
  double inv_dstd[4];   // of the centre's type
  double *over;         // tau beyond the table's end, else 0
  double *terms, *slopes;  // T_k(tau), T_k'(tau): (n, order)

  static Pairs in(Arena& arena, int width, int order) {
    Pairs p;
    size_t n = std::max(round_up(width, BATCH), BATCH);
    p.slot = arena.get<int>(n);
    p.leaf = arena.get<int>(n);
    for (double** a : {&p.x, &p.y, &p.z, &p.s, &p.ds, &p.q, &p.dq, &p.inv_r, &p.u, &p.tau,
                       &p.scale, &p.over})
      *a = arena.get<double>(n);
    p.terms = arena.get<double>(n * order);
    p.slopes = arena.get<double>(n * order);
    return p;
  }
};

// Separation of one pair; the arithmetic of `SpinEnergyModel`.
inline void separation(const Problem& p, int f, int i, int j, const int32_t* shift, double* x) {
  const double* points = p.points + size_t(f) * 2 * p.nloc * 3;
  const double* box = p.box + f * 9;
  for (int c = 0; c < 3; ++c) {
    double image = shift[0] * box[c] + shift[1] * box[3 + c] + shift[2] * box[6 + c];
    x[c] = points[3 * j + c] + image - points[3 * i + c];
  }
}

// Neighbours of centre i in block e: separations, s and u.
void gather(const Problem& p, int t, int f, int i, int e, Pairs& a) {
  const size_t row = (size_t(f) * p.nloc + i) * p.width[e];
  const int32_t *list = p.nlist[e] + row, *shift = p.shift[e] + 3 * row;
  int n = 0;
  for (int j = 0; j < p.width[e]; ++j)
    if (list[j] >= 0) a.slot[n++] = j;
  a.n = n;
  for (int k = 0; k < n; ++k) {
    const int j = a.slot[k];
    double x[3];
    separation(p, f, i, list[j], shift + 3 * j, x);
    a.x[k] = x[0], a.y[k] = x[1], a.z[k] = x[2];
  }
  const int padded = round_up(n, BATCH);
  for (int k = n; k < padded; ++k) a.x[k] = 2 * p.rcut, a.y[k] = a.z[k] = 0.0;
  const double begin = p.rcut_smth, end = p.rcut, inv_length = 1.0 / p.length;
  for (int d = 0; d < 4; ++d) a.inv_dstd[d] = 1.0 / p.dstd[4 * t + d];
  const double davg = p.davg[4 * t], inv_dstd = a.inv_dstd[0];
  const double nan = std::numeric_limits<double>::quiet_NaN();
  DEEPSPIN_INDEPENDENT
  for (int k = 0; k < padded; ++k) {
    double r2 = a.x[k] * a.x[k] + a.y[k] * a.y[k] + a.z[k] * a.z[k];
    double r = std::sqrt(r2);
    r = r2 > 0.0 ? r : nan;  // no energy rather than a wrong one
    double v = (r - begin) * inv_length;
    double w = v * v * v * (v * (15.0 - 6.0 * v) - 10.0) + 1.0;
    double dw = -30.0 * v * v * (v - 1.0) * (v - 1.0) * inv_length;
    w = r < begin ? 1.0 : r < end ? w : 0.0;
    dw = (r < begin) | (r >= end) ? 0.0 : dw;
    double inv = 1.0 / r;
    double s = w * inv, ds = (dw - s) * inv;
    a.inv_r[k] = inv;
    a.s[k] = s, a.ds[k] = ds;
    a.q[k] = s * inv, a.dq[k] = (ds - s * inv) * inv;
    a.u[k] = (s - davg) * inv_dstd;
  }
}

// Pieces of the series of one net, ascending.
struct Leaves {
  std::vector<double> begin, width, factor;  // factor: 2 / width
  void set_factors() {
    factor.clear();
    for (double w : width) factor.push_back(2.0 / w);
  }
  int size() const { return int(begin.size()); }
};

// Piece of each u, and u within it.
int64_t locate(const Leaves& leaves, int n, const double* u, int* leaf, double* tau, double* scale,
               double* over) {
  const int count = leaves.size();
  const int padded = round_up(n, BATCH);
  for (int k = 0; k < padded; ++k) leaf[k] = -1;
  for (int l = 0; l < count; ++l) {
    const double begin = leaves.begin[l];
    DEEPSPIN_INDEPENDENT
    for (int k = 0; k < padded; ++k) leaf[k] += u[k] >= begin;
  }
  const double *begins = leaves.begin.data(), *factors = leaves.factor.data();
  DEEPSPIN_INDEPENDENT
  for (int k = 0; k < padded; ++k) {
    int l = leaf[k] < 0 ? 0 : leaf[k];
    leaf[k] = l;
    scale[k] = factors[l];
    double x = (u[k] - begins[l]) * factors[l] - 1.0;
    double inside = x < -1.0 ? -1.0 : x > 1.0 ? 1.0 : x;
    tau[k] = inside;
    over[k] = x - inside;
  }
  int64_t outside = 0;
  for (int k = 0; k < n; ++k) outside += over[k] > 1e-9 || over[k] < -1e-9;
  for (int k = n; k < padded; ++k) leaf[k] = 0, tau[k] = over[k] = 0.0, scale[k] = 1.0;
  return outside;
}

// T_k and T_k' of each pair; straight lines beyond the ends of a table. The first eight
// terms of eight pairs at a time by their recurrence; from there on in steps of eight, for
// X_{k+8} = 2 T_8 X_k - X_{k-8} holds for T_k and for U_k = T_{k+1}' / (k + 1).
void series(int order, Pairs& a) {
  static_assert(BATCH == 8, "eight terms of eight pairs");
  Octet t[9], u[8];
  for (int first = 0; first < a.n; first += BATCH) {
    const Octet tau = load8(a.tau + first), twice = tau + tau;
    t[0] = u[0] = Octet{} + 1.0;
    t[1] = tau, u[1] = twice;
    for (int k = 2; k < 8; ++k) t[k] = twice * t[k - 1] - t[k - 2], u[k] = twice * u[k - 1] - u[k - 2];
    t[8] = twice * t[7] - t[6];
    double t8[8];
    store8(t8, t[8] + t[8]);
    Octet last = t[8];
    transpose8(t);
    transpose8(u);
    for (int i = 0; i < BATCH; ++i) {
      double *terms = a.terms + (first + i) * order, *slopes = a.slopes + (first + i) * order;
      // T_8 ... T_1 and, since U_{-k} = -U_{k-2}, -U_6 ... -U_0, -U_{-1} = 0
      const Octet t_back = back(t[i], last[i]), u_back = back_from_6(u[i]);
      const Octet t_next = t8[i] * t[i] - t_back, u_next = t8[i] * u[i] + u_back;
      store8(terms, t[i]);
      store8(terms + 8, t_next);
      slopes[0] = 0.0;  // T_k' = k U_{k-1}, one place on
      store8(slopes + 1, u[i] * COUNT);
      if (order > 16) {
        store8(terms + 16, t8[i] * t_next - t[i]);
        store8(slopes + 9, u_next * (COUNT + 8.0));
        store7(slopes + 17, (t8[i] * u_next - u[i]) * (COUNT + 16.0));
      } else {
        store7(slopes + 9, u_next * (COUNT + 8.0));
      }
      if (a.over[first + i] != 0.0)
        for (int k = 0; k < order; ++k) terms[k] += slopes[k] * a.over[first + i];
    }
  }
}

// --- Nets ----------------------------------------------------------------------------

template <class T>
struct Weights {  // of a layer
  const T *matrix, *bias, *idt;
  int n_in, n_out;
  bool residual;
  explicit Weights(const Layer& l)
      : matrix(static_cast<const T*>(l.matrix)),
        bias(static_cast<const T*>(l.bias)),
        idt(static_cast<const T*>(l.idt)),
        n_in(l.n_in),
        n_out(l.n_out),
        residual(l.residual) {}
};

// t = tanh(W^T x + b), y = idt t + residual, of (features, ld).
template <class T>
void layer_forward(const Weights<T>& w, int ld, const T* x, T* t, T* y) {
  constexpr int W = Simd<T>::W;
  gemm<T>(w.n_out, ld, w.n_in, w.matrix, 1, w.n_out, x, ld, t, ld);
  for (int o = 0; o < w.n_out; ++o) {
    const Vec<T> bias = broadcast(w.bias[o]), idt = broadcast(w.idt ? w.idt[o] : T(1));
    const T* same = w.residual ? x + int64_t(o % w.n_in) * ld : nullptr;
    for (int i = int64_t(o) * ld, k = 0; k < ld; i += W, k += W) {
      Vec<T> value = tanh(load(t + i) + bias);
      store(t + i, value);
      value *= idt;
      if (same) value += load(same + k);
      store(y + i, value);
    }
  }
}

// From dE/dy to a = dE/d(W^T x + b) and, unless null, dE/dx.
template <class T>
void layer_backward(const Weights<T>& w, int ld, const T* t, const T* pull, T* a, T* pull_x) {
  constexpr int W = Simd<T>::W;
  for (int o = 0; o < w.n_out; ++o) {
    const Vec<T> idt = broadcast(w.idt ? w.idt[o] : T(1));
    for (int64_t i = int64_t(o) * ld; i < int64_t(o + 1) * ld; i += W) {
      Vec<T> value = load(t + i);
      store(a + i, idt * (T(1) - value * value) * load(pull + i));
    }
  }
  if (!pull_x) return;
  gemm<T>(w.n_in, ld, w.n_out, w.matrix, w.n_out, 1, a, ld, pull_x, ld);
  if (w.residual)
    for (int o = 0; o < w.n_out; ++o) {
      T* to = pull_x + int64_t(o % w.n_in) * ld;
      const T* from = pull + int64_t(o) * ld;
      for (int k = 0; k < ld; k += W) store(to + k, load(to + k) + load(from + k));
    }
}

// --- Series of the embedding nets ----------------------------------------------------

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
      layer_forward(Weights<double>(net[l]), order, y[l].data(), t[l + 1].data(), y[l + 1].data());
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
  gemm<double>(channels, order, order, nodes.y.back().data(), order, 1, transform.forward.data(),
               order, c, order);
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
    if (!expand(net, slope, order, unresolved, transform, from, 0.5 * width, halvings - 1, nodes, leaves,
                coefficients))
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

  // `coefficients` of each net: (leaf, channel, order), or (leaf, order, channel) of tables
  template <class X>
  void fill(const Problem& p, const std::vector<const X*>& coefficients, bool tables) {
    const int n = order<T>();
    for (int t = 0; t < p.ntypes; ++t) {
      std::fill(c[t], c[t] + size_t(columns[t]) * padded_channels, T(0));
      for (int e = 0; e < p.nblocks; ++e) {
        if (p.excluded[t * p.nblocks + e] || p.sel[e] == 0) continue;
        const X* from = coefficients[p.net(t, e)];
        for (int l = 0; l < leaves[p.net(t, e)].size(); ++l)
          for (int k = 0; k < n; ++k)
            for (int g = 0; g < p.channels; ++g) {
              X value = tables ? from[(size_t(l) * n + k) * p.channels + g]
                               : from[(size_t(l) * p.channels + g) * n + k];
              size_t column = first[t][e] + l * n + k;
              c[t][column * padded_channels + g] = T(value);
              ct[t][size_t(g) * columns[t] + column] = T(value);
            }
      }
    }
  }
};

// --- Chunks of centres ---------------------------------------------------------------

struct Chunk {
  int type, first, n, ld;  // centres first ... first + n - 1 of the type, over all frames
};

// The same for any number of threads, because sums over atoms are sums over chunks.
template <class T>
std::vector<Chunk> chunks_of(const Problem& p) {
  constexpr int W = Simd<T>::W;
  const int64_t total = int64_t(p.nf) * p.nloc;
  const int64_t share = (total + FEW_CHUNKS - 1) / FEW_CHUNKS;
  const int size = int(std::min<int64_t>(CHUNK_VECTORS * W, std::max<int64_t>(2 * W, share)));
  std::vector<Chunk> chunks;
  for (int t = 0; t < p.ntypes; ++t) {
    const int n = p.nf * p.natoms[t];
    for (int first = 0; first < n; first += round_up(size, W)) {
      int here = std::min(round_up(size, W), n - first);
      chunks.push_back({t, first, here, round_up(here, W)});
    }
  }
  return chunks;
}

// Frame and number of a centre of a chunk.
inline void centre(const Problem& p, const Chunk& c, int lane, int& f, int& i) {
  f = (c.first + lane) / p.natoms[c.type];
  i = p.begin[c.type] + (c.first + lane) % p.natoms[c.type];
}

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
      const double r[4] = {a.u[k], a.q[k] * a.x[k] * a.inv_dstd[1],
                           a.q[k] * a.y[k] * a.inv_dstd[2], a.q[k] * a.z[k] * a.inv_dstd[3]};
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
      for (int d = 0; d < 4; ++d)
        DEEPSPIN_INDEPENDENT
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
        m[(size_t(d) * p.channels + g) * c.ld + lane] = factor * rows[(size_t(lane) * 4 + d) * padded + g];
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
    layer_forward(Weights<T>(net[l]), c.ld, x, v.t[l], v.y[l]);
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
    layer_backward(Weights<T>(net[l]), c.ld, v.t[l], v.pull_y[l], v.a[l],
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
      pull_of_pair(w.pairs, k, order<T>(), columns, w.dp + row,
                   pull[e] + 3 * (at + w.pairs.slot[k]));
  });
  return outside;
}

// Forces on points first ... last - 1 of a frame, and virials of their owners. Each point
// collects its pairs in the order of the list.
void collect(const Problem& p, const std::vector<double*>& pull, int f, int first, int last,
             Forward& out) {
  double* force = out.force + size_t(f) * 2 * p.nloc * 3;
  double* virial = out.atom_virial + size_t(f) * p.nloc * 9;
  const double* offset = p.offset + size_t(f) * 2 * p.nloc * 3;
  for (int i = 0; i < p.nloc; ++i) {
    if (p.mask[size_t(f) * p.nloc + i] == 0.0) continue;
    double own[3] = {};
    const bool mine = i >= first && i < last;
    for (int e = 0; e < p.nblocks; ++e) {
      const size_t row = (size_t(f) * p.nloc + i) * p.width[e];
      for (int k = 0; k < p.width[e]; ++k) {
        const int j = p.nlist[e][row + k];
        if (j < 0) continue;
        const int owner = j < p.nloc ? j : j - p.nloc;
        if (!mine && !(owner >= first && owner < last)) continue;
        const double* g = pull[e] + 3 * (row + k);
        if (mine)
          for (int c = 0; c < 3; ++c) own[c] += g[c];
        if (!(owner >= first && owner < last)) continue;
        double x[3];
        separation(p, f, i, j, p.shift[e] + 3 * (row + k), x);
        for (int a = 0; a < 3; ++a) {
          force[3 * j + a] -= g[a];
          for (int b = 0; b < 3; ++b) virial[9 * owner + 3 * a + b] -= g[a] * (x[b] - offset[3 * j + b]);
        }
      }
    }
    if (mine)
      for (int c = 0; c < 3; ++c) force[3 * i + c] += own[c];
  }
}

// --- Forward -------------------------------------------------------------------------

// Pieces of all nets, from where the neighbours are.
template <class T>
const char* expand_all(const Problem& p, const Embedding& embedding, Series<T>& s,
                       std::vector<std::vector<double>>& coefficients) {
  const int nnets = p.nnets(), n = order<T>();
  const int64_t centres = int64_t(p.nf) * p.nloc;
  const int parts = int(std::min<int64_t>(std::max<int64_t>(centres / 16, 1), 4 * p.threads));
  std::vector<std::vector<Cells>> found(parts, std::vector<Cells>(nnets));
  const int width = *std::max_element(p.width.begin(), p.width.end());
  parallel(p.threads, parts, [&](int part) {
    static thread_local Scratch scratch;
    Arena measure;
    Pairs::in(measure, width, n);
    Arena arena(scratch.at_least(measure.used()));
    Pairs a = Pairs::in(arena, width, n);
    for (int64_t at = centres * part / parts; at < centres * (part + 1) / parts; ++at) {
      const int f = int(at / p.nloc), i = int(at % p.nloc);
      if (p.mask[at] == 0.0) continue;
      int t = p.ntypes - 1;
      while (i < p.begin[t]) --t;
      for (int e = 0; e < p.nblocks; ++e) {
        if (p.excluded[t * p.nblocks + e] || p.sel[e] == 0) continue;
        gather(p, t, f, i, e, a);
        Cells& cells = found[part][p.net(t, e)];
        for (int k = 0; k < a.n; ++k) cells.add(a.u[k]);
        cells.add(-p.davg[4 * t] / p.dstd[4 * t]);
      }
    }
  });
  struct Piece {
    int net;
    int64_t cell;
    bool resolved;
    Leaves leaves;
    std::vector<double> coefficients;
  };
  std::vector<Piece> pieces;
  std::vector<double> slopes;
  for (const Net& net : embedding.nets) slopes.push_back(steepest(net));
  for (int k = 0; k < nnets; ++k) {
    std::vector<int64_t> cells;
    bool far = false;
    for (auto& part : found) {
      cells.insert(cells.end(), part[k].cells.begin(), part[k].cells.end());
      far |= part[k].far;
    }
    std::sort(cells.begin(), cells.end());
    cells.erase(std::unique(cells.begin(), cells.end()), cells.end());
    if (far || cells.size() > MAX_CELLS)
      return "points are too near each other for the kernels. Set DEEPSPIN_KERNELS=0 to go on "
             "without them";
    for (int64_t cell : cells) pieces.push_back({k, cell, false, {}, {}});
  }
  static const Transform transform_double(order_of(false)), transform_float(order_of(true));
  const Transform& transform = sizeof(T) == 4 ? transform_float : transform_double;
  const double unresolved = sizeof(T) == 4 ? UNRESOLVED_FLOAT : UNRESOLVED_DOUBLE;
  parallel(p.threads, int(pieces.size()), [&](int k) {
    Piece& piece = pieces[k];
    NodeValues nodes;
    piece.resolved = expand(embedding.nets[piece.net], slopes[piece.net], n, unresolved, transform,
                            CELL * piece.cell, CELL, MAX_HALVINGS, nodes, piece.leaves,
                            piece.coefficients);
  });
  s.leaves.assign(nnets, Leaves());
  coefficients.assign(nnets, {});
  for (const Piece& piece : pieces) {
    if (!piece.resolved)
      return "an embedding net is too steep for the kernels. Set DEEPSPIN_KERNELS=0 to go on without "
             "them";
    Leaves& leaves = s.leaves[piece.net];
    leaves.begin.insert(leaves.begin.end(), piece.leaves.begin.begin(), piece.leaves.begin.end());
    leaves.width.insert(leaves.width.end(), piece.leaves.width.begin(), piece.leaves.width.end());
    auto& to = coefficients[piece.net];
    to.insert(to.end(), piece.coefficients.begin(), piece.coefficients.end());
  }
  for (int k = 0; k < nnets; ++k)  // a net of no centres, or of NaN alone
    if (s.leaves[k].size() == 0) {
      s.leaves[k].begin.assign(1, 0.0);
      s.leaves[k].width.assign(1, CELL);
      coefficients[k].assign(size_t(p.channels) * n, 0.0);
    }
  return nullptr;
}

// Places all that is kept for the gradient, or measures it.
template <class T>
void place_kept(const Problem& p, Series<T>& s, const std::vector<Chunk>& chunks,
                std::vector<Values<T>>& values, Arena& arena) {
  s.place(p, arena);
  values.resize(chunks.size());
  for (size_t k = 0; k < chunks.size(); ++k) values[k].place(p, s, chunks[k], arena);
}

template <class T>
const char* forward(const Problem& p, Forward& out) {
  Series<T> s;
  std::vector<std::vector<double>> made;
  if (p.tables.empty()) {
    Embedding embedding;
    embedding.read<T>(p.embedding);
    if (const char* error = expand_all(p, embedding, s, made)) return error;
  } else {
    for (const Table& table : p.tables) {
      s.leaves.emplace_back();
      for (int l = 0; l < table.leaves; ++l) {
        s.leaves.back().begin.push_back(table.edges[2 * l]);
        s.leaves.back().width.push_back(table.edges[2 * l + 1]);
      }
    }
  }
  s.count(p);
  const std::vector<Chunk> chunks = chunks_of<T>(p);
  std::vector<Values<T>> values;
  Buffer own(nullptr, &std::free);
  if (out.keep) {
    size_t header = 1;
    for (const Leaves& leaves : s.leaves) header += 1 + 2 * leaves.size();
    auto lay_out = [&](Arena arena) {
      double* head = arena.get<double>(header);
      place_kept(p, s, chunks, values, arena);
      if (head) {
        *head++ = double(header);
        for (const Leaves& leaves : s.leaves) {
          *head++ = leaves.size();
          head = std::copy(leaves.begin.begin(), leaves.begin.end(), head);
          head = std::copy(leaves.width.begin(), leaves.width.end(), head);
        }
      }
      return arena.used();
    };
    char* kept = static_cast<char*>(out.keep(lay_out(Arena())));
    lay_out(Arena(kept));
  } else {
    auto lay_out = [&](Arena arena) {
      s.place(p, arena);
      return arena.used();
    };
    own = allocate(lay_out(Arena()));
    lay_out(Arena(own.get()));
  }
  if (p.tables.empty()) {
    std::vector<const double*> from;
    for (auto& c : made) from.push_back(c.data());
    s.fill(p, from, false);
  } else {
    std::vector<const T*> from;
    for (const Table& table : p.tables) from.push_back(static_cast<const T*>(table.coefficients));
    s.fill(p, from, true);
  }
  const size_t centres = size_t(p.nf) * p.nloc;
  std::vector<Buffer> memory;
  std::vector<double*> pull;
  for (int e = 0; e < p.nblocks; ++e) {
    memory.push_back(allocate(centres * p.width[e] * 3 * sizeof(double)));
    pull.push_back(reinterpret_cast<double*>(memory.back().get()));
    if (std::any_of(p.excluded.begin(), p.excluded.end(), [](char x) { return x; }) || p.sel[e] == 0)
      std::fill(pull[e], pull[e] + centres * p.width[e] * 3, 0.0);
  }
  std::fill(out.atom_ener, out.atom_ener + centres, 0.0);
  std::atomic<int64_t> outside{0};
  parallel(p.threads, int(chunks.size()), [&](int k) {
    static thread_local Scratch scratch;
    Values<T> local;
    Values<T>& v = out.keep ? values[k] : local;
    Work<T> w;
    auto lay_out = [&](Arena arena) {
      w.place(p, s, chunks[k], arena);
      if (!out.keep) v.place(p, s, chunks[k], arena);
      return arena.used();
    };
    lay_out(Arena(scratch.at_least(lay_out(Arena()))));
    outside += forward_chunk(p, s, chunks[k], v, w, out.atom_ener, pull);
  });
  out.extrapolated = outside;
  std::fill(out.force, out.force + centres * 6, 0.0);
  std::fill(out.atom_virial, out.atom_virial + centres * 9, 0.0);
  const int parts = p.nf >= p.threads ? 1 : p.threads;
  parallel(p.threads, p.nf * parts, [&](int k) {
    const int f = k / parts;
    const int64_t part = k % parts;
    collect(p, pull, f, int(p.nloc * part / parts), int(p.nloc * (part + 1) / parts), out);
  });
  return nullptr;
}

// --- Backward ------------------------------------------------------------------------

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
    const double *force = in.force + size_t(f) * 2 * p.nloc * 3;
    const double *offset = p.offset + (size_t(f) * 2 * p.nloc + j) * 3;
    const double *virial = in.atom_virial + (size_t(f) * p.nloc + (j < p.nloc ? j : j - p.nloc)) * 9;
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
                         const std::vector<Adjoints<T>>& adj, const std::vector<std::vector<int>>& slots,
                         const std::vector<void*>& out) {
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
      layer_backward(w, n, nodes.t[l + 1].data(), pull.data(), a.data(), pull_x.data());
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
      auto add = [&](int which, size_t size, std::vector<std::vector<double>> Task::*part) {
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

// --- Gradient with respect to positions ----------------------------------------------

struct Dual {  // a number and its derivative along v
  double x, d;
};
inline Dual operator+(Dual a, Dual b) { return {a.x + b.x, a.d + b.d}; }
inline Dual operator-(Dual a, Dual b) { return {a.x - b.x, a.d - b.d}; }
inline Dual operator*(Dual a, Dual b) { return {a.x * b.x, a.x * b.d + a.d * b.x}; }
inline Dual operator*(double a, Dual b) { return {a * b.x, a * b.d}; }
inline Dual inverse(Dual a) { return {1.0 / a.x, -a.d / (a.x * a.x)}; }
inline Dual root(Dual a) {
  double r = std::sqrt(a.x);
  return {r, 0.5 * a.d / r};
}

// d/d(eps) of dE/dx at x + eps v for given dE/dP: what `pull_of_pair` computes, in duals.
template <class T>
void pull_tangent(const Problem& p, int t, const Pairs& a, int k, int n, size_t columns,
                  const T* pull_p, const double* v, double* g) {
  const double* dstd = p.dstd + 4 * t;
  const T* at = pull_p + a.leaf[k] * n;
  const Dual x[3] = {{a.x[k], v[0]}, {a.y[k], v[1]}, {a.z[k], v[2]}};
  const Dual r = root(x[0] * x[0] + x[1] * x[1] + x[2] * x[2]), inv = inverse(r);
  Dual w = {1.0, 0.0}, dw = {0.0, 0.0};
  if (r.x >= p.rcut) w.x = 0.0;
  if (r.x >= p.rcut_smth && r.x < p.rcut) {
    const Dual one = {1.0, 0.0}, h = (1.0 / p.length) * (r - Dual{p.rcut_smth, 0.0});
    w = h * h * h * (h * (Dual{15.0, 0.0} - 6.0 * h) - Dual{10.0, 0.0}) + one;
    dw = (-30.0 / p.length) * (h * h * (h - one) * (h - one));
  }
  const Dual s = w * inv, ds = (dw - s) * inv, q = s * inv, dq = (ds - q) * inv;
  const Dual u = (1.0 / dstd[0]) * (s - Dual{p.davg[4 * t], 0.0});
  const Dual tau = {a.tau[k], a.scale[k] * u.d};
  Dual row[4] = {u};
  for (int c = 0; c < 3; ++c) row[c + 1] = (1.0 / dstd[c + 1]) * (q * x[c]);
  Dual y[4] = {}, bend = {};
  Dual term[2] = {{1.0, 0.0}, tau}, slope[2] = {{0.0, 0.0}, {1.0, 0.0}};
  const bool inside = a.over[k] == 0.0;
  for (int m = 0; m < n; ++m) {
    Dual tm = m < 2 ? term[m] : 2.0 * (tau * term[1]) - term[0];
    Dual sm = m < 2 ? slope[m] : 2.0 * (term[1] + tau * slope[1]) - slope[0];
    if (m >= 2) term[0] = term[1], term[1] = tm, slope[0] = slope[1], slope[1] = sm;
    if (!inside)  // a straight line
      tm = {a.terms[k * n + m], a.slopes[k * n + m] * tau.d}, sm = {a.slopes[k * n + m], 0.0};
    Dual all = {};
    for (int d = 0; d < 4; ++d) {
      const double pull = at[d * columns + m];
      y[d] = y[d] + pull * tm;
      all = all + pull * row[d];
    }
    bend = bend + all * sm;
  }
  Dual radial = (1.0 / dstd[0]) * ((y[0] + a.scale[k] * bend) * ds), direct[3];
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
      const int owner = j < p.nloc ? j : j - p.nloc;
      const double* force = in.force + size_t(f) * 2 * p.nloc * 3;
      const double* virial = in.atom_virial + (size_t(f) * p.nloc + owner) * 9;
      const double* offset = p.offset + (size_t(f) * 2 * p.nloc + j) * 3;
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
  double* points = in.points + size_t(f) * 2 * p.nloc * 3;
  double* offset = in.offset + size_t(f) * 2 * p.nloc * 3;
  double* box = in.box + f * 9;
  std::fill(points, points + 6 * p.nloc, 0.0);
  std::fill(offset, offset + 6 * p.nloc, 0.0);
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
        const double* virial = in.atom_virial + (size_t(f) * p.nloc + (j < p.nloc ? j : j - p.nloc)) * 9;
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
  const std::vector<Chunk> chunks = chunks_of<T>(p);
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
    const size_t rest = sizeof(T) * ld * (4 * s.padded_channels + 4 * p.channels + narrow + 1 + 3 * widest) +
                        128 * (layers + 8);
    Arena arena(scratch.at_least(measure.used() + rest));
    lay_out_work(arena);
    backward_chunk(p, s, c, values[k], in, adj[k], arena, m_dot, pairs);
    if (positions)
      positions_chunk(p, s, c, values[k], adj[k], in, p_bar, pull_p, pairs, x_bar, pull);
  });
  if (positions)
    parallel(p.threads, p.nf, [&](int f) { collect_positions(p, in, x_bar, pull, f); });
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

extern const Kernels kernels;
const Kernels kernels = {forward<double>, forward<float>, backward<double>, backward<float>};

}  // namespace DEEPSPIN_ISA
}  // namespace deepspin
