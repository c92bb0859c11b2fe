# SPDX-License-Identifier: Apache-2.0
"""Evaluation of frames as they come."""

from dataclasses import replace

import invariants
import numpy as np
import pytest

import deepspin


@pytest.fixture(scope="module")
def model(make_model):
    return make_model("ONi", type_one_side=True)


@pytest.fixture(scope="module")
def potential(model):
    return deepspin.DeepSpin(model)


@pytest.fixture(scope="module")
def frame(model, make_nio):
    return make_nio(model)


def arguments(frame, **changes):
    return {
        "coords": frame.coord,
        "cells": frame.box,
        "atom_types": frame.atype,
        "spins": frame.spin,
        **changes,
    }


def assert_same(found, want, tolerance=1e-12):
    invariants.assert_close(found, want, tolerance)


def test_shapes_and_names(potential, frame):
    result = potential.eval(**arguments(frame))
    assert {name: array.shape for name, array in result.items()} == {
        "energy": (1,),
        "atom_ener": (1, 8),
        "force": (1, 8, 3),
        "force_mag": (1, 8, 3),
        "virial": (1, 3, 3),
        "atom_virial": (1, 8, 3, 3),
    }
    assert all(array.dtype == np.float64 for array in result.values())
    assert potential.type_map == ["O", "Ni"]
    assert potential.rcut == 3.3


def test_any_order_of_atoms(potential, frame):
    for order in (np.arange(8)[::-1], [3, 0, 7, 5, 1, 2, 6, 4]):
        mixed = potential.eval(
            frame.coord[order], frame.box, frame.atype[order], frame.spin[order]
        )
        want = potential.eval(**arguments(frame))
        for name in ("atom_ener", "force", "force_mag", "atom_virial"):
            want[name] = want[name][:, order]
        assert_same(mixed, want)


def test_flat_arrays_and_lists(potential, frame):
    want = potential.eval(**arguments(frame))
    flat = potential.eval(
        frame.coord.ravel().tolist(),
        frame.box.ravel().tolist(),
        frame.atype.tolist(),
        frame.spin.ravel().tolist(),
    )
    deep = potential.eval(
        frame.coord[None], frame.box[None], frame.atype, frame.spin[None]
    )
    for result in (flat, deep):
        for name, array in want.items():
            np.testing.assert_array_equal(result[name], array, err_msg=name)


def test_batches(potential, model, make_nio):
    frames = [make_nio(model, seed) for seed in range(4)]
    invariants.check_batch(potential.eval, *frames)
    flat = potential.eval(
        np.stack([f.coord.ravel() for f in frames]),
        np.stack([f.box.ravel() for f in frames]),
        frames[0].atype,
        np.stack([f.spin.ravel() for f in frames]),
    )
    assert_same(flat, invariants.run(potential.eval, *frames))


@pytest.mark.parametrize("open_axis", [0, 1, 2])
def test_partly_periodic(potential, frame, open_axis):
    """The same as a cell so long in the open direction that images are far away."""
    pbc = [axis != open_axis for axis in range(3)]
    long = frame.box.copy()
    long[open_axis] *= 10
    wrong = frame.box.copy()
    wrong[open_axis] = [0.3, 0.2, 0.1]  # not looked at
    want = potential.eval(**arguments(frame, cells=long))
    for cells in (long, frame.box, wrong):
        assert_same(potential.eval(**arguments(frame, cells=cells), pbc=pbc), want)
    periodic = potential.eval(**arguments(frame))
    assert np.abs(periodic["energy"] - want["energy"]).max() > 1e-6


def test_open(potential, frame):
    want = potential.eval(**arguments(frame, cells=None))
    assert_same(potential.eval(**arguments(frame), pbc=False), want)
    assert_same(potential.eval(**arguments(frame, cells=30 * np.eye(3))), want)


