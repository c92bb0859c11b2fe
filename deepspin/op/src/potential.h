// SPDX-License-Identifier: Apache-2.0
// What the operations ask of the kernels: energies of atoms and their derivatives.
//
// The kernels (kernel.cc) are compiled once for each instruction set and know nothing of
// TensorFlow; the operations (ops.cc) check all that comes from TensorFlow and nothing
// else. Pointers are to row-major arrays, in the shapes of `SpinEnergyModel`.
#pragma once

#include "frames.h"

namespace deepspin {

// An embedding net in pieces: Chebyshev series in [edge, edge + width), ascending.
struct Table {
  int leaves;
  const double* edges;       // (leaves, 2): begin, width
  const void* coefficients;  // (leaves, order, channels)
};

// Points that an atom may be seen as: itself and its virtual atom. Points of a frame are
// numbered by kind, then by atom.
constexpr int KINDS = 2;

struct Problem : Frames {
  int nblocks;
  int nnei;            // sum of `sel`
  int axis, channels;  // of the descriptor: channels x axis components
  bool one_side;  // one embedding net for a type of neighbour, whatever the centre
  double rcut, rcut_smth, length;
  std::vector<int> sel, width;     // of each block: slots in the model, in the arrays
  std::vector<char> excluded;      // (ntypes, nblocks)
  const double *points, *offset;   // (nf, npoints, 3)
  const double* box;               // (nf, 3, 3)
  const double *davg, *dstd;       // (ntypes, 4)
  std::vector<const int32_t*> nlist, shift;
  std::vector<Net> embedding, fitting;  // the last layer of a fitting net is linear
  std::vector<Table> tables;            // instead of `embedding`, or empty

  int npoints() const { return KINDS * nloc; }
  int owner(int point) const { return point < nloc ? point : point - nloc; }
  int net(int t, int e) const { return one_side ? e : t * nblocks + e; }
  int nnets() const { return one_side ? nblocks : ntypes * nblocks; }
};

struct Forward {
  double *atom_ener, *force, *atom_virial;  // (nf, nloc), (nf, npoints, 3), (nf, nloc, 9)
  int64_t extrapolated;                     // pairs outside the tables
  // where to keep what the gradient needs, or null; called once
  std::function<void*(size_t)> keep;
};

struct Backward {
  const double *atom_ener, *force, *atom_virial;  // dL/d(output)
  const void* kept;
  size_t kept_bytes;
  std::vector<void*> weights;     // out: dL/d(weight), all overwritten; or empty
  double *points, *offset, *box;  // out: dL/d(input); or null
};

// All return null, or what is wrong.
struct Kernels {
  const char* (*forward_double)(const Problem&, Forward&);
  const char* (*forward_float)(const Problem&, Forward&);
  const char* (*backward_double)(const Problem&, Backward&);
  const char* (*backward_float)(const Problem&, Backward&);
};

constexpr int order_of(bool single) { return single ? 16 : 24; }  // terms of a series

}  // namespace deepspin
