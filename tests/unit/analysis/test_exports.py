# SPDX-License-Identifier: Apache-2.0
"""What is written for other programs has the energies of the Hamiltonian."""

from __future__ import annotations

import logging
import re
from dataclasses import replace

import numpy as np
import pytest
from places import ROOT
from spin_files import READERS, read
from spin_hamiltonians import SKEW, hamiltonian, units

from deepspin.analysis.exports.bonds import axes, cells, one_way, prepared
from deepspin.analysis.exports.programs import (
    EXPORTS,
    claim_exports,
    export_files,
    write_exports,
)
from deepspin.analysis.exports.spinw import spinw_axes
from deepspin.utils.outputs import OutputError
from deepspin.utils.refused import InputError

REPEAT = (5, 3, 4)
ONCE = {"spirit", "spinw", "sunny"}  # list each pair in one direction
# what each program has of a Hamiltonian
ALL = {
    "spirit": {"symmetric": False},
    "vampire": {"onsite": "uniaxial"},
}
CASES = {
    "all": lambda name: ALL.get(name, {}),
    "isotropic": lambda name: {"dmi": False, "symmetric": False, "onsite": None},
    "uniaxial": lambda name: {"dmi": False, "symmetric": False, "onsite": "uniaxial"},
    "left-handed": lambda name: {**ALL.get(name, {}), "box": SKEW * [[1], [1], [-1]]},
}


def program(name):
    return name.partition("-")[0]


def on_cells(terms, big, repeat, directions):
    """Directions of the sites of a repeated cell, by the cells that a file counts."""
    n = len(terms.place)
    box = big.sites.box / np.array(repeat)[:, None]
    site = np.arange(len(directions)) % n
    cell = big.sites.coord @ np.linalg.inv(box) - terms.place[site]
    cell[:, ~big.sites.pbc] = 0  # their cell may be another one
    assert np.abs(cell - cell.round()).max() < 1e-9
    result = np.full((*repeat, n, 3), np.nan)
    result[(*(cell.round().astype(int) % repeat).T, site)] = directions
    return result


def stated_constant(name, terms, h):
    """Energy per cell that the file leaves out, in eV, as its heading says."""
    if not terms.comment:
        return 0.0
    found = re.findall(r"Left out, as no spin feels it: (\S+) eV", terms.comment)
    return float(found[0]) if found else 0.0


def along(box):
    return box / np.linalg.norm(box, axis=1, keepdims=True)


def assert_same_energies(name, h, folder, repeat=REPEAT):
    terms = read(name, folder)
    if name == "spinw":
        terms.turn = np.linalg.solve(along(h.sites.box), along(terms.box)).T
        np.testing.assert_allclose(
            terms.turn @ terms.turn.T, np.eye(3), rtol=0, atol=1e-12
        )
    big = h.repeated(repeat)
    rng = np.random.default_rng(7)
    constant = stated_constant(name, terms, h) * np.prod(repeat)
    for _ in range(3):
        directions = units(rng, big.sites.n)
        energy = terms.energy(on_cells(terms, big, repeat, directions)) + constant
        assert energy == pytest.approx(big.energy(directions), rel=1e-10, abs=1e-12)
    lengths = np.sort(np.linalg.norm(h.pairs.vectors(h.sites), axis=1))
    lengths = lengths[::2] if program(name) in ONCE else lengths
    np.testing.assert_allclose(terms.distances(), lengths, rtol=1e-12)
    np.testing.assert_allclose(terms.moment, h.sites.moment, rtol=1e-12)


# --- Energies -------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", READERS)
def test_energies(tmp_path, name, case):
    h = hamiltonian(**CASES[case](program(name)))
    files = write_exports([program(name)], tmp_path, h)
    assert files == export_files([program(name)], tmp_path)[program(name)]
    assert all(file.is_file() for file in files)
    assert_same_energies(name, h, tmp_path)


