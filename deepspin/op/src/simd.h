// SPDX-License-Identifier: Apache-2.0
// Vectors of the machine's width, and tanh of them.
//
// GCC's vector extension, which Clang has too: arithmetic on whole vectors, whatever
// the instruction set. A file that includes this is compiled once for each of them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

// before a loop whose iterations do not touch each other's elements
#if defined(__clang__)
#define DEEPSPIN_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define DEEPSPIN_INDEPENDENT _Pragma("GCC ivdep")
#endif

namespace deepspin {
namespace DEEPSPIN_ISA {

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32;
#else
constexpr int VECTOR_BYTES = 16;
#endif

// processors with 32 registers of vectors; others have 16
#if defined(__AVX512F__) || defined(__aarch64__)
#define DEEPSPIN_MANY_REGISTERS
#endif

template <class T>
struct Simd;

template <>
struct Simd<double> {
  static constexpr int W = VECTOR_BYTES / 8;
  typedef double V __attribute__((vector_size(VECTOR_BYTES)));
  typedef double U __attribute__((vector_size(VECTOR_BYTES), aligned(8)));  // in memory
  typedef int64_t I __attribute__((vector_size(VECTOR_BYTES)));
};

template <>
struct Simd<float> {
  static constexpr int W = VECTOR_BYTES / 4;
  typedef float V __attribute__((vector_size(VECTOR_BYTES)));
  typedef float U __attribute__((vector_size(VECTOR_BYTES), aligned(4)));
  typedef int32_t I __attribute__((vector_size(VECTOR_BYTES)));
};

template <class T>
using Vec = typename Simd<T>::V;

template <class T>
inline Vec<T> load(const T* p) {
  return *reinterpret_cast<const typename Simd<T>::U*>(p);
}

template <class T>
inline void store(T* p, Vec<T> v) {
  *reinterpret_cast<typename Simd<T>::U*>(p) = v;
}

template <class T>
inline Vec<T> broadcast(T x) {
  return x - Vec<T>{};
}

template <class T>
inline T sum(Vec<T> v) {
  T part[Simd<T>::W];
  store(part, v);
  for (int half = Simd<T>::W / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) part[i] += part[i + half];
  return part[0];
}

constexpr int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

// tanh(x) = m / (m + 2) with m = exp(2|x|) - 1, at most 2 units in the last place off.
// exp(y) - 1 = 2^k (e^r - 1) + (2^k - 1), |r| <= log(2)/2, by the series of e^r - 1.
inline Vec<double> tanh(Vec<double> x) {
  using V = Vec<double>;
  using I = Simd<double>::I;
  const V zero = V{};
  V y = x < zero ? -x : x;
  y = y > zero + 20.0 ? zero + 20.0 : y;  // 1 - tanh(20) < 1e-17; NaN stays NaN
  y += y;
  const double magic = 6755399441055744.0;  // 1.5 * 2^52: rounds to an integer
  V shifted = y * 1.4426950408889634 + magic;
  V k = shifted - magic;
  V r = y - k * 0.693147180369123816490;
  r -= k * 1.90821492927058770002e-10;
  V p = zero + 1.0 / 6227020800.0;
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  V m = p * r * r + r;
  I bits = (I)shifted << 52;  // the low bits of `shifted` are k
  V scale = (V)(bits + (int64_t(1023) << 52));
  m = scale * m + (scale - 1.0);
  V result = m / (m + 2.0);
  return x < zero ? -result : result;
}

inline Vec<float> tanh(Vec<float> x) {
  using V = Vec<float>;
  using I = Simd<float>::I;
  const V zero = V{};
  V y = x < zero ? -x : x;
  y = y > zero + 10.0f ? zero + 10.0f : y;
  y += y;
  const float magic = 12582912.0f;  // 1.5 * 2^23
  V shifted = y * 1.44269504f + magic;
  V k = shifted - magic;
  V r = y - k * 0.693145752f;
  r -= k * 1.42860677e-6f;
  V p = zero + 1.0f / 5040.0f;
  p = p * r + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  V m = p * r * r + r;
  I bits = (I)shifted << 23;
  V scale = (V)(bits + (int32_t(127) << 23));
  m = scale * m + (scale - 1.0f);
  V result = m / (m + 2.0f);
  return x < zero ? -result : result;
}

}  // namespace DEEPSPIN_ISA
}  // namespace deepspin
