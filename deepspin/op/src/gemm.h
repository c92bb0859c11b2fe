// SPDX-License-Identifier: Apache-2.0
// C = A B or C += A B for the shapes of this project: A of any strides, its elements
// broadcast; rows of B and C contiguous.
#pragma once

#include <algorithm>

#include "simd.h"

namespace deepspin {
namespace DEEPSPIN_ISA {

// rows and vectors of a tile of C that fit into the registers
#if defined(DEEPSPIN_MANY_REGISTERS)
constexpr int TILE_ROWS = 8;
#else
constexpr int TILE_ROWS = 4;
#endif
constexpr int TILE_VECTORS = 3;
constexpr int BLOCK = 96;  // of the depth, where A is read down its columns

template <class T, int MR, int NV>
inline void tile(int depth, const T* __restrict a, int64_t rs, int64_t cs, const T* __restrict b,
                 int64_t ldb, T* __restrict c, int64_t ldc, bool accumulate, const T* ahead) {
  constexpr int W = Simd<T>::W;
  Vec<T> acc[MR][NV];
  for (int i = 0; i < MR; ++i)
    for (int v = 0; v < NV; ++v) __builtin_prefetch(c + i * ldc + v * W, 1);
  for (int i = 0; i < MR; ++i)
    for (int v = 0; v < NV; ++v) acc[i][v] = accumulate ? load(c + i * ldc + v * W) : Vec<T>{};
  for (int k = 0; k < depth; ++k) {
    __builtin_prefetch(ahead, 0, 2);  // 12 elements an iteration are used, these are 16
    __builtin_prefetch(ahead + 8, 0, 2);
    ahead += 16;
    Vec<T> row[NV];
    for (int v = 0; v < NV; ++v) row[v] = load(b + v * W);
    for (int i = 0; i < MR; ++i)
      for (int v = 0; v < NV; ++v) acc[i][v] += a[i * rs] * row[v];
    a += cs;
    b += ldb;
  }
  for (int i = 0; i < MR; ++i)
    for (int v = 0; v < NV; ++v) store(c + i * ldc + v * W, acc[i][v]);
}

template <class T, int NV>
inline void tile_rows(int rows, int depth, const T* a, int64_t rs, int64_t cs, const T* b, int64_t ldb,
                      T* c, int64_t ldc, bool accumulate, const T* ahead) {
  switch (rows) {
    case 1: return tile<T, 1, NV>(depth, a, rs, cs, b, ldb, c, ldc, accumulate, ahead);
    case 2: return tile<T, 2, NV>(depth, a, rs, cs, b, ldb, c, ldc, accumulate, ahead);
    case 3: return tile<T, 3, NV>(depth, a, rs, cs, b, ldb, c, ldc, accumulate, ahead);
    case 4: return tile<T, 4, NV>(depth, a, rs, cs, b, ldb, c, ldc, accumulate, ahead);
#if defined(DEEPSPIN_MANY_REGISTERS)
    case 5: return tile<T, 5, NV>(depth, a, rs, cs, b, ldb, c, ldc, accumulate, ahead);
    case 6: return tile<T, 6, NV>(depth, a, rs, cs, b, ldb, c, ldc, accumulate, ahead);
    case 7: return tile<T, 7, NV>(depth, a, rs, cs, b, ldb, c, ldc, accumulate, ahead);
    case 8: return tile<T, 8, NV>(depth, a, rs, cs, b, ldb, c, ldc, accumulate, ahead);
    case 12: return tile<T, 12, NV>(depth, a, rs, cs, b, ldb, c, ldc, accumulate, ahead);
#endif
  }
}

// Rows of a tile in a product `vectors` wide: where no tile is 3 wide they may be higher.
inline int rows_of(int vectors) {
  if (vectors == 3 || vectors > 4) return TILE_ROWS;
#if defined(DEEPSPIN_MANY_REGISTERS)
  return 12;
#else
  return TILE_ROWS;
#endif
}

// Width in vectors of the next tile of `left`: no single one is left over.
inline int width_of(int left) { return left == 4 || left < 3 ? (left < 2 ? left : 2) : 3; }

// A is (m, depth): a[i * rs + k * cs]. B is (depth, n), C is (m, n). Each element of C is
// summed in the order of k, however the work is cut, so that its bits do not depend on it.
//
// A is what does not fit into the caches, weights that is. It is read once, in order, and
// asked for while the part before is worked on: rows of the next tile, or the next BLOCK
// rows of A's transpose.
template <class T>
void gemm(int m, int n, int depth, const T* a, int64_t rs, int64_t cs, const T* b, int64_t ldb, T* c,
          int64_t ldc, bool accumulate = false) {
  constexpr int W = Simd<T>::W;
  const int whole = n / W, high = rows_of(whole);
  const int block = rs == 1 ? BLOCK : depth;
  if (depth == 0 && !accumulate)  // an empty sum
    for (int i = 0; i < m; ++i) std::fill(c + i * ldc, c + i * ldc + n, T(0));
  for (int k0 = 0; k0 < depth; k0 += block) {
    const int part = depth - k0 < block ? depth - k0 : block;
    const bool add = accumulate || k0 > 0;
    const T *ak = a + k0 * cs, *bk = b + k0 * ldb;
    const T* ahead = rs == 1 ? ak + block * cs : nullptr;
    for (int i = 0; i < m;) {
      const int left = m - i, rows = left >= high ? high : left < TILE_ROWS ? left : TILE_ROWS;
      const T* ai = ak + i * rs;
      if (rs != 1) ahead = ai + rows * rs;
      for (int v = 0; v < whole;) {
        const int width = width_of(whole - v);
        const T *bv = bk + v * W, *next = v ? ai : ahead;
        T* cv = c + i * ldc + v * W;
        if (width == 3)
          tile_rows<T, 3>(rows, part, ai, rs, cs, bv, ldb, cv, ldc, add, next);
        else if (width == 2)
          tile_rows<T, 2>(rows, part, ai, rs, cs, bv, ldb, cv, ldc, add, next);
        else
          tile_rows<T, 1>(rows, part, ai, rs, cs, bv, ldb, cv, ldc, add, next);
        v += width;
      }
      for (int j = whole * W; j < n; ++j)  // the columns left over
        for (int r = 0; r < rows; ++r) {
          T total = add ? c[(i + r) * ldc + j] : T(0);
          for (int k = 0; k < part; ++k) total += ai[r * rs + k * cs] * bk[k * ldb + j];
          c[(i + r) * ldc + j] = total;
        }
      if (rs == 1) ahead += 16 * part;
      i += rows;
    }
  }
}

}  // namespace DEEPSPIN_ISA
}  // namespace deepspin