@pytest.mark.parametrize("name", READERS)
def test_film(tmp_path, name):
    """Without periodicity along one vector, and sites beyond the cell along it."""
    h = hamiltonian(
        **ALL.get(program(name), {}),
        links=[
            (0, 1, (0, 0, 0)),
            (0, 0, (1, 0, 0)),
            (1, 1, (0, 1, 0)),
            (0, 1, (2, 1, 0)),
        ],
        coord=np.array([[-0.2, 0.1, -5.3], [4.9, 1.2, 1.7]]),
        pbc=np.array([True, True, False]),
    )
    write_exports([program(name)], tmp_path, h)
    terms = read(name, tmp_path)
    assert ((terms.place > -1e-12) & (terms.place < 1)).all()
    assert_same_energies(name, h, tmp_path, repeat=(5, 3, 1))


@pytest.mark.parametrize("name", READERS)
def test_molecule(tmp_path, name):
    """It gets a cell, which changes nothing."""
    h = hamiltonian(
        **ALL.get(program(name), {}),
        links=[(0, 1, (0, 0, 0))],
        box=None,
        pbc=np.array([False, False, False]),
    )
    write_exports([program(name)], tmp_path, h)
    terms = read(name, tmp_path)
    assert np.linalg.norm(terms.box, axis=1).min() >= 10
    constant = stated_constant(name, terms, h)
    for directions in units(np.random.default_rng(3), 3, 2):
        energy = terms.energy(directions[None, None, None]) + constant
        assert energy == pytest.approx(h.energy(directions), rel=1e-10)


def test_pair_in_numbers(tmp_path):
    """J = 10 meV, D = 2 meV along z, an easy axis of 0.5 meV, in every convention."""
    h = hamiltonian(links=[(0, 1, (0, 0, 0))], moment=np.array([2.0, 4.0]))
    tensor = np.array([[10, 2, 0], [-2, 10, 0], [0, 0, 10]]) * 1e-3
    easy = np.zeros((2, 3, 3))
    easy[:, 2, 2] = -0.5e-3
    h = replace(h, tensor=np.array([tensor, tensor.T]), anisotropy=easy)
    assert h.dmi[0] == pytest.approx([0, 0, 2e-3])
    write_exports(list(EXPORTS), tmp_path, h)
    found = {name: read(name, tmp_path) for name in READERS}
    first = {name: terms.rows[0][3][0] for name, terms in found.items()}  # M_xx, M_xy
    ten, two = 10.0, 2.0
    ry = 1 / 13.605693122994
    expected = {
        "tb2j": (-0.5e-3 * ten, -0.5e-3 * two),
        "tb2j-out": (-0.5 * ten, -0.5 * two),
        "uppasd": (-0.5 * ry * ten, -0.5 * ry * two),
        "vampire": (-0.5 * 1.602176634e-22 * ten, -0.5 * 1.602176634e-22 * two),
        "spirit": (-ten, -two),
        "sunny": (-ten / (1 * 2), -two / (1 * 2)),  # S = 1 and 2
    }
    for name, values in expected.items():
        assert first[name][:2] == pytest.approx(values, rel=1e-12), name
    assert first["spinw"][0] == pytest.approx(-ten / 2, rel=1e-12)
    assert found["sunny"].length.tolist() == found["spinw"].length.tolist() == [1, 2]
    assert found["uppasd"].onsite[0, 2, 2] == pytest.approx(-0.5 * ry)
    assert found["spirit"].onsite[0, 2, 2] == pytest.approx(-0.5)
    assert found["sunny"].onsite[1, 2, 2] == pytest.approx(-0.5 / 4)
    assert found["tb2j"].onsite[1, 2, 2] == pytest.approx(-0.5e-3)


# --- What a program cannot have -------------------------------------------------------


def test_symmetric_exchange_for_spirit_is_told(tmp_path, caplog):
    h = hamiltonian()
    write_exports(["spirit"], tmp_path, h)
    (record,) = caplog.records
    largest = np.abs(h.symmetric).max() * 1e3
    assert "symmetric anisotropic exchange" in record.message
    assert f"{largest:.4g} meV" in record.message
    for file in ("input.cfg", "pairs.txt"):
        text = (tmp_path / "spirit" / file).read_text("utf-8")
        assert "symmetric anisotropic exchange" in text
    assert_same_energies("spirit", _without_symmetric(h), tmp_path)


def _without_symmetric(h):
    return replace(h, tensor=h.tensor - h.symmetric)


