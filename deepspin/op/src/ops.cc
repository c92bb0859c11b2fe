// SPDX-License-Identifier: Apache-2.0
// TensorFlow operations around the kernels: they check every input, then hand over.
//
// DeepspinPotential           energies of atoms, forces on all points, virials
// DeepspinPotentialWeights    gradient of these with respect to the weights
// DeepspinPotentialPositions  gradient with respect to points, offset and box
//
// `options`, integers: ntypes, nblocks, sum of sel, axis, threads, instruction set (0 for
// the best), one_side, tabulated, resnet_dt of both nets, number and widths of the
// embedding net's layers, number and widths of the fitting net's hidden layers, sel,
// excluded (ntypes x nblocks), and for tables the leaves of each net.
// `numbers`: rcut, rcut_smth, their difference, as float32 has them.
#include <algorithm>
#include <cstdio>

#include "inputs.h"
#include "potential.h"

namespace deepspin {

DEEPSPIN_KERNELS(Kernels, kernels)

namespace {

struct Model {
  Problem problem;
  Shapes weight_shapes;
  int isa = 0;
  bool tabulated = false;
};

// What `options` tells of the nets.
struct Widths {
  std::vector<int> layers[2];  // of the embedding net, of the fitting net
  bool dt[2];
  std::vector<int> leaves;
};

Widths read_options(Call& call, Model& m) {
  Problem& p = m.problem;
  Widths w;
  Options o(call.input("options", TF_INT64, 1));
  p.ntypes = o.next("ntypes", 1, 1 << 12);
  p.nblocks = o.next("nblocks", 1, 1 << 12);
  p.nnei = o.next("the sum of sel", 1, MANY);
  p.axis = o.next("axis_neuron", 1, MANY);
  p.threads = o.next("threads", 1, 1 << 14);
  m.isa = o.next("instruction set", 0, 4);
  p.one_side = o.next("type_one_side", 0, 1);
  m.tabulated = o.next("tabulated", 0, 1);
  for (bool& dt : w.dt) dt = o.next("resnet_dt", 0, 1);
  for (auto& layers : w.layers) {
    int depth = o.next("number of layers", &layers == w.layers ? 1 : 0, 1 << 10);
    for (int l = 0; l < depth; ++l) layers.push_back(o.next("width of a layer", 1, MANY));
  }
  p.channels = w.layers[0].back();
  if (p.axis > p.channels) refuse("axis_neuron exceeds the embedding net's width");
  if (int64_t(p.axis) * p.channels > MANY) refuse("the descriptor has too many components");
  for (int e = 0; e < p.nblocks; ++e) p.sel.push_back(o.next("sel", 0, MANY));
  for (int k = 0; k < p.ntypes * p.nblocks; ++k) p.excluded.push_back(char(o.next("excluded", 0, 1)));
  for (int k = 0; m.tabulated && k < p.nnets(); ++k) w.leaves.push_back(o.next("leaves", 1, MANY));
  if (!o.done()) refuse("`options` is too long");
  const double* numbers = call.finite("numbers", {3});
  p.rcut = numbers[0], p.rcut_smth = numbers[1], p.length = numbers[2];
  return w;
}

void read_frames(Call& call, Problem& p) {
  Call::Array points = call.input("points", TF_DOUBLE, 3);
  p.nf = int(points.shape[0]);
  p.nloc = int(points.shape[1] / KINDS);
  if (points.shape[0] > MANY || points.shape[1] > (1 << 29) || points.shape[1] % KINDS ||
      points.shape[2] != 3)
    refuse("`points` must have the shape (frames, %d atoms, 3)", KINDS);
  p.points = call.finite("points", points);
  p.offset = call.finite("offset", {p.nf, p.npoints(), 3});
  p.box = call.finite("box", {p.nf, 3, 3});
  p.mask = call.finite("mask", {p.nf, p.nloc});
  read_natoms(call, p);
}

template <class T>
void read_tables(Call& call, Model& m, const std::vector<int>& leaves) {
  Problem& p = m.problem;
  Call::Array edges = call.input("edges", TF_DOUBLE, 2);
  int64_t all_leaves = 0;
  for (int n : leaves) all_leaves += n;
  if (edges.shape[0] != all_leaves || edges.shape[1] != 2)
    refuse("`edges` must have the shape (%lld, 2)", (long long)all_leaves);
  if (!m.tabulated) return;
  const double* at = static_cast<const double*>(edges.data);
  for (int n : leaves) {
    for (int l = 0; l < n; ++l)
      if (!(at[2 * l + 1] > 0.0) || (l && !(at[2 * l] > at[2 * l - 2])))
        refuse("`edges` must ascend, with widths above 0");
    p.tables.push_back(
        {n, at, read_weight<T>(call, m.weight_shapes, {n, order_of(sizeof(T) == 4), p.channels})});
    at += 2 * n;
  }
}

template <class T>
void read_nets(Call& call, Model& m, const Widths& w, bool fitting) {
  Problem& p = m.problem;
  for (int k = 0; k < (fitting ? p.ntypes : p.nnets()); ++k)
    (fitting ? p.fitting : p.embedding)
        .push_back(read_net<T>(call, m.weight_shapes, fitting ? p.channels * p.axis : 1,
                               w.layers[fitting], fitting, w.dt[fitting]));
}

template <class T>
Model read_model(Call& call) {
  Model m;
  Problem& p = m.problem;
  const Widths w = read_options(call, m);
  read_frames(call, p);
  read_lists(call, p, p.nblocks, p.npoints(), p.width, p.nlist, p.shift);
  p.davg = call.finite("davg", {p.ntypes, 4});
  p.dstd = call.finite("dstd", {p.ntypes, 4});
  read_tables<T>(call, m, w.leaves);
  if (!m.tabulated) read_nets<T>(call, m, w, false);
  read_nets<T>(call, m, w, true);
  return m;
}

void finish(const char* error) {
  if (error) throw Invalid(error);
}

template <class T>
void compute_forward(Call& call, bool training) {
  Model m = read_model<T>(call);
  const Problem& p = m.problem;
  call.end();
  Forward out{};
  out.atom_ener = static_cast<double*>(call.output(TF_DOUBLE, {p.nf, p.nloc}));
  out.force = static_cast<double*>(call.output(TF_DOUBLE, {p.nf, p.npoints(), 3}));
  out.atom_virial = static_cast<double*>(call.output(TF_DOUBLE, {p.nf, p.nloc, 9}));
  auto* extrapolated = static_cast<int64_t*>(call.output(TF_INT64, {}));
  *extrapolated = 0;
  bool kept = false;
  if (training)
    out.keep = [&](size_t bytes) {
      kept = true;
      return call.output(TF_UINT8, {int64_t(bytes)});
    };
  if (p.nf * int64_t(p.nloc) > 0) {
    const Kernels& k = kernels_for(m.isa);
    finish((sizeof(T) == 4 ? k.forward_float : k.forward_double)(p, out));
    *extrapolated = out.extrapolated;
  }
  if (!kept) call.output(TF_UINT8, {0});
}

template <class T>
void compute_backward(Call& call, bool positions) {
  constexpr TF_DataType type = sizeof(T) == 4 ? TF_FLOAT : TF_DOUBLE;
  Model m = read_model<T>(call);
  const Problem& p = m.problem;
  if (m.tabulated && !positions) refuse("tables have no gradient: train before compressing");
  Backward in{};
  Call::Array kept = call.input("kept", TF_UINT8, 1);
  in.kept = kept.data;
  in.kept_bytes = kept.bytes;
  in.atom_ener = call.input<double>("atom_ener_grad", TF_DOUBLE, {p.nf, p.nloc});
  in.force = call.input<double>("force_grad", TF_DOUBLE, {p.nf, p.npoints(), 3});
  in.atom_virial = call.input<double>("atom_virial_grad", TF_DOUBLE, {p.nf, p.nloc, 9});
  call.end();
  const bool empty = p.nf * int64_t(p.nloc) == 0;
  if (positions) {
    in.points = static_cast<double*>(call.output(TF_DOUBLE, {p.nf, p.npoints(), 3}));
    in.offset = static_cast<double*>(call.output(TF_DOUBLE, {p.nf, p.npoints(), 3}));
    in.box = static_cast<double*>(call.output(TF_DOUBLE, {p.nf, 3, 3}));
    if (empty) std::fill(in.box, in.box + p.nf * 9, 0.0);
  } else {
    for (const auto& shape : m.weight_shapes) {
      in.weights.push_back(call.output(type, shape));
      int64_t size = 1;
      for (int64_t d : shape) size *= d;
      if (empty)
        std::fill(static_cast<T*>(in.weights.back()), static_cast<T*>(in.weights.back()) + size, T(0));
    }
  }
  if (empty) return;
  if (kept.bytes == 0) refuse("`kept` is empty: run DeepspinPotential with training=True");
  const Kernels& k = kernels_for(m.isa);
  finish((sizeof(T) == 4 ? k.backward_float : k.backward_double)(p, in));
}

void* create_forward(TF_OpKernelConstruction* context) {
  TF_Status* status = TF_NewStatus();
  unsigned char training = 0;
  TF_OpKernelConstruction_GetAttrBool(context, "training", &training, status);
  if (TF_GetCode(status) != TF_OK) TF_OpKernelConstruction_Failure(context, status);
  TF_DeleteStatus(status);
  return new bool(training != 0);
}

template <class T>
void run_forward(void* training, TF_OpKernelContext* context) {
  guarded(context, [&](Call& call) { compute_forward<T>(call, *static_cast<bool*>(training)); });
}

void destroy_forward(void* training) { delete static_cast<bool*>(training); }

template <class T, bool POSITIONS>
void run_backward(void*, TF_OpKernelContext* context) {
  guarded(context, [&](Call& call) { compute_backward<T>(call, POSITIONS); });
}

void add_inputs(TF_OpDefinitionBuilder* op) {
  for (const char* attr : {"T: {float, double}", "B: int >= 1", "N: int >= 1"})
    TF_OpDefinitionBuilderAddAttr(op, attr);
  for (const char* input :
       {"options: int64", "numbers: double", "points: double", "offset: double", "box: double",
        "mask: double", "natoms: int32", "nlist: B * int32", "shift: B * int32", "davg: double",
        "dstd: double", "edges: double", "weights: N * T"})
    TF_OpDefinitionBuilderAddInput(op, input);
}

void add_gradients(TF_OpDefinitionBuilder* op) {
  for (const char* input :
       {"kept: uint8", "atom_ener_grad: double", "force_grad: double", "atom_virial_grad: double"})
    TF_OpDefinitionBuilderAddInput(op, input);
}

void register_all() {
  TF_Status* status = TF_NewStatus();
  const char *forward = "DeepspinPotential", *weights = "DeepspinPotentialWeights",
             *positions = "DeepspinPotentialPositions";
  TF_OpDefinitionBuilder* op = TF_NewOpDefinitionBuilder(forward);
  add_inputs(op);
  TF_OpDefinitionBuilderAddAttr(op, "training: bool");
  for (const char* output : {"atom_ener: double", "force: double", "atom_virial: double",
                             "extrapolated: int64", "kept: uint8"})
    TF_OpDefinitionBuilderAddOutput(op, output);
  define(op, status);
  op = TF_NewOpDefinitionBuilder(weights);
  add_inputs(op);
  add_gradients(op);
  TF_OpDefinitionBuilderAddOutput(op, "gradients: N * T");
  define(op, status);
  op = TF_NewOpDefinitionBuilder(positions);
  add_inputs(op);
  add_gradients(op);
  for (const char* output : {"points_grad: double", "offset_grad: double", "box_grad: double"})
    TF_OpDefinitionBuilderAddOutput(op, output);
  define(op, status);
  add_kernel(forward, TF_DOUBLE, create_forward, run_forward<double>, destroy_forward, status);
  add_kernel(forward, TF_FLOAT, create_forward, run_forward<float>, destroy_forward, status);
  add_kernel(weights, TF_DOUBLE, nullptr, run_backward<double, false>, nullptr, status);
  add_kernel(weights, TF_FLOAT, nullptr, run_backward<float, false>, nullptr, status);
  add_kernel(positions, TF_DOUBLE, nullptr, run_backward<double, true>, nullptr, status);
  add_kernel(positions, TF_FLOAT, nullptr, run_backward<float, true>, nullptr, status);
  if (TF_GetCode(status) != TF_OK) std::fprintf(stderr, "deepspin: %s\n", TF_Message(status));
  TF_DeleteStatus(status);
}

const bool registered = (register_all(), true);

}  // namespace
}  // namespace deepspin
