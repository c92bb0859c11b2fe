# SPDX-License-Identifier: Apache-2.0
"""Small models, frames and batches shared by the tests."""

from deepspin.env import set_defaults

set_defaults()  # before TensorFlow is imported

import copy  # noqa: E402
import shutil  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import tiny  # noqa: E402
from invariants import Frame  # noqa: E402
from sharing import shared  # noqa: E402

RCUT, RCUT_SMTH, SEL = 3.3, 2.0, 26
LATTICE = 4.17  # of NiO in Å
# type maps, and virtual_len, spin_norm of their spin types
SYSTEMS = {
    "NiO": (["Ni", "O"], {"Ni": (0.4, 1.2737)}),
    "ONi": (["O", "Ni"], {"Ni": (0.4, 1.2737)}),
    "Ni": (["Ni"], {"Ni": (0.4, 1.2737)}),
    "NiOFe": (["Ni", "O", "Fe"], {"Ni": (0.4, 1.2737), "Fe": (0.3, 2.0)}),
}


def pytest_addoption(parser):
    parser.addoption(
        "--first-of-each",
        action="store_true",
        help="run each test with the first of its parameters alone, and none that is "
        "marked any_version: enough to see what other versions of libraries break",
    )


def pytest_collection_modifyitems(config, items):
    if config.getoption("--first-of-each"):
        first = {}
        for item in items:
            if item.get_closest_marker("any_version") is None:
                first.setdefault(item.nodeid.partition("[")[0], item)
        config.hook.pytest_deselected(items=[*set(items).difference(first.values())])
        items[:] = first.values()


def build(
    system="NiO",
    *,
    seed=1,
    neuron=(4, 8, 16),
    fit_neuron=(8, 8, 8),
    precision="float64",
    vacuum_types=(),
    numb_fparam=0,
    trainable_layers=None,
    fit_dt=True,
    time_reversal=False,
    **descriptor,
):
    """Small random model with statistics and energies that are not trivial."""
    import deepspin

    type_map, spins = SYSTEMS[system]
    spin = deepspin.Spin(
        [name in spins for name in type_map],
        [spins[name][0] for name in type_map if name in spins],
        [spins[name][1] for name in type_map if name in spins],
        time_reversal=time_reversal,
    )
    options = {"rcut": RCUT, "rcut_smth": RCUT_SMTH, "axis_neuron": 4, **descriptor}
    sel = options.pop("sel", [SEL] * len(type_map))
    descrpt = deepspin.DescrptSeA(
        sel=spin.scheme.extend_sel(sel),
        ntypes=len(type_map),
        neuron=neuron,
        seed=seed,
        dtype=precision,
        **options,
    )
    fitting = deepspin.EnerFitting(
        len(type_map),
        descrpt.dim_out,
        neuron=fit_neuron,
        resnet_dt=fit_dt,
        vacuum_types=vacuum_types,
        numb_fparam=numb_fparam,
        trainable_layers=trainable_layers,
        seed=seed + 1,
        dtype=precision,
    )
    model = deepspin.SpinEnergyModel(type_map, descrpt, fitting, spin)
    rng = np.random.default_rng(seed + 2)
    ntypes = len(type_map)
    davg = np.zeros((ntypes, 4))
    davg[:, 0] = rng.uniform(0.05, 0.15, ntypes)
    if not descrpt.set_davg_zero:
        descrpt.davg.assign(davg)
    dstd = rng.uniform(0.08, 0.2, (ntypes, 2))
    descrpt.dstd.assign(dstd[:, [0, 1, 1, 1]])
    fitting.bias_atom_e.assign(rng.normal(size=ntypes))
    if numb_fparam:
        fitting.fparam_avg.assign(rng.normal(size=numb_fparam))
        fitting.fparam_inv_std.assign(rng.uniform(0.5, 2.0, numb_fparam))
    return model


def _spins(rng, scheme, atype):
    """Spins of almost nominal length, and noise on the types that have none."""
    spin = rng.normal(size=(len(atype), 3))
    spin /= np.linalg.norm(spin, axis=1, keepdims=True)
    return spin * rng.uniform(1.1, 1.3, (len(atype), 1))


def nio(model, seed=0):
    """Perturbed, sheared cubic cell of 8 atoms: less than twice the cutoff wide."""
    rng = np.random.default_rng(seed)
    metal = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
    names = np.array(["Ni"] * 4 + ["O"] * 4)
    if "Fe" in model.type_map:
        names[[1, 3]] = "Fe"
    box = LATTICE * np.eye(3) + 0.1 * np.random.default_rng(99).normal(size=(3, 3))
    oxygen = metal + np.array([0.5, 0, 0])
    coord = np.concatenate([metal, oxygen]) @ box
    atype = np.array([model.type_map.index(name) for name in names])
    return Frame(
        coord=coord + 0.1 * rng.normal(size=(8, 3)),
        box=box + 0.02 * rng.normal(size=(3, 3)),
        atype=atype,
        spin=_spins(rng, model.spin.scheme, atype),
        scale=model.spin.scheme.codec.scale_of(atype),
    )


