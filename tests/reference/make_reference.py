#!/usr/bin/env python
# SPDX-License-Identifier: Apache-2.0
"""Make the reference numbers of this folder with DeePMD-kit.

Run it with a Python that has deepmd-kit 3.2.0 and tensorflow::

    python make_reference.py --out . [--only base small_cell ...]

Every case is made from seeded synthetic data: perturbed rock salt with spins in
random directions and random labels. DeePMD-kit trains a small net for a few steps,
freezes it and evaluates it. README.md beside this script says what each file holds.
"""

import argparse
import contextlib
import copy
import graphlib
import json
import logging
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

# Read by DeePMD-kit and TensorFlow when they are imported, below.
for _name, _value in {
    "DP_INTERFACE_PREC": "high",
    "OMP_NUM_THREADS": "1",
    "DP_INTRA_OP_PARALLELISM_THREADS": "1",
    "DP_INTER_OP_PARALLELISM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "CUDA_VISIBLE_DEVICES": "-1",
}.items():
    os.environ.setdefault(_name, _value)

import numpy as np  # noqa: E402 (its threads are set above)

log = logging.getLogger("make_reference")

LATTICE = 4.17  # of NiO in Angstrom
# Two Ni and two O: the rhombohedral cell of the antiferromagnet.
SMALL_BOX = LATTICE * np.array([[1.0, 0.5, 0.5], [0.5, 1.0, 0.5], [0.5, 0.5, 1.0]])
SMALL_FRACTION = np.array([[0.0] * 3, [0.5] * 3, [0.25] * 3, [0.75] * 3])


# Synthetic data ----------------------------------------------------------------


