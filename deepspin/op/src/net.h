// SPDX-License-Identifier: Apache-2.0
// Layers of nets, on values or on duals: N is a vector of T or a dual of it.
#pragma once

#include <algorithm>

#include "dual.h"
#include "frames.h"
#include "gemm.h"

namespace deepspin {
namespace DEEPSPIN_ISA {
namespace {

template <class T>
void transpose(int rows, int columns, const T* from, T* to) {  // to: (columns, rows)
  constexpr int B = 8;
  for (int r0 = 0; r0 < rows; r0 += B)
    for (int c0 = 0; c0 < columns; c0 += B)
      for (int r = r0; r < std::min(r0 + B, rows); ++r)
        for (int c = c0; c < std::min(c0 + B, columns); ++c)
          to[int64_t(c) * rows + r] = from[int64_t(r) * columns + c];
}

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

// t = tanh(W^T x + b), y = idt t + residual, of (features, planes, ld).
template <class N, class T>
void layer_forward(const Weights<T>& w, int ld, const T* x, T* t, T* y) {
  constexpr int W = Simd<T>::W;
  const int row = PLANES<N> * ld;
  gemm<T>(w.n_out, row, w.n_in, w.matrix, 1, w.n_out, x, row, t, row);
  for (int o = 0; o < w.n_out; ++o) {
    const T bias = w.bias[o], idt = w.idt ? w.idt[o] : T(1);
    const T* same = w.residual ? x + int64_t(o % w.n_in) * row : nullptr;
    T *at_t = t + int64_t(o) * row, *at_y = y + int64_t(o) * row;
    for (int k = 0; k < ld; k += W) {
      N value = tanh(get<N>(at_t + k, ld) + bias);
      put(at_t + k, ld, value);
      value = idt * value;
      if (same) value += get<N>(same + k, ld);
      put(at_y + k, ld, value);
    }
  }
}

// From dE/dy to a = dE/d(W^T x + b) and, unless null, dE/dx.
template <class N, class T>
void layer_backward(const Weights<T>& w, int ld, const T* t, const T* pull, T* a, T* pull_x) {
  constexpr int W = Simd<T>::W;
  const int row = PLANES<N> * ld;
  for (int o = 0; o < w.n_out; ++o) {
    const T idt = w.idt ? w.idt[o] : T(1);
    for (int64_t i = int64_t(o) * row, k = 0; k < ld; i += W, k += W) {
      const N value = get<N>(t + i, ld);
      put(a + i, ld, idt * (T(1) - value * value) * get<N>(pull + i, ld));
    }
  }
  if (!pull_x) return;
  gemm<T>(w.n_in, row, w.n_out, w.matrix, w.n_out, 1, a, row, pull_x, row);
  if (w.residual)
    for (int o = 0; o < w.n_out; ++o) {
      T* to = pull_x + int64_t(o % w.n_in) * row;
      const T* from = pull + int64_t(o) * row;
      for (int k = 0; k < row; k += W) store(to + k, load(to + k) + load(from + k));
    }
}

}  // namespace
}  // namespace DEEPSPIN_ISA
}  // namespace deepspin
