# SPDX-License-Identifier: Apache-2.0
"""Labels that some frames lack, and moments of atoms that have no spin."""

import logging

import numpy as np
import pytest

from deepspin.data.dataset import DataSystem
from deepspin.data.files import DataError
from deepspin.data.systems import load_systems
from deepspin.spins.invariant import Invariant
from deepspin.spins.virtual import VirtualAtoms
from tests.layouts import (
    ATYPE,
    LABELS,
    SCHEME,
    TYPE_MAP,
    WRITERS,
    load,
    make,
    with_virtual,
    write_npy,
)

HAS = np.array([True, False, True, False])


def serve(path, **options):
    return DataSystem(path, TYPE_MAP, SCHEME, 4.0, batch_size=4, **options)


# -- labels ----------------------------------------------------------------------------


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("kind", WRITERS)
def test_rows_of_nan(tmp_path, caplog, kind, label):
    """In every kind of file: the other frames and labels are as they were."""
    whole, data = make(), make()
    data[label][~HAS] = np.nan
    names = ["O", "Ni"]
    path = WRITERS[kind](tmp_path / "s", ATYPE, data, names)
    with caplog.at_level(logging.WARNING):
        system = load(path)
    np.testing.assert_array_equal(system.has(label), HAS)
    for name in LABELS:
        kept = system.has(name)
        np.testing.assert_allclose(
            system.labels[name][kept], whole[name][kept], rtol=0, atol=1e-12
        )
    end = "each is 1 there" if label == "atom_ener_coeff" else "these do not count in"
    (told,) = [r.message for r in caplog.records if "missing" in r.message]
    assert told.startswith(f"'{label}' is missing in 2 of 4 frames of '{path}': {end}")


def test_masked_in_memory():
    data = make()
    masked = np.ma.array(data["force_mag"], mask=False)
    masked[~HAS] = np.ma.masked
    given = {**data, "force_mag": masked, "atype": ATYPE}
    found = DataSystem.from_arrays(given, type_map=TYPE_MAP, spin=SCHEME, rcut=4.0)
    np.testing.assert_array_equal(found.systems[0].has("force_mag"), HAS)


@pytest.mark.parametrize("label", ["energy", "force_mag", "atom_ener"])
def test_set_without(tmp_path, label):
    """A set without a file is one whose rows are all NaN."""
    path = write_npy(tmp_path / "s", ATYPE, make(), cuts=(0, 1, None))
    (tmp_path / f"s/set.001/{label}.npy").unlink()
    data = make()
    data[label][1:] = np.nan
    nan = write_npy(tmp_path / "nan", ATYPE, data)
    one, other = serve(path), serve(nan)
    assert one.labels == other.labels
    for a, b in zip(one.batch(0), other.batch(0), strict=True):
        for name in set(a) - {"mask", "nlist", "shift"}:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_batches_tell(tmp_path):
    """Numbers of frames are in `find_NAME`, and no NaN leaves for a model."""
    data = make()
    data["force_mag"][~HAS] = data["atom_ener_coeff"][~HAS] = np.nan
    served = serve(write_npy(tmp_path / "s", ATYPE, data))
    frames = served.plan(0)[1]
    for _, labels in (served.batch(0), next(iter(served.dataset(0)))):
        np.testing.assert_array_equal(labels["find_force_mag"], HAS[frames])
        assert all(np.isfinite(value).all() for value in labels.values())
        assert (np.asarray(labels["force_mag"])[~HAS[frames]] == 0).all()
        coefficients = np.asarray(labels["atom_ener_coeff"])
        assert (coefficients[~HAS[frames]] == 1).all()
        assert (coefficients[HAS[frames]] != 1).all()
        assert (np.asarray(labels["find_energy"]) == 1).all()


def test_missing_everywhere(tmp_path, caplog):
    data = make()
    data["virial"][:] = np.nan
    with caplog.at_level(logging.WARNING):
        system = load(write_npy(tmp_path / "s", ATYPE, data))
    assert "virial" not in system.labels and not system.has("virial").any()
    assert "'virial' is missing in 4 of 4 frames" in caplog.text


