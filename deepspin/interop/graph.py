# SPDX-License-Identifier: Apache-2.0
"""Write models as DeePMD-kit's TensorFlow backend freezes them (``.pb``).

The file is a GraphDef with the names, types and shapes that DeePMD-kit's programs look
for. It needs some of its operations, of which this process knows nothing: their answers
stand as placeholders while TensorFlow builds the graph, and the nodes are put in their
place afterwards.

Points are the atoms of a frame, sorted by type, then their virtual atoms; in LAMMPS the
ghosts follow in the same way. Letters of shapes: f frame, i centre, j neighbour slot, p
point, d row of the environment matrix (4), g channel of the embedding.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from deepspin.descriptor.env_mat import cutoff_range, environment_matrix
from deepspin.interop.script import SpinTypesFirst, training_script
from deepspin.interop.spline import quintic_table
from deepspin.model.ener import SpinEnergyModel
from deepspin.model.reach import reach
from deepspin.spins.schemes import demand
from deepspin.utils.network import ResidualDense, dense
from deepspin.utils.outputs import replacing

v1 = tf.compat.v1

# of the interface; DeePMD-kit 2 and 3 know it
MODEL_VERSION = "1.1"
# distance of nodes in tables, in u, where data is; DeePMD-kit's default
STEP = 0.01


def write_graph(
    model: SpinEnergyModel,
    path: str | Path,
    metadata: dict,
    *,
    fold_atom_virial: bool = False,
    pad_lammps_cutoff: bool = False,
) -> SpinTypesFirst:
    """Write a model as DeePMD-kit's TensorFlow backend would, whole or not at all.

    Parameters
    ----------
    model : SpinEnergyModel
        The model, compressed or not.
    path : str
        File to write; DeePMD-kit wants it to end in ``.pb``.
    metadata : dict
        Metadata of the model's file, see `read_metadata`: the training input, the
        shortest distance and the range of spins are taken from there.
    fold_atom_virial : bool
        Give the virial of a virtual atom to its owner, as DeePMD-kit's PyTorch backend
        does; per-atom stresses of LAMMPS sum up to the total one then.
    pad_lammps_cutoff : bool
        Announce a cutoff that reaches the virtual atoms of all neighbours, so that
        lists of LAMMPS are complete without a skin.

    Returns
    -------
    SpinTypesFirst
        The order of types in the file.
    """
    demand(model.spin.scheme, "deepmd")
    order = SpinTypesFirst(model)
    cutoff = model.descriptor.rcut
    if pad_lammps_cutoff:
        cutoff = model.descriptor.rcut + reach(model, metadata)
    writer = _Writer(model, order, metadata)
    with v1.Graph().as_default():
        writer.attributes(cutoff)
        writer.results(fold_atom_virial)
        # older TensorFlows do not know newer attributes
        meta = v1.train.export_meta_graph(strip_default_attrs=True)
    content = writer.operations.insert(meta.graph_def)
    with replacing(path) as partial:
        partial.write_bytes(content.SerializeToString(deterministic=True))
    return order


class _Operations:
    """Operations that TensorFlow does not know, and placeholders of their answers."""

    def __init__(self) -> None:
        # by name of the first placeholder
        self._nodes: dict[str, tf.compat.v1.NodeDef] = {}
        self._answers: dict[str, str] = {}  # their names, by name of the placeholder

    def add(
        self,
        kind: str,
        inputs: Sequence[tf.Tensor],
        answers: Sequence[tuple[str, list]],
        **attributes: float | Sequence[int],
    ) -> list[tf.Tensor]:
        """Add an operation; returns its answers, of given types and shapes."""
        name = v1.get_default_graph().unique_name(kind)
        node = v1.NodeDef(name=name, op=kind)
        node.input.extend(tensor.name.removesuffix(":0") for tensor in inputs)
        node.attr["T"].type = inputs[0].dtype.as_datatype_enum
        for key, value in attributes.items():
            if isinstance(value, float):
                node.attr[key].f = value
            elif isinstance(value, int):
                node.attr[key].i = value
            else:
                node.attr[key].list.i.extend(value)
        tensors = [
            v1.placeholder(dtype, shape, name=f"{name}/answer_{k}")
            for k, (dtype, shape) in enumerate(answers)
        ]
        self._nodes[tensors[0].op.name] = node
        for k, tensor in enumerate(tensors):
            self._answers[tensor.op.name] = f"{name}:{k}" if k else name
        return tensors

    def insert(self, graph: tf.compat.v1.GraphDef) -> tf.compat.v1.GraphDef:
        """Put the operations in the place of the placeholders."""
        result = v1.GraphDef(versions=graph.versions)
        for node in graph.node:
            if node.name in self._nodes:
                result.node.append(self._nodes[node.name])
            elif node.name not in self._answers:
                result.node.append(node)
        for node in result.node:
            for k, name in enumerate(node.input):
                node.input[k] = self._answers.get(name, name)
        return result


class _Writer:
    """Builds the graph of one model, in the default graph."""

    def __init__(self, model: SpinEnergyModel, order: SpinTypesFirst, metadata: dict):
        self.model, self.order, self.metadata = model, order, metadata
        self.descriptor, self.fitting = model.descriptor, model.fitting
        self.operations = _Operations()
        self.ntypes = len(order.types)
        self.nspin = len(order.extended) - self.ntypes
        self.sel = [self.descriptor.sel[e] for e in order.extended]
        self.nnei = sum(self.sel)
        # types of neighbours that never come, of which DeePMD-kit knows nothing
        self.absent = sorted({*range(len(self.descriptor.sel))} - {*order.extended})
        descriptor = self.descriptor
        cutoffs = descriptor.rcut, descriptor.rcut_smth
        own = cutoff_range(*cutoffs, descriptor.float32_cutoff)
        self.rounded = own == cutoff_range(*cutoffs, True)
        # DeePMD-kit's own environment matrix has neither
        self.own_matrix = bool(descriptor.env_protection) or not self.rounded
        self.script = training_script(model, metadata, order)
        self._arrays = {id(w): np.asarray(w) for w in model.weights}
        # as DeePMD-kit has them; neither these nor weights can be read within a graph
        reach = metadata.get("compressed", {}).get("extrapolate", 1.0)
        tables = self.descriptor.tables
        self._empty = np.array([self._empty_slots(t) for t in order.types])
        self._splines = [quintic_table(table, reach, STEP) for table in tables]
        self._tables: list[tuple] = []  # what the gradient of each table needs

    def _empty_slots(self, t: int) -> np.ndarray:
        """Row 0 of the sum of R~^T G over the slots of `absent` types, (g)."""
        descriptor, total = self.descriptor, np.zeros(self.descriptor.neuron[-1])
        u = -np.asarray(descriptor.davg)[t, :1] / np.asarray(descriptor.dstd)[t, :1]
        for e in self.absent:
            if descriptor.sel[e] and not descriptor.excludes(t, e):
                embedding = np.asarray(descriptor.embed(t, e, tf.constant(u)))
                total += descriptor.sel[e] * u * embedding[0]
        return total

    def _constant(self, weight: keras.Variable, name: str) -> tf.Tensor:
        return tf.constant(self._arrays[id(weight)], name=name)

    def _constants(
        self, layer: ResidualDense, pattern: str, idt_shape: list[int]
    ) -> tuple:
        """A layer and its weights as constants under DeePMD-kit's names."""
        matrix = self._constant(layer.matrix, pattern.format("matrix"))
        bias = self._constant(layer.bias, pattern.format("bias"))
        idt = None
        if layer.idt is not None:
            idt = self._arrays[id(layer.idt)].reshape(idt_shape)
            idt = tf.constant(idt, name=pattern.format("idt"))
        return layer, matrix, bias, idt

    # -- what DeePMD-kit asks for by name ----------------------------------------------

    def attributes(self, cutoff: float) -> None:
        """Add the constants that tell what model this is."""
        script = json.dumps(self.script, separators=(",", ":"))
        spin = self.script["model"]["spin"]
        compressed = self.model.compressed
        constants = {
            "model_type": "compressed_model" if compressed else "original_model",
            "model_attr/tmap": " ".join(self.order.type_map),
            "model_attr/model_type": "ener",
            "model_attr/model_version": MODEL_VERSION,
            "spin_attr/ntypes_spin": np.int32(self.nspin),
            "spin_attr/virtual_len": np.array(spin["virtual_len"]),
            "spin_attr/spin_norm": np.array(spin["spin_norm"]),
            "descrpt_attr/rcut": np.float64(cutoff),
            "descrpt_attr/ntypes": np.int32(len(self.sel)),
            "descrpt_attr/sel": np.array(self.sel, np.int32),
            "descrpt_attr/original_sel": np.array(self.sel, np.int32),
            "fitting_attr/dfparam": np.int32(self.fitting.numb_fparam),
            "fitting_attr/daparam": np.int32(0),
            # not DeePMD-kit's: number of each type in the model this was made of
            "deepspin/types": np.array(self.order.types, np.int32),
        }
        if self.rounded and not self.absent:  # others would build another model from it
            constants["train_attr/training_script"] = script
        if "min_nbor_dist" in self.metadata:
            distance = np.float64(self.metadata["min_nbor_dist"])
            constants["train_attr/min_nbor_dist"] = distance
        for name, value in constants.items():
            tf.constant(value, name=name)
        if not (compressed or self.descriptor.type_one_side):
            for t in range(self.ntypes, len(self.sel)):
                for e in range(len(self.sel)):
                    self._net(t, e)
        rows = [*self.order.types, *self.order.types[: self.nspin]]  # of virtual atoms
        davg = np.tile(self._arrays[id(self.descriptor.davg)][rows], self.nnei)
        dstd = np.tile(self._arrays[id(self.descriptor.dstd)][rows], self.nnei)
        bias = self._arrays[id(self.fitting.bias_atom_e)][self.order.types]
        self.davg = tf.constant(davg, name="descrpt_attr/t_avg")
        self.dstd = tf.constant(dstd, name="descrpt_attr/t_std")
        self.bias = tf.constant(bias, name="fitting_attr/t_bias_atom_e")

    def results(self, fold_atom_virial: bool) -> None:
        """Add inputs, and the way from these to what is asked for."""
        self._inputs()
        environment = self._environment()
        blocks = self._blocks(environment)
        descriptor = self._descriptor(blocks)
        virtual = [[0, 0], [0, self.nloc - self.nreal], [0, 0]]  # no centres here
        tf.pad(tf.cast(descriptor, tf.float64), virtual, name="o_descriptor")
        energy = self._energies(descriptor)
        tf.identity(energy, name="o_atom_energy")
        total = tf.reduce_sum(energy, axis=1, name="o_energy")
        pull = self._pull(total, environment, blocks)
        force, virial, atom_virial = self._derivatives(pull)
        force = self._folded(force, 3, scaled=True)
        tf.reshape(force, [-1, 3 * self.nall], name="o_force")
        tf.reshape(virial, [-1, 9], name="o_virial")
        if fold_atom_virial:
            atom_virial = self._folded(atom_virial, 9, scaled=False)
        tf.reshape(atom_virial, [-1, 9 * self.nall], name="o_atom_virial")

    # -- inputs ------------------------------------------------------------------------

    def _inputs(self) -> None:
        coord = v1.placeholder(tf.float64, [None], "t_coord")
        atype = v1.placeholder(tf.int32, [None], "t_type")
        self.natoms = v1.placeholder(tf.int32, [len(self.sel) + 2], "t_natoms")
        box = v1.placeholder(tf.float64, [None], "t_box")
        mesh = v1.placeholder(tf.int32, [None], "t_mesh")
        self.nloc, self.nall = self.natoms[0], self.natoms[1]
        self.counts = tf.unstack(self.natoms[2 : 2 + self.ntypes])
        self.nreal = tf.add_n(self.counts)
        self.coord = tf.reshape(coord, [-1, 3 * self.nall])
        self.atype = tf.reshape(atype, [-1, self.nall])
        self._count_parts()
        self.fparam = self._frame_parameters() if self.fitting.numb_fparam else None
        box = tf.reshape(box, [-1, 9])
        frame = [self.coord, self.atype, self.natoms, box, mesh]
        rows = [None, None]
        self.em, self.em_deriv, self.rij, self.nlist = self.operations.add(
            "ProdEnvMatA",
            [*frame, self.davg, self.dstd],
            [*[("float64", rows)] * 3, ("int32", rows)],
            rcut_a=-1.0,
            rcut_r=self.descriptor.rcut,
            rcut_r_smth=self.descriptor.rcut_smth,
            sel_a=self.sel,
            sel_r=[0] * len(self.sel),
        )

    def _frame_parameters(self) -> tf.Tensor:
        """Normalised, shape (f, numb_fparam)."""
        fparam = v1.placeholder(tf.float64, [None], "t_fparam")
        weights = self.fitting.fparam_avg, self.fitting.fparam_inv_std
        names = "fitting_attr/t_fparam_avg", "fitting_attr/t_fparam_istd"
        average, inverse = map(self._constant, weights, names)
        return (tf.reshape(fparam, [-1, *average.shape]) - average) * inverse

    def _count_parts(self) -> None:
        """Count atoms, their virtual atoms, ghosts, and the virtual atoms of these.

        Spin types are the first ones, so virtual atoms come in the order of the first
        atoms of the part before.
        """
        ghosts = self.atype[0, self.nloc :]
        nghost = tf.reduce_sum(tf.cast(ghosts < self.ntypes, tf.int32))
        more = self.nall - self.nloc - nghost
        self.parts = [self.nreal, self.nloc - self.nreal, nghost, more]

    def _split(self, values: tf.Tensor) -> list[tf.Tensor]:
        """The four parts of (f p ...)."""
        return tf.split(values, self.parts, axis=1, num=4)

    def _folded(self, values: tf.Tensor, width: int, *, scaled: bool) -> tf.Tensor:
        """Add to atoms what their virtual atoms have, (f p width).

        What these keep is multiplied by ``virtual_len / spin_norm``, or else nothing.
        """
        values, types = tf.reshape(values, [-1, self.nall, width]), self.atype
        parts, types, result = self._split(values), self._split(types), []
        scale = [self.model.spin.scheme.codec.scale[t] for t in self.order.types]
        scale = tf.constant(scale[: self.nspin], dtype=tf.float64)
        for k in (0, 2):
            real, virtual = parts[k], parts[k + 1]
            more = self.parts[k] - self.parts[k + 1]
            result.append(real + tf.pad(virtual, [[0, 0], [0, more], [0, 0]]))
            factor = tf.gather(scale, types[k + 1] - self.ntypes)[..., None]
            result.append(virtual * factor if scaled else tf.zeros_like(virtual))
        return tf.concat(result, axis=1)

    # -- environment -------------------------------------------------------------------

    def _environment(self) -> tf.Tensor:
        """Normalised environment matrix of atoms, (f i 4j)."""
        if not self.own_matrix:
            em = tf.reshape(self.em, [-1, self.nloc, 4 * self.nnei])
            return em[:, : self.nreal]
        slots = [-1, self.nloc, self.nnei]
        self.apart = tf.reshape(self.rij, [*slots, 3])[:, : self.nreal]
        filled = tf.reshape(self.nlist, slots)[:, : self.nreal] >= 0
        descriptor = self.descriptor
        radial, angular = environment_matrix(
            self.apart,
            filled,
            descriptor.rcut,
            descriptor.rcut_smth,
            descriptor.env_protection,
            descriptor.float32_cutoff,
        )
        em = tf.concat([radial[..., None], angular], axis=-1)
        em = tf.reshape(em, [-1, self.nreal, 4 * self.nnei])
        rows = self.atype[0, : self.nreal]
        return (em - tf.gather(self.davg, rows)) / tf.gather(self.dstd, rows)

    def _groups(self) -> list[list[int]]:
        """Types of centres that share their embedding nets."""
        types = range(self.ntypes)
        return [list(types)] if self.descriptor.type_one_side else [[t] for t in types]

    def _blocks(self, environment: tf.Tensor) -> list[list[tf.Tensor]]:
        """Parts of the environment matrix by group and type of neighbour, (f i 4j)."""
        groups = [environment]
        if not self.descriptor.type_one_side:
            groups = tf.split(environment, self.counts, axis=1, num=self.ntypes)
        widths = [4 * n for n in self.sel]
        return [tf.split(group, widths, axis=2) for group in groups]

    # -- descriptor --------------------------------------------------------------------

    def _descriptor(self, blocks: list[list[tf.Tensor]]) -> tf.Tensor:
        """Descriptor of atoms, (f i dim_out)."""
        channels = self.descriptor.neuron[-1]
        groups = []
        for types, row in zip(self._groups(), blocks, strict=True):
            total = tf.zeros([], self.descriptor.compute_dtype)
            for e, block in enumerate(row):
                total += self._moments(types, e, block)
            counts = [self.counts[t] for t in types]
            total = tf.reshape(total, [-1, tf.add_n(counts), 4, channels])
            if self.absent:
                empty = tf.repeat(
                    tf.constant(self._empty[types], total.dtype), counts, 0
                )
                total += tf.pad(empty[:, None], [[0, 0], [0, 3], [0, 0]])
            groups.append(total)
        moments = tf.concat(groups, axis=1) / float(sum(self.descriptor.sel))  # f i d g
        axis = moments[..., : self.descriptor.axis_neuron]
        product = tf.matmul(moments, axis, transpose_a=True)
        return tf.reshape(product, [-1, self.nreal, self.descriptor.dim_out])

    def _moments(self, types: list[int], e: int, block: tf.Tensor) -> tf.Tensor:
        """Sum of R~^T G over the slots of one type of neighbour, (fi d g)."""
        old, old_e = [self.order.types[t] for t in types], self.order.extended[e]
        visible = [not self.descriptor.excludes(t, old_e) for t in old]
        dtype = self.descriptor.compute_dtype
        net = [] if self.model.compressed else self._net(types[0], e)
        if self.sel[e] == 0 or not any(visible):
            return tf.zeros([], dtype)
        u = tf.cast(tf.reshape(block, [-1, 4])[:, :1], dtype)
        if not all(visible):
            seen = tf.repeat(np.array(visible, float), [self.counts[t] for t in types])
            block = block * seen[:, None]
        matrix = tf.cast(tf.reshape(block, [-1, self.sel[e], 4]), dtype)
        if self.model.compressed:
            return self._tabulated(types[0], e, u, matrix)
        embedding = _run(net, u)
        embedding = tf.reshape(embedding, [-1, self.sel[e], embedding.shape[-1]])
        return tf.matmul(matrix, embedding, transpose_a=True)

    def _net(self, t: int, e: int) -> list[tuple]:
        """Layers and constants of an embedding net, see `_run`.

        Virtual atoms are no centres here, but DeePMD-kit looks for nets of theirs:
        they have those of their owners.
        """
        one_side = self.descriptor.type_one_side
        scope = "filter_type_all" if one_side else f"filter_type_{t}"
        owner = t if t < self.ntypes else t - self.ntypes
        layers = self.descriptor.net(self.order.types[owner], self.order.extended[e])
        return [
            self._constants(layer, f"{scope}/{{}}_{k}_{e}", [1, -1])
            for k, layer in enumerate(layers, start=1)
        ]

    def _tabulated(self, t: int, e: int, u: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
        """`_moments` by the operation that reads tables."""
        old = self.order.types[t], self.order.extended[e]
        spline = self._splines[self.descriptor.number(*old)]
        table = [tf.constant(x, u.dtype) for x in spline]
        channels = self.descriptor.neuron[-1]
        (moments,) = self.operations.add(
            "TabulateFusionSeA",
            [*table, u, matrix],
            [(u.dtype, [None, 4, channels])],
            last_layer_size=channels,
        )
        self._tables.append((table, u, matrix, moments))
        return moments

    # -- energy ------------------------------------------------------------------------

    def _energies(self, descriptor: tf.Tensor) -> tf.Tensor:
        """Energies of atoms, (f i)."""
        parts = tf.split(descriptor, self.counts, axis=1, num=self.ntypes)
        vacuum = self._with_parameters(tf.zeros_like(descriptor[:, :1]))
        result = []
        for t, part in enumerate(parts):
            net = self._fitting_net(t)
            energy = _run(net, self._with_parameters(part))[..., 0]
            energy = tf.cast(energy, tf.float64) + self.bias[t]
            if self.order.types[t] in self.fitting.vacuum_types:
                energy -= tf.cast(_run(net, vacuum)[..., 0], tf.float64)
            result.append(energy)
        return tf.concat(result, axis=1)

    def _with_parameters(self, descriptor: tf.Tensor) -> tf.Tensor:
        """Input of the fitting nets, from descriptors (f i dim_out)."""
        descriptor = tf.cast(descriptor, self.fitting.compute_dtype)
        if self.fparam is None:
            return descriptor
        fparam = tf.cast(self.fparam, descriptor.dtype)[:, None]
        fparam = tf.repeat(fparam, tf.shape(descriptor)[1], axis=1)
        return tf.concat([descriptor, fparam], axis=-1)

    def _fitting_net(self, t: int) -> list[tuple]:
        *hidden, last = self.fitting.net(self.order.types[t])
        layers = [
            self._constants(layer, f"layer_{k}_type_{t}/{{}}", [-1])
            for k, layer in enumerate(hidden)
        ]
        return [*layers, self._constants(last, f"final_layer_type_{t}/{{}}", [-1])]

    # -- derivatives -------------------------------------------------------------------

    def _pull(
        self, energy: tf.Tensor, environment: tf.Tensor, blocks: list[list[tf.Tensor]]
    ) -> tf.Tensor:
        """Derivative of the energy in the environment matrix of atoms, (f i 4j)."""
        flat = [block for row in blocks for block in row]
        ends, given = [energy], [tf.ones_like(energy)]
        if self._tables:
            ends, given = self._table_gradients(energy)
        pull = tf.gradients(ends, flat, given, unconnected_gradients="zero")
        width = len(self.sel)
        rows = [pull[k : k + width] for k in range(0, len(pull), width)]
        pull = tf.concat([tf.concat(row, axis=2) for row in rows], axis=1)
        if not self.own_matrix:
            return pull
        (pull,) = tf.gradients(environment, self.apart, pull)
        pull = tf.pad(pull, [[0, 0], [0, 0], [0, 0], [0, 1]])
        return tf.reshape(pull, [-1, self.nreal, 4 * self.nnei])

    def _table_gradients(self, energy: tf.Tensor) -> tuple[list, list]:
        """What entered the tables, and the derivatives of the energy in it."""
        ends, given = [], []
        answers = [moments for *_, moments in self._tables]
        slopes = tf.gradients(energy, answers)
        for (table, u, matrix, moments), slope in zip(
            self._tables, slopes, strict=True
        ):
            ends += [u, matrix]
            given += self.operations.add(
                "TabulateFusionSeAGrad",
                [*table, u, matrix, slope, moments],
                [(u.dtype, u.shape), (u.dtype, matrix.shape)],
            )
        return ends, given

    def _derivatives(self, pull: tf.Tensor) -> list[tf.Tensor]:
        """Forces on points, as if each moved alone; virial; virials of points."""
        pull = tf.pad(pull, [[0, 0], [0, self.nloc - self.nreal], [0, 0]])
        pull = tf.reshape(pull, [-1, 4 * self.nnei * self.nloc])
        deriv = self.em_deriv
        if self.own_matrix:  # the pull is that in separations
            rows = tf.reshape(tf.zeros_like(deriv), [-1, 12]) + (-np.eye(4, 3)).ravel()
            deriv = tf.reshape(rows, tf.shape(deriv))
        points, slots = [None, None], {"n_a_sel": self.nnei, "n_r_sel": 0}
        (force,) = self.operations.add(
            "ProdForceSeA",
            [pull, deriv, self.nlist, self.natoms],
            [("float64", points)],
            **slots,
        )
        virials = self.operations.add(
            "ProdVirialSeA",
            [pull, deriv, self._owners_apart(), self.nlist, self.natoms],
            [("float64", [None, 9]), ("float64", points)],
            **slots,
        )
        return [force, *virials]

    def _owners_apart(self) -> tf.Tensor:
        """Separations of neighbours' owners: spins stay as they are under strain."""
        coord = tf.reshape(self.coord, [-1, self.nall, 3])
        parts, offset = self._split(coord), []
        for k in (0, 2):
            real, virtual = parts[k], parts[k + 1]
            owner = real[:, : self.parts[k + 1]]
            offset += [tf.zeros_like(real), virtual - owner]
        offset = tf.concat(offset, axis=1)
        real = sum(self.sel[: self.ntypes])  # slots before those of virtual atoms
        nlist = tf.reshape(self.nlist, [-1, self.nloc, self.nnei])[:, :, real:]
        offset = tf.gather(offset, tf.maximum(nlist, 0), batch_dims=1)
        offset = tf.pad(offset, [[0, 0], [0, 0], [real, 0], [0, 0]])
        rij = tf.reshape(self.rij, [-1, self.nloc, self.nnei, 3]) - offset
        return tf.reshape(rij, [-1, 3 * self.nnei * self.nloc])


def _run(net: list[tuple], x: tf.Tensor) -> tf.Tensor:
    """Apply a net, as `deepspin.utils.network.run`, with constants for weights."""
    for layer, *weights in net:
        x = dense(x, *weights, phi=layer.phi, residual=layer.residual)
    return x
