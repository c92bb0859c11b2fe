// SPDX-License-Identifier: Apache-2.0
// Numbers with a derivative along one direction: what is written once is run on values alone
// or, for the derivatives of derivatives, on both.
//
// V is a vector of the machine. In memory an array of numbers has `ld` values, then, if they are
// dual, as many derivatives: PLANES<N> x ld.
#pragma once

#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>

#include "simd.h"

namespace deepspin {
namespace DEEPSPIN_ISA {
namespace {

template <class V>
struct Dual {
  V x, d;
};

template <class N>
constexpr int PLANES = 1;
template <class V>
constexpr int PLANES<Dual<V>> = 2;

// type of an element of V
template <class V, bool = std::is_arithmetic_v<V>>
struct ElementOf {
  using type = V;
};
template <class V>
struct ElementOf<V, false> {
  using type = std::decay_t<decltype(std::declval<V&>()[0])>;
};
template <class V>
using Element = typename ElementOf<V>::type;

template <class V>
inline Dual<V> operator+(Dual<V> a, Dual<V> b) {
  return {a.x + b.x, a.d + b.d};
}
template <class V>
inline Dual<V> operator-(Dual<V> a, Dual<V> b) {
  return {a.x - b.x, a.d - b.d};
}
template <class V>
inline Dual<V> operator*(Dual<V> a, Dual<V> b) {
  return {a.x * b.x, a.x * b.d + a.d * b.x};
}
template <class V>
inline Dual<V> operator+(Dual<V> a, Element<V> b) {
  return {a.x + b, a.d};
}
template <class V>
inline Dual<V> operator-(Element<V> a, Dual<V> b) {
  return {a - b.x, -b.d};
}
template <class V>
inline Dual<V> operator*(Element<V> a, Dual<V> b) {
  return {a * b.x, a * b.d};
}
template <class V>
inline Dual<V>& operator+=(Dual<V>& a, Dual<V> b) {
  return a = a + b;
}

// values alone
template <class V>
inline V value(V a) {
  return a;
}
template <class V>
inline V value(Dual<V> a) {
  return a.x;
}

// derivatives alone; 0 of what has none
template <class V>
inline V derivative(V) {
  return V{};
}
template <class V>
inline V derivative(Dual<V> a) {
  return a.d;
}

// a < b in each element
template <class V>
inline auto below(V a, Element<V> b) {
  return a < V{} + b;
}

// the values, or, of duals, the derivatives
template <class V>
inline V& part(V& a, int) {
  return a;
}
template <class V>
inline V& part(Dual<V>& a, int plane) {
  return plane ? a.d : a.x;
}

// a where the mask is set, else b
template <class M, class V>
inline V pick(M mask, V a, V b) {
  return mask ? a : b;
}
template <class M, class V>
inline Dual<V> pick(M mask, Dual<V> a, Dual<V> b) {
  return {mask ? a.x : b.x, mask ? a.d : b.d};
}

template <class V>
inline V inverse(V a) {
  return Element<V>(1) / a;
}
template <class V>
inline Dual<V> inverse(Dual<V> a) {
  const V inv = inverse(a.x);
  return {inv, -a.d * inv * inv};
}

inline double root(double a) { return std::sqrt(a); }
template <class V>
inline V root(V a) {
  constexpr int n = sizeof(V) / sizeof(Element<V>);
  Element<V> part[n];
  std::memcpy(part, &a, sizeof a);
  DEEPSPIN_INDEPENDENT
  for (int i = 0; i < n; ++i) part[i] = std::sqrt(part[i]);
  std::memcpy(&a, part, sizeof a);
  return a;
}
template <class V>
inline Dual<V> root(Dual<V> a) {
  const V r = root(a.x);
  return {r, Element<V>(0.5) * a.d / r};
}

using DEEPSPIN_ISA::tanh;
template <class V>
inline Dual<V> tanh(Dual<V> a) {
  const V t = tanh(a.x);
  return {t, (Element<V>(1) - t * t) * a.d};
}

// c as a number without a derivative
template <class N>
struct Constant {
  static N of(Element<N> c) { return N{} + c; }
};
template <class V>
struct Constant<Dual<V>> {
  static Dual<V> of(Element<V> c) { return {V{} + c, V{}}; }
};

template <class V, class S>
inline void fetch(V& a, const S* p, int) {
  std::memcpy(&a, p, sizeof a);
}
template <class V, class S>
inline void fetch(Dual<V>& a, const S* p, int ld) {
  std::memcpy(&a.x, p, sizeof a.x);
  std::memcpy(&a.d, p + ld, sizeof a.d);
}
template <class N, class S>
inline N get(const S* p, int ld) {
  N a;
  fetch(a, p, ld);
  return a;
}

template <class V, class S>
inline void put(S* p, int, V a) {
  std::memcpy(p, &a, sizeof a);
}
template <class V, class S>
inline void put(S* p, int ld, Dual<V> a) {
  std::memcpy(p, &a.x, sizeof a.x);
  std::memcpy(p + ld, &a.d, sizeof a.d);
}
template <class N, class S>
inline void add(S* p, int ld, N a) {
  put(p, ld, get<N>(p, ld) + a);
}

}  // namespace
}  // namespace DEEPSPIN_ISA
}  // namespace deepspin