def test_virtual_atoms_hold_both(tmp_path):
    """A row of forces is that of magnetic forces, too."""
    data = make()
    types, arrays = with_virtual(data)
    arrays["force"][~HAS] = np.nan
    system = load(write_npy(tmp_path / "s", types, arrays))
    np.testing.assert_array_equal(system.has("force"), HAS)
    np.testing.assert_array_equal(system.has("force_mag"), HAS)
    arrays["force"][~HAS] = data["force"][0, 0, 0]
    arrays["force"][~HAS, 5:] = np.nan
    with pytest.raises(DataError, match=r"nan in frame 1, atom 5 but not in all of it"):
        load(write_npy(tmp_path / "t", types, arrays))


@pytest.mark.parametrize("name", ["spin", "box", "coord"])
def test_inputs_are_needed(tmp_path, name):
    data = make()
    data[name][1] = np.nan
    with pytest.raises(DataError, match=rf"{name}.npy': nan in frame 1.* Remove the f"):
        load(write_npy(tmp_path / "s", ATYPE, data))
    path = write_npy(tmp_path / "t", ATYPE, make(), cuts=(0, 2, None))
    (tmp_path / f"t/set.001/{name}.npy").unlink()
    with pytest.raises(DataError, match=rf"{name}.npy' is missing: "):
        load(path)


# -- small moments ---------------------------------------------------------------------


def polarised(length=0.04):
    data = make()
    data["spin"][2, 3] = [0.0, length, 0.0]
    data["spin"][0, 1] = [0.5 * length, 0.0, 0.0]
    data["force_mag"][:, ATYPE == 0] = 0.3
    return data


def mixed(path, atype, arrays, type_map=None):
    write_npy(path, 0 * atype, arrays, TYPE_MAP)
    np.save(path / "set.000/real_atom_types.npy", np.tile(atype, (4, 1)))
    return str(path)


def in_memory(path, atype, arrays, type_map=None):
    from deepspin.data.memory import from_arrays

    (system,) = from_arrays({**arrays, "atype": atype, "type_map": TYPE_MAP})
    return system


@pytest.mark.parametrize("write", [*WRITERS.values(), mixed, in_memory])
def test_small_moments_are_left_out(tmp_path, caplog, write):
    """With their magnetic forces, in every kind of data; the largest one is told."""
    clean = load(write_npy(tmp_path / "clean", ATYPE, make()))
    path = write(tmp_path / "s", ATYPE, polarised())
    with caplog.at_level(logging.WARNING):
        system = load(path)
    np.testing.assert_allclose(system.spin, clean.spin, rtol=0, atol=1e-15)
    np.testing.assert_allclose(
        system.labels["force_mag"], clean.labels["force_mag"], rtol=0, atol=1e-15
    )
    (told,) = [r.message for r in caplog.records if "left out" in r.message]
    assert told.startswith("moments of O, no spin types, are left out: up to 0.04 μ_B")
    assert "of O, atom 3, frame 2 of" in told
    assert "below `model/spin/ignore_below` 0.05." in told


def test_from_the_threshold_on(tmp_path):
    """It is refused, with what would let it pass; that does."""
    path = write_npy(tmp_path / "s", ATYPE, polarised(0.05))
    with pytest.raises(DataError, match=r"atom 3, frame 2.* = 0.05 .*`ignore_below`"):
        load(path)
    with pytest.raises(DataError, match=r"`ignore_below` to 0\.055 to leave out"):
        load(path)
    options = {"virtual_len": [0.4], "spin_norm": [1.2737]}
    for spin in (
        VirtualAtoms.from_options([False, True], **options, ignore_below=0.055),
        Invariant.from_options([False, True], ignore_below=0.055),
    ):
        (system,) = load_systems([path], TYPE_MAP, spin)
        assert not system.spin[:, ATYPE == 0].any()
    small = write_npy(tmp_path / "t", ATYPE, polarised(1e-12))
    strict = Invariant.from_options([False, True], ignore_below=0.0)
    with pytest.raises(DataError, match=r"1e-12 but type 'O' .*and 0 μ_B"):
        load_systems([small], TYPE_MAP, strict)


def test_largest_of_all_systems(tmp_path, caplog):
    paths = [
        write_npy(tmp_path / str(k), ATYPE, polarised(length))
        for k, length in enumerate((0.01, 0.03, 0.02))
    ]
    with caplog.at_level(logging.WARNING):
        load_systems(paths, TYPE_MAP, SCHEME)
    (told,) = [r.message for r in caplog.records if "left out" in r.message]
    assert f"up to 0.03 μ_B of O, atom 3, frame 2 of '{paths[1]}" in told
    assert told.endswith("The same in 2 more of 3 systems.")