def test_single_atoms(potential):
    for t in range(2):
        result = potential.eval(np.zeros(3), None, [t], [0.3, 0.4, 1.1])
        assert np.isfinite(result["energy"]).all()
        np.testing.assert_allclose(result["force"], 0.0, atol=1e-14)
    # the energy depends on the modulus of the only spin: |S| sets the distance
    assert np.abs(result["force_mag"]).max() > 0


@pytest.mark.parametrize("type_one_side", [False, True])
def test_one_after_another(type_one_side, make_model, make_cluster, make_inputs):
    """Compositions that change from call to call, any one of the types or both."""
    model = make_model("ONi", type_one_side=type_one_side, neuron=(2, 4))
    changing = deepspin.DeepSpin(model)
    cluster = make_cluster(model)
    for atype in ([0, 1, 1], [0, 1], [0, 0, 1], [0], [1, 1]):
        frame = replace(
            cluster,
            coord=cluster.coord[: len(atype)],
            spin=cluster.spin[: len(atype)],
            atype=np.array(atype),
            scale=model.spin.scheme.scale_of(np.array(atype)),
        )
        found = changing.eval(**arguments(frame))
        want = model(make_inputs(model, [frame])[0])
        np.testing.assert_allclose(found["energy"], want["energy"], rtol=1e-12)
        np.testing.assert_allclose(found["force"], want["force"], atol=1e-12)


def test_jit(model, potential, frame):
    compiled = deepspin.DeepSpin(model, jit_compile=True)
    assert_same(
        compiled.eval(**arguments(frame)), potential.eval(**arguments(frame)), 1e-12
    )


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # Keras' own
def test_from_file(model, potential, frame, tmp_path):
    deepspin.save_model(model, tmp_path / "model.keras", {})
    for path in (tmp_path / "model.keras", str(tmp_path / "model.keras")):
        loaded = deepspin.DeepSpin(path)
        for ours, theirs in zip(model.weights, loaded.model.weights, strict=True):
            np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
        # traces of other shapes may add in another order
        wanted = potential.eval(**arguments(frame))
        assert_same(loaded.eval(**arguments(frame)), wanted, 1e-12)


def test_arguments_are_left_alone(potential, frame):
    copies = {k: np.array(v) for k, v in arguments(frame).items()}
    potential.eval(**copies)
    for name, array in arguments(frame).items():
        np.testing.assert_array_equal(copies[name], array, err_msg=name)


