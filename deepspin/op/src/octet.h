// SPDX-License-Identifier: Apache-2.0
// Eight doubles at once, on any processor: what pairs of atoms and their series are made of.
#pragma once

#include "simd.h"

namespace deepspin {
namespace DEEPSPIN_ISA {
namespace {

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

}  // namespace
}  // namespace DEEPSPIN_ISA
}  // namespace deepspin
