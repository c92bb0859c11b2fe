# SPDX-License-Identifier: Apache-2.0
"""What the physics demands of anything that maps frames to energies and forces.

Each check takes an evaluator, a callable with the arguments and the result of
`deepspin.DeepSpin.eval`, so that models, frozen models, calculators and importers can
all be asked the same questions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import numpy as np

Evaluator = Callable[..., dict[str, np.ndarray]]
FIELDS = ("energy", "atom_ener", "force", "force_mag", "virial", "atom_virial")


@dataclass(frozen=True)
class Frame:
    """One frame: coord (nloc, 3), box (3, 3) or None, atype (nloc,), spin (nloc, 3).

    `scale` holds virtual_len / spin_norm of each atom, 0 where its type has no spin.
    Where no virtual atoms stand for spins, `flags` tells which atoms have one.
    """

    coord: np.ndarray
    box: np.ndarray | None
    atype: np.ndarray
    spin: np.ndarray
    scale: np.ndarray
    flags: np.ndarray | None = None

    @property
    def magnetic(self) -> np.ndarray:
        """Which atoms have a spin."""
        return self.scale > 0 if self.flags is None else self.flags


def run(evaluate: Evaluator, *frames: Frame) -> dict[str, np.ndarray]:
    """Evaluate frames of the same atoms in one batch."""
    box = frames[0].box
    return evaluate(
        np.stack([f.coord for f in frames]),
        None if box is None else np.stack([f.box for f in frames]),
        frames[0].atype,
        np.stack([f.spin for f in frames]),
    )


def assert_close(
    found: dict[str, np.ndarray],
    wanted: dict[str, np.ndarray],
    tolerance: float,
    *,
    elementwise: bool = False,
) -> None:
    """Compare fields; if one fails the message holds every field's largest error.

    Errors count in units of the field's largest value; with `elementwise` also
    relative to each component that is above a hundredth of it.
    """
    lines, failed = [], False
    for name, want in wanted.items():
        want, have = np.asarray(want), np.asarray(found[name])
        assert have.shape == want.shape, (name, have.shape, want.shape)
        assert np.isfinite(have).all(), f"{name} is not finite"
        scale = np.abs(want).max()
        assert scale > 0, f"all {name} are 0: nothing is tested"
        error = np.abs(have - want)
        worst = error.max() / scale
        if elementwise:
            large = np.abs(want) > 1e-2 * scale
            worst = max(worst, (error[large] / np.abs(want[large])).max())
        failed |= not worst <= tolerance
        lines.append(f"{name}: {worst:.2e} (values up to {scale:.2e})")
    assert not failed, f"tolerance {tolerance:.0e}; errors\n" + "\n".join(lines)


def _strained(frame: Frame, strain: np.ndarray) -> Frame:
    deform = np.eye(3) + strain  # x_a -> x_a + eps_ab x_b
    box = None if frame.box is None else frame.box @ deform.T
    return replace(frame, coord=frame.coord @ deform.T, box=box)


def check_derivatives(evaluate: Evaluator, frame: Frame, step: float = 3e-5) -> None:
    """Force, force_mag and virial are central differences of the energy."""
    variants, fields = [], []
    for name in ("coord", "spin"):
        for atom in range(len(frame.atype)):
            if name == "spin" and not frame.magnetic[atom]:
                continue
            for axis in range(3):
                for sign in (1, -1):
                    array = getattr(frame, name).copy()
                    array[atom, axis] += sign * step
                    variants.append(replace(frame, **{name: array}))
                fields.append((name, atom, axis))
    for a in range(3):
        for b in range(3):
            for sign in (1, -1):
                strain = np.zeros((3, 3))
                strain[a, b] = sign * step
                variants.append(_strained(frame, strain))
            fields.append(("strain", a, b))
    energy = run(evaluate, *variants)["energy"]
    slopes = (energy[1::2] - energy[::2]) / (2 * step)  # minus the derivative
    result = run(evaluate, frame)
    want = {k: np.zeros_like(result[k][0]) for k in ("force", "force_mag", "virial")}
    names = {"coord": "force", "spin": "force_mag", "strain": "virial"}
    for (name, i, j), slope in zip(fields, slopes, strict=True):
        want[names[name]][i, j] = slope
    found = {name: result[name][0] for name in want}
    assert_close(found, want, 1e-6, elementwise=True)


def check_rotation(evaluate: Evaluator, frame: Frame, *, reflect: bool) -> None:
    """Coordinates, spins and box turned together turn forces and virials."""
    rotation, _ = np.linalg.qr(np.random.default_rng(7).normal(size=(3, 3)))
    if (np.linalg.det(rotation) < 0) != reflect:
        rotation = -rotation
    turned = replace(
        frame,
        coord=frame.coord @ rotation.T,
        spin=frame.spin @ rotation.T,
        box=None if frame.box is None else frame.box @ rotation.T,
    )
    old = run(evaluate, frame)
    want = {name: old[name] for name in ("energy", "atom_ener")}
    want |= {name: old[name] @ rotation.T for name in ("force", "force_mag")}
    want |= {
        name: rotation @ old[name] @ rotation.T for name in ("virial", "atom_virial")
    }
    assert_close(run(evaluate, turned), want, 1e-10)


def check_translation(evaluate: Evaluator, frame: Frame) -> None:
    """Nothing changes when all atoms move together."""
    moved = replace(frame, coord=frame.coord + np.array([1.234, -5.678, 0.987]))
    assert_close(run(evaluate, moved), _all(run(evaluate, frame)), 1e-10)


def check_lattice_shift(evaluate: Evaluator, frame: Frame) -> None:
    """Nothing changes when single atoms move by lattice vectors."""
    shift = np.random.default_rng(8).integers(-2, 3, size=(len(frame.atype), 3))
    moved = replace(frame, coord=frame.coord + shift @ frame.box)
    assert_close(run(evaluate, moved), _all(run(evaluate, frame)), 1e-10)


def check_permutation(evaluate: Evaluator, frame: Frame) -> None:
    """Atoms in any order, types mixed, give the same atoms' values."""
    order = np.random.default_rng(9).permutation(len(frame.atype))
    names = ("coord", "spin", "atype", "scale")
    mixed = replace(frame, **{name: getattr(frame, name)[order] for name in names})
    old = run(evaluate, frame)
    want = {name: old[name] for name in ("energy", "virial")}
    for name in ("atom_ener", "force", "force_mag", "atom_virial"):
        want[name] = old[name][:, order]
    assert_close(run(evaluate, mixed), want, 1e-10)