class TestMistakes:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"atom_types": [0, 1, 1, 1, 0, 0, 0, 2]}, r"0 for O, 1 for Ni\. .*0, 2\]"),
            ({"atom_types": [0, 1, 1, 1, 0, 0, 0, -1]}, "indices, .*0, -1"),
            ({"atom_types": ["O", "Ni"] * 4}, "indices, .*'O', 'Ni'"),
            ({"atom_types": [0.5] * 8}, "indices, .*0.5, "),
            ({"atom_types": [[0] * 8]}, r"indices, .*\[\[0, 0"),
            ({"atom_types": [0] * 9}, r"`coords` .*\(frames, 9, 3\).*: \(8, 3\)"),
            ({"coords": np.ones((9, 8, 3))[:, :7]}, r"`coords` .*: \(9, 7, 3\)"),
            ({"coords": np.ones((8, 3, 1))}, r"`coords` .*: \(8, 3, 1\)"),
            ({"coords": np.ones(25)}, r"`coords` .*: \(25,\)"),
            ({"coords": 1.0}, r"`coords` .*: \(\)"),
            ({"coords": np.zeros((0, 8, 3))}, r"`coords` .*: \(0, 8, 3\)"),
            ({"coords": "here"}, "`coords` must hold real numbers. Received: str"),
            ({"spins": np.ones((8, 3)) * 1j}, "`spins` must hold real numbers"),
            ({"spins": [[1, 2, 3], [1, 2]]}, "`spins` must hold real numbers. .*list"),
            ({"cells": [4.0, 4.0, 4.0]}, r"`cells` .*\(frames, 3, 3\).*: \(3,\)"),
            ({"cells": np.zeros((3, 3))}, "`cells` of frame 0 is singular"),
            ({"cells": np.tile(np.eye(3), (2, 1, 1))}, "Numbers of frames differ"),
            ({"spins": np.ones((3, 8, 3))}, "Numbers of frames differ"),
            ({"coords": np.full((8, 3), np.nan)}, "`coords`.*NaN"),
            ({"spins": np.full((8, 3), np.inf)}, "`spins` of frame 0 .*infinite"),
            ({"cells": np.full((3, 3), np.nan)}, "`cells`.*NaN"),
            ({"pbc": [True, False]}, "`pbc` must be a bool or 3 of them"),
            ({"pbc": "yes"}, "`pbc` must be a bool or 3 of them. Received: yes"),
            ({"pbc": [1, 0, 2]}, "`pbc` must be a bool or 3 of them"),
            ({"spins": np.full((8, 3), 1e200)}, r"`spins` .* or beyond 1e\+15"),
        ],
    )
    def test_values(self, potential, frame, change, message):
        with pytest.raises(ValueError, match=message) as caught:
            potential.eval(**arguments(frame, **change))
        assert "\n" not in str(caught.value)

    def test_singular_along_an_open_axis(self, potential, frame):
        """What is not periodic needs no lattice vector."""
        cell = np.array(frame.box)
        cell[2] = 0
        result = potential.eval(**arguments(frame, cells=cell), pbc=[True, True, False])
        assert np.isfinite(result["energy"]).all()
        with pytest.raises(ValueError, match="singular"):
            potential.eval(**arguments(frame, cells=cell), pbc=[True, False, True])

    def test_no_atoms(self, potential):
        empty = np.zeros((0, 3))
        with pytest.raises(ValueError, match="`atom_types` must be"):
            potential.eval(empty, None, [], empty)

    def test_periodic_without_cell(self, potential, frame):
        with pytest.raises(ValueError, match="need `cells`"):
            potential.eval(**arguments(frame, cells=None), pbc=True)

    def test_zero_spin(self, potential, frame):
        atom = int(np.flatnonzero(frame.magnetic)[1])
        spin = frame.spin.copy()
        spin[atom] = 0
        message = rf"Atom {atom} of frame 0 has \|spin\| = 0.*'Ni'"
        with pytest.raises(ValueError, match=message):
            potential.eval(**arguments(frame, spins=spin))

    def test_zero_spin_without_spin_type(self, potential, frame):
        bare = replace(frame, spin=frame.spin * frame.magnetic[:, None])
        want = potential.eval(**arguments(frame))
        assert_same(potential.eval(**arguments(bare)), want)

    def test_spins_without_spin_type_warn_once(self, model, frame, caplog):
        potential = deepspin.DeepSpin(model)
        bare = replace(frame, spin=frame.spin * frame.magnetic[:, None])
        potential.eval(**arguments(bare))
        assert not caplog.records
        for _ in range(2):
            potential.eval(**arguments(frame))
        (record,) = caplog.records
        assert record.getMessage() == "spins on atoms of O are ignored: no spin types"

    def test_coinciding_atoms(self, potential, frame):
        coord = frame.coord.copy()
        coord[3] = coord[2]
        with pytest.raises(ValueError, match=r"Two atoms of frame 0, .*same place"):
            potential.eval(**arguments(frame, coords=coord))

    def test_too_wide(self, potential, frame):
        cell = frame.box * np.array([[1e6], [1], [1]])
        with pytest.raises(ValueError, match=r"the frame is 4.*e\+06 x .* Å wide"):
            potential.eval(**arguments(frame, cells=cell))

    def test_no_such_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"none\.keras"):
            deepspin.DeepSpin(tmp_path / "none.keras")

    def test_other_file(self, tmp_path):
        (tmp_path / "text.keras").write_text("no model")
        with pytest.raises(ValueError, match=r"no model file"):
            deepspin.DeepSpin(tmp_path / "text.keras")
