# SPDX-License-Identifier: Apache-2.0
"""Data beyond the memory that they may take: the same, bit for bit, from a file."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import small_data

from deepspin import env
from deepspin.data import scratch
from deepspin.data.dataset import DataSystem
from deepspin.data.files import DataError
from deepspin.data.systems import load_system
from deepspin.spins.schemes import build_scheme
from deepspin.training.runs import fingerprint, nearest_pairs, spin_range

NFRAMES = 7
TYPES = ["Ni", "O"]
SPIN = build_scheme(
    {"use_spin": [True, False], "virtual_len": [0.4], "spin_norm": [1.2737]}
)


@pytest.fixture
def little(monkeypatch):
    """Memory for next to nothing, pieces of two or three frames."""
    monkeypatch.setenv("DEEPSPIN_DATA_MEMORY", "1e-6")
    monkeypatch.setattr(scratch, "PIECE", 2000)
    monkeypatch.setattr(scratch.pieces, "__defaults__", (2000,))


def system(folder, layout):
    """Two sets in a layout."""
    for seed, part in enumerate(("set.000", "set.001")):
        arrays, types = small_data.frames(NFRAMES - seed, seed=seed)
        if layout in ("virtual", "mixed"):
            arrays, types = small_data.with_virtual_atoms(arrays, types)
        names = None if layout == "virtual" else ("Ni", "O")
        if layout == "mixed":
            names = ("Ni", "O", "Ni_spin")
            nframes = len(arrays["energy"])
            arrays["real_atom_types"] = np.broadcast_to(types, (nframes, len(types)))
            types = 0 * types
        arrays["fparam"] = np.arange(2.0 * len(arrays["energy"])).reshape(-1, 2)
        where = folder / part if layout == "other" else folder
        if part == "set.000" or layout == "other":
            small_data.write(where, arrays, types, names, part)
        else:
            (folder / part).mkdir()
            for name, array in arrays.items():
                np.save(folder / part / f"{name}.npy", array.reshape(len(array), -1))
    if layout == "hdf5":
        return to_hdf5(folder)
    return str(folder)


def to_hdf5(folder):
    path = folder.with_suffix(".hdf5")
    with h5py.File(path, "w") as file:
        for name in ("type.raw", "type_map.raw"):
            words = (folder / name).read_text().split()
            file[f"s/{name}"] = np.array(words, dtype="S")
        for array in folder.rglob("*.npy"):
            file[f"s/{array.relative_to(folder)}"] = np.load(array)
    return f"{path}#/s"


def same(one, other):
    """Whether two systems are the same, bit for bit."""
    for name in ("path", "pbc", "layout", "sets", "named"):
        assert getattr(one, name) == getattr(other, name)
    assert one.labels.keys() == other.labels.keys()
    rows = [(getattr(one, n), getattr(other, n)) for n in scratch.FIELDS]
    rows += [(one.labels[n], other.labels[n]) for n in one.labels]
    for a, b in rows:
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()


@pytest.mark.parametrize("layout", ["files", "virtual", "mixed", "hdf5"])
def test_same_bits(tmp_path, request, layout):
    path = system(tmp_path / "s", layout)
    plain = load_system(path, TYPES, SPIN, numb_fparam=2)
    assert plain.coord.flags.writeable and plain.labels.keys() >= {"force_mag"}
    request.getfixturevalue("little")
    large = load_system(path, TYPES, SPIN, numb_fparam=2)
    assert not large.coord.flags.writeable  # it is the file's
    same(plain, large)
    assert large.where(NFRAMES) == plain.where(NFRAMES)


def test_same_batches(tmp_path, request):
    """Lists and what the training reads are made for a batch, the numbers stay."""
    paths = [system(tmp_path / name, "virtual") for name in "ab"]
    options = {"batch_size": 3, "seed": 3, "numb_fparam": 2}
    plain = DataSystem(paths, TYPES, SPIN, 4.0, **options)
    request.getfixturevalue("little")
    large = DataSystem(paths, TYPES, SPIN, 4.0, **options)
    for data in (plain, large):
        data.scale_force_mag(0.5)
        data.truncate(SPIN.extend_sel([20, 20]))
    assert large._lists._kept is None and plain._lists._kept is not None
    pairs = zip(plain.dataset(0, 6), large.dataset(0, 6), strict=True)
    for one, other in pairs:
        flat = [[*x.values()] for pair in (one, other) for x in pair]
        for a, b in zip(flat[0] + flat[1], flat[2] + flat[3], strict=True):
            rows = ((a,), (b,)) if not isinstance(a, tuple) else (a, b)
            for x, y in zip(*rows, strict=True):
                np.testing.assert_array_equal(x.numpy(), y.numpy())
    assert fingerprint(plain) == fingerprint(large)
    assert spin_range(plain) == spin_range(large)
    np.testing.assert_array_equal(nearest_pairs(plain), nearest_pairs(large))


@pytest.mark.parametrize("frame", [1, 5])
def test_mistakes_have_their_frame(tmp_path, little, frame):
    path = system(tmp_path / "s", "files")
    file = tmp_path / "s" / "set.001" / "coord.npy"
    coord = np.load(file)
    coord[frame, 4] = np.nan
    np.save(file, coord)
    with pytest.raises(DataError, match=rf"coord.npy': nan in frame {frame}, atom 1"):
        load_system(path, TYPES, SPIN)
    coord[frame, 3:6] = coord[frame, :3]
    np.save(file, coord)
    with pytest.raises(DataError, match=rf"frame {frame} of '.*set.001': atom 0 and"):
        load_system(path, TYPES, SPIN)
    (tmp_path / "s" / "set.001" / "spin.npy").unlink()
    with pytest.raises(DataError, match=r"spin.npy' is missing: other sets"):
        load_system(path, TYPES, SPIN)


def test_room(tmp_path, little, monkeypatch):
    path = system(tmp_path / "s", "files")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    with pytest.raises(DataError, match="in TMPDIR, or raise DEEPSPIN_DATA_MEMORY"):
        load_system(path, TYPES, SPIN)
    monkeypatch.setenv("DEEPSPIN_DATA_MEMORY", "much")
    with pytest.raises(ValueError, match="must be a number of GiB above 0"):
        load_system(path, TYPES, SPIN)
    monkeypatch.delenv("DEEPSPIN_DATA_MEMORY")
    assert env.data_memory() > 2**20
