// SPDX-License-Identifier: Apache-2.0
// TensorFlow operations around the kernels of the scheme `invariant`.
//
// DeepspinInvariant           energies of atoms, forces, pulls on spins, virials
// DeepspinInvariantWeights    gradient of these with respect to baseline and nets
// DeepspinInvariantPositions  gradient with respect to positions, spins and box
// DeepspinInvariantRows       rows of the least-squares fit of the baseline
//
// `options`, integers: ntypes, nradial, number of mixtures, axis_neuron, ncross, soc, baseline,
// threads, instruction set (0 for the best), resnet_dt, number and widths of the hidden layers,
// use_spin of each type. `numbers`: rcut, rcut_smth.
#include <cstdio>

#include "inputs.h"
#include "invariant.h"

namespace deepspin {

DEEPSPIN_KERNELS(InvariantKernels, invariant_kernels)

namespace {

struct InvariantModel {
  Invariant problem;
  Shapes weight_shapes;
  std::vector<int> hidden;
  bool dt = false;
  int isa = 0;
};

void read_options(Call& call, InvariantModel& m) {
  Invariant& p = m.problem;
  Options o(call.input("options", TF_INT64, 1));
  p.ntypes = o.next("ntypes", 1, 1 << 8);
  p.nradial = o.next("nradial", 1, MOST_RADIAL);
  p.channels = o.next("number of mixtures", 1, MANY);
  p.axis = o.next("axis_neuron", 1, MANY);
  p.ncross = o.next("ncross", 0, p.nradial);
  p.soc = o.next("soc", 0, 1);
  p.baseline = o.next("baseline", 0, 1);
  p.threads = o.next("threads", 1, 1 << 14);
  m.isa = o.next("instruction set", 0, 4);
  m.dt = o.next("resnet_dt", 0, 1);
  const int depth = o.next("number of layers", 0, 1 << 10);
  for (int l = 0; l < depth; ++l) m.hidden.push_back(o.next("width of a layer", 1, MANY));
  for (int t = 0; t < p.ntypes; ++t) p.magnetic.push_back(char(o.next("use_spin", 0, 1)));
  if (!o.done()) refuse("`options` is too long");
  if (p.axis > p.channels) refuse("axis_neuron exceeds the number of mixtures");
  if (int64_t(p.axis) * p.channels > MANY) refuse("the descriptor has too many components");
  const double* numbers = call.finite("numbers", {2});
  p.rcut = numbers[0], p.rcut_smth = numbers[1];
}

void read_atoms(Call& call, Invariant& p) {
  Call::Array coord = call.input("coord", TF_DOUBLE, 3);
  if (coord.shape[0] > MANY || coord.shape[1] > (1 << 28) || coord.shape[2] != 3)
    refuse("`coord` must have the shape (frames, atoms, 3)");
  p.nf = int(coord.shape[0]), p.nall = int(coord.shape[1]);
  p.coord = call.finite("coord", coord);
  p.spin = call.finite("spin", {p.nf, p.nall, 3});
  p.box = call.finite("box", {p.nf, 3, 3});
  Call::Array mask = call.input("mask", TF_DOUBLE, 2);
  if (mask.shape[0] != p.nf || mask.shape[1] > p.nall)
    refuse("`mask` must have the shape (frames, centres), of at most %d centres", p.nall);
  p.nloc = int(mask.shape[1]);
  p.mask = call.finite("mask", mask);
}

// What all operations take.
InvariantModel read_sums(Call& call) {
  InvariantModel m;
  Invariant& p = m.problem;
  read_options(call, m);
  read_atoms(call, p);
  read_natoms(call, p);
  read_lists(call, p, p.ntypes, p.nall, p.width, p.nlist, p.shift);
  p.mixing = call.finite("mixing", {p.ntypes, p.ntypes * p.nradial, p.channels});
  p.nearest = call.finite("nearest", {p.ntypes, p.ntypes});
  return m;
}

template <class T>
InvariantModel read_model(Call& call) {
  InvariantModel m = read_sums(call);
  Invariant& p = m.problem;
  const InvariantKernels& k = invariant_kernels_for(m.isa);
  const int dim = k.components(p);
  p.longest = call.finite("longest", {p.ntypes});
  p.stiffness = call.finite("stiffness", {p.ntypes});
  p.average = call.finite("average", {p.ntypes, dim});
  p.inverse = call.finite("inverse", {p.ntypes, dim});
  p.scale = call.finite("scale", {p.ntypes});
  for (int t = 0; t < p.ntypes; ++t)
    p.theta.push_back(call.input<double>("theta", TF_DOUBLE, {k.numbers(p, t)}));
  for (int t = 0; t < p.ntypes; ++t)
    p.fitting.push_back(read_net<T>(call, m.weight_shapes, dim, m.hidden, true, m.dt));
  return m;
}

template <class T>
void compute_invariant(Call& call) {
  const InvariantModel m = read_model<T>(call);
  const Invariant& p = m.problem;
  call.end();
  InvariantForward out{};
  out.atom_ener = static_cast<double*>(call.output(TF_DOUBLE, {p.nf, p.nloc}));
  out.force = static_cast<double*>(call.output(TF_DOUBLE, {p.nf, p.nall, 3}));
  out.spin_pull = static_cast<double*>(call.output(TF_DOUBLE, {p.nf, p.nall, 3}));
  out.atom_virial = static_cast<double*>(call.output(TF_DOUBLE, {p.nf, p.nall, 9}));
  const InvariantKernels& k = invariant_kernels_for(m.isa);
  (sizeof(T) == 4 ? k.forward_float : k.forward_double)(p, out);
}

template <class T>
void compute_gradient(Call& call, bool positions) {
  constexpr TF_DataType type = sizeof(T) == 4 ? TF_FLOAT : TF_DOUBLE;
  const InvariantModel m = read_model<T>(call);
  const Invariant& p = m.problem;
  InvariantBackward in{};
  in.atom_ener = call.input<double>("atom_ener_grad", TF_DOUBLE, {p.nf, p.nloc});
  in.force = call.input<double>("force_grad", TF_DOUBLE, {p.nf, p.nall, 3});
  in.spin_pull = call.input<double>("spin_pull_grad", TF_DOUBLE, {p.nf, p.nall, 3});
  in.atom_virial = call.input<double>("atom_virial_grad", TF_DOUBLE, {p.nf, p.nall, 9});
  call.end();
  const InvariantKernels& k = invariant_kernels_for(m.isa);
  if (positions) {
    in.coord = static_cast<double*>(call.output(TF_DOUBLE, {p.nf, p.nall, 3}));
    in.spin = static_cast<double*>(call.output(TF_DOUBLE, {p.nf, p.nall, 3}));
    in.box = static_cast<double*>(call.output(TF_DOUBLE, {p.nf, 3, 3}));
  } else {
    for (int t = 0; t < p.ntypes; ++t)
      in.theta.push_back(static_cast<double*>(call.output(TF_DOUBLE, {k.numbers(p, t)})));
    for (const auto& shape : m.weight_shapes) in.weights.push_back(call.output(type, shape));
  }
  (sizeof(T) == 4 ? k.backward_float : k.backward_double)(p, in);
}

void compute_rows(Call& call) {
  InvariantModel m = read_sums(call);
  m.problem.fitting.resize(m.problem.ntypes);  // nets of no layers
  const Invariant& p = m.problem;
  if (p.nloc != p.nall) refuse("rows are of frames without ghosts");
  const InvariantKernels& k = invariant_kernels_for(m.isa);
  InvariantRows out{};
  Call::Array numbers = call.input("columns", TF_INT32, 1);
  const int32_t* place = static_cast<const int32_t*>(numbers.data);
  int64_t total = 0;
  for (int t = 0; t < p.ntypes; ++t) {
    out.place.push_back(place + total);
    total += k.numbers(p, t);
  }
  if (total != numbers.size())
    refuse("`columns` must have %lld elements. Received: %lld", (long long)total,
           (long long)numbers.size());
  for (int64_t n = 0; n < total; ++n) {
    if (place[n] < 0 || place[n] >= MANY) refuse("`columns` names number %d", place[n]);
    out.numbers = std::max(out.numbers, place[n] + 1);
  }
  call.end();
  const int64_t n = out.numbers;
  out.energy = static_cast<double*>(call.output(TF_DOUBLE, {p.nf, n}));
  out.force = static_cast<double*>(call.output(TF_DOUBLE, {p.nf, p.nloc, 3, n}));
  out.force_mag = static_cast<double*>(call.output(TF_DOUBLE, {p.nf, p.nloc, 3, n}));
  out.virial = static_cast<double*>(call.output(TF_DOUBLE, {p.nf, 9, n}));
  out.scalars = static_cast<double*>(call.output(TF_DOUBLE, {p.nf, p.nloc, k.components(p)}));
  k.rows(p, out);
}

template <class T>
void run_invariant(void*, TF_OpKernelContext* context) {
  guarded(context, [&](Call& call) { compute_invariant<T>(call); });
}

template <class T, bool POSITIONS>
void run_gradient(void*, TF_OpKernelContext* context) {
  guarded(context, [&](Call& call) { compute_gradient<T>(call, POSITIONS); });
}

void run_rows(void*, TF_OpKernelContext* context) {
  guarded(context, [](Call& call) { compute_rows(call); });
}

TF_OpDefinitionBuilder* new_sums(const char* name) {
  TF_OpDefinitionBuilder* op = TF_NewOpDefinitionBuilder(name);
  TF_OpDefinitionBuilderAddAttr(op, "B: int >= 1");
  for (const char* input : {"options: int64", "numbers: double", "coord: double", "spin: double",
                            "box: double", "mask: double", "natoms: int32", "nlist: B * int32",
                            "shift: B * int32", "mixing: double", "nearest: double"})
    TF_OpDefinitionBuilderAddInput(op, input);
  return op;
}

TF_OpDefinitionBuilder* new_operation(const char* name, bool gradient) {
  TF_OpDefinitionBuilder* op = new_sums(name);
  for (const char* attr : {"T: {float, double}", "N: int >= 1"})
    TF_OpDefinitionBuilderAddAttr(op, attr);
  for (const char* input : {"longest: double", "stiffness: double", "average: double",
                            "inverse: double", "scale: double", "theta: B * double", "weights: N * T"})
    TF_OpDefinitionBuilderAddInput(op, input);
  for (const char* input : {"atom_ener_grad: double", "force_grad: double", "spin_pull_grad: double",
                            "atom_virial_grad: double"})
    if (gradient) TF_OpDefinitionBuilderAddInput(op, input);
  return op;
}

void register_all() {
  TF_Status* status = TF_NewStatus();
  const char *forward = "DeepspinInvariant", *weights = "DeepspinInvariantWeights",
             *positions = "DeepspinInvariantPositions", *rows = "DeepspinInvariantRows";
  TF_OpDefinitionBuilder* op = new_operation(forward, false);
  for (const char* output :
       {"atom_ener: double", "force: double", "spin_pull: double", "atom_virial: double"})
    TF_OpDefinitionBuilderAddOutput(op, output);
  define(op, status);
  op = new_operation(weights, true);
  for (const char* output : {"theta_grad: B * double", "gradients: N * T"})
    TF_OpDefinitionBuilderAddOutput(op, output);
  define(op, status);
  op = new_operation(positions, true);
  for (const char* output : {"coord_grad: double", "spin_grad: double", "box_grad: double"})
    TF_OpDefinitionBuilderAddOutput(op, output);
  define(op, status);
  op = new_sums(rows);
  TF_OpDefinitionBuilderAddInput(op, "columns: int32");
  for (const char* output :
       {"energy: double", "force: double", "force_mag: double", "virial: double", "scalars: double"})
    TF_OpDefinitionBuilderAddOutput(op, output);
  define(op, status);
  TF_RegisterKernelBuilder(rows, TF_NewKernelBuilder(rows, "CPU", nullptr, run_rows, nullptr), status);
  add_kernel(forward, TF_DOUBLE, nullptr, run_invariant<double>, nullptr, status);
  add_kernel(forward, TF_FLOAT, nullptr, run_invariant<float>, nullptr, status);
  add_kernel(weights, TF_DOUBLE, nullptr, run_gradient<double, false>, nullptr, status);
  add_kernel(weights, TF_FLOAT, nullptr, run_gradient<float, false>, nullptr, status);
  add_kernel(positions, TF_DOUBLE, nullptr, run_gradient<double, true>, nullptr, status);
  add_kernel(positions, TF_FLOAT, nullptr, run_gradient<float, true>, nullptr, status);
  if (TF_GetCode(status) != TF_OK) std::fprintf(stderr, "deepspin: %s\n", TF_Message(status));
  TF_DeleteStatus(status);
}

const bool registered = (register_all(), true);

}  // namespace
}  // namespace deepspin
