// SPDX-License-Identifier: Apache-2.0
// Inputs that operations have in common, checked; and which kernels are to do the work.
#pragma once

#include <algorithm>

#include "call.h"
#include "frames.h"

namespace deepspin {

// Declares `name` of each instruction set, and name_for(instruction set), 0 for the best.
#if defined(DEEPSPIN_X86)
#define DEEPSPIN_KERNELS(Type, name)                                 \
  namespace base {                                                   \
  extern const Type name;                                            \
  }                                                                  \
  namespace v3 {                                                     \
  extern const Type name;                                            \
  }                                                                  \
  namespace v4 {                                                     \
  extern const Type name;                                            \
  }                                                                  \
  static const Type& name##_for(int isa) {                           \
    const int best = instruction_set(isa);                           \
    return best == 4 ? v4::name : best == 3 ? v3::name : base::name; \
  }
#else
#define DEEPSPIN_KERNELS(Type, name) \
  namespace base {                   \
  extern const Type name;            \
  }                                  \
  static const Type& name##_for(int) { return base::name; }
#endif

namespace {

#if defined(DEEPSPIN_X86)
// The best that the processor has, at most `wanted` unless that is 0: 4, 3 or 0.
int instruction_set(int wanted) {
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  if (v4 && (wanted == 0 || wanted >= 4)) return 4;
  return v3 && (wanted == 0 || wanted >= 3) ? 3 : 0;
}
#endif

constexpr int MANY = 1 << 20;

using Shapes = std::vector<std::vector<int64_t>>;

void read_natoms(Call& call, Frames& p) {
  const int32_t* natoms = call.input<int32_t>("natoms", TF_INT32, {p.ntypes});
  int64_t total = 0;
  for (int t = 0; t < p.ntypes; ++t) {
    if (natoms[t] < 0) refuse("`natoms` must not be negative. Received: %d", natoms[t]);
    p.begin.push_back(int(total));
    p.natoms.push_back(natoms[t]);
    total += natoms[t];
    if (total > p.nloc) break;
  }
  if (total != p.nloc)
    refuse("`natoms` must sum up to %d atoms. Received: %lld", p.nloc, (long long)total);
}

void read_lists(Call& call, const Frames& p, int nblocks, int npoints, std::vector<int>& width,
                std::vector<const int32_t*>& nlist, std::vector<const int32_t*>& shift) {
  for (int e = 0; e < nblocks; ++e) {
    Call::Array list = call.input("nlist", TF_INT32, 3);
    if (list.shape[0] != p.nf || list.shape[1] != p.nloc || list.shape[2] > MANY)
      refuse("`nlist` must have the shape (frames, atoms, neighbours)");
    width.push_back(int(list.shape[2]));
    nlist.push_back(static_cast<const int32_t*>(list.data));
    const int64_t size = list.size();
    int32_t low = 0, high = -1;
    for (int64_t k = 0; k < size; ++k) {
      low = std::min(low, nlist[e][k]);
      high = std::max(high, nlist[e][k]);
    }
    if (low < -1 || high >= npoints)
      refuse("`nlist` names point %d of %d", low < -1 ? low : high, npoints);
  }
  for (int e = 0; e < nblocks; ++e)
    shift.push_back(call.input<int32_t>("shift", TF_INT32, {p.nf, p.nloc, int64_t(width[e]), 3}));
}

template <class T>
const void* read_weight(Call& call, Shapes& shapes, const std::vector<int64_t>& shape) {
  shapes.push_back(shape);
  return call.input<T>("weights", sizeof(T) == 4 ? TF_FLOAT : TF_DOUBLE, shape);
}

// A net of so many inputs; a fitting net has a last layer of one.
template <class T>
Net read_net(Call& call, Shapes& shapes, int from, const std::vector<int>& hidden, bool fitting,
             bool dt) {
  Net net;
  for (size_t l = 0; l < hidden.size() + (fitting ? 1 : 0); ++l) {
    const bool last = l == hidden.size();
    const int to = last ? 1 : hidden[l];
    const bool residual = fitting ? (!last && l > 0 && to == from) : (to == from || to == 2 * from);
    Layer layer{nullptr, nullptr, nullptr, from, to, residual};
    layer.matrix = read_weight<T>(call, shapes, {from, to});
    layer.bias = read_weight<T>(call, shapes, {to});
    if (residual && dt) layer.idt = read_weight<T>(call, shapes, {to});
    net.push_back(layer);
    from = to;
  }
  return net;
}

}  // namespace
}  // namespace deepspin
