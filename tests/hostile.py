# SPDX-License-Identifier: Apache-2.0
"""Small files that ask for much memory or time, of each format that is read.

    python tests/hostile.py

makes each of them, reads it in a process of its own, and prints for each format the
worst file: its size, what is answered, and what that took. Exits with status 1 if one
takes more than `MEMORY` or `SECONDS`, or is read without a word.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import multiprocessing
import os
import pickle
import resource
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from deepspin.modelfiles.find import FROZEN_METADATA

MEMORY, SECONDS = 2**30, 10.0
# what a process may ask for; it fails then
MOST = 12 * 2**30
HUGE = 2**31  # bytes that nobody has to have

Make = Callable[[Path], None]
FILES: dict[str, dict[str, Make]] = {}  # by format, then by name


def of(form: str, name: str) -> Callable[[Make], Make]:
    """Add what makes a file of a format."""

    def add(make: Make) -> Make:
        FILES.setdefault(form, {})[name] = make
        return make

    return add


def of_text(form: str, name: str, text: str) -> None:
    """Add a text."""
    of(form, name)(lambda path: path.write_text(text) and None)


# --- Texts ----------------------------------------------------------------------------

ALIASES = "a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 8)}]\n" for k in range(1, 12)
)
DEEP = "[" * 900 + "]" * 900
of_text("YAML", "aliases.yaml", ALIASES)
of_text("YAML", "deep.yaml", "a: " + "[" * 300 + "]" * 300)
of_text("YAML", "circle.yaml", "a: &a [*a]")
of_text("YAML", "digits.yaml", f"a: {'9' * 5000}")
of_text("JSON", "deep.json", DEEP)
of_text("JSON", "deeper.json", "[" * 10**5 + "]" * 10**5)
of_text("JSON", "digits.json", f'{{"a": {"9" * 5000}}}')
of_text("JSON", "keys.json", json.dumps({f"k{n}": n for n in range(40_000)}))
of_text("JSON", "blanks.json", " " * 17 * 2**20)
of_text("extended XYZ", "atoms.extxyz", f"{10**15}\n\nNi 0 0 0\n")
of_text("extended XYZ", "digits.extxyz", f"{'9' * 5000}\n\nNi 0 0 0\n")
of_text(
    "extended XYZ",
    "columns.extxyz",
    f"1\nProperties=species:S:1:pos:R:3:x:R:{10**12}\nNi 0 0 0\n",
)
of_text(
    "extended XYZ",
    "quotes.extxyz",
    '1\nProperties=species:S:1:pos:R:3 a="' + '\\"' * 200_000 + "\nNi 0 0 0\n",
)
of_text("text log", "long.log", "#" + "x" * 2**24 + "\n0 1 2\n")
of_text("text log", "names.log", "# step e_pot\n# - eV\n" + "1 " * 10**6 + "\n")


# --- HDF5 -----------------------------------------------------------------------------


def _compressed(group: h5py.Group, name: str) -> None:
    group.create_dataset(name, (HUGE // 8, 1), "f8", compression="gzip")


@of("HDF5 data", "gzip.h5")
def _(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["sys/type.raw"] = [0]
        _compressed(file, "sys/set.000/coord.npy")


@of("HDF5 data", "never.h5")
def _(path: Path) -> None:
    """Space that was declared and never written."""
    with h5py.File(path, "w") as file:
        file["sys/type.raw"] = [0]
        file.create_dataset("sys/set.000/coord.npy", (10**12, 3), "f8")


@of("HDF5 data", "types.h5")
def _(path: Path) -> None:
    """A type of a very large number."""
    with h5py.File(path, "w") as file:
        file["sys/type.raw"] = [0, 4 * 10**12]
        file["sys/set.000/coord.npy"] = np.zeros((1, 6))
        file["sys/set.000/box.npy"] = np.eye(3).reshape(1, 9)


@of("HDF5 data", "groups.h5")
def _(path: Path) -> None:
    """Links that lead back, by many ways."""
    with h5py.File(path, "w") as file:
        for number in range(150):
            group = file.create_group(f"g{number}")
            for other in range(number):
                group[f"to{other}"] = file[f"g{other}"]


@of(".h5 trajectory", "frames.h5")
def _(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["type_map"], file["atype"] = [b"Ni"], [0]
        file["pbc"], file["mass"] = [False] * 3, [58.7]
        for name in ("step", "time", "coord", "spin", "energy"):
            _compressed(file, name)


@of(".dp", "gzip.dp")
def _(path: Path) -> None:
    with h5py.File(path, "w") as file:
        _compressed(file, "variable_0000")
        tree = {"model": {"@variables": {"w": "variable_0000"}}}
        file.attrs["json"] = json.dumps(tree)


@of(".dp", "deep.dp")
def _(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["json"] = DEEP


# --- Archives and arrays --------------------------------------------------------------


def _header(shape: tuple[int, ...], dtype: str = "<f8") -> bytes:
    """An npy file of a shape, without its numbers."""
    stream = io.BytesIO()
    head = {"shape": shape, "fortran_order": False, "descr": dtype}
    np.lib.format.write_array_header_1_0(stream, head)
    return stream.getvalue() + b"\0" * 64


def _system(folder: Path, coord: bytes, types: str = "0\n") -> None:
    (folder / "set.000").mkdir(parents=True)
    (folder / "type.raw").write_text(types)
    (folder / "set.000" / "coord.npy").write_bytes(coord)


for _name, _content in {
    "shape": _header((10**13, 3)),
    "large": _header((10**9, 3)),
    "letters": _header((1,), "<U500000000"),
    "nested": b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535,
}.items():
    of("npy", _name)(lambda path, content=_content: _system(path, content))


@of("npy", "types")
def _(path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.zeros((1, 6)))
    _system(path, stream.getvalue(), f"0 {4 * 10**12}\n")


@of("restart of md", "shape.npz")
def _(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        about = io.BytesIO()
        np.save(about, json.dumps({"format": 1}))
        archive.writestr("about.npy", about.getvalue())
        archive.writestr("state.coord.npy", _header((1, 10**10, 3)))


@of("restart of md", "blanks.npz")
def _(path: Path) -> None:
    _zipped(path, "about.npy")


def _zipped(path: Path, name: str) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open(name, "w") as member:
            for _ in range(20):
                member.write(b" " * 2**24)


for _name in ("config.json", "deepspin.json", "model.weights.h5"):
    of(".keras", _name.replace(".", "-") + ".keras")(
        lambda path, name=_name: _zipped(path, name)
    )


def model_of(old: str, new: str) -> Make:
    """A model file with one option changed, so that it says more than it holds."""

    def make(path: Path) -> None:
        from kills import INPUT

        import deepspin
        from deepspin.interop.deepmd import normalize_model

        deepspin.build_model(normalize_model(INPUT["model"])).save(path)
        with zipfile.ZipFile(path) as archive:
            held = {n: archive.read(n) for n in archive.namelist()}
        config = held["config.json"].decode()
        assert old in config
        config = config.replace(old, new)
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in held.items():
                text = config if name == "config.json" else content
                archive.writestr(name, text)

    return make


for _name, _old, _new in (
    ("wide", '"neuron": [4, 8]', '"neuron": [20000, 40000]'),
    ("axis", '"axis_neuron": 2', '"axis_neuron": 1000000000'),
    ("fparam", '"numb_fparam": 0', '"numb_fparam": 1000000000'),
):
    of(".keras", f"{_name}.keras")(model_of(_old, _new))


# --- Of other programs ----------------------------------------------------------------


@of("ASE's .traj", "shape.traj")
def _(path: Path) -> None:
    """An array that is declared larger than it is."""
    from ase import Atoms
    from ase.io import write

    write(path, Atoms("Ni"))
    content = path.read_bytes()
    old = b'"positions.": {"ndarray": [[1, 3], "float64", '
    assert old in content
    new = old.replace(b"[1, 3]", b"[9999999999, 3]")
    # what follows moves: the text has its length before it, and its place at the end
    path.write_bytes(_longer(content, old, new))


def _longer(content: bytes, old: bytes, new: bytes) -> bytes:
    """Replace in the JSON at the end of a file of ASE's."""
    place = int.from_bytes(content[40:48], "little")
    (start,) = np.frombuffer(content[place : place + 8], "<i8")
    size = int.from_bytes(content[start : start + 8], "little")
    text = content[start + 8 : start + 8 + size].replace(old, new)
    return (
        content[:start] + len(text).to_bytes(8, "little") + text
        if place < start
        else content
    )


