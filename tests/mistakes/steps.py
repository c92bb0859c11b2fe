# SPDX-License-Identifier: Apache-2.0
"""Steps from a valid training to a mistake, and what calls from Python may use."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from .row import Step
from .valid import BOX, COORD, INPUT, SPIN, TYPES, write_json, write_system

MISSING = object()
TABLES = (1,) * 6  # pieces of the tables of a compressed model


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


def models_for_python(folder: Path) -> dict:
    """Models that the code of the section Python may use, loaded from a folder."""
    import deepspin

    (folder / "model.keras").write_bytes(model_bytes())
    model = deepspin.load_model(folder / "model.keras")
    (folder / "compressed.keras").write_bytes(model_bytes(leaves=TABLES))
    return {
        "model": model,
        "compressed": deepspin.load_model(folder / "compressed.keras"),
        "potential": deepspin.DeepSpin(model),
    }


def names_for_python(models: dict) -> dict:
    """Everything that the code of the section Python may use."""
    import ase

    import deepspin
    from deepspin import dynamics
    from deepspin.data.systems import load_system
    from deepspin.utils.argcheck import gen_doc
    from deepspin.utils.inputs import normalize

    return {
        "np": np,
        "deepspin": deepspin,
        "dynamics": dynamics,
        "normalize": normalize,
        "load_system": load_system,
        "gen_doc": gen_doc,
        "coord": COORD,
        "box": BOX,
        "types": TYPES,
        "spin": SPIN,
        "atoms": ase.Atoms("Ni2O2", COORD, cell=BOX, pbc=True, magmoms=SPIN),
        **models,
    }


NO_LABELS = [remove(f"data/set.000/{n}.npy") for n in ("energy", "force", "force_mag")]