def check_sums(
    evaluate: Evaluator, frame: Frame, symmetries: Collection[str] = ()
) -> None:
    """Atoms' values add up, no net force, and the torque of spins and cell cancels.

    With "spin_rotation" among `symmetries` neither exerts a torque by itself.
    """
    result = run(evaluate, frame)
    assert_close(
        {
            "energy": result["atom_ener"].sum(axis=1),
            "virial": result["atom_virial"].sum(axis=1),
        },
        {name: result[name] for name in ("energy", "virial")},
        1e-12,
    )
    force = result["force"]
    assert np.abs(force.sum(axis=1)).max() < 1e-10 * np.abs(force).max()
    torque = np.einsum("fia,ib->fab", result["force_mag"], frame.spin)
    total = result["virial"] + torque
    assert_close({"V+torque": total.transpose(0, 2, 1)}, {"V+torque": total}, 1e-10)
    virial = result["virial"]
    if "spin_rotation" in symmetries:
        assert_close({"V": virial.transpose(0, 2, 1)}, {"V": virial}, 1e-10)
        return
    asymmetry = np.abs(virial - virial.transpose(0, 2, 1)).max()
    assert asymmetry > 1e-6 * np.abs(virial).max(), "spins exert no torque at all"


def check_supercell(evaluate: Evaluator, frame: Frame) -> None:
    """A 2 x 1 x 1 supercell has twice the energy and virial, and the same forces."""
    double = Frame(
        coord=np.concatenate([frame.coord, frame.coord + frame.box[0]]),
        box=frame.box * np.array([[2.0], [1.0], [1.0]]),
        atype=np.tile(frame.atype, 2),
        spin=np.tile(frame.spin, (2, 1)),
        scale=np.tile(frame.scale, 2),
    )
    old = run(evaluate, frame)
    want = {name: 2 * old[name] for name in ("energy", "virial")}
    for name in ("atom_ener", "force", "force_mag", "atom_virial"):
        want[name] = np.concatenate([old[name], old[name]], axis=1)
    assert_close(run(evaluate, double), want, 1e-10)


def check_fragments(evaluate: Evaluator, first: Frame, second: Frame) -> None:
    """Open clusters that do not see each other are additive."""
    away = np.array([0.0, 40.0, 30.0])
    both = Frame(
        coord=np.concatenate([first.coord, second.coord + away]),
        box=None,
        atype=np.concatenate([first.atype, second.atype]),
        spin=np.concatenate([first.spin, second.spin]),
        scale=np.concatenate([first.scale, second.scale]),
    )
    a, b = run(evaluate, first), run(evaluate, second)
    want = {name: a[name] + b[name] for name in ("energy", "virial")}
    for name in ("atom_ener", "force", "force_mag", "atom_virial"):
        want[name] = np.concatenate([a[name], b[name]], axis=1)
    assert_close(run(evaluate, both), want, 1e-10)


