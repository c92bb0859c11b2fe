# SPDX-License-Identifier: Apache-2.0
"""Errors on labelled data, of a model that errs by known amounts."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from deepspin.data.files import DataError
from deepspin.data.frames import System
from deepspin.infer import accuracy
from deepspin.infer.accuracy import Comparison, compare
from deepspin.utils.refused import InputError

# types of four frames: two compositions, and one with a place that is empty
ATYPE = np.array([[0, 1, 1], [1, 0, 0], [0, 1, -1], [0, 1, 1]])
OFFSET = 0.25


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    arrays = rng.normal(size=(4, 4, 3, 3))
    coord, spin, force, force_mag = arrays
    labels = {"energy": rng.normal(size=4), "force": force, "force_mag": force_mag}
    return System(
        path="s",
        atype=ATYPE,
        coord=coord,
        spin=spin,
        box=np.tile(np.eye(3), (4, 1, 1)),
        pbc=True,
        fparam=np.zeros((4, 0)),
        labels=labels,
        layout="spin-files",
        natoms_loss=np.full(4, 3),
        index=np.tile(np.arange(3), (4, 1)),
        sets=(("s/set.000", 4),),
        named=True,
    )


class Model:
    """Says what the labels say, and adds `OFFSET` times the atom's x of that frame."""

    def __init__(self, data):
        self.data, self.sizes = data, []

    def is_magnetic(self, atype):
        return np.asarray(atype) == 0

    def eval(self, coords, cells, atom_types, spins, *, fparam):
        self.sizes.append(len(coords))
        labels, nloc = self.data.labels, len(atom_types)
        frames = [
            next(k for k, own in enumerate(self.data.coord) if (own[:nloc] == c).all())
            for c in coords
        ]
        added = OFFSET * coords[..., :1]
        return {
            "energy": labels["energy"][frames] + added[:, 0, 0],
            "force": labels["force"][frames][:, :nloc] + added,
            "force_mag": labels["force_mag"][frames][:, :nloc] + added,
        }


def test_pairs_are_in_the_order_of_frames(data):
    """Whatever their atoms are, and however many are evaluated at once."""
    found = compare(Model(data), [data], Comparison()).pairs
    assert found.keys() == {"e", "e_peratom", "fr", "fm", "fm_along", "fm_across"}
    there = ATYPE >= 0
    for suffix, name, chosen in (
        ("fr", "force", there),
        ("fm", "force_mag", ATYPE == 0),
    ):
        label, pred = found[suffix]
        np.testing.assert_array_equal(label, data.labels[name][chosen])
        added = OFFSET * data.coord[..., 0][chosen]
        np.testing.assert_allclose(pred - label, np.tile(added[:, None], 3))
    label, pred = found["e_peratom"]
    natoms = there.sum(axis=1)
    np.testing.assert_array_equal(label[:, 0], data.labels["energy"] / natoms)
    added = OFFSET * data.coord[:, 0, 0] / natoms
    np.testing.assert_allclose((pred - label)[:, 0], added)


def test_frames_alike_are_evaluated_together(data, monkeypatch):
    model = Model(data)
    compare(model, [data], Comparison())
    assert sorted(model.sizes) == [1, 1, 2]
    monkeypatch.setattr(accuracy, "BATCH", 1)
    one = compare(Model(data), [data], Comparison())
    np.testing.assert_array_equal(
        one.pairs["fr"], compare(model, [data], Comparison()).pairs["fr"]
    )


def test_errors(data):
    """Of all systems together; the first frames of each."""
    other = replace(data, path="t", labels={"energy": data.labels["energy"]})
    found = compare(Model(data), [data, other], Comparison(numb_test=1))
    assert found.paths == ["s", "t"]
    assert found.errors.keys() == {
        f"{k}_{n}"
        for k in ("mae", "rmse")
        for n in ("e", "ea", "fr", "fm", "fm_along", "fm_across")
    }
    added = OFFSET * data.coord[0, :, 0]
    assert found.errors["mae_e"] == pytest.approx(abs(added[0]))
    assert found.errors["rmse_fr"] == pytest.approx(np.sqrt((added**2).mean()))
    assert found.errors["mae_fm"] == pytest.approx(abs(added[0]))
    parts = found.errors["rmse_fm_along"], found.errors["rmse_fm_across"]
    square = parts[0] ** 2 / 3 + parts[1] ** 2  # three components, of one and of two
    assert found.errors["rmse_fm"] == pytest.approx(np.sqrt(square))
    assert [panel.quantity for panel in found.panels] == ["e_peratom", "fr", "fm"]


def test_frames_without_a_label(data, caplog):
    """They do not count in its errors, and in those of the others they do."""
    labels = {name: np.array(values) for name, values in data.labels.items()}
    labels["energy"][0] = labels["force_mag"][2:] = np.nan
    gaps = replace(data, labels=labels)
    with caplog.at_level(logging.INFO):
        found = compare(Model(data), [gaps], Comparison()).pairs
    whole = compare(Model(data), [data], Comparison()).pairs
    for suffix in ("e", "e_peratom"):
        np.testing.assert_array_equal(found[suffix], np.array(whole[suffix])[:, 1:])
    np.testing.assert_array_equal(found["fr"], whole["fr"])
    number = (ATYPE[:2] == 0).sum()
    for suffix in ("fm", "fm_along", "fm_across"):
        np.testing.assert_array_equal(
            found[suffix], np.array(whole[suffix])[:, :number]
        )
    assert "# of which have energy : 3" in caplog.text
    assert "# of which have force_mag : 2" in caplog.text
    assert "# of which have force :" not in caplog.text
    only = replace(gaps, labels={"energy": labels["energy"]})
    with pytest.raises(DataError, match="nor any other, in these frames"):
        compare(Model(data), [only], Comparison(numb_test=1))


def test_nothing_to_compare(data):
    bare = replace(data, atype=np.ones_like(ATYPE), labels={"force_mag": data.spin})
    model = Model(replace(data, labels={**data.labels, "force_mag": data.spin}))
    with pytest.raises(DataError, match="no label of an atom with spin"):
        compare(model, [bare], Comparison())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"numb_test": -1}, "-n must be 0 .all. or more frames. Received: -1"),
        ({"rand_seed": -2}, "-r must be 0 or more. Received: -2"),
        ({"spin_rotation": -1}, "--spin-rotation must be 0 .none. or more"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(InputError, match=message):
        Comparison(**options)
