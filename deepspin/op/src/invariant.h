// SPDX-License-Identifier: Apache-2.0
// What the operations ask of the kernels of the scheme `invariant`.
//
// Pointers are to row-major arrays, in the shapes of `SpinEnergyModel`; what they mean is in
// `deepspin.SpinChannels`, `deepspin.Baseline` and `deepspin.EnerFitting`.
#pragma once

#include "frames.h"

namespace deepspin {

struct Invariant : Frames {
  int nall;  // atoms of a frame, ghosts too
  int nradial, channels, axis, ncross;
  bool soc, baseline;
  double rcut, rcut_smth;
  std::vector<char> magnetic;            // of each type
  std::vector<int> width;                // slots of each type of neighbour
  const double *coord, *spin;            // (nf, nall, 3)
  const double* box;                     // (nf, 3, 3)
  const double* mixing;                  // (ntypes, ntypes x nradial, channels)
  const double* nearest;                 // (ntypes, ntypes)
  const double *longest, *stiffness;     // (ntypes), of walls; with a baseline
  const double *average, *inverse;       // (ntypes, components), of the descriptor
  const double* scale;                   // (ntypes), eV
  std::vector<const double*> theta;      // of each type, in the order of `Baseline`
  std::vector<const int32_t*> nlist, shift;
  std::vector<Net> fitting;  // the last layer is linear
};

struct InvariantForward {
  // (nf, nloc), (nf, nall, 3), (nf, nall, 3), (nf, nall, 9); spin_pull is dE/dspin
  double *atom_ener, *force, *spin_pull, *atom_virial;
};

struct InvariantBackward {
  const double *atom_ener, *force, *spin_pull, *atom_virial;  // dL/d(output)
  std::vector<void*> weights;   // out: dL/d(weight) of the nets; or empty
  std::vector<double*> theta;   // out, of each type; or empty
  double *coord, *spin, *box;   // out, with empty `weights`: dL/d(input)
};

// What one unit of each number of the baseline gives to each label, and the descriptor.
struct InvariantRows {
  int numbers;                                     // of the model
  std::vector<const int32_t*> place;               // of each type's columns among them
  double *energy, *force, *force_mag, *virial;     // (nf, n), (nf, nloc, 3, n) twice, (nf, 9, n)
  double* scalars;                                 // (nf, nloc, components)
};

constexpr int MOST_RADIAL = 64;  // radial functions that kernels know

struct InvariantKernels {
  void (*forward_double)(const Invariant&, InvariantForward&);
  void (*forward_float)(const Invariant&, InvariantForward&);
  void (*backward_double)(const Invariant&, InvariantBackward&);
  void (*backward_float)(const Invariant&, InvariantBackward&);
  void (*rows)(const Invariant&, InvariantRows&);
  int (*components)(const Invariant&);         // of the descriptor
  int (*numbers)(const Invariant&, int type);  // of the baseline of a type
};

}  // namespace deepspin