def check_smooth(
    evaluate: Evaluator, frame: Frame, radius: float, *, virtual: bool, step=1e-3
) -> None:
    """The energy is C2, forces are C1, where a distance from atom 0 passes `radius`.

    The distance is that of atom 1 or of its virtual atom. One-sided second-order
    differences from both sides must meet as the step shrinks; the third derivative of
    the switching function jumps, which shows that the distance counts at all.
    """
    point = frame.coord[1] + (frame.scale[1] * frame.spin[1] if virtual else 0.0)
    apart = point - frame.coord[0]
    distance = np.linalg.norm(apart)
    steps = np.concatenate([s * np.arange(-2, 3) for s in (step, step / 4)])
    frames = []
    for x in steps:
        coord = frame.coord.copy()
        coord[1] += (radius + x - distance) * apart / distance
        frames.append(replace(frame, coord=coord))
    result = run(evaluate, *frames)
    lines, failed = [], False
    for name in ("energy", "force", "force_mag", "virial"):
        jumps, bends = [], []
        for k, h in ((0, step), (5, step / 4)):
            g = result[name][k : k + 5].reshape(5, -1)
            left = (3 * g[2] - 4 * g[1] + g[0]) / (2 * h)
            right = (-3 * g[2] + 4 * g[3] - g[4]) / (2 * h)
            jumps.append(np.abs(right - left).max())
            bends.append(np.abs(g[4] - 2 * g[3] + 2 * g[1] - g[0]).max() / h**2)
            slope = np.abs(left).max()
        smooth = jumps[1] <= jumps[0] / 8 + 1e-8 * max(slope, 1e-3)
        # the energy's second derivative is continuous, that of forces is not
        sharp = bends[1] > 1e-5 if name != "energy" else True
        failed |= not (smooth and sharp)
        lines.append(
            f"{name}: slopes differ by {jumps[0]:.2e}, {jumps[1]:.2e} of {slope:.2e}, "
            f"curvatures by {bends[1]:.2e}"
        )
    assert not failed, "\n".join(lines)


def check_batch(evaluate: Evaluator, *frames: Frame) -> None:
    """A batch gives what its frames give one by one, padding apart."""
    together = run(evaluate, *frames)
    for k, frame in enumerate(frames):
        alone = run(evaluate, frame)
        found = {name: together[name][k : k + 1] for name in FIELDS}
        assert_close(found, _all(alone), 1e-13)


def check_frames_independent(evaluate: Evaluator, frame: Frame) -> None:
    """What one frame holds leaves the other frames' bits alone."""
    rng = np.random.default_rng(12)
    other = replace(
        frame,
        coord=frame.coord + 1e-4 * rng.normal(size=frame.coord.shape),
        spin=frame.spin + 1e-4 * rng.normal(size=frame.spin.shape),
    )
    alike, mixed = run(evaluate, frame, frame), run(evaluate, frame, other)
    for name in FIELDS:
        np.testing.assert_array_equal(mixed[name][0], alike[name][0], err_msg=name)
        assert (mixed[name][1] != alike[name][1]).any(), name


def check_non_spin(evaluate: Evaluator, frame: Frame) -> None:
    """Types without spin: no magnetic force, and what `spin` holds is not looked at."""
    bare = ~frame.magnetic
    assert bare.any()
    spin = frame.spin.copy()
    spin[bare] = np.random.default_rng(10).normal(size=(bare.sum(), 3))
    old, new = run(evaluate, frame), run(evaluate, replace(frame, spin=spin))
    for name in FIELDS:
        np.testing.assert_array_equal(old[name], new[name], err_msg=name)
    assert (old["force_mag"][:, bare] == 0).all()
    assert (np.abs(old["force_mag"][:, ~bare]) > 0).all()


def check_spin_symmetries(
    evaluate: Evaluator, frame: Frame, symmetries: Collection[str] = ()
) -> None:
    """Spins turned alone, or all flipped, change the energy but by symmetry.

    One spin turned alone always does: nothing is equal by accident.
    """
    rotation, _ = np.linalg.qr(np.random.default_rng(11).normal(size=(3, 3)))
    one = frame.spin.copy()
    first = np.flatnonzero(frame.magnetic)[0]
    one[first] = rotation @ one[first]
    variants = {
        None: one,
        "spin_rotation": frame.spin @ rotation.T,
        "time_reversal": -frame.spin,
    }
    assert set(symmetries) <= set(variants)
    frames = [replace(frame, spin=spin) for spin in variants.values()]
    first, *energies = run(evaluate, frame, *frames)["energy"]
    for name, energy in zip(variants, energies, strict=True):
        change = abs(energy - first) / abs(first)
        assert change < 1e-12 if name in symmetries else change > 1e-6, (name, change)


def _all(result: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: result[name] for name in FIELDS}