@of("ASE's .traj", "items.traj")
def _(path: Path) -> None:
    """A number of frames that is not there."""
    from ase import Atoms
    from ase.io import write

    write(path, Atoms("Ni"))
    content = bytearray(path.read_bytes())
    content[32:40] = (10**10).to_bytes(8, "little")
    path.write_bytes(content)


@of("LMDB", "frames.lmdb")
def _(path: Path) -> None:
    _lmdb(path, {"nframes": 10**9, "type_map": ["Ni"]})


@of("LMDB", "shape.lmdb")
def _(path: Path) -> None:
    coords = {"type": "<f8", "shape": [10**12, 3], "data": b"\0" * 24}
    frame = {"coords": coords, "atom_types": [0]}
    _lmdb(path, {"nframes": 1, "type_map": ["Ni"]}, frame)


def _lmdb(path: Path, meta: dict, frame: dict | None = None) -> None:
    import lmdb
    import msgpack

    with lmdb.open(str(path), map_size=2**20) as base, base.begin(write=True) as keys:
        keys.put(b"__metadata__", msgpack.packb(meta))
        if frame is not None:
            keys.put(b"0" * 12, msgpack.packb(frame))


@of(".pb", "shape.pb")
def _(path: Path) -> None:
    """A constant that is declared larger than it is."""
    from tensorflow.core.framework.graph_pb2 import GraphDef

    graph = GraphDef()
    for name in ("spin_attr/ntypes_spin", "model_type"):
        node = graph.node.add(name=name, op="Const")
        tensor = node.attr["value"].tensor
        tensor.dtype = 2
        tensor.double_val.append(1.0)
        tensor.tensor_shape.dim.add(size=10**9)
    path.write_bytes(graph.SerializeToString())


