// SPDX-License-Identifier: Apache-2.0
// Energies of atoms and their derivatives, from separations to forces and back.
//
// The embedding net is a function of one number, so it is not run for each neighbour: it
// is expanded anew in each call into pieces of Chebyshev series, exact to rounding. Then
//
//   M = P C / nnei,   P_dk = sum_j R_jd T_k(u_j),   D = M^T M_<,   E = fitting net(D)
//
// with the coefficients C of the series and the moments P of the centre's environment
// matrix R in the series' terms. P knows no weights and C no neighbours; what is between
// them are products of matrices.
//
// Derivatives are written out by hand. With x a separation and v given, the gradient of
//
//   psi = sum_i ebar_i E_i + sum_j v_j dE/dx_j
//
// with respect to the weights is that of a tangent along v, so it needs no second
// derivative of P. Adjoints of psi are called `bar`, tangents along v `dot`, and `pull`
// is dE/d(something).
//
// Centres of one type are worked on in chunks, an atom a lane of the vectors: an array
// (features, ld) has its `ld` atoms side by side. Chunks, and so the order
// of all sums, do not depend on the number of threads: results are the same to the bit.
#include "backward.h"

namespace deepspin {
namespace DEEPSPIN_ISA {

extern const Kernels kernels;
const Kernels kernels = {forward<double>, forward<float>, backward<double>, backward<float>};

}  // namespace DEEPSPIN_ISA
}  // namespace deepspin
