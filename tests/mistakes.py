# SPDX-License-Identifier: Apache-2.0
"""Mistakes, and what dp-spin answers: the table behind a test and a document.

``python tests/mistakes.py`` writes ``doc/mistakes.md``; ``test_mistakes.py`` makes each
mistake in a folder of its own and compares. No two rows end at the same ``raise``.
"""

from __future__ import annotations

import json
import os
import shutil
import textwrap
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

DOCUMENT = Path(__file__).parents[1] / "doc" / "mistakes.md"
REFERENCE = Path(__file__).parent / "reference"
SECTIONS = {
    "Input file": "Mistakes in `input.json`, noticed by `dp-spin train input.json`.",
    "Data": "Mistakes in the files that `systems` names, noticed by the same command"
    " where none is given. Frames and atoms count from 0.",
    "Command line": "Mistakes in what was typed. Where the command itself cannot be"
    " understood, its usage comes first, and the exit status is 2.",
    "Dynamics and relaxation": "Mistakes in the input of `dp-spin md`, here `md.json`,"
    " in what was typed after `relax`, and in the structure that both begin with,"
    ' `nio.xyz`: NiO with four atoms. `temperature` is 300, `ensemble/type` "nve".'
    " Atoms count from 0.",
    "Temperature curves": "Mistakes in the input of `dp-spin thermo`, here"
    " `thermo.json`, or in its samples. `temperature` is [300.0, 400.0].",
    "Model files": "Mistakes in the files after `-m`, `-r`, `-i` and `-f`.",
    "Python": "Mistakes in calls from Python. `model` is a small model of Ni and O,"
    " `compressed` is one with tables, `potential` is `deepspin.DeepSpin(model)`;"
    " `dynamics` is `deepspin.dynamics`;"
    " `coord`, `box`, `types` and `spin` are a frame of NiO with four atoms, and so are"
    " ASE's `atoms`.",
}
# what varies from run to run or between versions of libraries
VARIES = "{...}"
MISSING = object()

INPUT = {
    "model": {
        "type_map": ["Ni", "O"],
        "descriptor": {
            "type": "se_e2_a",
            "sel": [20, 20],
            "rcut": 3.0,
            "rcut_smth": 2.0,
            "neuron": [2, 4],
            "axis_neuron": 2,
            "seed": 1,
        },
        "fitting_net": {"neuron": [4, 4], "seed": 1},
        "spin": {"use_spin": [True, False], "virtual_len": [0.4], "spin_norm": [1.2]},
    },
    "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-8},
    "loss": {"type": "ener_spin"},
    "training": {
        "training_data": {"systems": ["data"], "batch_size": 1},
        "numb_steps": 3,
        "seed": 1,
        "jit_compile": False,
    },
}
BOX = 4.2 * np.eye(3)
COORD = 2.1 * np.array([[0, 0, 0], [1, 1, 0], [1, 0, 0], [0, 1, 0]])
SPIN = 1.2 * np.array([[0, 0, 1], [0, 0, -1], [0, 0, 0], [0, 0, 0]])
TYPES = [0, 0, 1, 1]
RUN = {  # what an earlier training left
    "lcurve.out": "#  step      rmse_val\n      5      1.00e-02\n",
    "out.json": "{}\n",
    "model.ckpt-5.keras": "a model",
    "checkpoint": 'model_checkpoint_path: "model.ckpt-5.keras"\n',
}

TABLES = (1,) * 6  # pieces of the tables of a compressed model

Step = Callable[[], None]


@dataclass(frozen=True)
class Mistake:
    """One mistake.

    Parameters
    ----------
    section : str
        One of `SECTIONS`.
    did : str
        What was done, for the document.
    how : str
        What was typed after ``dp-spin``, or for the section Python the code.
    says : str
        The answer in full; `VARIES` stands for what varies.
    steps : sequence of callable
        What turns a folder with a valid training into the mistake.
    ends : int or str
        Exit status, or the exception's name.
    shows : str
        What was written, for the document.
    """

    section: str
    did: str
    how: str
    says: str
    steps: Sequence[Step] = ()
    ends: int | str = 1
    shows: str = ""


# --- A valid training in the current folder, and steps away from it -------------------


def make_valid() -> None:
    """Write a valid input, its data, and what an earlier training left."""
    write_json("input.json", INPUT)
    frames = {
        "coord": np.stack([COORD, COORD + 0.05 * SPIN]),
        "box": np.stack([BOX, BOX]),
        "spin": np.stack([SPIN, SPIN]),
        "energy": np.array([-1.0, -1.1]),
        "force": np.zeros((2, 4, 3)),
        "force_mag": np.zeros((2, 4, 3)),
    }
    write_system("data", TYPES, frames)
    for name, text in RUN.items():
        Path(name).write_text(text, encoding="utf-8")


def write_json(name: str, content: object) -> None:
    """Write JSON."""
    Path(name).write_text(json.dumps(content), encoding="utf-8")


def write_system(path: str, types: Sequence[int], arrays: dict) -> None:
    """Write a system of one set."""
    folder = Path(path) / "set.000"
    folder.mkdir(parents=True)
    (folder.parent / "type.raw").write_text(" ".join(map(str, types)))
    for name, value in arrays.items():
        np.save(folder / f"{name}.npy", value.reshape(len(value), -1))


def option(place: str, value: object) -> Step:
    """Change an option of the input, or take it away."""

    def step() -> None:
        data = json.loads(Path("input.json").read_text(encoding="utf-8"))
        section = data
        *parents, key = place.split("/")
        for name in parents:
            section = section.setdefault(name, {})
        if value is MISSING:
            del section[key]
        else:
            section[key] = value
        write_json("input.json", data)

    return step


def text(name: str, content: str | bytes) -> Step:
    """Write a file."""

    def step() -> None:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else content.encode()
        Path(name).write_bytes(data)

    return step


def remove(name: str) -> Step:
    """Take a file or folder away."""

    def step() -> None:
        if Path(name).is_dir():
            shutil.rmtree(name)
        else:
            Path(name).unlink()

    return step


def environment(name: str, value: str) -> Step:
    """Set a variable; the test takes it back."""
    return lambda: os.environ.__setitem__(name, value)


def array(name: str, values: object) -> Step:
    """Write an array of the data."""
    return lambda: np.save(f"data/set.000/{name}.npy", values)


def change(name: str, index: object, value: float) -> Step:
    """Change numbers of the data."""

    def step() -> None:
        file = Path(f"data/set.000/{name}.npy")
        values = np.load(file)
        values[index] = value
        np.save(file, values)

    return step


def virtual(*types: int, shift: float = 0.4) -> Sequence[Step]:
    """Store the spins as virtual atoms: all types, and their distance in Å."""

    def step() -> None:
        moved = COORD[:2] + shift / 1.2 * SPIN[:2]
        coord = np.concatenate([COORD, moved]).reshape(1, -1)
        shutil.rmtree("data")
        arrays = {"coord": coord, "box": BOX[None], "force": np.zeros((1, 18))}
        write_system("data", types, arrays)

    return (step,)