def rock_salt(repeat=(1, 1, 1)):
    """Return box, coordinates and sublattice (0 metal, 1 oxygen) of rock salt."""
    metal = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
    basis = np.concatenate([metal, metal + np.array([0.5, 0.0, 0.0])])
    shifts = np.stack(np.meshgrid(*map(np.arange, repeat), indexing="ij"), -1)
    coord = (shifts.reshape(-1, 1, 3) + basis).reshape(-1, 3) * LATTICE
    kind = np.tile([0] * 4 + [1] * 4, len(coord) // 8)
    order = np.argsort(kind, kind="stable")
    return np.diag(repeat) * LATTICE, coord[order], kind[order]


def random_spin(rng, spin_norm, shape):
    """Draw spins of nearly fixed length in random directions."""
    direction = rng.normal(size=(*shape, 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    length = spin_norm * (1 + 0.005 * rng.normal(size=shape))
    return direction * length[..., None]


def make_frames(seed, box, coord, atype, spin_norm, nframes, noise=0.08):
    """Perturb a crystal and give it spins and smooth random labels.

    Parameters
    ----------
    seed : int
        Seed of the random numbers.
    box, coord, atype : np.ndarray
        Cell (3, 3), coordinates (nloc, 3) in Angstrom and types (nloc,), sorted.
    spin_norm : list[float]
        Length of the spins of each spin type; the spin types come first.
    nframes : int
        Number of frames.
    noise : float
        Standard deviation of the displacements in Angstrom.

    Returns
    -------
    dict[str, np.ndarray]
        Frames in real-atom form with labels.
    """
    rng = np.random.default_rng(seed)
    nloc = len(atype)
    strain = np.eye(3) + 0.02 * rng.normal(size=(nframes, 3, 3))
    spin = np.zeros((nframes, nloc, 3))
    for kind, norm in enumerate(spin_norm):
        select = atype == kind
        spin[:, select] = random_spin(rng, norm, (nframes, select.sum()))
    magnetic = (atype < len(spin_norm))[:, None]
    return {
        "atype": atype,
        "coord": coord @ strain + noise * rng.normal(size=(nframes, nloc, 3)),
        "box": box @ strain,
        "spin": spin,
        "energy": -9.0 * nloc + rng.normal(size=nframes),
        "force": 0.5 * rng.normal(size=(nframes, nloc, 3)),
        "force_mag": 0.05 * rng.normal(size=(nframes, nloc, 3)) * magnetic,
        "virial": 2.0 * rng.normal(size=(nframes, 3, 3)),
    }


def crystal(seed, repeat=(1, 1, 1), nframes=1, spin_norm=(1.2737,), drop_oxygen=0):
    """Make frames of Ni (and Fe, if it has a spin) and O on the rock-salt sites."""
    box, coord, kind = rock_salt(repeat)
    atype = kind
    if len(spin_norm) == 2:  # half of the metal is Fe, drawn at random
        rng = np.random.default_rng(seed + 1000)
        metal = kind == 0
        atype = np.full_like(kind, 2)
        atype[metal] = rng.permutation(np.arange(metal.sum()) % 2)
    keep = slice(None, len(atype) - drop_oxygen)
    order = np.argsort(atype, kind="stable")[keep]
    return make_frames(seed, box, coord[order], atype[order], list(spin_norm), nframes)


def extend(frames, spin):
    """Append the virtual atoms.

    Parameters
    ----------
    frames : dict[str, np.ndarray]
        Frames in real-atom form.
    spin : dict
        The section ``model/spin`` of the input.

    Returns
    -------
    dict[str, np.ndarray]
        ``atype``, ``coord`` and, where given, ``force`` with the virtual atoms.
    """
    atype = frames["atype"]
    ntypes, nspin = len(spin["use_spin"]), sum(spin["use_spin"])
    # Real and virtual atoms are sorted by type, as DeePMD-kit wants them.
    owner = np.concatenate([np.flatnonzero(atype == kind) for kind in range(nspin)])
    scale = (np.array(spin["virtual_len"]) / np.array(spin["spin_norm"]))[atype[owner]]
    coord = frames["coord"]
    virtual = coord[:, owner] + frames["spin"][:, owner] * scale[:, None]
    extended = {
        "atype": np.concatenate([atype, atype[owner] + ntypes]),
        "coord": np.concatenate([coord, virtual], axis=1),
        "owner": owner,
    }
    if "force" in frames:
        magnetic = frames["force_mag"][:, owner]
        extended["force"] = np.concatenate([frames["force"], magnetic], axis=1)
    return extended


def write_system(folder, frames, spin):
    """Write frames as a system in the virtual-atom layout."""
    extended = extend(frames, spin)
    nframes = len(frames["coord"])
    (folder / "set.000").mkdir(parents=True)
    np.savetxt(folder / "type.raw", extended["atype"], fmt="%d")
    arrays = {
        "coord": extended["coord"],
        "force": extended["force"],
        "box": frames["box"],
        "energy": frames["energy"],
        "virial": frames["virial"],
    }
    if "fparam" in frames:
        arrays["fparam"] = frames["fparam"]
    for name, array in arrays.items():
        np.save(folder / "set.000" / f"{name}.npy", array.reshape(nframes, -1))


# Input -------------------------------------------------------------------------


def ni_o_spin():
    """Return ``model/spin`` of Ni with a spin and O without."""
    return {"use_spin": [True, False], "virtual_len": [0.4], "spin_norm": [1.2737]}


def ni_fe_o_spin():
    """Return ``model/spin`` of Ni and Fe with spins and O without."""
    return {
        "use_spin": [True, True, False],
        "virtual_len": [0.4, 0.3],
        "spin_norm": [1.2737, 2.1],
    }


def make_input(descriptor=None, fitting=None, type_map=None, spin=None, **model):
    """Return a small DeePMD-kit input; arguments override its sections."""
    return {
        "model": {
            "type_map": type_map or ["Ni", "O"],
            "descriptor": {
                "type": "se_e2_a",
                "sel": [24, 18],
                "rcut": 4.2,
                "rcut_smth": 4.1,
                "neuron": [4, 8, 16],
                "axis_neuron": 4,
                "resnet_dt": False,
                "type_one_side": True,
                "precision": "float64",
                "seed": 7,
                **(descriptor or {}),
            },
            "fitting_net": {
                "neuron": [12, 12],
                "resnet_dt": False,
                "precision": "float64",
                "seed": 11,
                **(fitting or {}),
            },
            "spin": spin or ni_o_spin(),
            **model,
        },
        "learning_rate": {
            "type": "exp",
            "decay_steps": 5,
            "start_lr": 5e-3,
            "stop_lr": 1e-4,
        },
        "loss": {
            "type": "ener_spin",
            "start_pref_e": 0.02,
            "limit_pref_e": 1.0,
            "start_pref_fr": 1000,
            "limit_pref_fr": 1.0,
            "start_pref_fm": 10000,
            "limit_pref_fm": 10.0,
            "start_pref_v": 0.01,
            "limit_pref_v": 0.5,
        },
        "training": {
            "training_data": {"systems": [], "batch_size": 1},
            "numb_steps": 20,
            "seed": 3,
            "disp_file": "lcurve.out",
            "disp_freq": 10,
            "save_freq": 20,
        },
    }


def two_crystals():
    """Make two one-frame systems of different size and composition."""
    return [crystal(101), crystal(102, repeat=(2, 1, 1), drop_oxygen=1)]


def with_parameters(systems):
    """Add two frame parameters to systems; the second hardly varies."""
    rng = np.random.default_rng(151)
    for frames in systems:
        first = rng.uniform(0.1, 0.9, len(frames["coord"]))
        second = 300.0 + 1e-4 * rng.normal(size=len(first))
        frames["fparam"] = np.stack([first, second], axis=1)
    return systems


def two_spin_crystals():
    """Make two one-frame systems of Ni, Fe and O."""
    return [
        crystal(111, repeat=(2, 1, 1), spin_norm=(1.2737, 2.1)),
        crystal(112, spin_norm=(1.2737, 2.1), drop_oxygen=1),
    ]


def sparse_crystal():
    """Make one Ni and one O that do not see each other: the widths of O are 0."""
    atype, box = np.array([0, 1]), 30.0 * np.eye(3)
    coord = np.array([[1.0, 2.0, 3.0], [12.0, 14.0, 16.0]])
    return [make_frames(121, box, coord, atype, [1.2737], 1)]


# A model is an input and its training systems. Each is frozen, evaluated on two
# frames of `EVALUATE` (or a default crystal) and stored with its statistics.
MODELS = {
    "base": lambda: (
        make_input({"rcut": 5.6, "rcut_smth": 5.4, "sel": [56, 48]}),
        two_crystals(),
    ),
    "two_side": lambda: (make_input({"type_one_side": False}), two_crystals()),
    "set_davg_zero": lambda: (make_input({"set_davg_zero": True}), two_crystals()),
    "truncated": lambda: (make_input({"sel": [9, 7]}), two_crystals()),
    "resnet_dt": lambda: (
        make_input(
            {"resnet_dt": True, "neuron": [2, 4, 4, 10]},
            {"resnet_dt": True, "neuron": [6, 12, 12, 12]},
        ),
        two_crystals(),
    ),
    "neuron_8_8_16": lambda: (make_input({"neuron": [8, 8, 16]}), two_crystals()),
    # The first embedding layer is residual; the first fitting layer is not, though
    # it has the width of the descriptor, 4 x 3.
    "neuron_1_2_4": lambda: (
        make_input({"neuron": [1, 2, 4], "axis_neuron": 3, "resnet_dt": True}),
        two_crystals(),
    ),
    "neuron_10_15_30": lambda: (make_input({"neuron": [10, 15, 30]}), two_crystals()),
    "exclude_one_side": lambda: (
        make_input({"exclude_types": [[0, 0]]}),
        two_crystals(),
    ),
    "exclude_two_side": lambda: (
        make_input({"exclude_types": [[0, 0]], "type_one_side": False}),
        two_crystals(),
    ),
    "exclude_virtual": lambda: (
        make_input({"exclude_types": [[0, 2], [1, 1]]}),
        two_crystals(),
    ),
    "float32": lambda: (
        make_input({"precision": "float32"}, {"precision": "float32"}),
        two_crystals(),
    ),
    "atom_ener": lambda: (
        make_input({"set_davg_zero": True}, {"atom_ener": [-3.0, None, 0.5]}),
        two_crystals(),
    ),
    # Two frame parameters, the second the same everywhere; Ni shifted to its energy.
    "fparam": lambda: (
        make_input(
            {"set_davg_zero": True},
            {"numb_fparam": 2, "atom_ener": [-3.0, None, 0.5]},
        ),
        with_parameters(two_crystals()),
    ),
    "two_spin_types": lambda: (
        make_input(
            {"sel": [13, 13, 15], "rcut": 3.6, "rcut_smth": 3.4, "neuron": [3, 6, 12]},
            type_map=["Ni", "Fe", "O"],
            spin=ni_fe_o_spin(),
        ),
        two_spin_crystals(),
    ),
}

ACTIVATIONS = [
    "relu",
    "relu6",
    "softplus",
    "sigmoid",
    "gelu",
    "gelu_tf",
    "silu",
    "silut",
    "silut:2.0",
    "none",
    "linear",
]


def activation_model(function):
    """Return a tiny model with one activation function in both nets."""
    net = {"activation_function": function}
    small = {"sel": [20, 16], "rcut": 3.6, "rcut_smth": 3.4, "neuron": [3, 6]}
    return make_input(small | net | {"axis_neuron": 2}, net | {"neuron": [5, 5]}), [
        crystal(131)
    ]


for _function in ACTIVATIONS:
    MODELS[f"activation_{_function.replace(':', '_').replace('.', '_')}"] = (
        lambda function=_function: activation_model(function)
    )

# Statistics alone: one training step, no .pb kept.
STATISTICS = {
    # A type of the type map that no system has.
    "stat_absent_type": lambda: (
        make_input(
            {"sel": [24, 18, 4]},
            type_map=["Ni", "O", "H"],
            spin=ni_o_spin() | {"use_spin": [True, False, False]},
        ),
        two_crystals(),
    ),
    # The first of two spin types is absent.
    "stat_absent_spin_type": lambda: (
        make_input(
            {"sel": [12, 20, 18]}, type_map=["Ni", "Fe", "O"], spin=ni_fe_o_spin()
        ),
        [frames | {"atype": frames["atype"] + 1} for frames in two_crystals()],
    ),
    "stat_floor": lambda: (make_input(), sparse_crystal()),
    # 0.5 instead of 0.01: nothing changes.
    "stat_protect": lambda: (make_input(data_stat_protect=0.5), sparse_crystal()),
    # Four frames, four batches of one: each frame is drawn exactly once.
    "stat_frames": lambda: (
        make_input(data_stat_nbatch=4),
        [crystal(141, nframes=4), crystal(142, (1, 2, 1), 4, drop_oxygen=2)],
    ),
}


# Frames to evaluate ------------------------------------------------------------


def small_cell():
    """Make cells of four atoms, much smaller than the cutoff."""
    atype = np.array([0, 0, 1, 1])
    coord = SMALL_FRACTION @ SMALL_BOX
    return make_frames(201, SMALL_BOX, coord, atype, [1.2737], 2)


def open_cluster():
    """Make clusters without a cell."""
    frames = crystal(202, nframes=2)
    del frames["box"]
    return frames


def supercell():
    """Double the default frames along a and shuffle their atoms."""
    frames = crystal(200, nframes=2)
    rng = np.random.default_rng(203)
    order = rng.permutation(2 * len(frames["atype"]))
    shifted = frames["coord"] + frames["box"][:, :1]
    coord = np.concatenate([frames["coord"], shifted], axis=1)
    return {
        "atype": np.tile(frames["atype"], 2)[order],
        "coord": coord[:, order],
        "spin": np.tile(frames["spin"], (1, 2, 1))[:, order],
        "box": frames["box"] * np.array([2.0, 1.0, 1.0])[:, None],
    }


def triclinic():
    """Shear the crystal and describe its lattice by skewed vectors."""
    frames = crystal(204, nframes=2)
    shear = np.array([[1.0, 0.0, 0.0], [0.15, 1.0, 0.0], [-0.1, 0.12, 1.0]])
    skew = np.array(
        [[[1, 0, 0], [1, 1, 0], [-1, 1, 1]], [[1, 2, 0], [0, 1, 0], [1, -1, 1]]]
    )
    return frames | {
        "coord": frames["coord"] @ shear,
        "box": skew @ frames["box"] @ shear,
    }


def left_handed():
    """Mirror `triclinic`: the boxes have negative determinants."""
    mirror = np.diag([1.0, 1.0, -1.0])
    frames = triclinic()
    return frames | {key: frames[key] @ mirror for key in ("coord", "box", "spin")}


def outside_cell():
    """Move atoms by lattice vectors, out of the home cell."""
    frames = crystal(205, nframes=2)
    rng = np.random.default_rng(206)
    shift = rng.integers(-2, 3, size=frames["coord"].shape)
    return frames | {"coord": frames["coord"] + shift @ frames["box"]}


VERBATIM = {"base"}  # stored byte for byte as `dp freeze` wrote it

# Further frames for the weights of a model: name -> (model, frames).
EVALUATE = {
    "small_cell": ("base", small_cell),
    "open": ("base", open_cluster),
    "supercell": ("base", supercell),
    "triclinic": ("base", triclinic),
    "left_handed": ("base", left_handed),
    "outside_cell": ("base", outside_cell),
    "truncated_small_cell": ("truncated", small_cell),
}


def default_frames(inputs):
    """Make the two frames on which a model is evaluated."""
    frames = crystal(200, nframes=2, spin_norm=inputs["model"]["spin"]["spin_norm"])
    if inputs["model"]["fitting_net"].get("numb_fparam"):
        return with_parameters([frames])[0]
    return frames


# DeePMD-kit --------------------------------------------------------------------


def versions():
    """Return the versions that made the numbers."""
    import deepmd
    import tensorflow as tf

    return {
        "deepmd-kit": deepmd.__version__,
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "python": sys.version.split()[0],
    }


@contextlib.contextmanager
def fresh_folder():
    """Work in a new empty folder with an empty default graph."""
    from deepmd.tf.env import tf

    tf.reset_default_graph()
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


def write_data(folder, systems, spin):
    """Write systems below the working folder and return their relative paths."""
    paths = [f"system_{number}" for number in range(len(systems))]
    for path, frames in zip(paths, systems, strict=True):
        write_system(folder / path, frames, spin)
    return paths


def train(inputs, pb):
    """Train in the working folder and freeze to a file."""
    from deepmd.tf.entrypoints.freeze import freeze
    from deepmd.tf.entrypoints.train import train as dp_train

    Path("input.json").write_text(json.dumps(inputs))
    dp_train(
        INPUT="input.json",
        init_model=None,
        restart=None,
        init_frz_model=None,
        output="out.json",
        mpi_log="master",
        log_level=30,
        log_path=None,
    )
    freeze(checkpoint_folder=".", output=str(pb))


def carries_data(node):
    """Say whether clients read or feed a node of a frozen graph by its name."""
    scope, _, name = ("/" + node.name).rpartition("/")
    return (
        scope.endswith("_attr")
        or node.name == "model_type"
        or name.startswith("o_")
        or node.op == "Placeholder"
        or node.op.startswith("Prod")
        or (node.op == "Const" and re.match(r"(matrix|bias|idt)(_\d+_\d+)?$", name))
    )


def sorted_nodes(graph):
    """Return the nodes of a graph, each after its inputs."""
    nodes = {node.name: node for node in graph.node}
    inputs = {
        name: {entry.lstrip("^").partition(":")[0] for entry in node.input}
        for name, node in nodes.items()
    }
    return [nodes[name] for name in graphlib.TopologicalSorter(inputs).static_order()]


def shrink(source, target):
    """Write a frozen graph with short names for its inner nodes.

    Most bytes of a frozen small net are names. Nodes that carry data or interface
    keep name and value; the others are numbered, equal nodes among them merged, and
    attributes that say the default dropped.
    """
    import tensorflow as tf
    from tensorflow.python.framework import op_def_registry

    graph = tf.compat.v1.GraphDef.FromString(source.read_bytes())
    new_name, known, kept = {}, {}, []
    for node in sorted_nodes(graph):
        node.attr.pop("_class", None)
        for attr in op_def_registry.get(node.op).attr:
            if attr.HasField("default_value") and attr.name in node.attr:
                if node.attr[attr.name] == attr.default_value:
                    node.attr.pop(attr.name)
        for number, entry in enumerate(node.input):
            name, colon, output = entry.lstrip("^").partition(":")
            control = "^" if entry.startswith("^") else ""
            node.input[number] = control + new_name[name] + colon + output
        old = node.name
        if not carries_data(node):
            node.name = ""
            content = node.SerializeToString(deterministic=True)
            if content in known:
                new_name[old] = known[content]
                continue
            node.name = known[content] = f"n{len(kept):x}"
        new_name[old] = node.name
        kept.append(node)
    small = tf.compat.v1.GraphDef(node=kept, versions=graph.versions)
    target.write_bytes(small.SerializeToString(deterministic=True))


def read_constants(pb, names):
    """Return named constants of a frozen graph."""
    import tensorflow as tf

    graph = tf.compat.v1.GraphDef.FromString(Path(pb).read_bytes())
    nodes = {node.name: node for node in graph.node}
    return {
        key: tf.make_ndarray(nodes[name].attr["value"].tensor)
        for key, name in names.items()
    }


def read_statistics(pb, numb_fparam=0):
    """Return davg, dstd (ntypes extended, nnei, 4), the folded bias_atom_e...

    With frame parameters also their means and inverse standard deviations.
    """
    names = {
        "davg": "descrpt_attr/t_avg",
        "dstd": "descrpt_attr/t_std",
        "bias_atom_e": "fitting_attr/t_bias_atom_e",
    }
    if numb_fparam:
        names["fparam_avg"] = "fitting_attr/t_fparam_avg"
        names["fparam_inv_std"] = "fitting_attr/t_fparam_istd"
    stats = read_constants(pb, names)
    for key in "davg", "dstd":
        ntypes = len(stats[key])
        rows = stats[key].reshape(ntypes, -1, 4)
        if (rows != rows[:, :1]).any():
            raise RuntimeError(f"{key} differs between the slots of one type")
        stats[key] = rows[:, 0]
    return stats


def evaluate(pb, frames, spin):
    """Evaluate a frozen model and fold the virtual atoms onto their owners.

    Returns
    -------
    dict[str, np.ndarray]
        Inputs and outputs in real-atom form.
    """
    from deepmd.infer import DeepPot

    extended = extend(frames, spin)
    owner, atype = extended["owner"], frames["atype"]
    nframes, nloc = frames["coord"].shape[:2]
    box = frames.get("box")
    energy, force, virial, atom_energy, atom_virial = DeepPot(str(pb)).eval(
        extended["coord"].reshape(nframes, -1),
        None if box is None else box.reshape(nframes, 9),
        extended["atype"],
        atomic=True,
        fparam=frames.get("fparam"),
    )
    force_mag = np.zeros((nframes, nloc, 3))
    force_mag[:, owner] = force[:, nloc:]
    atom_virial = atom_virial.reshape(nframes, -1, 3, 3)
    folded = atom_virial[:, :nloc].copy()
    folded[:, owner] += atom_virial[:, nloc:]
    result = {
        "coord": frames["coord"],
        "spin": frames["spin"],
        "atype": atype.astype(np.int32),
        "pbc": np.array(box is not None),
        "energy": energy.reshape(nframes),
        "atom_energy": atom_energy.reshape(nframes, nloc),
        "force": force[:, :nloc],
        "force_mag": force_mag,
        "virial": virial.reshape(nframes, 3, 3),
        "atom_virial": folded,
    }
    if box is not None:
        result["box"] = box
    if "fparam" in frames:
        result["fparam"] = frames["fparam"]
    np.testing.assert_allclose(
        result["atom_energy"].sum(1), result["energy"], rtol=1e-10
    )
    np.testing.assert_allclose(
        folded.sum(1), result["virial"], atol=1e-9 * np.abs(folded).max()
    )
    return result


def save(path, inputs, arrays):
    """Write a .npz file with the input and the versions."""
    np.savez_compressed(
        path,
        input=json.dumps(inputs),
        versions=json.dumps(versions()),
        **arrays,
    )
    log.info("%s: %d bytes", path.name, path.stat().st_size)


def training_arrays(systems):
    """Name the arrays of the training systems ``train_<number>_<array>``."""
    return {
        f"train_{number}_{key}": array
        for number, frames in enumerate(systems)
        for key, array in frames.items()
    }


def keep_model(name, frozen, pb, inputs):
    """Store a frozen model, all but `base` made smaller, and evaluate it."""
    spin, frames = inputs["model"]["spin"], default_frames(inputs)
    if name in VERBATIM:
        shutil.copyfile(frozen, pb)
        return evaluate(pb, frames, spin)
    shrink(frozen, pb)
    arrays = evaluate(pb, frames, spin)
    tolerance = 1e-5 if name == "float32" else 1e-12
    for key, value in evaluate(frozen, frames, spin).items():
        scale = tolerance * max(np.abs(value).max(), 1.0)
        np.testing.assert_allclose(arrays[key], value, 0, scale, err_msg=key)
    return arrays


def make_model(name, out):
    """Train, freeze, evaluate and store one model of the table."""
    inputs, systems = (MODELS | STATISTICS)[name]()
    keep = name in MODELS
    with fresh_folder() as folder:
        spin = inputs["model"]["spin"]
        run = copy.deepcopy(inputs)
        run["training"]["training_data"]["systems"] = write_data(folder, systems, spin)
        run["training"]["numb_steps"] = 20 if keep else 1
        frozen = folder / "frozen.pb"
        train(run, frozen)
        numb_fparam = inputs["model"]["fitting_net"].get("numb_fparam", 0)
        arrays = read_statistics(frozen, numb_fparam) | training_arrays(systems)
        if keep:
            arrays |= keep_model(name, frozen, out / f"{name}.pb", inputs)
    save(out / f"{name}.npz", inputs, arrays | {"model": name})


def evaluate_left_handed(pb, frames, spin):
    """Evaluate left-handed boxes.

    DeePMD-kit 3.2.0 gives forces of the wrong sign for them (and, in cells larger
    than the cutoff, wrong energies). The same lattice with its third vector reversed
    is right-handed and has the right numbers; those for the box as it is are kept
    as ``deepmd_...``.
    """
    reverse = np.array([1.0, 1.0, -1.0])[:, None]
    result = evaluate(pb, frames | {"box": frames["box"] * reverse}, spin)
    given = evaluate(pb, frames, spin)
    keys = "energy", "force", "force_mag", "virial"
    result |= {f"deepmd_{key}": given[key] for key in keys}
    return result | {"box": frames["box"]}


def make_evaluation(name, out):
    """Evaluate the weights of another case on further frames."""
    model, frames = EVALUATE[name]
    if not (out / f"{model}.pb").exists():
        make_model(model, out)
    inputs, _ = MODELS[model]()
    spin = inputs["model"]["spin"]
    function = evaluate_left_handed if name == "left_handed" else evaluate
    arrays = function(out / f"{model}.pb", frames(), spin)
    save(out / f"{name}.npz", inputs, arrays | {"model": model})


# The loss ----------------------------------------------------------------------

LOSSES = {
    "all": {},
    "only_e": {"start_pref_fr": 0, "limit_pref_fr": 0, "start_pref_fm": 0}
    | {"limit_pref_fm": 0, "start_pref_v": 0, "limit_pref_v": 0},
    "only_fr": {"start_pref_e": 0, "limit_pref_e": 0, "start_pref_fm": 0}
    | {"limit_pref_fm": 0, "start_pref_v": 0, "limit_pref_v": 0},
    "only_fm": {"start_pref_e": 0, "limit_pref_e": 0, "start_pref_fr": 0}
    | {"limit_pref_fr": 0, "start_pref_v": 0, "limit_pref_v": 0},
    "only_v": {"start_pref_e": 0, "limit_pref_e": 0, "start_pref_fr": 0}
    | {"limit_pref_fr": 0, "start_pref_fm": 0, "limit_pref_fm": 0},
    "intensive": {"intensive_ener_virial": True},
}
LOSS_STEPS = [0, 7, 250, 999]


def loss_frames(name):
    """Make three labelled frames for a model."""
    if name == "two_spin_types":
        return crystal(302, nframes=3, spin_norm=(1.2737, 2.1))
    frames = crystal(301, nframes=3)
    return with_parameters([frames])[0] if name == "fparam" else frames


def build_trainer(inputs, pb):
    """Return DeePMD-kit's trainer with frozen weights, and its data."""
    from deepmd.tf.train.run_options import RunOptions
    from deepmd.tf.train.trainer import DPTrainer
    from deepmd.tf.utils.argcheck import normalize
    from deepmd.tf.utils.compat import update_deepmd_input
    from deepmd.utils.data_system import get_data

    options = RunOptions(
        init_model=None,
        restart=None,
        init_frz_model=str(pb),
        finetune=None,
        log_path=None,
        log_level=30,
        mpi_log="master",
    )
    inputs = normalize(update_deepmd_input(inputs, warning=False))
    trainer = DPTrainer(inputs, run_opt=options)
    model = trainer.model
    data = get_data(
        inputs["training"]["training_data"],
        model.get_rcut(),
        model.get_type_map(),
        None,
    )
    data.add_data_requirements(trainer.data_requirements)
    trainer.build(data, inputs["training"]["numb_steps"])
    return trainer, data


def build_losses(trainer, inputs, labels):
    """Build DeePMD-kit's loss once for every row of `LOSSES`."""
    from deepmd.tf.loss.ener import EnerSpinLoss

    common = {key: value for key, value in inputs["loss"].items() if key != "type"}
    losses = {}
    for name, options in LOSSES.items():
        loss = EnerSpinLoss(
            starter_learning_rate=inputs["learning_rate"]["start_lr"],
            use_spin=inputs["model"]["spin"]["use_spin"],
            **(common | options),
        )
        total, terms = loss.build(
            trainer.learning_rate,
            trainer.place_holders["natoms_vec"],
            trainer.model_pred,
            labels,
            suffix=name,
        )
        losses[name] = loss, total, terms
    return losses


def make_loss(name, out):
    """Store the terms of the ener_spin loss of DeePMD-kit's training graph.

    Keys are ``<batch>_<quantity>``: the batch ``one`` holds frame 0, ``three`` all
    frames and ``no_virial`` all frames without the label of the virial.
    """
    model = name.removeprefix("loss_")
    pb = out / f"{model}.pb"
    if not pb.exists():
        make_model(model, out)
    inputs, _ = MODELS[model]()
    inputs["training"]["numb_steps"] = 1000
    inputs["learning_rate"] |= {"decay_steps": 50}
    frames = loss_frames(model)
    spin = inputs["model"]["spin"]
    arrays = dict(frames)
    batches = {"one": slice(0, 1), "three": slice(None), "no_virial": slice(None)}
    for batch, select in batches.items():
        chosen = {k: v if k == "atype" else v[select] for k, v in frames.items()}
        with fresh_folder() as folder:
            run = copy.deepcopy(inputs)
            data = run["training"]["training_data"]
            data["systems"] = write_data(folder, [chosen], spin)
            data["batch_size"] = len(chosen["coord"])
            if batch == "no_virial":
                (folder / "system_0" / "set.000" / "virial.npy").unlink()
            arrays |= {
                f"{batch}_{key}": value for key, value in run_loss(run, pb).items()
            }
    save(out / f"{name}.npz", inputs, arrays | {"model": model})


def run_loss(inputs, pb):
    """Evaluate every loss of `LOSSES` at every step of `LOSS_STEPS`."""
    trainer, data = build_trainer(copy.deepcopy(inputs), pb)
    losses = build_losses(trainer, inputs, trainer.place_holders)
    trainer._init_session()
    batch = data.get_batch()
    feed = trainer.get_feed_dict(batch, is_training=False)
    _, _, terms = losses["all"]
    # The term of the atomic energies is left out: evaluating it fails with spins.
    wanted = {f"l2_{key}": terms[name] for key, name in TERMS.items()}
    result = trainer.sess.run(wanted, feed)
    result["natoms"] = np.array(batch["natoms_vec"])
    result |= {f"rmse_{name}": [] for name in losses} | {"learning_rate": []}
    result |= {f"total_{name}": [] for name in losses}
    shown = "rmse_e", "rmse_fr", "rmse_fm", "rmse_v"
    for step in LOSS_STEPS:
        trainer.sess.run(trainer.global_step.assign(step))
        result["learning_rate"].append(trainer.sess.run(trainer.learning_rate))
        for name, (loss, total, _) in losses.items():
            result[f"total_{name}"].append(trainer.sess.run(total, feed))
            printed = loss.eval(trainer.sess, feed, batch["natoms_vec"])
            result[f"rmse_{name}"].append(printed["rmse"])
            if name == "all":
                result |= {f"shown_{key}": printed[key] for key in shown}
    trainer.sess.close()
    return {"steps": LOSS_STEPS} | result


TERMS = {
    "e": "l2_ener_loss",
    "fr": "l2_force_r_loss",
    "fm": "l2_force_m_loss",
    "v": "l2_virial_loss",
}


# The learning rate -------------------------------------------------------------

LEARNING_RATES = {
    "defaults": (1_000_000, {"start_lr": 1e-3}),
    "nio_example": (
        1_000_000,
        {"start_lr": 1e-3, "stop_lr": 5.92e-6, "decay_steps": 10000},
    ),
    "short_2000": (2000, {"start_lr": 1e-3, "stop_lr": 5.92e-6, "decay_steps": 5000}),
    "short_1009": (1009, {"start_lr": 1e-3, "stop_lr": 1e-5, "decay_steps": 5000}),
    "short_1010": (1010, {"start_lr": 1e-3, "stop_lr": 1e-5, "decay_steps": 5000}),
    "short_500": (500, {"start_lr": 1e-3, "stop_lr": 1e-5, "decay_steps": 5000}),
    "short_20": (20, {"start_lr": 1e-3, "stop_lr": 1e-5, "decay_steps": 5000}),
    "equal": (3000, {"start_lr": 1e-3, "stop_lr": 1e-5, "decay_steps": 3000}),
    "just_longer": (3001, {"start_lr": 1e-3, "stop_lr": 1e-5, "decay_steps": 3000}),
    "not_a_divisor": (1000, {"start_lr": 1e-3, "stop_lr": 1e-5, "decay_steps": 300}),
    "smooth": (
        1000,
        {"start_lr": 1e-3, "stop_lr": 1e-5, "decay_steps": 100, "smooth": True},
    ),
    "smooth_short": (1000, {"start_lr": 1e-3, "stop_lr": 1e-5, "smooth": True}),
    "stop_lr_ratio": (
        1000,
        {"start_lr": 2e-3, "stop_lr_ratio": 1e-3, "decay_steps": 100},
    ),
    "stop_lr_zero": (1000, {"start_lr": 1e-3, "stop_lr": 0.0, "decay_steps": 100}),
    "decay_rate": (
        1000,
        {"start_lr": 1e-3, "stop_lr": 1e-4, "decay_steps": 100, "decay_rate": 0.7},
    ),
    "decay_rate_long": (
        1000,
        {"start_lr": 1e-3, "stop_lr": 1e-4, "decay_steps": 5000, "decay_rate": 0.7},
    ),
    "warmup_steps": (
        1000,
        {"start_lr": 1e-3, "stop_lr": 1e-5, "decay_steps": 100, "warmup_steps": 50},
    ),
    "warmup_short": (
        1000,
        {"start_lr": 1e-3, "stop_lr": 1e-5, "decay_steps": 960, "warmup_steps": 50},
    ),
    "warmup_ratio": (
        1000,
        {
            "start_lr": 1e-3,
            "stop_lr": 1e-5,
            "decay_steps": 100,
            "warmup_ratio": 0.0155,
            "warmup_start_factor": 0.1,
        },
    ),
    "warmup_smooth": (
        1000,
        {
            "start_lr": 1e-3,
            "stop_lr": 1e-5,
            "decay_steps": 100,
            "warmup_steps": 50,
            "smooth": True,
        },
    ),
    "cosine": (1000, {"type": "cosine", "start_lr": 1e-3, "stop_lr": 1e-5}),
    "cosine_warmup": (
        1000,
        {"type": "cosine", "start_lr": 1e-3, "stop_lr": 1e-5, "warmup_steps": 100},
    ),
    "wsd": (1000, {"type": "wsd", "start_lr": 1e-3, "stop_lr": 1e-5}),
    "wsd_cosine": (
        1000,
        {
            "type": "wsd",
            "start_lr": 1e-3,
            "stop_lr": 1e-5,
            "decay_type": "cosine",
            "decay_phase_ratio": 0.4,
            "warmup_ratio": 0.1,
        },
    ),
    "wsd_linear": (
        1000,
        {
            "type": "wsd",
            "start_lr": 1e-3,
            "stop_lr_ratio": 1e-2,
            "decay_type": "linear",
            "decay_phase_ratio": 1.0,
            "warmup_steps": 30,
        },
    ),
}


def make_learning_rate(name, out):
    """Write lr(k) of several settings, as DeePMD-kit's input check completes them."""
    from deepmd.tf.utils.argcheck import normalize
    from deepmd.tf.utils.learning_rate import LearningRateSchedule

    table = {}
    for case, (numb_steps, setting) in LEARNING_RATES.items():
        inputs = make_input()
        inputs["learning_rate"] = dict(setting)
        inputs["training"]["numb_steps"] = numb_steps
        inputs["training"]["training_data"]["systems"] = ["unused"]
        checked = normalize(inputs)["learning_rate"]
        checked.pop("scale_by_worker", None)
        schedule = LearningRateSchedule(checked)
        with fresh_folder():
            import tensorflow as tf

            schedule.build(tf.compat.v1.train.get_or_create_global_step(), numb_steps)
        rate = schedule.base_lr
        fractions = [0, 0.01, 0.05, 0.101, 0.25, 0.333, 0.5, 0.75, 0.95, 1]
        steps = {int(fraction * numb_steps) for fraction in fractions}
        steps |= {1, 15, 16, 49, 50, 99, 100, 101, numb_steps - 1, numb_steps + 100}
        steps = sorted(steps)
        table[case] = {
            "learning_rate": setting,
            "numb_steps": numb_steps,
            "decay_steps": getattr(rate, "decay_steps", None),
            "decay_rate": getattr(rate, "decay_rate", None),
            "stop_lr": rate.stop_lr,
            "warmup_steps": rate.warmup_steps,
            "steps": steps,
            "lr": [schedule.value(step) for step in steps],
        }
    path = out / f"{name}.json"
    text = json.dumps({"versions": versions(), "cases": table}, indent=1)
    path.write_text(text + "\n")
    log.info("%s: %d bytes", path.name, path.stat().st_size)


CASES = (
    dict.fromkeys(MODELS, make_model)
    | dict.fromkeys(STATISTICS, make_model)
    | dict.fromkeys(EVALUATE, make_evaluation)
    | dict.fromkeys(["loss_base", "loss_two_spin_types", "loss_fparam"], make_loss)
    | {"lr_reference": make_learning_rate}
)


def main():
    """Read the command line and make the cases."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    log.setLevel(logging.INFO)
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for name in args.only:
        CASES[name](name, out)


if __name__ == "__main__":
    main()