def structure(model):
    """The frame of `nio` with masses."""
    from deepspin.atoms.structures import Structure

    frame = nio(model)
    return Structure(
        names=("Ni", "O"),
        atype=frame.atype,
        coord=frame.coord,
        box=frame.box,
        pbc=np.ones(3, dtype=bool),
        spin=frame.spin * frame.magnetic[:, None],
        mass=np.where(frame.atype == 0, 58.693, 15.999),
        fixed=np.zeros(8, dtype=bool),
    )


def cluster(model, seed=0, natoms=5):
    """Open cluster, types in turn."""
    rng = np.random.default_rng(seed + 100)
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])
    atype = np.arange(natoms) % len(model.type_map)
    return Frame(
        coord=2.1 * corners[:natoms] + 0.15 * rng.normal(size=(natoms, 3)),
        box=None,
        atype=atype,
        spin=_spins(rng, model.spin.scheme, atype),
        scale=model.spin.scheme.codec.scale_of(atype),
    )


def inputs_of(model, frames, wider=0, more_atoms=0):
    """Inputs of the model for frames of the same atoms, and the atoms' slots."""
    import tensorflow as tf

    from deepspin.data.collate import Shape, collate, neighbors_of_frame

    scheme, descriptor = model.spin.scheme, model.descriptor
    periodic = frames[0].box is not None
    box = [f.box if periodic else np.zeros((3, 3)) for f in frames]
    spin = [f.spin * f.magnetic[:, None] for f in frames]
    neighbors = [
        neighbors_of_frame(
            f.coord, s, f.atype, b, periodic, scheme, descriptor.rcut, descriptor.sel
        )
        for f, s, b in zip(frames, spin, box, strict=True)
    ]
    widths = np.max([n.count.max(axis=0, initial=1) for n in neighbors], axis=0)
    natoms = np.bincount(frames[0].atype, minlength=scheme.ntypes) + more_atoms
    shape = Shape(len(frames), tuple(map(int, natoms)), tuple(map(int, widths + wider)))
    inputs, slots = collate(
        np.stack([f.coord for f in frames]),
        np.stack(spin),
        np.stack(box),
        np.stack([f.atype for f in frames]),
        neighbors,
        shape,
    )
    return tf.nest.map_structure(tf.constant, inputs), slots


def labels_for(inputs, seed=0, scale=1.0):
    """Random labels of all kinds for given inputs."""
    import tensorflow as tf

    rng = np.random.default_rng(seed)
    nf, nloc = inputs["coord"].shape[:2]
    shapes = {
        "energy": (nf,),
        "force": (nf, nloc, 3),
        "force_mag": (nf, nloc, 3),
        "virial": (nf, 3, 3),
        "atom_ener": (nf, nloc),
    }
    labels = {k: scale * rng.normal(size=shape) for k, shape in shapes.items()}
    labels |= {f"find_{k}": np.ones(nf) for k in shapes}
    labels["natoms"] = np.full(nf, 1.5 * nloc)
    return tf.nest.map_structure(lambda x: tf.constant(x, tf.float64), labels)


@pytest.fixture(scope="session")
def make_model():
    """Factory of small models: ``make_model("ONi", type_one_side=True)``."""
    return build


@pytest.fixture(scope="session")
def make_nio():
    """Factory of perturbed NiO frames for a model: ``make_nio(model, seed=3)``."""
    return nio


@pytest.fixture(scope="session")
def make_structure():
    """Factory of frames of `make_nio` with masses: ``make_structure(model)``."""
    return structure


@pytest.fixture(scope="session")
def make_cluster():
    """Factory of open clusters for a model: ``make_cluster(model, natoms=3)``."""
    return cluster


@pytest.fixture(scope="session")
def make_inputs():
    """Factory of model inputs: ``make_inputs(model, [frame, ...], wider=2)``."""
    return inputs_of


@pytest.fixture(scope="session")
def make_labels():
    """Factory of random labels: ``make_labels(inputs, seed=1)``."""
    return labels_for


@pytest.fixture
def eagerly():
    """Operations are done as they come, without a graph of them.

    For tests that ask many models one question each: a graph takes a hundred times
    as long to build as it then takes to run. Those of `DeepSpin`, of training and of
    frozen models are the business of other tests.
    """
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def data():
    """Content of a tiny input, to be changed."""
    return copy.deepcopy(tiny.INPUT)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run dp-spin in an empty folder: ``run("train", "input.json", status=1)``."""
    from deepspin.main import main

    monkeypatch.chdir(tmp_path)

    def call(*args, status=0):
        assert main([str(a) for a in args]) == status

    return call


@pytest.fixture(scope="session")
def tiny_training(tmp_path_factory):
    """Folder in which `dp-spin train` has been run on the tiny input."""
    from deepspin.main import main

    def train(folder):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            assert main(["train", tiny.write(tiny.INPUT)]) == 0

    return shared(tmp_path_factory, "tiny", train)


@pytest.fixture
def trained_here(tiny_training, run, tmp_path):
    """As ``run("train", tiny.write(data))`` would, but trained only once."""
    shutil.copytree(tiny_training, tmp_path, dirs_exist_ok=True)