@cache
def model_bytes(compiled: bool = False, **descriptor) -> bytes:
    """A model file, made once."""
    import tempfile

    import deepspin
    from deepspin.utils.inputs import normalize

    options = normalize(json.loads(json.dumps(INPUT)))["model"]
    options["descriptor"] |= descriptor
    model = deepspin.build_model(options)
    model.descriptor.dstd.assign(np.full(model.descriptor.dstd.shape, 0.1))
    if compiled:
        model.compile("adam", deepspin.EnerSpinLoss(), jit_compile=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        deepspin.save_model(model, path, {"step": 0})
        return path.read_bytes()


def model(name: str, **options) -> Step:
    """Write a valid model file, see `model_bytes`."""
    return lambda: Path(name).write_bytes(model_bytes(**options))


def in_model(name: str, file: str, edit: Callable[[bytes], bytes]) -> Step:
    """Write a model file in whose archive one file is changed."""

    def step() -> None:
        import io

        with zipfile.ZipFile(io.BytesIO(model_bytes())) as archive:
            files = {n: archive.read(n) for n in archive.namelist()}
        files[file] = edit(files[file])
        with zipfile.ZipFile(name, "w") as archive:
            for n, content in files.items():
                archive.writestr(n, content)

    return step


def reference(name: str, *, cut: int | None = None) -> Step:
    """Copy a model that DeePMD-kit froze, or the begin of it."""
    return lambda: Path(name).write_bytes((REFERENCE / name).read_bytes()[:cut])


def second_system() -> None:
    """Add a system of spin files."""
    frames = {"coord": COORD[None], "box": BOX[None], "spin": SPIN[None]}
    write_system("other", TYPES, frames)


def hdf5(name: str, cut: int | None = None) -> Step:
    """Write the data as a group of an HDF5 file too, or the begin of such a file."""

    def step() -> None:
        import h5py

        with h5py.File(name, "w") as file:
            file["NiO/type.raw"] = TYPES
            for array in Path("data/set.000").iterdir():
                file[f"NiO/set.000/{array.name}"] = np.load(array)
        Path(name).write_bytes(Path(name).read_bytes()[:cut])

    return step


def cut(name: str, size: int) -> Step:
    """Keep only the first bytes of a file."""
    return lambda: Path(name).write_bytes(Path(name).read_bytes()[:size])


def swap_virtual() -> None:
    """Exchange the two virtual atoms."""
    file = Path("data/set.000/coord.npy")
    coord = np.load(file).reshape(-1, 3)
    np.save(file, coord[[0, 1, 2, 3, 5, 4]].reshape(1, -1))


def second_set() -> None:
    """Add a set whose atom energies lack the virtual atoms, which the first has."""
    shutil.copytree("data/set.000", "data/set.001")
    np.save("data/set.000/atom_ener.npy", np.zeros((1, 6)))
    np.save("data/set.001/atom_ener.npy", np.zeros((1, 4)))


def keras_model(name: str, *, code: bool = False) -> Step:
    """Write a Keras model that is none of ours, with code in it or not."""

    def step() -> None:
        import keras

        layer = keras.layers.Lambda(lambda x: x) if code else keras.layers.Dense(1)
        keras.Sequential([keras.Input((2,)), layer]).save(name)

    return step


def other_graph(name: str) -> Step:
    """Write a TensorFlow graph without a model."""

    def step() -> None:
        import tensorflow as tf

        graph = tf.Graph()
        with graph.as_default():
            tf.constant(1.0, name="one")
        Path(name).write_bytes(graph.as_graph_def().SerializeToString())

    return step


def graph(name: str, edit: Callable) -> Step:
    """Write a model that DeePMD-kit froze, with its nodes changed."""

    def step() -> None:
        import tensorflow as tf

        frozen = tf.compat.v1.GraphDef()
        frozen.ParseFromString((REFERENCE / name).read_bytes())
        for node in frozen.node:
            edit(node)
        Path(name).write_bytes(frozen.SerializeToString())

    return step


def compress(node) -> None:
    """Say that the model is compressed."""
    if node.name == "model_type":
        node.attr["value"].tensor.string_val[:] = [b"compressed_model"]


def other_descriptor(node) -> None:
    """Take the operation of se_e2_a away."""
    node.op = node.op.replace("ProdEnvMatA", "ProdEnvMatR")


def no_statistics(node) -> None:
    """Take a constant away."""
    node.name = node.name.replace("descrpt_attr/t_avg", "descrpt_attr/average")


def part_of_config(config: bytes) -> bytes:
    """Keep the descriptor of a model only."""
    return json.dumps(json.loads(config)["config"]["descriptor"]).encode()


def names_for_python() -> dict:
    """What the code of the section Python may use."""
    import ase

    import deepspin
    from deepspin import dynamics
    from deepspin.data.systems import load_system
    from deepspin.utils.argcheck import gen_doc
    from deepspin.utils.inputs import normalize

    Path("model.keras").write_bytes(model_bytes())
    model = deepspin.load_model("model.keras")
    Path("compressed.keras").write_bytes(model_bytes(leaves=TABLES))
    return {
        "np": np,
        "deepspin": deepspin,
        "dynamics": dynamics,
        "normalize": normalize,
        "load_system": load_system,
        "gen_doc": gen_doc,
        "model": model,
        "compressed": deepspin.load_model("compressed.keras"),
        "potential": deepspin.DeepSpin(model),
        "coord": COORD,
        "box": BOX,
        "types": TYPES,
        "spin": SPIN,
        "atoms": ase.Atoms("Ni2O2", COORD, cell=BOX, pbc=True, magmoms=SPIN),
    }


def dynamics(given: dict, restart: dict | None = None, **changes) -> Sequence[Step]:
    """Write an input of ``dp-spin md``, what it names, and a restart file perhaps.

    Parameters
    ----------
    given : dict
        Keys of the input that are changed.
    restart : dict, optional
        The same for a run before, whose restart file is there.
    **changes
        See `structure`.
    """

    def step() -> None:
        from deepspin.main import main

        structure(**changes)()
        model("model.keras")()
        if restart is not None:
            write_json("before.json", MD | restart)
            assert main(["md", "before.json", "-o", "before.out.json"]) == 0
        write_json("md.json", MD | given)

    return (step,)


def ladder(
    given: dict, sampled: bool = False, symbols: str = "Ni Ni O O", then: str = ""
) -> Sequence[Step]:
    """Write an input of ``dp-spin thermo`` and what it names.

    Parameters
    ----------
    given : dict
        Keys of the input that are changed.
    sampled : bool
        Whether there are samples of the unchanged input.
    symbols, then : str
        Atoms, and those that are in their place after these samples.
    """

    def step() -> None:
        from deepspin.main import main

        structure(symbols)()
        model("model.keras")()
        if sampled:
            write_json("before.json", THERMO)
            assert main(["thermo", "before.json", "-o", "before.out.json"]) == 0
        if then:
            structure(then)()
        write_json("thermo.json", THERMO | given)

    return (step,)


def no_samples(version: int) -> Step:
    """Write a file for samples of ``dp-spin thermo``, before there are any."""

    def step() -> None:
        import h5py

        with h5py.File("thermo.h5", "w") as file:
            file["about"] = json.dumps({"format": version, "made_by": {}})

    return step


def structure(
    symbols: str = "Ni Ni O O",
    spin: np.ndarray | None = SPIN,
    pbc: str = "T T T",
    name: str = "nio.xyz",
) -> Step:
    """Write atoms as extended XYZ."""

    def step() -> None:
        columns = [COORD] if spin is None else [COORD, spin]
        kinds = "pos:R:3" + ":initial_magmoms:R:3" * (spin is not None)
        cell = " ".join(map(str, BOX.ravel()))
        rows = [
            " ".join([symbol, *map(str, row)])
            for symbol, row in zip(symbols.split(), np.hstack(columns), strict=True)
        ]
        lattice = f'Lattice="{cell}" ' if "T" in pbc else ""
        head = f'{lattice}Properties=species:S:1:{kinds} pbc="{pbc}"'
        Path(name).write_text("\n".join([str(len(rows)), head, *rows, ""]))

    return step


MD = {
    "model": "model.keras",
    "structure": {"file": "nio.xyz"},
    "ensemble": {"type": "nve"},
    "temperature": 300.0,
    "timestep": 0.5,
    "steps": 1,
    "seed": 1,
}
THERMO = {
    "model": "model.keras",
    "structure": {"file": "nio.xyz"},
    "temperature": [300.0, 400.0],
    "method": {"type": "hmc", "leaps": 1},
    "equilibration": 1,
    "samples": 2,
    "seed": 1,
}
TRAIN = "train input.json"
TRAINING = "training/training_data"
FPARAM = "model/fitting_net/numb_fparam"


# --- Rows of each section -------------------------------------------------------------


def given(did: str, says: str, place: str, value: object, *more: tuple) -> Mistake:
    """One or more options of the input; `place` and `value`, and more such pairs."""
    pairs = [(place, value), *more]
    shows = "\n".join(
        f"{p}: {'(left out)' if v is MISSING else json.dumps(v)}" for p, v in pairs
    )
    steps = [option(*pair) for pair in pairs]
    return Mistake("Input file", did, TRAIN, says, steps, shows=shows)


def written(did: str, name: str, content: str | bytes, says: str) -> Mistake:
    """An input file as it is written."""
    steps = [text(name, content)]
    shows = content if isinstance(content, str) else repr(content)[2:-1]
    return Mistake("Input file", did, f"train {name}", says, steps, shows=shows.strip())


def data(did: str, says: str, *steps: Step, how: str = TRAIN) -> Mistake:
    """A mistake in the data."""
    return Mistake("Data", did, how, says, steps)


def typed(did: str, how: str, says: str, *steps: Step, ends: int = 1) -> Mistake:
    """A mistake in the command."""
    return Mistake("Command line", did, how, says, steps, ends)


def file(did: str, how: str, says: str, *steps: Step) -> Mistake:
    """A model file that is none."""
    return Mistake("Model files", did, how, says, steps)


def python(did: str, how: str, says: str, ends: str = "ValueError") -> Mistake:
    """A call from Python."""
    return Mistake("Python", did, how, says, ends=ends)


def moved(did: str, says: str, given: dict, how: str = "md md.json", **more) -> Mistake:
    """A mistake in the input of dynamics or what it names; see `dynamics`."""
    shows = "\n".join(f"{p}: {json.dumps(v)}" for p, v in given.items())
    steps = dynamics(given, **more)
    return Mistake("Dynamics and relaxation", did, how, says, steps, shows=shows)


def heated(
    did: str, says: str, given: dict, how: str = "thermo thermo.json", **more
) -> Mistake:
    """A mistake in the input of temperature curves or what it names; see `ladder`."""
    shows = "\n".join(f"{p}: {json.dumps(v)}" for p, v in given.items())
    steps = ladder(given, **more)
    return Mistake("Temperature curves", did, how, says, steps, shows=shows)


def relaxed(did: str, how: str, says: str, *steps: Step) -> Mistake:
    """A mistake in a relaxation."""
    steps = (structure(), model("model.keras"), *steps)
    how = f"relax {how} -m model.keras"
    return Mistake("Dynamics and relaxation", did, how, says, steps)


NO_LABELS = [remove(f"data/set.000/{n}.npy") for n in ("energy", "force", "force_mag")]
DETAIL = "# data: data_e pred_e\n1.0 2.0\n"
CURVE = "#  step      rmse_val\n"
NAMED = text("data/type_map.raw", "Ni O")

MISTAKES = {
    # --- Input file -------------------------------------------------------------------
    "absent input": Mistake(
        "Input file",
        "Name an input file that is not there.",
        "train inptu.json",
        "There is no input file 'inptu.json'. Did you mean 'input.json'?",
    ),
    "input of another kind": written(
        "Give an input file with another ending.",
        "input.toml",
        "",
        "'input.toml' must end in .json, .yaml or .yml. Write it in JSON or YAML.",
    ),
    "input is not text": written(
        "Give a file that is no text.",
        "input.json",
        b'{"model": "\xff"}',
        "'input.json' is not text in UTF-8: invalid start byte at byte "
        "11. Save it in UTF-8.",
    ),
    "input is not JSON": written(
        "Forget a comma.",
        "input.json",
        '{\n  "model": {}\n  "loss": {}\n}',
        "'input.json' is not valid JSON: Expecting ',' delimiter at line "
        "3, column 3. Correct it there, or just before.",
    ),
    "input is not YAML": written(
        "Open a bracket and do not close it.",
        "input.yaml",
        "model:\n  type_map: [Ni, O\n  spin: {}\n",
        "'input.yaml' is not valid YAML: expected ',' or ']', but got "
        "':' at line 3, column 7. Correct it there, or just before.",
    ),
    "input is a list": written(
        "Wrap the input in a list.",
        "input.json",
        "[{}]",
        "'input.json' must hold an object at its top level, with "
        "`model`, `loss` and so on. Received: list",
    ),
    "key given twice": written(
        "Give a key twice in one object.",
        "input.json",
        '{"model": {"rcut": 5.0, "rcut": 6.0}}',
        "'input.json' gives `rcut` 2 times in one object. Keep one.",
    ),
    "key is no text": written(
        "Use a number as a key, in YAML.",
        "input.yaml",
        "model: {1: 2}\n",
        "The key 1 at `model` is not text; quote it.",
    ),
    "typo": given(
        "Mistype a key.",
        "`model/descriptor/rcutt` is not a key of the input: did you mean `rcut`?",
        "model/descriptor/rcutt",
        6.0,
    ),
    "key in another section": given(
        "Put a key into the wrong section.",
        "`model/rcut` is not a key of the input: it belongs to `model/descriptor`.",
        "model/rcut",
        6.0,
    ),
    "key and its alias": given(
        "Give an option under both of its names.",
        "`training/stop_batch` is not a key of the input: it is another "
        "name of `numb_steps`, which is also given; keep one.",
        "training/stop_batch",
        1000,
    ),
    "unknown key": given(
        "Give a key that is like none.",
        "`training/validation_data/colour` is not a key of the input: "
        "the keys there are `systems`, `rglob_patterns`, `batch_size`, "
        "`auto_prob`, `sys_probs`, `numb_btch`.",
        "training/validation_data",
        {"systems": ["data"], "colour": "blue"},
    ),
    "missing key": given(
        "Leave out an option that has no default.",
        "`training/numb_steps` is missing, and has no default. Add it: "
        "Number of training steps, of one batch each.",
        "training/numb_steps",
        MISSING,
    ),
    "wrong type": given(
        "Write the number of steps as 1e6.",
        "`training/numb_steps` is 1000000.0; expected type int. Write 1000000.",
        "training/numb_steps",
        1e6,
    ),
    "unknown choice": given(
        "Ask for a descriptor that nobody has.",
        '`model/descriptor/type` is "se_e2_b"; expected one of "se_e2_a".',
        "model/descriptor/type",
        "se_e2_b",
    ),
    "out of range": given(
        "Give a negative cutoff.",
        "`model/descriptor/rcut` is -6.0; expected a number > 0.",
        "model/descriptor/rcut",
        -6.0,
    ),
    "boolean for a number": given(
        "Give `true` where a number belongs.",
        "`model/descriptor/rcut` is true; expected a number.",
        "model/descriptor/rcut",
        True,
    ),
    "not finite": given(
        "Give infinity, which Python's JSON can hold.",
        "`learning_rate/start_lr` is Infinity; expected finite numbers.",
        "learning_rate/start_lr",
        float("inf"),
    ),
    "integer too large": given(
        "Train for ever.",
        "`training/numb_steps` is 1000000000000000000000; expected integers of 64 "
        "bits.",
        "training/numb_steps",
        10**21,
    ),
    "choice of DeePMD-kit": given(
        "Ask for a descriptor of DeePMD-kit's that deepspin lacks.",
        '`model/descriptor/type` is "dpa2", which DeePMD-kit has but '
        'deepspin has not: use "se_e2_a".',
        "model/descriptor/type",
        "dpa2",
    ),
    "option of DeePMD-kit": given(
        "Use an option of DeePMD-kit's that deepspin lacks.",
        '`training/mixed_precision` is {"compute_prec": "float16"}, '
        "which DeePMD-kit has but deepspin has not: remove it; set "
        "`precision` of the descriptor and the fitting net.",
        "training/mixed_precision",
        {"compute_prec": "float16"},
    ),
    "section of the wrong type": given(
        "Switch a section on that only DeePMD-kit has.",
        "`validating` is true; expected an object.",
        "validating",
        True,
    ),
    "no spin section": given(
        "Use an input for a model without spins.",
        "`model/spin` is missing: deepspin fits models with spins. Add "
        'for example "spin": {"use_spin": [true, false], "virtual_len": '
        '[0.4], "spin_norm": [1.2737]}, or use DeePMD-kit for a model '
        "without spins.",
        "model/spin",
        MISSING,
    ),
    "no type of the loss": given(
        "Leave out the type of the loss.",
        '`loss/type` is missing, which stands for "ener" in DeePMD-kit; '
        'use "ener_spin", with `start_pref_fr` and `start_pref_fm` for '
        "the forces.",
        "loss/type",
        MISSING,
    ),
    "type twice": given(
        "Name a type twice.",
        '`model/type_map` is ["Ni", "Ni"]; expected at least one name, '
        "none twice or empty.",
        "model/type_map",
        ["Ni", "Ni"],
    ),
    "no spin_norm": given(
        "Give `virtual_len` without `spin_norm`.",
        "`model/spin` lacks `spin_norm`; give `virtual_len` (Å) with "
        "`spin_norm` (μ_B), or `virtual_scale` (Å/μ_B).",
        "model/spin/spin_norm",
        MISSING,
    ),
    "virtual_scale and virtual_len": given(
        "Give `virtual_scale` beside `virtual_len`.",
        "`model/spin` has `virtual_scale` and also `virtual_len`; give "
        "`virtual_len` with `spin_norm`, or `virtual_scale` alone.",
        "model/spin/virtual_scale",
        0.3,
    ),
    "use_spin too short": given(
        "Give one boolean for two types.",
        "`model/spin/use_spin` is [true]; expected 2 booleans, one per "
        'type of ["Ni", "O"].',
        "model/spin/use_spin",
        [True],
    ),
    "use_spin names another": given(
        "Give a spin to an element that is not in `type_map`.",
        '`model/spin/use_spin` is ["Fe"]; expected some of ["Ni", "O"], none twice.',
        "model/spin/use_spin",
        ["Fe"],
    ),
    "use_spin mixed": given(
        "Mix booleans and indices in `use_spin`.",
        "`model/spin/use_spin` is [true, 1]; expected all booleans, all "
        "type indices or all names of types.",
        "model/spin/use_spin",
        [True, 1],
    ),
    "no spin types": given(
        "Give no type a spin.",
        "`model/spin/use_spin` is [false, false]; expected at least one "
        "spin type. Name the magnetic types.",
        "model/spin/use_spin",
        [False, False],
    ),
    "virtual_len of other length": given(
        "Give one `virtual_len` in a list, for two spin types of three.",
        "`model/spin/virtual_len` is [0.4]; expected one number for all, "
        "or a list of 2 (one per spin type, Ni, Fe) or 3 (one per type "
        "of `model/type_map`).",
        "model/type_map",
        ["Ni", "Fe", "O"],
        ("model/spin/use_spin", ["Ni", "Fe"]),
    ),
    "virtual_len zero": given(
        "Set `virtual_len` to 0.",
        "`model/spin/virtual_len` is [0.0]; expected numbers > 0.",
        "model/spin/virtual_len",
        [0.0],
    ),
    "sel of other length": given(
        "Give `sel` for the virtual atoms too.",
        "`model/descriptor/sel` is [20, 20, 20]; expected 2 numbers, one "
        "per type of `model/type_map`. Those for spins are added by "
        "deepspin.",
        "model/descriptor/sel",
        [20, 20, 20],
    ),
    "sel zero": given(
        "Set `sel` of a spin type to 0.",
        "`model/descriptor/sel` is [0, 20]; expected a number >= 1 for each spin type.",
        "model/descriptor/sel",
        [0, 20],
    ),
    "rcut_smth too large": given(
        "Begin to smooth beyond the cutoff.",
        "`model/descriptor/rcut_smth` is 6.5; expected less than `rcut` = 3.0 (Å).",
        "model/descriptor/rcut_smth",
        6.5,
    ),
    "axis_neuron too large": given(
        "Keep more columns than the embedding net has.",
        "`model/descriptor/axis_neuron` is 16; expected at most the last "
        "of `neuron` = [2, 4].",
        "model/descriptor/axis_neuron",
        16,
    ),
    "exclude_types": given(
        "Exclude a type that is not there.",
        "`model/descriptor/exclude_types` is [[0, 7]]; expected pairs of "
        "type indices from 0 to 2.",
        "model/descriptor/exclude_types",
        [[0, 7]],
    ),
    "trainable of other length": given(
        "Give `trainable` for the hidden layers only.",
        "`model/fitting_net/trainable` is [true, true]; expected 3 "
        "booleans: one per hidden layer and one for the output.",
        "model/fitting_net/trainable",
        [True, True],
    ),
    "atom_ener of other length": given(
        "Give one energy for two types.",
        "`model/fitting_net/atom_ener` is [-100.0]; expected 2 numbers "
        "or nulls, one per type, or 3, one more per spin type.",
        "model/fitting_net/atom_ener",
        [-100.0],
    ),
    "stop_lr twice": given(
        "Give the last learning rate in two ways.",
        "`learning_rate` has `stop_lr` and also `stop_lr_ratio`; give one of them.",
        "learning_rate/stop_lr_ratio",
        1e-3,
    ),
    "stop_lr too large": given(
        "Let the learning rate rise.",
        "`learning_rate/stop_lr` is 0.1; expected at most `start_lr` = 0.001.",
        "learning_rate/stop_lr",
        0.1,
    ),
    "warmup twice": given(
        "Give the warm-up in two ways.",
        "`learning_rate` has `warmup_steps` and also `warmup_ratio`; give one of them.",
        "learning_rate/warmup_steps",
        1,
        ("learning_rate/warmup_ratio", 0.1),
    ),
    "warmup too long": given(
        "Warm up longer than the training is.",
        "`learning_rate/warmup_steps` is 5; expected less than "
        "`training/numb_steps` = 3.",
        "learning_rate/warmup_steps",
        5,
    ),
    "nothing to learn": given(
        "Set all weights of the loss to 0.",
        "`loss` has all weights at 0, so there is nothing to learn; "
        "expected at least one of `start_pref_*` and `limit_pref_*` > 0.",
        "loss",
        {"type": "ener_spin"}
        | {
            f"{end}_pref_{t}": 0
            for end in ("start", "limit")
            for t in ("e", "fr", "fm")
        },
    ),
    "nothing to train": given(
        "Hold all weights fixed.",
        "Nothing to train: `model/descriptor/trainable` and "
        "`model/fitting_net/trainable` are false. Set one of them to "
        "true.",
        "model/descriptor/trainable",
        False,
        ("model/fitting_net/trainable", False),
    ),
    "batch sizes of other number": given(
        "Give two batch sizes for one system.",
        "`batch_size` has 2 entries, but `systems` has 1: 'data'. Give one for each.",
        f"{TRAINING}/batch_size",
        [1, 2],
    ),
    "auto_prob of absent systems": given(
        "Give probabilities to systems that are not there.",
        "`auto_prob` blocks are BEGIN:END:WEIGHT for the systems from "
        "BEGIN to END - 1, and the last one is 0. Received: '3:5:1.0' of "
        "'prob_sys_size;3:5:1.0'",
        f"{TRAINING}/auto_prob",
        "prob_sys_size;3:5:1.0",
    ),
    "auto_prob overlaps": given(
        "Let blocks of systems overlap.",
        "`auto_prob` blocks '0:1:0.5' and '0:1:0.5' both hold system 0. "
        "Let blocks not overlap; END is not included.",
        f"{TRAINING}/auto_prob",
        "prob_sys_size;0:1:0.5;0:1:0.5",
    ),
    "auto_prob all zero": given(
        "Give a system the probability 0.",
        "Probabilities of systems (`auto_prob`, `sys_probs`) must be finite, not "
        "negative and not all 0. Received: [0.0]",
        f"{TRAINING}/auto_prob",
        "prob_sys_size;0:1:0",
    ),
    # --- Data -------------------------------------------------------------------------
    "absent system": data(
        "Mistype the path of the data.",
        "'dta' does not exist, seen from the current folder. Correct `systems`.",
        option(f"{TRAINING}/systems", "dta"),
    ),
    "no system there": data(
        "Name a folder without systems.",
        "no system in 'empty': a system is a folder or HDF5 group with "
        "type.raw in it. Correct `systems` or `rglob_patterns`.",
        text("empty/notes", ""),
        option(f"{TRAINING}/systems", "empty"),
    ),
    "system is a file": data(
        "Name a file that is no data.",
        "'input.json' is neither a folder nor an HDF5 file that is "
        "whole. Correct `systems`, or write the file again.",
        option(f"{TRAINING}/systems", "input.json"),
    ),
    "pattern of an absolute path": data(
        "Search systems by an absolute path.",
        "`rglob_patterns` must be relative paths with *, or ** between two /. "
        "Received: '/NiO'",
        option(f"{TRAINING}/rglob_patterns", ["/NiO"]),
    ),
    "LMDB": data(
        "Name an LMDB data set.",
        "'data.lmdb' is an LMDB data set, which DeePMD-kit has but "
        "deepspin has not. Write it as npy files or HDF5, and keep it "
        "out of the folders searched.",
        text("data.lmdb/data.mdb", ""),
        option(f"{TRAINING}/systems", "data.lmdb"),
    ),
    "no group": data(
        "Name a group that the HDF5 file has not.",
        "'data.hdf5' has no group '/Ni'; it has ['NiO']. Correct `systems`.",
        hdf5("data.hdf5"),
        option(f"{TRAINING}/systems", "data.hdf5#/Ni"),
    ),
    "HDF5 cut off": data(
        "Copy an HDF5 file, and lose half of it.",
        "'data.hdf5' cannot be read: {...}. Write the file again.",
        hdf5("data.hdf5", cut=1500),
        option(f"{TRAINING}/systems", "data.hdf5"),
    ),
    "types are words": data(
        "Write elements into `type.raw`.",
        "'data/type.raw' does not hold numbers: could not convert string "
        "to float: 'Ni'. Write it again. Names of types go into "
        "type_map.raw.",
        text("data/type.raw", "Ni Ni O O"),
    ),
    "types are not whole": data(
        "Write a type that is not whole.",
        "'data/type.raw': types must be integers from 0 on. Received: 1.5",
        text("data/type.raw", "0 0 1 1.5"),
    ),
    "type too large": data(
        "Count types from 1.",
        "'data/type.raw': type 4, but with no type_map.raw and the "
        "model's `type_map` ['Ni', 'O'] only 0 to 2 mean anything "
        "(virtual types come last). Correct the types or type_map.raw.",
        text("data/type.raw", "1 2 3 4"),
    ),
    "element not in type_map": data(
        "Use data of an element that the model does not know.",
        "'data/type.raw': atoms of ['S'], which are not in the model's "
        "`type_map` ['Ni', 'O']. Add them there or leave this system out.",
        text("data/type_map.raw", "Ni S"),
    ),
    "no atoms": data(
        "Leave a frame of mixed types without atoms.",
        "frame 1 of 'data/set.000' has no atoms. Remove it.",
        array("real_atom_types", np.array([TYPES, [-1] * 4])),
    ),
    "no coord": data(
        "Lose `coord.npy`.",
        "'data/set.000/coord.npy' is missing: every set needs it. Add it "
        "or remove this set.",
        remove("data/set.000/coord.npy"),
    ),
    "file cut off": data(
        "Copy a file, and lose half of it.",
        "'data/set.000/force.npy' cannot be read: {...}. Write the file again.",
        cut("data/set.000/force.npy", 150),
    ),
    "no numbers": data(
        "Save words.",
        "'data/set.000/energy.npy' does not hold numbers: could not "
        "convert string to float: 'low'. Write it again.",
        array("energy", np.array([["low"], ["high"]])),
    ),
    "complex numbers": data(
        "Save complex numbers.",
        "'data/set.000/energy.npy' holds complex numbers. Write real ones.",
        array("energy", np.array([[1 + 1j], [2]])),
    ),
    "empty set": data(
        "Leave a set without frames.",
        "'data/set.000/coord.npy' holds no frames. Remove this set.",
        array("coord", np.zeros((0, 12))),
    ),
    "rows missing": data(
        "Lose the energy of a frame.",
        "'data/set.000/energy.npy' must have 2 rows (frames of coord) of "
        "1 numbers (4 atoms in type.raw). Received: shape (1, 1). "
        "Correct this file, coord or type.raw.",
        array("energy", np.zeros((1, 1))),
    ),
    "NaN": data(
        "Keep a frame whose forces did not come out.",
        "'data/set.000/force.npy': nan in frame 1, atom 2. Remove the frame.",
        change("force", (1, 7), np.nan),
    ),
    "atom_ener of other length in sets": data(
        "Give atom energies with and without virtual atoms.",
        "'data/set.000/atom_ener.npy' counts virtual atoms, or does not, "
        "unlike other sets. Make them the same.",
        *virtual(0, 0, 1, 1, 2, 2),
        second_set,
    ),
    "spins in both ways": data(
        "Give virtual atoms and `spin.npy`.",
        "'data' has virtual atoms in its types and also spin. Only one "
        "of the two can hold the spins: remove the other.",
        *virtual(0, 0, 1, 1, 2, 2),
        array("spin", np.ones((1, 18))),
    ),
    "no spins": data(
        "Use data without spins.",
        "'data' has no spins: no spin.npy, and no virtual atoms of type "
        "2 or higher in type.raw. Add one of the two, or leave this "
        "system out.",
        remove("data/set.000/spin.npy"),
    ),
    "virtual atom missing": data(
        "Leave a virtual atom out.",
        "frame 0 of 'data/set.000': 2 atoms of spin type 0 but 1 virtual "
        "atoms of type 2 (types of the model). Each atom of a spin type "
        "needs one virtual atom.",
        *virtual(0, 0, 1, 1, 2, 1),
    ),
    "virtual atoms in another order": data(
        "Sort virtual atoms otherwise than their owners.",
        "atom 0, frame 0 of 'data/set.000': its virtual atom is 3 Å "
        "away, but `virtual_len` is 0.4. Virtual atoms must come in the "
        "order of their owners: correct that order, box or "
        "`virtual_len`. Without type_map.raw, type 0 is Ni, 1 is O, in "
        "the order of the model's `type_map`: if the data have another "
        "order, write type_map.raw.",
        *virtual(0, 0, 1, 1, 2, 2),
        swap_virtual,
    ),
    "singular box": data(
        "Write a cell with a lattice vector of zeros.",
        "frame 1 of 'data/set.000': singular box [4.2, 0.0, 0.0, 0.0, "
        "4.2, 0.0, 0.0, 0.0, 0.0], opposite faces are 0 Å apart. Rows "
        "must be lattice vectors in Å; without periodicity add an empty "
        "file `nopbc`.",
        change("box", (1, slice(6, 9)), 0.0),
    ),
    "zero spin": data(
        "Keep a magnetic atom whose spin vanished.",
        "atom 0, frame 1 of 'data/set.000': |spin| = 0 but type 'Ni' is "
        "a spin type; its virtual atom would coincide with it. Remove "
        "the frame, set `use_spin` to false for 'Ni', or set a non-zero "
        "`env_protection`.",
        change("spin", (1, slice(0, 3)), 0.0),
    ),
    "type order": data(
        "Give `type_map` in another order than the data's.",
        "atom 0, frame 0 of 'data/set.000': |spin| = 1.2 but type 'O' is "
        "no spin type. Set `use_spin` to true for 'O' or the spins of "
        "its atoms to 0. Without type_map.raw, type 0 is O, 1 is Ni, in "
        "the order of the model's `type_map`: if the data have another "
        "order, write type_map.raw.",
        option("model/type_map", ["O", "Ni"]),
        option("model/spin/use_spin", ["Ni"]),
    ),
    "overlap": data(
        "Keep a frame with two atoms in one place.",
        "frame 0 of 'data/set.000': atom 0 and atom 1 (or an image of "
        "it) are 0 Å apart. Remove the frame or correct coord and box.",
        change("coord", (0, slice(0, 6)), 4.2),
    ),
    "cell too wide": data(
        "Write a periodic cell of a millimetre.",
        "frame 0 of 'data/set.000': the frame is 1e+07 x 4.2 x 4.2 Å "
        "wide, too much for neighbours within 3.4 Å. Check that lengths "
        "are in Å; a direction without periodicity needs none.",
        change("box", (0, 0), 1e7),
    ),
    "labels without use": data(
        "Train on data with no label that the loss weighs.",
        "The training data has the labels [], none of which the loss weighs. Add "
        "['energy', 'force', 'force_mag'], or change `loss`.",
        *NO_LABELS,
    ),
    "nothing to test": data(
        "Test on data without labels.",
        "'data' has no label to test: no energy, force, force_mag or virial.",
        model("model.keras"),
        *NO_LABELS,
        how="test -m model.keras -s data",
    ),
    "list of systems is empty": data(
        "Give an empty list of systems.",
        "'systems.txt' names no system; one path on each line.",
        text("systems.txt", "\n"),
        how="test -f systems.txt",
    ),
    "no validation data": data(
        "Test on the validation data of an input without any.",
        "'input.json' has no `training/validation_data`.",
        how="test --valid-data input.json",
    ),
    "types without names": data(
        "Look over data whose types have no names.",
        "'data' has no type_map.raw, so its types have no names. Give "
        "the names of types 0, 1, ... with -t, without virtual atoms, "
        "such as -t Ni O.",
        how="check-data data",
    ),
    "type_map.raw names more": data(
        "Name fewer types than the data.",
        "type_map.raw of 'data' also has O. Give all types with -t. Received: Ni",
        NAMED,
        how="check-data data -t Ni",
    ),
    "no spins to see": data(
        "Begin with data without spins.",
        "no spins in this data: no spin.npy that is not 0, and no "
        "virtual atoms (types beyond type_map). Add them, or correct -t.",
        NAMED,
        remove("data/set.000/spin.npy"),
        how="init data -o new.json",
    ),
    "two layouts": data(
        "Look over data of both layouts, one of unknown lengths.",
        "'other' has spin.npy but 'data' has virtual atoms, which say "
        "where they are, not how long the spins were. Give --virtual-len "
        "and --spin-norm that they were placed with, such as "
        "--virtual-len 0.4 --spin-norm 1.2737, or -i with the input, or "
        "one layout at a time.",
        *virtual(0, 0, 1, 1, 2, 2),
        second_system,
        how="check-data data other -t Ni O",
    ),
    "learning curve empty": data(
        "Draw a learning curve of nothing.",
        "'lcurve.out' is empty.",
        text("lcurve.out", ""),
        how="plot lcurve.out",
    ),
    "learning curve begun": data(
        "Draw a learning curve before its first line.",
        "'lcurve.out' has no numbers yet, only a header.",
        text("lcurve.out", CURVE),
        how="plot lcurve.out",
    ),
    "learning curve of other columns": data(
        "Draw a learning curve that lost a column.",
        "'lcurve.out' has 2 numbers in a line, but its header names 3.",
        text("lcurve.out", "# step rmse_val rmse_trn\n0 1.0\n"),
        how="plot lcurve.out",
    ),
    "learning curve of nan": data(
        "Draw a learning curve that is nan throughout.",
        "'lcurve.out' has no numbers but nan.",
        text("lcurve.out", CURVE + "nan nan\n"),
        how="plot lcurve.out",
    ),
    "learning curve with words": data(
        "Draw a learning curve with a word in it.",
        "'lcurve.out' is not a table of numbers: {...}.",
        text("lcurve.out", CURVE + "0 big\n"),
        how="plot lcurve.out",
    ),
    "no learning curve": data(
        "Draw a file that is no learning curve.",
        "'notes' is no result file: a learning curve (its first line begins with "
        "'# step rmse'), a log of dp-spin md ('# step replica time') or relax ('# step "
        "replica energy'), a table of thermo ('natoms,temperature'), a file of "
        "model-devi ('# step max_devi_v'), or a detail file of test -d ('# system: "
        "data_fx ...').",
        text("notes", "to do\n"),
        how="plot notes",
    ),
    "learning curves of two losses": data(
        "Draw a learning curve whose columns change.",
        "'lcurve.out' changes its columns: runs of different losses are "
        "in it. Split it.",
        text("lcurve.out", CURVE + "0 1.0\n# step rmse_val rmse_e_val\n1 1.0 1.0\n"),
        how="plot lcurve.out",
    ),
    "no fparam.npy": data(
        "Set `numb_fparam` to 2 and give no fparam.npy.",
        "'data/set.000/fparam.npy' is missing: the model takes 2 frame parameters "
        "(`numb_fparam`). Add it or remove this set.",
        option(FPARAM, 2),
    ),
    "fparam.npy of one number": data(
        "Set `numb_fparam` to 2 and give one number for each frame.",
        "'data/set.000/fparam.npy' must have 2 rows (frames of coord) of 2 numbers "
        "(`numb_fparam`). Received: shape (2, 1). Correct this file, or `numb_fparam`.",
        option(FPARAM, 2),
        array("fparam", np.zeros((2, 1))),
    ),
    "frame parameter is NaN": data(
        "Give a frame parameter of NaN.",
        "'data/set.000/fparam.npy': nan in frame 1. Remove the frame.",
        option(FPARAM, 1),
        array("fparam", np.array([[300.0], [np.nan]])),
    ),
    "learning curve without errors": data(
        "Draw a learning curve without errors.",
        "'lcurve.out' has no errors of energy, force, magnetic force or "
        "virial, or all are nan. Its columns: step, rmse_val.",
        how="plot lcurve.out",
    ),
    # --- Command line -----------------------------------------------------------------
    "no verb": typed(
        "Give no verb.", "", "the following arguments are required: verb", ends=2
    ),
    "unknown verb": typed(
        "Mistype a verb.",
        "trian input.json",
        "argument verb: invalid choice: 'trian' (choose from {...})",
        ends=2,
    ),
    "unknown option": typed(
        "Give an option that is not there.",
        "train input.json --fast",
        "unrecognized arguments: --fast",
        ends=2,
    ),
    "restart and init": typed(
        "Begin from two models.",
        "train input.json -r a -i b",
        "argument -i/--init-model: not allowed with argument -r/--restart",
        ends=2,
    ),
    "number is a word": typed(
        "Give a word for a number.",
        "test -n few",
        "argument -n/--numb-test: invalid int value: 'few'",
        ends=2,
    ),
    "negative number": typed(
        "Ask for less than no frames.",
        "test -n -1 -s data",
        "-n must be 0 (all) or more frames. Received: -1",
    ),
    "negative number of rotations": typed(
        "Turn spins by less than no rotations.",
        "test -s data --spin-rotation -1",
        "--spin-rotation must be 0 (none) or more rotations. Received: -1",
    ),
    "deviation of one model": typed(
        "Ask one model how much it deviates.",
        "model-devi -m model.keras -s data",
        "Models disagree with each other: -m takes 2 or more of them, unless "
        "--real_error compares with labels. Received: 1",
        model("model.keras"),
    ),
    "no steps between frames": typed(
        "Put no steps between frames.",
        "model-devi -m a.keras b.keras -s data -f 0",
        "-f must be 1 or more steps. Received: 0",
    ),
    "level of zero": typed(
        "Ask for relative deviations without a level.",
        "model-devi -m a.keras b.keras -s data --relative 0",
        "--relative must be above 0. Received: 0.0",
    ),
    "bounds the wrong way round": typed(
        "Give the upper bound first.",
        "model-devi -m a.keras b.keras -s data --select 0.3 0.1",
        "--select and --select-fm take a lower and a higher bound. Received: 0.3 0.1",
    ),
    "extraction without bounds": typed(
        "Extract frames without saying which.",
        "model-devi -m a.keras b.keras -s data --extract chosen",
        "--extract writes what --select or --select-fm chooses. Give one of them.",
    ),
    "no list of systems": typed(
        "Mistype the list of systems.",
        "test -f systms.txt",
        "No data file: 'systms.txt' is not a file.",
    ),
    "folder of the log": typed(
        "Put the log into a folder that is not there.",
        "train input.json -l logs/run.log",
        "The log 'logs/run.log' cannot be written: No such file or directory. Make its "
        "folder, or choose another.",
    ),
    "spins are not read": typed(
        "Say how to read spins that are only copied.",
        "convert-data data -o copy -t Ni O",
        "Spins are only copied here, so how to read them has no effect: give --layout "
        "too, or leave out --type-map.",
    ),
    "output is a folder": typed(
        "Write the filled-in input over a folder.",
        "train input.json -o data",
        "'data' is a folder, and a file is to be written. Choose another output.",
    ),
    "two outputs of one name": typed(
        "Give two outputs one name.",
        "train input.json -o lcurve.out",
        "`disp_file` and -o are both 'lcurve.out'. Give one another name.",
    ),
    "frozen over data": typed(
        "Write a frozen model over a folder of data.",
        "freeze -c model.keras -o data --force",
        "'data' is no frozen model, so it is not replaced. Choose another output.",
        model("model.keras"),
    ),
    "tolerance of nothing": typed(
        "Ask for exact tables.",
        "compress --tol 0",
        "--tol must be above 0. Received: 0.0",
    ),
    "tables end early": typed(
        "Ask for tables that end before the data does.",
        "compress -e 0.5",
        "-e must be 1 or more: tables hold what the data holds, and beyond. Received: "
        "0.5",
    ),
    "look in no evaluation": typed(
        "Look beyond the tables in one of no evaluations.",
        "compress -f 0",
        "-f must be 1 or more evaluations, or -1 for never. Received: 0",
    ),
    "folder like a file": typed(
        "Freeze or compress into a folder with the ending of a file.",
        "compress -i model.keras -o compressed.pb",
        "'compressed.pb' would be a folder, a SavedModel, but '.pb' is the ending of a "
        "file. Choose another name; `dp-spin convert-to deepmd -c MODEL` writes .pb, "
        ".dp and .yaml, of compressed models .pb.",
        model("model.keras"),
    ),
    "convert-from to a .pb": typed(
        "Take over a model into a file of DeePMD-kit's form.",
        "convert-from model.dp -o out.pb",
        "convert-from writes .keras files. Received: 'out.pb'. `dp-spin convert-to "
        "deepmd` writes those of DeePMD-kit.",
    ),
    "convert-from deepspin": typed(
        "Take over what is deepspin's.",
        "convert-from model.keras -o out.keras",
        "'model.keras' is a model of deepspin already.",
        model("model.keras"),
    ),
    "range of tables": typed(
        "Compress a model that does not know its data.",
        "compress -i model.keras",
        "'model.keras' does not tell how near the atoms of each pair of types came in "
        "its training, so that the range of the tables is not known. Give the input "
        "file of its training by -t.",
        model("model.keras"),
    ),
    "tolerance below rounding": typed(
        "Ask for tables that are more exact than numbers.",
        "compress -i model.keras -t input.json --tol 1e-17",
        "A tolerance of 1e-17 is out of reach of rounding: forces of the compressed "
        "model differ by {...} of their rms at best. Give a larger --tol, such as "
        "{...}.",
        model("model.keras"),
    ),
    "no checkpoint": typed(
        "Restart from a checkpoint that is not there.",
        "train input.json -r modle.ckpt",
        "No checkpoint: there is neither a file 'modle.ckpt' or "
        "'modle.ckpt.keras' nor any 'modle.ckpt-STEP.keras'.",
    ),
    "frozen model is Keras'": typed(
        "Give a `.keras` file to `-f`.",
        "train input.json -f model.keras",
        "-f takes models frozen by DeePMD-kit (.pb). Received: 'model.keras'. -i takes "
        "every kind of model.",
        model("model.keras"),
    ),
    "absent frozen model": typed(
        "Begin from a frozen model that is not there.",
        "train input.json -f frozen.pb",
        "No frozen model: 'frozen.pb' is not a file.",
    ),
    "absent model to convert": typed(
        "Convert a model that is not there.",
        "convert-from frozen.pb",
        "No frozen model: 'frozen.pb' is not a file.",
    ),
    "plot absent": typed(
        "Mistype the file to draw.", "plot lcurv.out", "There is no file 'lcurv.out'."
    ),
    "plot of a folder": typed(
        "Draw a folder.",
        "plot data",
        "'data' is a folder. Give the file, such as 'data/lcurve.out'.",
    ),
    "labels of other number": typed(
        "Give two names for one run.",
        "plot lcurve.out --labels old new",
        "--labels needs a label for each of the 1 files. Received: 2",
    ),
    "option for curves only": typed(
        "Ask for logarithmic steps where there are none.",
        "plot detail.e.out --log-x",
        "--log-x and --linear-y are for learning curves.",
        text("detail.e.out", DETAIL),
    ),
    "structure to draw": typed(
        "Draw a structure without times.",
        "plot nio.xyz",
        "'nio.xyz' is no trajectory of dp-spin md: it must have times, positions and "
        "spins of its frames.",
        structure(),
    ),
    "names of detail files": typed(
        "Give a name to a detail file.",
        "plot detail.e.out --labels old",
        "--labels are for runs, not for detail files.",
        text("detail.e.out", DETAIL),
    ),
    "deviations of other columns": typed(
        "Draw deviations of models, one of which had no spins.",
        "plot model_devi.out",
        "'model_devi.out' changes its columns. Split it.",
        text(
            "model_devi.out",
            "# a\n# step max_devi_f max_devi_fm\n0 1 1\n# b\n# step max_devi_f\n0 1\n",
        ),
    ),
    "picture of another kind": typed(
        "Ask for a picture of another kind.",
        "plot lcurve.out -o curve.doc",
        "A picture must end in .png, .pdf, .svg. Got 'curve.doc'.",
    ),
    "curves and details": typed(
        "Draw learning curves and detail files together.",
        "plot detail.e.out lcurve.out",
        "'lcurve.out' is a learning curve, 'detail.e.out' a detail file. Draw them "
        "in two pictures.",
        text("detail.e.out", DETAIL),
    ),
    "input to write of another kind": typed(
        "Ask for an input of another kind.",
        "init data -o input.toml",
        "'input.toml' must end in .json, .yaml, .yml.",
        text("data/type_map.raw", "Ni O"),
    ),
    "cutoff too short": typed(
        "Ask for a cutoff that is too short.",
        "init data -r 0.1 -o new.json",
        "-r must be a cutoff above 0.5 Å. Received: 0.1",
        text("data/type_map.raw", "Ni O"),
    ),
    "output exists": typed(
        "Write an input over another.",
        "init data",
        "'input.json' exists. Choose another output, or replace it with --force.",
        text("data/type_map.raw", "Ni O"),
    ),
    "cutoff negative": typed(
        "Ask for a negative cutoff.",
        "neighbor-stat -s data -t Ni O -r -6",
        "-r must be a cutoff in Å above 0. Received: -6",
    ),
    "output into data": typed(
        "Write converted data into the data.",
        "convert-data data -t Ni O -o data/new",
        "'data/new' is, holds or lies in the data 'data'. Choose another output.",
    ),
    "output over a folder": typed(
        "Write converted data over a folder of something else.",
        "convert-data data -t Ni O -o thesis --force",
        "'thesis' is a folder without systems, so it is not replaced. "
        "Choose another output, or remove it.",
        text("thesis/chapter.tex", ""),
    ),
    "use-spin of another": typed(
        "Give a spin to an element that is not there.",
        "check-data data -t Ni O --use-spin Fe",
        "--use-spin must name some of Ni O, none twice. Received: Fe",
    ),
    "virtual-len of other number": typed(
        "Give three lengths for one type with spin.",
        "check-data data -t Ni O --virtual-len 0.4 0.4 0.4",
        "--virtual-len must be one positive number for each type with "
        "spin (Ni), or one for all. Received: 0.4 0.4 0.4",
    ),
    "output under a file": typed(
        "Ask for an output below a file.",
        "train input.json -o input.json/out.json",
        "'input.json/out.json' cannot be written: File exists. Write "
        "elsewhere, or mend that.",
    ),
    "seed negative": typed(
        "Give a negative seed.",
        "test -m model.keras -s data -r -1",
        "-r must be 0 or more. Received: -1",
    ),
    "threads are a word": typed(
        "Set DP_INTRA_OP_PARALLELISM_THREADS to a word.",
        "train input.json",
        "DP_INTRA_OP_PARALLELISM_THREADS must be a number of threads, 0 "
        "for TensorFlow's choice. Received: 'four'",
        environment("DP_INTRA_OP_PARALLELISM_THREADS", "four"),
    ),
    "kernels are a word": typed(
        "Set DEEPSPIN_KERNELS to a word.",
        "train input.json",
        "DEEPSPIN_KERNELS must be 1, for the compiled kernels, or 0, for plain "
        "TensorFlow. Received: 'no'",
        environment("DEEPSPIN_KERNELS", "no"),
    ),
    "no such instructions": typed(
        "Set DEEPSPIN_INSTRUCTIONS to a name.",
        "train input.json",
        "DEEPSPIN_INSTRUCTIONS must be 1 (any processor), 3 (AVX2), 4 (AVX-512) or 0 "
        "(the best there is). Received: 'avx2'",
        environment("DEEPSPIN_INSTRUCTIONS", "avx2"),
    ),
    # --- Dynamics and relaxation ------------------------------------------------------
    "lists of other lengths": moved(
        "Ask for three temperatures and two seeds.",
        "`seed` is [1, 2]; expected one number, or one for each of 3 replicas. The "
        "longest list of `seed` and `temperature` says how many there are.",
        {"temperature": [100, 200, 300], "seed": [1, 2]},
    ),
    "spins is no list": moved(
        "Give one rule for spins without brackets.",
        '`spins` is {"type": "Ni", "modulus": 1.2}; expected a list of objects, rules '
        "for the spins.",
        {"spins": {"type": "Ni", "modulus": 1.2}},
    ),
    "rule with a typo": moved(
        "Mistype a key in a rule for spins.",
        "`spins`, rule 1: `typ` is not a key of the input: did you mean `type`?",
        {"spins": [{"type": "Ni", "modulus": 1.2}, {"typ": "Ni"}]},
    ),
    "spiral without a wave": moved(
        "Give a spiral no wave vector.",
        "`spins`, rule 0 has an `axis` without a `wave_vector`; give both, for a "
        "spiral.",
        {"spins": [{"axis": [0, 0, 1]}]},
    ),
    "wave that does not fit": moved(
        "Give a wave vector that one cell cannot hold.",
        "`spins/0/wave_vector` is [0.5, 0, 0]; expected a wave that fits into 1 x 1 x "
        "1 cells. Change it, or `structure/repeat`.",
        {"spins": [{"wave_vector": [0.5, 0, 0]}]},
    ),
    "wave with nodes": moved(
        "Give a wave vector whose nodes are at atoms.",
        "Some spins are at the nodes of the wave of a wave vector, cos(q·R) = 0, and "
        "so on neither sublattice. Move the origin of the structure, or give an "
        "`axis`, for a spiral.",
        {
            "structure": {"file": "nio.xyz", "repeat": [2, 1, 1]},
            "spins": [{"wave_vector": [0.5, 0, 0]}],
        },
    ),
    "wave without a cell": moved(
        "Give a cluster a wave vector.",
        "A wave vector needs a periodic cell, and the structure has none. Use `atoms` "
        "of the rules of `spins`.",
        {"spins": [{"wave_vector": [1, 0, 0]}]},
        pbc="F F F",
    ),
    "copies of a cluster": moved(
        "Repeat a cluster.",
        "`structure/repeat` is [1, 1, 2]; expected 1 along directions that are not "
        "periodic.",
        {"structure": {"file": "nio.xyz", "repeat": [1, 1, 2]}},
        pbc="F F F",
    ),
    "frequency of no field": moved(
        "Give the frequency of a field, and no field.",
        "`field_frequency` needs a `field` that alternates. Give one.",
        {"field_frequency": 1.0},
    ),
    "one file for two": moved(
        "Give log and restart file the same name.",
        '`output` is ["a.npz", null, "a.npz"]; expected three different files.',
        {"output": {"log": "a.npz", "trajectory": None, "restart": "a.npz"}},
    ),
    "no structure": moved(
        "Mistype the structure's file.",
        "No structure: 'noi.xyz' does not exist.",
        {"structure": {"file": "noi.xyz"}},
    ),
    "element of no type": moved(
        "Begin with an element that the model does not know.",
        "'nio.xyz' has atoms of Fe; the model knows Ni, O. Take a model that knows all "
        "of them.",
        {},
        symbols="Fe Ni O O",
    ),
    "no moments": moved(
        "Begin with atoms without moments.",
        "The structure has no spins, but atoms of Ni need them. Add a column "
        "initial_magmoms:R:3 in μ_B to an extended XYZ file, or say "
        "atoms.set_initial_magnetic_moments(...) in ASE before writing it, or give "
        "rules in `spins` of the input.",
        {},
        spin=None,
    ),
    "half of the moments": moved(
        "Give moments without directions.",
        "The structure has no spins, and no rule of `spins` gives atom 0 of the file "
        "(Ni) both a modulus and a direction.",
        {"spins": [{"type": "Ni", "modulus": 1.2}]},
        spin=None,
    ),
    "frame that is not there": moved(
        "Begin with a frame that is not there.",
        "ASE cannot read frame 7 of 'nio.xyz': {...}",
        {"structure": {"file": "nio.xyz", "frame": 7}},
    ),
    "frame that is not in the data": moved(
        "Begin with a frame that the data does not have.",
        "'data' has 2 frames. Received: 7",
        {"structure": {"file": "data", "frame": 7}},
    ),
    "atom that is not there": moved(
        "Fix an atom that is not there.",
        "There is no atom 4: the file has 4, counted from 0.",
        {"fixed_atoms": [4]},
    ),
    "mass of another element": moved(
        "Give the mass of an element that is not there.",
        "`masses` names Fe; the types of the model are Ni, O.",
        {"masses": {"Fe": 55.8}},
    ),
    "rule for another element": moved(
        "Give a rule for spins of another element.",
        '`spins/0/type` is "Fe"; expected one of Ni, O.',
        {"spins": [{"type": "Fe", "modulus": 2.2}]},
    ),
    "inertia of atoms without spin": moved(
        "Give the inertia of spins for the wrong type.",
        '`ensemble/spin_mass` is {"O": 1.0}; expected masses of Ni.',
        {"ensemble": {"type": "tspin", "spin_mass": {"O": 1.0}}},
    ),
    "inertia without spins": moved(
        "Move moduli where there are no spins.",
        'The structure has no atoms with spin, which the ensemble "tspin" is for.',
        {"ensemble": {"type": "tspin", "spin_mass": 1.0}},
        symbols="O O O O",
    ),
    "restart of fewer replicas": moved(
        "Go on with more temperatures than there were.",
        "The restart file has 1 replicas, the input 2. Give as many temperatures, or "
        "seeds.",
        {"temperature": [300.0, 400.0]},
        "md md.json -r md.restart.npz",
        restart={},
    ),
    "restart of another ensemble": moved(
        "Go on with moduli that did not move before.",
        'The restart file is of another ensemble, the input asks for "tspin". Begin '
        "anew, with the last frame as `structure`.",
        {"ensemble": {"type": "tspin", "spin_mass": 1.0}},
        "md md.json -r md.restart.npz",
        restart={},
    ),
    "damaged restart": Mistake(
        "Dynamics and relaxation",
        "Go on from a file that is no restart file.",
        "md md.json -r bad.npz",
        "'bad.npz' is damaged, or no restart file of dp-spin md. Go on from another "
        "one, or begin anew.",
        [*dynamics({}), text("bad.npz", "no")],
    ),
    "same sizes": heated(
        "Give the same size twice.",
        "`sizes` is [[1, 1, 1], [1, 1, 1]]; expected different sizes.",
        {"sizes": [[1, 1, 1], [1, 1, 1]]},
    ),
    "order of nothing": heated(
        "Sample a structure without spins.",
        "The structure has no atoms with spin, which the order is of.",
        {},
        symbols="O O O O",
    ),
    "samples of other temperatures": heated(
        "Go on at other temperatures.",
        "'thermo.h5' was sampled with other values of `temperature`. Go on with those "
        "that it has, or begin anew.",
        {"temperature": [350.0, 450.0]},
        "thermo thermo.json -r thermo.h5",
        sampled=True,
    ),
    "samples of another structure": heated(
        "Go on with samples of another structure, whose file has the same name.",
        "The restart file is of another structure. Use that.",
        {},
        "thermo thermo.json -r thermo.h5",
        sampled=True,
        then="Ni O Ni O",
    ),
    "neither input nor samples": Mistake(
        "Temperature curves",
        "Give neither an input nor samples.",
        "thermo",
        "Give either an input file, or samples with --analyse FILE.",
    ),
    "no file of samples": Mistake(
        "Temperature curves",
        "Average samples that are not there.",
        "thermo --analyse thermo.h5",
        "No samples: 'thermo.h5' does not exist.",
    ),
    "damaged samples": Mistake(
        "Temperature curves",
        "Average a file that holds no samples.",
        "thermo --analyse bad.h5",
        "'bad.h5' is damaged, or no file of dp-spin thermo ({...}).",
        [text("bad.h5", "no")],
    ),
    "samples of the future": Mistake(
        "Temperature curves",
        "Average samples that a newer deepspin has written.",
        "thermo --analyse thermo.h5",
        "'thermo.h5' has format 99; this deepspin reads up to 1. Install a newer one.",
        [no_samples(99)],
    ),
    "no samples yet": Mistake(
        "Temperature curves",
        "Average before there are samples.",
        "thermo --analyse thermo.h5",
        "'thermo.h5' has no samples yet. Go on with -r thermo.h5.",
        [no_samples(1)],
    ),
    "no samples to go on from": heated(
        "Go on from samples that are not there.",
        "No restart file: 'thermo.h5' does not exist.",
        {},
        "thermo thermo.json -r thermo.h5",
    ),
    "axis of free spins": relaxed(
        "Give an axis to spins that may turn.",
        "nio.xyz --axis 0 0 1",
        "--axis takes 3 numbers, not all 0, and goes with --spins collinear. Received: "
        "0 0 1 with --spins directions",
    ),
    "axis across the spins": relaxed(
        "Lay collinear spins along an axis that is perpendicular to them.",
        "nio.xyz --spins collinear --axis 1 0 0",
        "The spin of atom 0 is perpendicular to its axis, so it has no sign. Turn it a "
        "little, or choose another axis.",
    ),
    "no starts": relaxed(
        "Ask for no starts.",
        "nio.xyz --starts 0",
        "--starts must be 1 or more, --steps and --seed not negative. Received: 0, "
        "1000, 0",
    ),
    "starts of fixed spins": relaxed(
        "Ask for many starts with spins that are fixed.",
        "nio.xyz --starts 3 --spins fixed",
        "--starts needs spins that may change. Received: none",
    ),
    "limit of zero": relaxed(
        "Ask for forces of exactly 0.",
        "nio.xyz --fmax 0",
        "--fmax, --tmax and --smax must be above 0. Received: 0 0.0001 0.01",
    ),
    "pressure on a fixed cell": relaxed(
        "Press on a cell that may not change.",
        "nio.xyz --pressure 5",
        "--pressure takes a finite number of GPa, and goes with --cell. Received: 5 "
        "without --cell",
    ),
    "atoms to fix": relaxed(
        "Fix an atom that is not there.",
        "nio.xyz --fix-atoms 9",
        "--fix-atoms takes numbers from 0 to 3, ranges such as 0-3, types (Ni, O) or "
        "all. Received: 9",
    ),
    "cell of a cluster": relaxed(
        "Relax the cell of a cluster.",
        "cluster.xyz --cell",
        "--cell takes structures that are periodic in three directions. Received: F F "
        "F",
        structure(pbc="F F F", name="cluster.xyz"),
    ),
    "structure without spins to write": relaxed(
        "Write to a file that cannot hold spins.",
        "nio.xyz -o relaxed.vasp",
        "'relaxed.vasp' must end in .extxyz, .xyz, .traj: these formats hold spins.",
    ),
    "nothing to relax": relaxed(
        "Fix everything.",
        "nio.xyz --fix-atoms all --spins fixed",
        "Nothing may change: positions, spins and cell are fixed. Free some.",
    ),
    "structure to relax": relaxed(
        "Mistype the structure to relax.",
        "noi.xyz",
        "No structure: 'noi.xyz' does not exist.",
    ),
    "errors without labels": typed(
        "Ask how far models are from labels that are not there.",
        "model-devi -m model.keras -s data --real_error",
        "'data' has no labels to compare with, as --real_error asks: no energy, force, "
        "force_mag or virial.",
        model("model.keras"),
        *NO_LABELS,
    ),
    "errors to select by": typed(
        "Select frames by labels that are not there.",
        "model-devi -m model.keras -s data --real_error --select-fm 0.1 0.2",
        "'data' has no force_mag to select frames by.",
        model("model.keras"),
        NO_LABELS[2],
    ),
    # --- Model files ------------------------------------------------------------------
    "no zip": file(
        "Test a file that is no model.",
        "test -m notes.keras -s data",
        "'notes.keras' is damaged, or no model file: neither .keras, .pb "
        "nor a frozen model (File is not a zip file). Use another "
        "checkpoint.",
        text("notes.keras", "to do"),
    ),
    "format of the future": file(
        "Use a model of a newer deepspin.",
        "test -m new.keras -s data",
        "'new.keras' has format 99; this deepspin reads up to 1. Install a newer one.",
        in_model("new.keras", "deepspin.json", lambda old: b'{"format": 99}'),
    ),
    "metadata a list": file(
        "Replace a model's metadata.",
        "test -m odd.keras -s data",
        "'odd.keras' is no model file: 'deepspin.json' in it is no object.",
        in_model("odd.keras", "deepspin.json", lambda old: b"[]"),
    ),
    "weights broken": file(
        "Swap a model's weights for something else.",
        "test -m odd.keras -s data",
        "'odd.keras' cannot be loaded: {...}. Use another checkpoint, or "
        "the version of deepspin that wrote it.",
        in_model("odd.keras", "model.weights.h5", lambda old: old[:1000]),
    ),
    "lambda layer": file(
        "Load a model file with code in it.",
        "test -m lambda.keras -s data",
        "'lambda.keras' names 'keras.Sequential', which no model of "
        "deepspin holds. Building it might run code, so it is refused: "
        "load files that deepspin wrote.",
        keras_model("lambda.keras", code=True),
    ),
    "part of a model": file(
        "Test a file that holds a part of a model.",
        "test -m part.keras -s data",
        "'part.keras' holds a DescrptSeA, not a SpinEnergyModel.",
        in_model("part.keras", "config.json", part_of_config),
    ),
    "trained otherwise": file(
        "Restart with other weights held fixed.",
        "train input.json -r old.keras",
        "'old.keras' was trained with other weights held fixed "
        "(`trainable`). Use the input it was trained with, or begin anew "
        "from it with -i.",
        model("old.keras", compiled=True),
        option("model/descriptor/trainable", False),
    ),
    "compressed twice": file(
        "Compress a compressed model.",
        "compress -i compressed.keras",
        "'compressed.keras' is compressed already. Compress the model that it was made "
        "of.",
        model("compressed.keras", leaves=TABLES),
    ),
    "train a compressed model": file(
        "Train from a compressed model.",
        "train input.json -i compressed.keras",
        "'compressed.keras' is compressed, and tables cannot be trained. Train before "
        "compressing: begin with the model that it was made of.",
        model("compressed.keras", leaves=TABLES),
    ),
    "tables of relu": file(
        "Compress a model whose embedding nets have kinks.",
        "compress -i relu.keras -t input.json",
        "64 pieces of a table do not hold an embedding net to {...} of its largest "
        "value and slope, with the activation function 'relu' in float64. Only smooth "
        "nets can be tabulated (tanh, gelu, silu, sigmoid, softplus; relu, relu6 and "
        "silut are not smooth): use the model as it is, or a larger --tol.",
        model("relu.keras", activation_function="relu"),
    ),
    "compressed graph": file(
        "Begin from a compressed model.",
        "train input.json -f base.pb",
        "'base.pb' is compressed: its embedding nets are tables now. "
        "Use the model it was compressed from.",
        graph("base.pb", compress),
    ),
    "graph without descriptor": file(
        "Begin from a frozen model with another descriptor.",
        "train input.json -f base.pb",
        "'base.pb' has no `se_e2_a` descriptor (no node ProdEnvMatA). "
        "Other descriptors cannot be converted.",
        graph("base.pb", other_descriptor),
    ),
    "graph without a constant": file(
        "Begin from a frozen model that lacks a constant.",
        "train input.json -f base.pb",
        "'base.pb' has no constant 'descrpt_attr/t_avg'. It may use an "
        "option that deepspin does not know, or come from another "
        "version of DeePMD-kit (known: 2.x and 3.x).",
        graph("base.pb", no_statistics),
    ),
    "frozen graph is no graph": file(
        "Begin from a file that is no graph.",
        "train input.json -f notes.pb",
        "'notes.pb' is not a frozen TensorFlow graph. Expected a .pb "
        "file made by `dp freeze` with DeePMD-kit's TensorFlow backend.",
        text("notes.pb", "to do"),
    ),
    "no spin in the graph": file(
        "Begin from a frozen model without spins.",
        "train input.json -f other.pb",
        "'other.pb' holds no spin model: it has no "
        "'spin_attr/ntypes_spin'. Expected a model trained with "
        "`model/spin` and frozen by DeePMD-kit's TensorFlow backend.",
        other_graph("other.pb"),
    ),
    "another model": file(
        "Begin from a model of another shape.",
        "train input.json -i other.keras",
        "'other.keras' is another model than `model` of the input: "
        "descriptor differs (rcut: 4.0 there, 3.0 here). Use the input "
        "it was trained with, or train from scratch.",
        model("other.keras", rcut=4.0),
    ),
    "no optimizer": file(
        "Restart from a model that was never trained.",
        "train input.json -r new.keras",
        "'new.keras' holds no training to go on with: no optimizer's "
        "state. Begin with it by -i.",
        model("new.keras"),
    ),
    "folder is no model": file(
        "Freeze a folder without a model.",
        "freeze -c data",
        "No model: the folder 'data' is no frozen model, and has no file "
        "'checkpoint' that names a checkpoint in it. Name the checkpoint "
        "itself.",
    ),
    # --- Python -----------------------------------------------------------------------
    "compile a compressed model": python(
        "Train a compressed model with Keras.",
        'compressed.compile("adam", deepspin.EnerSpinLoss())',
        "A compressed model cannot be trained: its embedding nets are tables. Train "
        "before compressing, the model that it was made of.",
    ),
    "tables too few": python(
        "Give fewer tables than there are embedding nets.",
        "deepspin.DescrptSeA(4.0, 3.0, [20, 20, 20], 2, leaves=[3, 3])",
        "`leaves` must have 6 entries, one for each embedding net. Received: [3, 3]",
    ),
    "types that the model lacks": python(
        "Give elements that the model does not know.",
        'potential.eval(coord, box, ["Fe", "Fe", "O", "O"], spin)',
        "`atom_types` must be indices or names, one for each atom: 0 for Ni, 1 "
        "for O. Received: ['Fe', 'Fe', 'O', 'O']",
    ),
    "batches of nothing": python(
        "Ask for batches without frames.",
        "potential.eval(coord, box, types, spin, batch_size=0)",
        "`batch_size` must be 1 or more. Received: 0",
    ),
    "directions for other frames": python(
        "Give three directions to two frames.",
        "potential.hvp([coord] * 2, [box] * 2, types, [spin] * 2, [coord] * 3, "
        "[spin] * 3)",
        "Numbers of directions differ. Received: 3 of `dcoords`, 3 of `dspins` for 2 "
        "frames. Give one of each for every frame, or any number for one frame.",
    ),
    "an atom missing": python(
        "Leave an atom out of the positions.",
        "potential.eval(coord[:3], box, types, spin)",
        "`coords` must have the shape (frames, 4, 3), or that of one "
        "frame, or be flat. Received: (3, 3)",
    ),
    "positions are words": python(
        "Give words as positions.",
        'potential.eval("here", box, types, spin)',
        "`coords` must hold real numbers. Received: str (no real numbers)",
    ),
    "positions not finite": python(
        "Give a position that is not finite.",
        "potential.eval(coord + np.inf, box, types, spin)",
        "`coords` of frame 0 has values that are NaN, infinite or beyond 1e+15.",
    ),
    "two cells for one frame": python(
        "Give two cells for one frame.",
        "potential.eval(coord, [box, box], types, spin)",
        "Numbers of frames differ. Received: 1 of `coords`, 1 of "
        "`spins`, 2 of `cells`. Give one of each for every frame.",
    ),
    "periodic without cell": python(
        "Ask for periodic boundaries without a cell.",
        "potential.eval(coord, None, types, spin, pbc=True)",
        "Periodic boundaries need `cells`. Received: None. Give lattice "
        "vectors, or pbc=False.",
    ),
    "two boundaries": python(
        "Give boundaries for two directions.",
        "potential.eval(coord, box, types, spin, pbc=[True, True])",
        "`pbc` must be a bool or 3 of them. Received: [True, True]",
    ),
    "cell singular": python(
        "Give a cell without volume.",
        "potential.eval(coord, 0 * box, types, spin)",
        "`cells` of frame 0 is singular: [[0.0, 0.0, 0.0], [0.0, 0.0, "
        "0.0], [0.0, 0.0, 0.0]]. Rows must be lattice vectors in Å; "
        "without periodicity pass None.",
    ),
    "spin of zero": python(
        "Give no spin to a magnetic atom.",
        "potential.eval(coord, box, types, 0 * spin)",
        "Atom 0 of frame 0 has |spin| = 0, but type 'Ni' is a spin type; "
        "its virtual atom would coincide with it. Give it a spin (1e-6 "
        "μ_B will do) or use a model with `env_protection`.",
    ),
    "atoms coincide": python(
        "Put all atoms into one place.",
        "potential.eval(0 * coord, box, types, spin)",
        "Two atoms of frame 0, or an atom and a virtual atom, are at the "
        "same place. Separate them.",
    ),
    "frame too wide": python(
        "Give lengths in fm.",
        "potential.eval(coord, box * [[1e9], [1e5], [1]], types, spin)",
        "the frame is 4.2e+09 x 4.2e+05 x 4.2 Å wide, too much for "
        "neighbours within 3.9 Å. Check that lengths are in Å; a direction "
        "without periodicity needs none.",
    ),
    "atoms without moments": python(
        "Give atoms of ASE no magnetic moments.",
        "atoms.calc = deepspin.DeepSpinCalculator(potential)\n"
        'del atoms.arrays["initial_magmoms"]\n'
        "atoms.get_potential_energy()",
        "The atoms have no magnetic moments, but types Ni have spin. Say "
        "atoms.set_initial_magnetic_moments(moments): N x 3 numbers in μ_B, or N along "
        "z.",
    ),
    "element that the model lacks": python(
        "Give atoms of ASE of an element that the model does not know.",
        "atoms.calc = deepspin.DeepSpinCalculator(potential)\n"
        'atoms.symbols[0] = "Fe"\n'
        "atoms.get_potential_energy()",
        "The model knows Ni, O, but not Fe. If types are not named like elements, tell "
        "what they are: DeepSpinCalculator(model, type_map={'Fe': 'Ni'}).",
    ),
    "mapping to no type": python(
        "Map an element to no type of the model.",
        'deepspin.DeepSpinCalculator(potential, type_map={"Fe": "iron"})',
        "`type_map` must give chemical symbols a type of the model, which are Ni, O. "
        "Received: {'Fe': 'iron'}",
    ),
    "types that are no elements": python(
        "Make a calculator of a model whose types are not named like elements.",
        'potential.model.type_map = ["metal", "ligand"]\n'
        "deepspin.DeepSpinCalculator(potential)",
        "No type of the model has the name of an element: metal, ligand. Tell what "
        "they are, such as DeepSpinCalculator(model, type_map={'Ni': 'metal'}).",
    ),
    "parameter of another calculator": python(
        "Set a parameter of another calculator.",
        'deepspin.DeepSpinCalculator(potential).set(xc="PBE")',
        "DeepSpinCalculator has one parameter, `fparam`. Received: 'xc'",
        ends="TypeError",
    ),
    "frame parameters for a model without": python(
        "Give frame parameters to a model that takes none.",
        "potential.eval(coord, box, types, spin, fparam=[300.0])",
        "The model takes no frame parameters. Received: `fparam` of shape (1,). Leave "
        "it out.",
    ),
    "no frame parameters": python(
        "Give none to a model that takes some.",
        "potential.model.fitting = deepspin.EnerFitting(2, 8, numb_fparam=2)\n"
        "potential.eval(coord, box, types, spin)",
        "The model takes 2 frame parameters: `fparam` must have the shape (1, 2), or "
        "(2,) for all frames, or be flat. Received: none",
    ),
    "frame parameters in inputs": python(
        "Give frame parameters among the inputs of a model that takes none.",
        'data = deepspin.DataSystem("data", **model.data_spec)\n'
        'model(data.batch(0)[0] | {"fparam": np.zeros((1, 2))})',
        "The model takes no frame parameters. Received: `fparam` of shape (1, 2). "
        "Leave it out.",
    ),
    "no frame parameters in inputs": python(
        "Forget them among the inputs of a model that takes some.",
        'data = deepspin.DataSystem("data", **model.data_spec)\n'
        "model.fitting = deepspin.EnerFitting(2, 8, numb_fparam=2)\n"
        "model(data.batch(0)[0])",
        "The model takes 2 frame parameters: `fparam` must be float64 of shape (2, "
        "2). Received: none",
    ),
    "numb_fparam of -1": python(
        "Ask for less than no frame parameters.",
        "deepspin.EnerFitting(2, 64, numb_fparam=-1)",
        "`numb_fparam` must be 0 or more. Received: numb_fparam=-1",
    ),
    "position far outside": python(
        "Give a position far outside the cell.",
        "potential.eval(coord + [[1e10, 0, 0], [0, 0, 0], [0, 0, 0], [0, "
        "0, 0]], box, types, spin)",
        "a point is 2.38e+09 lattice vectors away from the cell. Wrap "
        "coordinates into it, and check that they are in Å.",
    ),
    "input is a list in Python": python(
        "Give a list as the input.",
        "normalize([])",
        "The input is []; expected an object with `model`, `loss` and so on.",
        "InputError",
    ),
    "one replica without its axis": python(
        "Give positions without an axis of replicas.",
        "dynamics.State(coord=coord, spin=spin, mass=np.ones(4), atype=types)",
        "`coord` must have the shape (replicas, atoms, 3). Received: (4, 3)",
    ),
    "replicas of other shapes": python(
        "Give spins of fewer replicas than positions.",
        "dynamics.State(coord=np.stack([coord, coord]), spin=spin[None], "
        "mass=np.ones(4), atype=types)",
        "`spin` must have the shape (2, 4, 3). Received: (1, 4, 3)",
    ),
    "no mass": python(
        "Give an atom no mass.",
        "dynamics.State(coord=coord[None], spin=spin[None], mass=np.arange(4), "
        "atype=types)",
        "Masses must be positive, in amu. Received: 0.0 for atom 0",
    ),
    "timestep of zero": python(
        "Move by a timestep of 0.",
        "dynamics.Integrator(dynamics.ModelFields(potential, types, box), 0.0)",
        "`timestep` must be a positive number of fs (negative, to run back in time, "
        "only without baths). Received: 0.0",
    ),
    "bath of what stays": python(
        "Heat atoms that do not move.",
        "fields = dynamics.ModelFields(potential, types, box)\n"
        "dynamics.Integrator(fields, 0.5, lattice=False, "
        "lattice_bath=dynamics.Langevin(300.0, 0.01))",
        "A bath needs something that moves. Received: lattice=False, "
        "lattice_bath=Langevin(temperature=300.0, friction=0.01), spins=True, "
        "spin_bath=None",
    ),
    "negative temperature": python(
        "Give a bath a negative temperature.",
        "dynamics.Gilbert(-300.0, 0.1)",
        "`temperature` must be at least 0 K. Received: -300.0",
    ),
    "field of a number": python(
        "Give a field that is no vector.",
        "dynamics.Zeeman(dynamics.ModelFields(potential, types, box), 50.0)",
        "`field` must be a vector in T, or one for each replica. Received: shape ()",
    ),
    "two origins": python(
        "Begin from two models.",
        'deepspin.train("input.json", restart="a", init_model="b")',
        "Give at most one of -i (init_model), -r (restart), -f (init_frz_model).",
        "InputError",
    ),
    "no systems": python(
        "Give no system.",
        "deepspin.DataSystem([], **model.data_spec)",
        "`systems` is empty. Give at least one path.",
        "DataError",
    ),
    "batch size is a word": python(
        "Give a batch size that is none.",
        'deepspin.DataSystem("data", **model.data_spec, batch_size="all")',
        "`batch_size` must be an integer, a list, 'auto' or 'auto:N'. Received: 'all'",
        "DataError",
    ),
    "batch size of zero": python(
        "Give a batch size of zero.",
        'deepspin.DataSystem("data", **model.data_spec, batch_size=0)',
        "`batch_size` must hold integers of at least 1. Received: 0",
        "DataError",
    ),
    "sel without virtual types in data": python(
        "Give no `sel` for the virtual atoms.",
        "scheme = model.spin.scheme\n"
        'deepspin.DataSystem("data", ["Ni", "O"], scheme, 3.0, sel=[20, 20])',
        "`sel` must have 3 numbers from 0 on: one for each type, and one for each spin "
        "type's virtual atoms, which `spin.extend_sel(sel)` appends. Received: "
        "[20, 20]",
    ),
    "layer for a scheme": python(
        "Give the layer instead of the spin scheme.",
        'deepspin.DataSystem("data", ["Ni", "O"], model.spin, 3.0)',
        "`spin` must be a spin scheme, such as `model.spin.scheme`. Received: Spin",
        "TypeError",
    ),
    "rcut of zero": python(
        "Give a cutoff of zero.",
        'deepspin.DataSystem("data", ["Ni", "O"], model.spin.scheme, 0)',
        "`rcut` must be a length in Å above 0. Received: 0",
    ),
    "seed of -1": python(
        "Give a negative seed.",
        'deepspin.DataSystem("data", **model.data_spec, seed=-1)',
        "`seed` must be 0 or more. Received: -1",
    ),
    "unknown auto_prob": python(
        "Mistype `auto_prob`.",
        'deepspin.DataSystem("data", **model.data_spec, auto_prob="uniform")',
        "`auto_prob` must be 'prob_uniform', 'prob_sys_size' or "
        "'prob_sys_size;BEGIN:END:WEIGHT;...'. Received: 'uniform'",
        "DataError",
    ),
    "type_map of another length": python(
        "Give a type map of another length.",
        'deepspin.DataSystem("data", **(model.data_spec | {"type_map": ["Ni"]}))',
        "`type_map` must name the 2 types of the spin scheme. Received: ['Ni']",
    ),
    "no type.raw": python(
        "Load a folder that is no system.",
        'load_system("data/set.000", ["Ni", "O"], model.spin.scheme)',
        "'data/set.000' has no type.raw, so it is no system. Give the "
        "folder or group that has it.",
        "DataError",
    ),
    "loss function unknown": python(
        "Ask for a loss function that is not there.",
        'deepspin.EnerSpinLoss(loss_func="huber")',
        "`loss_func` must be 'mse' or 'mae'. Received: 'huber'",
    ),
    "no last rate": python(
        "Give no last learning rate.",
        "deepspin.ExpDecay(1e-3, 1000)",
        "Give one of `stop_lr` and `stop_lr_ratio`. Received: "
        "stop_lr=None, stop_lr_ratio=None",
    ),
    "learning rate of zero": python(
        "Begin with a learning rate of 0.",
        "deepspin.ExpDecay(0.0, 1000, stop_lr=1e-8)",
        "`start_lr` must be positive. Received: 0.0",
    ),
    "warm-up of all steps": python(
        "Warm up in all steps.",
        "deepspin.ExpDecay(1e-3, 1000, stop_lr=1e-8, warmup_steps=1000)",
        "The warm-up must end before the training. Received: 1000 of 1000 steps",
    ),
    "rcut_smth beyond rcut": python(
        "Begin to smooth beyond the cutoff.",
        "deepspin.DescrptSeA(rcut=4.0, rcut_smth=5.0, sel=[20, 20, 20], ntypes=2)",
        "`rcut_smth` must be at least 0 and below `rcut`. Received: "
        "rcut_smth=5.0, rcut=4.0",
    ),
    "axis_neuron beyond neuron": python(
        "Keep more columns than there are.",
        "deepspin.DescrptSeA(rcut=6.0, rcut_smth=5.0, sel=[20, 20, 20], "
        "ntypes=2, neuron=[8, 16], axis_neuron=32)",
        "`axis_neuron` must not exceed the last width of `neuron`. "
        "Received: axis_neuron=32, neuron=[8, 16]",
    ),
    "trainable_layers": python(
        "Give `trainable_layers` for the hidden layers only.",
        "deepspin.EnerFitting(2, 64, neuron=[8, 8], trainable_layers=[True, True])",
        "`trainable_layers` needs one entry for each hidden layer and "
        "one for the last. Received: [True, True] for [8, 8]",
    ),
    "unknown activation": python(
        "Ask for an activation function that is not there.",
        'deepspin.EnerFitting(2, 64, neuron=[8, 8], activation_function="sine")',
        "Unknown activation function. Received: 'sine'; expected one of "
        "['gelu', 'gelu_tf', 'linear', 'none', 'relu', 'relu6', "
        "'sigmoid', 'silu', 'silut', 'softplus', 'tanh'] or "
        "'silut:THRESHOLD'.",
    ),
    "spin without lengths": python(
        "Give a spin scheme no lengths.",
        "deepspin.Spin([True, False])",
        "Give either `virtual_len` and `spin_norm`, or `virtual_scale`.",
    ),
    "spin with two lengths": python(
        "Give two lengths for one spin type.",
        "deepspin.Spin([True, False], virtual_len=[0.4, 0.4], spin_norm=[1.2, 1.2])",
        "1 types have a spin, but 2 values were given for `virtual_len`, "
        "`spin_norm` or `virtual_scale`.",
    ),
    "spin scale negative": python(
        "Give a negative scale.",
        "deepspin.Spin([True, False], virtual_scale=[-0.3])",
        "`virtual_len`, `spin_norm` and `virtual_scale` must be positive. Received: "
        "-0.3",
    ),
    "sel without virtual types": python(
        "Give the model a descriptor without the virtual types.",
        "deepspin.SpinEnergyModel(model.type_map, "
        "deepspin.DescrptSeA(rcut=3.0, rcut_smth=2.0, sel=[20, 20], "
        "ntypes=2), model.fitting, model.spin)",
        "`descriptor.sel` needs 3 entries, for each type and each spin type's virtual "
        "atoms: `spin.scheme.extend_sel(sel)`. Received: (20, 20)",
    ),
    "metrics": python(
        "Ask Keras for metrics.",
        'model.compile("adam", deepspin.EnerSpinLoss(), metrics=["mae"])',
        "['metrics'] have no use here: the loss sees the whole dict of "
        "outputs, has prefactors of its own and reports each term's rmse.",
    ),
    "no loss": python(
        "Train without a loss.",
        'model.compile("adam", '
        'jit_compile=False)\nmodel.fit(deepspin.DataSystem("data", '
        "**model.data_spec).dataset(steps=1), shuffle=False)",
        "No loss: pass `loss=deepspin.EnerSpinLoss(...)` to compile.",
    ),
    "name of a model file": python(
        "Save a model under another ending.",
        'deepspin.save_model(model, "model.h5")',
        "A model file must end in '.keras'. Received: 'model.h5'",
    ),
    "temperatures that fall": python(
        "Exchange replicas whose temperatures fall.",
        "dynamics.HybridMonteCarlo(potential, [400.0, 300.0])",
        "`temperature` must rise from replica to replica if these are to be exchanged. "
        "Received: [400.0, 300.0]",
    ),
    "samples at no temperature": python(
        "Sample at 0 K.",
        "dynamics.HybridMonteCarlo(potential, [0.0])",
        "`temperature` must be a list of numbers > 0 in K. Received: [0.0]",
    ),
    "no leaps": python(
        "Ask for trajectories without leaps.",
        "dynamics.HybridMonteCarlo(potential, [300.0], leaps=0)",
        "`leaps` must be at least 1, and `acceptance` between 0 and 1. Received: 0 and "
        "0.7",
    ),
    "unknown name": python(
        "Mistype a name of deepspin's.",
        "deepspin.DeepSpn",
        "module 'deepspin' has no attribute 'DeepSpn'",
        "AttributeError",
    ),
    "documentation": python(
        "Ask for documentation in a format that is not there.",
        'gen_doc("md")',
        "`out_type` must be 'rst', 'json' or 'json_schema'. Received: 'md'",
    ),
}


# --- The document ---------------------------------------------------------------------

BEGIN = """\
<!-- Generated by `python tests/mistakes.py`. -->

# Mistakes and answers

Each of these {number} mistakes is made by a test, which compares the answer word for
word, and sees that nothing was written, nothing destroyed, and no traceback shown. On
the command line an answer is one line, after `dp-spin: error:`, and the program ends
with the status 1. `-v` shows the traceback too, `-l LOG` writes it to a file. A call
from Python raises the exception named. An ellipsis, …, stands for what varies.
"""


def document() -> str:
    """All mistakes, section by section, in MyST Markdown."""
    parts = [BEGIN.format(number=len(MISTAKES))]
    for section, about in SECTIONS.items():
        parts.append(f"## {section}\n\n{textwrap.fill(about, 88)}\n")
        for mistake in MISTAKES.values():
            if mistake.section == section:
                parts.append(entry(mistake))
    return "\n".join(parts)


def entry(mistake: Mistake) -> str:
    """One mistake: what was done, what was written or typed, the answer."""
    answer = mistake.says.replace(VARIES, "…")
    blocks = [("text", mistake.shows)] if mistake.shows else []
    if mistake.section == "Python":
        code = "\n".join(f">>> {line}" for line in mistake.how.splitlines())
        blocks.append(("pycon", f"{code}\n{wrapped(f'{mistake.ends}: {answer}')}"))
    elif mistake.shows or mistake.how == TRAIN:
        blocks.append(("text", wrapped(answer)))
    else:
        command = f"$ dp-spin {mistake.how}".rstrip()
        line = wrapped(f"{speaker(mistake)}: error: {answer}")
        blocks.append(("console", f"{command}\n{line}"))
    parts = [f"```{kind}\n{content}\n```\n" for kind, content in blocks]
    return "\n".join([f"**{mistake.did}**\n", *parts])


def speaker(mistake: Mistake) -> str:
    """Who answers: dp-spin, or argparse for the options of a verb."""
    verb = mistake.ends == 2 and mistake.says.startswith("argument -")
    return f"dp-spin {mistake.how.split()[0]}" if verb else "dp-spin"


def wrapped(answer: str) -> str:
    """An answer in lines that a page holds."""
    return textwrap.fill(answer, 88, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
