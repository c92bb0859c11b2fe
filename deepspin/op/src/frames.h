// SPDX-License-Identifier: Apache-2.0
// What all kernels are given: frames of atoms, nets, threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace deepspin {

// y = [idt *] tanh(x W + b) [+ x or (x, x)]; W is (n_in, n_out).
struct Layer {
  const void *matrix, *bias, *idt;  // idt may be null
  int n_in, n_out;
  bool residual;
};

using Net = std::vector<Layer>;

// Centres in frames, sorted by type.
struct Frames {
  int nf, nloc, ntypes;
  int threads;
  std::vector<int> natoms, begin;  // centres of each type, their first
  const double* mask;              // (nf, nloc)
};

// Runs work(0) ... work(count - 1) on at most `threads` threads, the caller's included.
// What work throws comes out here.
void parallel(int threads, int count, const std::function<void(int)>& work);

}  // namespace deepspin