@of("SavedModel", "deep")
def _(path: Path) -> None:
    (path / FROZEN_METADATA).parent.mkdir(parents=True)
    (path / FROZEN_METADATA).write_text(DEEP)


@of("SavedModel", "blanks")
def _(path: Path) -> None:
    (path / FROZEN_METADATA).parent.mkdir(parents=True)
    (path / FROZEN_METADATA).write_text(" " * 17 * 2**20)


# --- Reading --------------------------------------------------------------------------


def read(form: str, path: Path) -> None:
    """Read a file as verbs do."""

    def found(module: str, name: str) -> Callable:
        return getattr(importlib.import_module(f"deepspin.{module}"), name)

    if form in ("YAML", "JSON"):
        inputs = found("utils.inputs", "load_input")(path)
        found("utils.inputs", "normalize")(inputs)
    elif form in (".keras", ".dp", ".pb", "SavedModel"):
        found("modelfiles.archive", "load_model")(path)
    elif form == "restart of md":
        found("dynamics.md.restart", "RestartFile").load(path)
    elif form == "text log":
        found("entrypoints.plot", "plot")([str(path)], output=f"{path}.png")
    else:
        places = found("data.find", "find_systems")(str(path))
        load = found("data.systems", "load_systems")
        load(
            places,
            ["Ni"],
            found("spins.virtual", "VirtualAtoms").from_options([True], [0.4], [1.0]),
        )


def attempt(form: str, path: Path) -> str:
    """What reading a file answers; empty for nothing."""
    try:
        read(form, path)
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    except Exception as error:
        return f"unexpected {type(error).__name__}: {error}"
    return ""


def measure(form: str, path: Path) -> tuple[str, float, int]:
    """Read a file in a fork: what is answered, seconds, and bytes of memory."""
    ours, theirs = os.pipe()
    if (pid := os.fork()) == 0:
        resource.setrlimit(resource.RLIMIT_AS, (MOST, MOST))
        resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        before = resident("VmRSS")
        begin = time.perf_counter()
        text = attempt(form, path)
        seconds = time.perf_counter() - begin
        os.write(theirs, pickle.dumps((text, seconds, resident("VmHWM") - before)))
        os._exit(0)
    os.close(theirs)
    with open(ours, "rb") as stream:
        answer = stream.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return pickle.loads(answer) if answer else (f"ended with {status}", 1e9, 0)


def resident(name: str) -> int:
    """Bytes of memory of this process, now or at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise OSError(name)


def size_of(path: Path) -> int:
    """Bytes of a file or folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_blocks * 512 for file in files)


def main(args: list[str] | None = None) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="show all files")
    parser.add_argument("--formats", nargs="+", choices=FILES, default=list(FILES))
    options = parser.parse_args(args)
    for module in ("env", "modelfiles.archive", "data.find", "entrypoints.plot"):
        importlib.import_module(f"deepspin.{module}")
    spawn = multiprocessing.get_context("spawn")
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        for form in options.formats:
            rows = []
            for name in FILES[form]:
                path = Path(folder) / name
                maker = spawn.Process(target=produce, args=(form, name, path))
                maker.start()
                maker.join()
                text, seconds, memory = measure(form, path)
                rows.append((memory, seconds, name, size_of(path), text))
                if memory > MEMORY or seconds > SECONDS or not text:
                    wrong.append(f"{form}: {name}: {text}")
            for memory, seconds, name, size, text in sorted(rows, reverse=True):
                sys.stdout.write(
                    f"{form:15s} {name:22s} {size / 1e3:9.1f} kB {seconds:6.2f} s "
                    f"{memory / 1e6:8.1f} MB  {text[-150:]}\n"
                )
                sys.stdout.flush()
                if not options.all:
                    break
    sys.stdout.write("".join(f"wrong: {text[:300]}\n" for text in wrong))
    return int(bool(wrong))


def produce(form: str, name: str, path: Path) -> None:
    """Make a file, in a process of its own: some need TensorFlow."""
    FILES[form][name](path)


if __name__ == "__main__":
    sys.exit(main())
