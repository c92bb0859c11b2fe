# SPDX-License-Identifier: Apache-2.0
r"""A magnet in which nothing is pairwise: data of a closed formula, hot and disordered.

.. math::

    E = \sum_i \left[-A\sqrt{\rho_i} + \tfrac12 \sum_j B e^{-p(r_{ij}/r_0 - 1)} w_{ij}
        + a_i |S_i|^2 + b |S_i|^4 + c |S_i|^6
        - \tfrac12 \sum_j J_{ij}\, g_i g_j\, S_i \cdot S_j\right]

with the embedding density :math:`\rho_i = \sum_j e^{-q(r_{ij}/r_0 - 1)} w_{ij}`, and
its ratio :math:`x_i = \rho_i/\rho_0` to that of the perfect lattice in :math:`a_i =
a(1 + \alpha(x_i - 1))` and :math:`g_i = e^{-\beta(x_i - 1)}`; w is the switch of
`se_e2_a` from 3.2 to 4.4 Å. Through g the exchange of two atoms depends on what
surrounds both, beyond one cutoff.

The lattice is bcc with 16 atoms, strained by up to 6 %, atoms displaced by 0.15 Å,
spins of 2.2 μ_B with directions between order and none, moduli spread by 0.2 μ_B.
Labels are exact: derivatives by automatic differentiation.

``python tests/many_body.py FOLDER`` writes 480 frames to train on and 60 to test on.
"""

import itertools
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

LATTICE, CELLS = 2.87, 2  # Å, in each direction
R0, BEGIN, END = 2.485, 3.2, 4.4  # Å
A, B, P, Q = 2.5, 0.35, 7.0, 4.5  # eV, eV, 1, 1
LANDAU = (-0.30, 0.022, 0.0006)  # a, b, c in eV/μ_B^2, /μ_B^4, /μ_B^6
ALPHA, BETA = 1.5, 0.8
EXCHANGE, RANGE = 0.012, 1.5  # eV/μ_B^2 at R0, decay
SITES = [
    (np.array(cell) + basis) * LATTICE
    for cell in itertools.product(range(CELLS), repeat=3)
    for basis in (0.0, 0.5)
]


def energy(coord, spin, box):
    """Energy in eV of a frame: (n, 3), (n, 3), (3, 3)."""
    images = np.array(list(itertools.product((-1, 0, 1), repeat=3)), dtype=float)
    apart = coord[None] - coord[:, None]  # i j x
    apart = apart[:, :, None] + tf.matmul(tf.constant(images), box)
    square = tf.reduce_sum(apart**2, axis=-1)
    seen = (square > 1e-6) & (square < END**2)
    r = tf.sqrt(tf.where(seen, square, tf.ones_like(square)))
    u = tf.clip_by_value((r - BEGIN) / (END - BEGIN), 0.0, 1.0)
    switch = tf.where(seen, 1 + u**3 * (-6 * u**2 + 15 * u - 10), tf.zeros_like(r))
    density = tf.reduce_sum(switch * tf.exp(-Q * (r / R0 - 1)), axis=[1, 2])
    ratio = density / PERFECT - 1
    pair = tf.reduce_sum(switch * tf.exp(-P * (r / R0 - 1)))
    lattice = B / 2 * pair - A * tf.reduce_sum(tf.sqrt(density))
    modulus = tf.reduce_sum(spin**2, axis=-1)
    a, b, c = LANDAU
    landau = a * (1 + ALPHA * ratio) * modulus + b * modulus**2 + c * modulus**3
    dressed = tf.exp(-BETA * ratio)[:, None] * spin
    strength = tf.reduce_sum(switch * tf.exp(-RANGE * (r / R0 - 1)), axis=2)
    coupling = tf.matmul(dressed, dressed, transpose_b=True)
    exchange = -EXCHANGE / 2 * tf.reduce_sum(strength * coupling)
    return lattice + tf.reduce_sum(landau) + exchange


# density of an atom in the perfect lattice: 8, 6 and 12 neighbours
PERFECT = sum(
    n * np.exp(-Q * (r / R0 - 1)) * w
    for n, r, w in ((8, R0, 1.0), (6, LATTICE, 1.0), (12, 2**0.5 * LATTICE, 0.0))
) + 12 * np.exp(-Q * (2**0.5 * LATTICE / R0 - 1)) * (
    lambda u: 1 + u**3 * (-6 * u**2 + 15 * u - 10)
)((2**0.5 * LATTICE - BEGIN) / (END - BEGIN))


@tf.function(autograph=False)
def labelled(coord, spin, box):
    """Energy, force, magnetic force and virial of a frame."""
    strain = tf.eye(3, dtype=tf.float64)
    with tf.GradientTape() as tape:
        tape.watch([coord, spin, strain])
        total = energy(coord @ strain, spin, box @ strain)
    force, field, virial = tape.gradient(total, [coord, spin, strain])
    return total, -force, -field, -tf.transpose(virial)


def frame(random):
    """Positions, spins and cell of one frame."""
    strain = np.eye(3) + random.uniform(-0.06, 0.06, (3, 3))
    box = CELLS * LATTICE * np.eye(3) @ strain
    coord = np.array(SITES) @ strain + random.normal(0, 0.15, (len(SITES), 3))
    order = random.uniform(0, 3)
    spin = random.normal(size=coord.shape) + order * np.array([0, 0, 1.0])
    spin /= np.linalg.norm(spin, axis=1, keepdims=True)
    return coord, spin * random.normal(2.2, 0.2, (len(coord), 1)), box


def write(folder, seed, nframes):
    """Write a system of so many frames."""
    random = np.random.default_rng(seed)
    frames = [frame(random) for _ in range(nframes)]
    made = [[np.asarray(x) for x in labelled(*map(tf.constant, f))] for f in frames]
    path = Path(folder) / "set.000"
    path.mkdir(parents=True)
    names = ("coord", "spin", "box", "energy", "force", "force_mag", "virial")
    for name, values in zip(
        names,
        zip(*(a + tuple(b) for a, b in zip(frames, made, strict=True)), strict=True),
        strict=True,
    ):
        np.save(path / f"{name}.npy", np.reshape(values, [nframes, -1]))
    Path(folder, "type.raw").write_text("0\n" * len(SITES))
    Path(folder, "type_map.raw").write_text("Fe\n")


if __name__ == "__main__":
    write(f"{sys.argv[1]}/train", 1, 480)
    write(f"{sys.argv[1]}/valid", 2, 60)
