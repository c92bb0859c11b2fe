// SPDX-License-Identifier: Apache-2.0
// Neighbours of a centre: separations, the smooth switch, and terms of the series.
#pragma once

#include <algorithm>
#include <limits>

#include "memory.h"
#include "octet.h"
#include "potential.h"

namespace deepspin {
namespace DEEPSPIN_ISA {
namespace {

constexpr int BATCH = 8;           // pairs are padded to a multiple of this

// Neighbours of one centre in one block, and what is needed of them.
struct Pairs {
  int n = 0;     // how many
  int* slot;     // where in the list
  int* leaf;     // piece of the series; -1 where the separation is not a number
  double *x, *y, *z;
  double *s, *ds;  // s(r) = w(r)/r and its derivative
  double *q, *dq;  // s/r
  double* inv_r;
  double* u;            // (s - davg) / dstd, argument of the embedding net
  double *tau, *scale;  // u within the piece, in [-1, 1]; 2 / width
  double inv_dstd[4];   // of the centre's type
  double* over;         // tau beyond the table's end, else 0
  double *terms, *slopes;  // T_k(tau), T_k'(tau): (n, order)

  static Pairs in(Arena& arena, int width, int order) {
    Pairs p;
    size_t n = std::max(round_up(width, BATCH), BATCH);
    p.slot = arena.get<int>(n);
    p.leaf = arena.get<int>(n);
    for (double** a :
         {&p.x, &p.y, &p.z, &p.s, &p.ds, &p.q, &p.dq, &p.inv_r, &p.u, &p.tau, &p.scale, &p.over})
      *a = arena.get<double>(n);
    p.terms = arena.get<double>(n * order);
    p.slopes = arena.get<double>(n * order);
    return p;
  }
};

// Separation of one pair; the arithmetic of `SpinEnergyModel`.
inline void separation(const Problem& p, int f, int i, int j, const int32_t* shift, double* x) {
  const double* points = p.points + size_t(f) * p.npoints() * 3;
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

}  // namespace
}  // namespace DEEPSPIN_ISA
}  // namespace deepspin
