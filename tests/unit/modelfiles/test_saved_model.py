# SPDX-License-Identifier: Apache-2.0
"""Frozen models give the model's numbers, and refuse what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from ase import Atoms
from ase.neighborlist import neighbor_list
from places import FILES

import deepspin
from deepspin.modelfiles.find import read_metadata
from deepspin.modelfiles.saved_model import FrozenModel, describe

NAMES = ("energy", "atom_ener", "force", "force_mag", "virial", "atom_virial")


def functions(model, metadata=None):
    """The functions of a frozen model, without writing it."""
    return FrozenModel(model, describe(model, metadata or {}))


@pytest.fixture(scope="module")
def case(make_model, make_nio):
    model = make_model(type_one_side=True)
    return functions(model), make_nio(model)


@pytest.fixture(scope="module")
def two_sided(make_model):
    """A model, and its functions."""
    model = make_model(neuron=(4, 8), fit_neuron=(6, 6))
    return model, functions(model)


def arguments(frames):
    """coord, box, atype, spin of frames of equally many atoms."""
    return (
        np.stack([f.coord for f in frames]),
        np.stack([np.zeros((3, 3)) if f.box is None else f.box for f in frames]),
        np.stack([f.atype for f in frames]).astype(np.int32),
        np.stack([f.spin for f in frames]),
    )


def expected(model, frames):
    """What `DeepSpin` says, frame by frame."""
    potential = deepspin.DeepSpin(model)
    rows = [potential.eval(f.coord, f.box, f.atype, f.spin) for f in frames]
    return {k: np.concatenate([row[k] for row in rows]) for k in NAMES}


def same(result, reference, tolerance=1e-12):
    for name in NAMES:
        scale = np.abs(reference[name]).max()
        np.testing.assert_allclose(
            result[name].numpy(),
            reference[name],
            rtol=tolerance,
            atol=tolerance * scale,
            err_msg=name,
        )


def listed(frame, cutoff):
    """Neighbour list of a frame as ASE makes it."""
    atoms = Atoms("H" * len(frame.coord), frame.coord, cell=frame.box, pbc=True)
    i, j, shift = neighbor_list("ijS", atoms, cutoff)
    width = np.bincount(i).max()
    nlist = np.full((1, len(atoms), width + 2), -1, dtype=np.int32)
    shifts = np.zeros((*nlist.shape, 3), dtype=np.int32)
    for atom in range(len(atoms)):
        own = np.random.default_rng(atom).permutation(np.flatnonzero(i == atom))
        nlist[0, atom, : len(own)] = j[own]
        shifts[0, atom, : len(own)] = shift[own]
    return nlist, shifts


VARIANTS = {
    "one-sided": ("NiO", {"type_one_side": True}),
    "two-sided": ("NiO", {}),
    "spins second": ("ONi", {}),
    "two spin types": ("NiOFe", {"type_one_side": True}),
    "excluded pairs": ("NiO", {"exclude_types": [[0, 1]]}),
    "truncated": ("NiO", {"sel": [9, 7]}),
    "time reversal": ("NiOFe", {"time_reversal": True}),
    "float32": ("NiO", {"precision": "float32"}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_numbers(variant, make_model, make_nio, make_cluster):
    """Batches in periodic cells smaller than the cutoff; open clusters."""
    system, options = VARIANTS[variant]
    model = make_model(system, neuron=(4, 8), fit_neuron=(6, 6), **options)
    frozen = functions(model)
    tolerance = 1e-5 if variant == "float32" else 1e-12
    for frames in (
        [make_nio(model, seed=k) for k in range(3)],
        [make_cluster(model, seed=4)],
    ):
        result = frozen.eval_small(*arguments(frames))
        same(result, expected(model, frames), tolerance)
        assert (result["dropped"].numpy() > 0).any() == (
            variant == "truncated" and frames[0].box is not None
        )


def test_with_a_neighbour_list(two_sided, make_nio):
    model, frozen = two_sided
    frame = make_nio(model)
    cutoff = describe(model, {})["nlist_cutoff"]
    result = frozen.eval(*arguments([frame]), *listed(frame, cutoff))
    same(result, expected(model, [frame]))


def test_partly_periodic(two_sided, make_nio):
    """Zero rows of the box are open directions; others in the batch are not."""
    model, frozen = two_sided
    potential = deepspin.DeepSpin(model)
    frames = [make_nio(model, seed=k) for k in range(4)]
    coord, box, atype, spin = arguments(frames)
    for k, axis in enumerate([None, 0, 1, 2]):
        if axis is not None:
            box[k, axis] = 0.0
    result = frozen.eval_small(coord, box, atype, spin)
    for k, axis in enumerate([None, 0, 1, 2]):
        cell, pbc = frames[k].box, [axis is None or d != axis for d in range(3)]
        answer = potential.eval(coord[k], cell, atype[k], spin[k], pbc=pbc)
        same({n: result[n][k : k + 1] for n in NAMES}, answer)


def test_frames_of_different_atoms(case, make_model, make_cluster):
    """In any order of types, with fewer atoms, with none."""
    (frozen, frame), model = case, make_model(type_one_side=True)
    potential, small = deepspin.DeepSpin(model), make_cluster(model, natoms=5)
    coord, box, atype, spin = arguments([frame] * 3)
    order = np.random.default_rng(0).permutation(8)
    coord[0], atype[0], spin[0] = coord[0][order], atype[0][order], spin[0][order]
    where = [1, 2, 4, 5, 7]
    coord[1], box[1], atype[1], spin[1] = np.nan_to_num(np.inf), 0.0, -1, 0.0
    coord[1, where], atype[1, where] = small.coord, small.atype
    spin[1, where] = small.spin
    atype[2] = -1
    coord[1, [0, 3, 6]] = 0.0  # of no atom: means nothing
    result = {
        k: v.numpy() for k, v in frozen.eval_small(coord, box, atype, spin).items()
    }
    answer = expected(model, [frame])
    np.testing.assert_allclose(
        result["force"][0], answer["force"][0][order], atol=1e-12
    )
    answer = potential.eval(small.coord, None, small.atype, small.spin)
    for name in ("force", "force_mag"):
        np.testing.assert_allclose(result[name][1, where], answer[name][0], atol=1e-12)
        assert not result[name][1, [0, 3, 6]].any()
    np.testing.assert_allclose(result["energy"][1], answer["energy"][0], rtol=1e-12)
    assert all(not result[name][2].any() for name in NAMES)


def zero_spin(coord, box, atype, spin):
    spin[0, np.flatnonzero(atype[0] == 0)[0]] = 0.0


def unknown_type(coord, box, atype, spin):
    atype[0, 0] = 2


def nan(coord, box, atype, spin):
    coord[0, 3, 1] = np.nan


def together(coord, box, atype, spin):
    coord[0, 1] = coord[0, 0] + box[0, 2]


MISTAKES = {
    zero_spin: r"spin\| = 0 on an atom of a spin type",
    unknown_type: "`atype` must be below 2",
    nan: "`coord` is NaN or infinite",
    together: "coincide",
}


@pytest.mark.parametrize("spoil", MISTAKES, ids=lambda f: f.__name__)
def test_wrong_input_is_refused(case, spoil):
    frozen, frame = case
    given = arguments([frame])
    spoil(*given)
    with pytest.raises(tf.errors.InvalidArgumentError, match=MISTAKES[spoil]):
        frozen.eval_small(*given)


def test_lists_that_cannot_be_right_are_refused(case, make_model):
    frozen, frame = case
    given = arguments([frame])
    nlist, shift = listed(frame, 4.5)
    given[3][:] *= 9.0
    with pytest.raises(tf.errors.InvalidArgumentError, match="a spin is so long"):
        frozen.eval(*given, nlist, shift)
    given[3][:] /= 9.0
    nlist[0, 0, 0] = 8
    with pytest.raises(tf.errors.InvalidArgumentError, match="atoms that are not th"):
        frozen.eval(*given, nlist, shift)


def test_old_formats():
    """One file of each version that was ever written, with its numbers."""
    with np.load(FILES / "format-1.npz") as case:
        frame = [case[k] for k in ("coord", "box", "atype", "spin")]
        for name in ("format-1.keras", "format-1-frozen"):
            assert read_metadata(FILES / name)["format"] == 1
            result = deepspin.DeepSpin(FILES / name).eval(*frame)
            for key in NAMES:
                scale = np.abs(case[key]).max()
                np.testing.assert_allclose(
                    result[key], case[key], rtol=1e-12, atol=1e-12 * scale
                )
        frozen = tf.saved_model.load(str(FILES / "format-1-frozen"))
        batch = [case[k][None] for k in ("coord", "box", "atype", "spin")]
        same(frozen.eval_small(*batch), case)