def test_second_axis_for_vampire_is_told(tmp_path, caplog):
    h = hamiltonian()
    write_exports(["vampire"], tmp_path, h)
    told = [record.message for record in caplog.records]
    strength, axis, constant = axes(h.anisotropy)
    assert f"up to {np.abs(strength[:, 1]).max() * 1e3:.4g} meV" in told[0]
    assert "right angles" in told[1] and len(told) == 2
    u = axis[:, 0]
    one = strength[:, 0, None, None] * u[:, :, None] * u[:, None]
    one = one + constant[:, None, None] * np.eye(3)
    assert_same_energies("vampire", replace(h, anisotropy=one), tmp_path)


@pytest.mark.parametrize("name", EXPORTS)
def test_nothing_is_told_of_what_all_have(tmp_path, caplog, name):
    box = np.diag([3.0, 4.0, 5.0])
    h = hamiltonian(dmi=False, symmetric=False, onsite="uniaxial", box=box)
    with caplog.at_level(logging.WARNING):
        write_exports([name], tmp_path, h)
    assert not caplog.records


def test_vampire_has_a_hundred_materials(tmp_path):
    h = hamiltonian(onsite="uniaxial").repeated((6, 3, 3))
    write_exports(["vampire"], tmp_path, h)  # 108 sites of two kinds
    direction = units(np.random.default_rng(0), h.sites.n)
    h = replace(h, sites=replace(h.sites, direction=direction))
    with pytest.raises(InputError, match="at most 100 materials, and there are 108"):
        write_exports(["vampire"], tmp_path, h, force=True)


def test_unit_of_spins_of_sunny(tmp_path):
    """The nearest multiple of 1/2, at least 1/2, with g so that the moment is exact."""
    h = hamiltonian(moment=np.array([0.3, 1.2737]))
    write_exports(["sunny"], tmp_path, h)
    terms = read("sunny", tmp_path)
    assert terms.length.tolist() == [0.5, 0.5]
    assert terms.moment == pytest.approx([0.3, 1.2737])
    assert_same_energies("sunny", h, tmp_path)


@pytest.mark.parametrize("name", EXPORTS)
def test_convention_is_at_the_head(tmp_path, name):
    write_exports([name], tmp_path, hamiltonian())
    texts = [p.read_text("utf-8") for p in export_files([name], tmp_path)[name]]
    assert any(all(x in text for x in EXPORTS[name].convention) for text in texts)
    assert EXPORTS[name].convention[0].startswith("E = ")
    assert any(x in EXPORTS[name].convention[1] for x in ("once", "twice"))


def test_page_has_every_program():
    text = (ROOT / "doc" / "exports.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", text, re.MULTILINE)
    assert [name for name, _ in rows] == 2 * list(EXPORTS)
    for name, files in rows[: len(EXPORTS)]:
        assert tuple(re.findall(r"`(\S+)`", files)) == EXPORTS[name].files


# --- Refusals -------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["tensor", "anisotropy"])
def test_parts_that_are_not_determined(tmp_path, part):
    h = hamiltonian()
    values = getattr(h, part).copy()
    values[1, 2, 2] = np.nan
    with pytest.raises(InputError, match=r"not determined \(NaN\).* three orientation"):
        write_exports(["spirit"], tmp_path, replace(h, **{part: values}))
    assert not (tmp_path / "spirit" / "input.cfg").exists()


def test_no_couplings(tmp_path):
    h = hamiltonian()
    none = np.array([], dtype=int)
    h = replace(h, pairs=h.pairs.take(none), tensor=h.tensor[none])
    with pytest.raises(InputError, match="no couplings"):
        write_exports(["tb2j"], tmp_path, h)


def test_no_moment(tmp_path):
    h = hamiltonian(moment=np.array([1.0, 0.0]))
    with pytest.raises(InputError, match="Site 1 has a moment of 0"):
        write_exports(["tb2j"], tmp_path, h)


def test_one_direction_of_a_pair(tmp_path):
    h = hamiltonian()
    some = np.arange(1, len(h.pairs))
    h = replace(h, pairs=h.pairs.take(some), tensor=h.tensor[some])
    with pytest.raises(ValueError, match="both directions"):
        write_exports(["tb2j"], tmp_path, h)


def test_program_that_is_not_known(tmp_path):
    with pytest.raises(InputError, match="fidimag; they are for tb2j, uppasd"):
        write_exports(["tb2j", "fidimag"], tmp_path, hamiltonian())
    assert not any(tmp_path.iterdir())


def test_files_that_are_there(tmp_path):
    """They stay, before the work and at its end; with `force` they are replaced."""
    write_exports(["spirit"], tmp_path, hamiltonian())
    before = (tmp_path / "spirit" / "pairs.txt").read_text("utf-8")
    other = hamiltonian(seed=2)
    for call in (
        lambda: claim_exports(["sunny", "spirit"], tmp_path),
        lambda: write_exports(["sunny", "spirit"], tmp_path, other),
    ):
        with pytest.raises(OutputError, match="exists"):
            call()
    assert (tmp_path / "spirit" / "pairs.txt").read_text("utf-8") == before
    assert not (tmp_path / "sunny" / "spin_hamiltonian.jl").exists()
    claim_exports(["spirit"], tmp_path, force=True)
    write_exports(["spirit"], tmp_path, other, force=True)
    assert (tmp_path / "spirit" / "pairs.txt").read_text("utf-8") != before


# --- The steps ------------------------------------------------------------------------


def test_prepared():
    """The same energies with sites in the cell, and pairs that agree both ways."""
    h = hamiltonian()
    # rounding that makes the two directions of pairs differ
    noise = np.random.default_rng(0).normal(size=h.tensor.shape) * 1e-6
    rough = replace(h, tensor=h.tensor + noise)
    ready = prepared(rough)
    place = ready.sites.coord @ np.linalg.inv(ready.sites.box)
    assert ((place >= 0) & (place < 1)).all()
    assert ready.sites.names == h.sites.names
    np.testing.assert_array_equal(
        ready.tensor[ready.pairs.reverse()], ready.tensor.transpose(0, 2, 1)
    )
    for directions in units(np.random.default_rng(1), 4, 2):
        expected = rough.energy(directions)
        assert ready.energy(directions) == pytest.approx(expected, rel=1e-12)
    lengths = np.linalg.norm(ready.pairs.vectors(ready.sites), axis=1)
    assert (np.diff(lengths) > -1e-6).all()
    np.testing.assert_allclose(
        lengths, np.sort(np.linalg.norm(h.pairs.vectors(h.sites), axis=1)), rtol=1e-12
    )
    assert cells(ready).tolist() == (2 * np.abs(ready.pairs.shift).max(0) + 1).tolist()


def test_one_way():
    pairs = prepared(hamiltonian()).pairs
    once = one_way(pairs)
    back = pairs.reverse()
    assert sorted([*once, *back[once]]) == list(range(len(pairs)))


@pytest.mark.parametrize(
    ("values", "strength"),
    [
        ([-2, 1, 1], [-3, 0]),  # easy axis
        ([2, -1, -1], [3, 0]),  # easy plane
        ([-3, 1, 2], [-4, 1]),
        ([0, 0, 0], [0, 0]),
    ],
)
def test_axes(values, strength):
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    matrix = turn @ np.diag(np.array(values, dtype=float)) @ turn.T
    k, u, constant = axes(matrix[None])
    assert k[0] == pytest.approx(strength, abs=1e-12)
    whole = constant[0] * np.eye(3) + np.einsum("k,ka,kb->ab", k[0], u[0], u[0])
    np.testing.assert_allclose(whole, matrix, rtol=0, atol=1e-12)


def test_axes_of_spinw():
    for box in (SKEW, SKEW * [[1], [1], [-1]], np.diag([2.0, 3.0, 4.0])):
        turn, length, angle = spinw_axes(box)
        turned = box @ turn.T
        assert np.abs(turned[[0, 0, 1], [1, 2, 2]]).max() < 1e-14
        assert (np.diag(turned) > 0).all()
        assert length == pytest.approx(np.linalg.norm(box, axis=1))
        cosines = [turned[i] @ turned[j] for i, j in ((1, 2), (0, 2), (0, 1))]
        sizes = length[[1, 0, 0]] * length[[2, 2, 1]]
        assert np.cos(angle) == pytest.approx(np.array(cosines) / sizes)
