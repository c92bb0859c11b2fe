# SPDX-License-Identifier: Apache-2.0
"""The input of ``dp-spin md``: its arguments, their checks and documentation.

Nothing here imports TensorFlow: a mistake in the input is answered at once.
"""

from __future__ import annotations

from pathlib import Path

from dargs import Argument

from deepspin.dynamics.core.barostat import COUPLINGS
from deepspin.dynamics.core.quantum import SPECTRA
from deepspin.dynamics.md.sections import (
    AT_LEAST_ONE,
    ATOMS,
    NOT_NEGATIVE,
    POSITIVE,
    VECTOR,
    check_waves,
    finite_numbers,
    is_ramp,
    ramp_of,
    spins_args,
    structure_args,
    waves_of_rules,
    with_rules,
)
from deepspin.utils.arguments import FILE, optional, required, section
from deepspin.utils.refused import InputError, bad, show

__all__ = ["gen_doc", "input_args", "md_args", "normalize_md", "replicas"]

THERMOSTATS = ("langevin", "nose-hoover")
TRAJECTORIES = (".extxyz", ".xyz", ".traj", ".h5", ".hdf5")


# --- Checks of single values: a test, and what the message expects --------------------


def _is_trajectory(value: str) -> bool:
    return FILE[0](value) and Path(value).suffix in TRAJECTORIES


KELVIN = (
    finite_numbers(lambda x: x >= 0),
    "a temperature >= 0 in K, or a list of them",
)
KELVINS = (
    lambda x: (ramp_of(lambda k: k >= 0, 1) if is_ramp(x) else KELVIN[0])(x),
    f"{KELVIN[1]}, or rows of a time in fs and a temperature, the times increasing",
)
FIELD = (
    lambda x: (ramp_of(lambda b: True, 3) if is_ramp(x) else VECTOR[0])(x),
    "3 finite numbers, or rows of a time in fs and 3 numbers, the times increasing",
)
WAVES = (
    lambda x: all(map(VECTOR[0], x if is_ramp(x) else [x])),
    "3 finite numbers, or a list of such",
)
NUMBERS = [float, list[float], list[list[float]]]
SEED = (
    finite_numbers(lambda x: 0 <= x < 2**32),
    "an integer from 0 to 2**32 - 1, a list of such, or null",
)
PARAMETERS = (finite_numbers(lambda x: True), "finite numbers")
MASSES = (
    lambda x: not x or POSITIVE[0](list(x.values())),
    "finite numbers > 0 by names of types",
)
SPIN_MASS = (
    lambda x: POSITIVE[0](list(x.values()) if isinstance(x, dict) else x),
    "a finite number > 0, or such numbers by names of types",
)
BEYOND = (lambda x: x in ("refuse", "warn"), '"refuse" or "warn"')
PRESSURE = (
    finite_numbers(lambda x: True),
    "a finite pressure in GPa, a list of them, or null",
)
THERMOSTAT = (lambda x: x in THERMOSTATS, f"one of {', '.join(THERMOSTATS)}")
SPECTRUM = (
    lambda x: x in ("classical", *SPECTRA),
    f"one of classical, {', '.join(SPECTRA)}",
)
COUPLING = (lambda x: x in COUPLINGS, f"one of {', '.join(COUPLINGS)}")
TRAJECTORY = (_is_trajectory, f"a file that ends in {', '.join(TRAJECTORIES)}, or null")
RESTART = (lambda x: FILE[0](x) and x.endswith(".npz"), "a file that ends in .npz")

# --- Trees ----------------------------------------------------------------------------


def _time(name: str, what: str) -> Argument:
    return optional(name, [float, None], 100.0, POSITIVE)(
        f"Time in fs in which the bath makes {what} forget their velocities; null for"
        " no bath."
    )


def _damping(without: str) -> Argument:
    return optional("damping", float, 0.1, NOT_NEGATIVE)(
        "Gilbert's α, the strength of the bath of the spins, without dimension. 0 for"
        f" {without}."
    )


def _spin_temperature() -> Argument:
    return optional("spin_temperature", [*NUMBERS, None], None, KELVINS)(
        "Temperature of the bath of the spins in K, a list with one for each replica,"
        " or a ramp like ``temperature``; null for that."
    )


def _chain_args(choice: bool) -> list[Argument]:
    """Make the arguments of chains of Nosé and Hoover, with a choice of the bath."""
    length = optional("chain_length", int, 3, AT_LEAST_ONE)(
        "Links of a chain of Nosé and Hoover (doi:10.1063/1.463940), which has no"
        " random forces. Its relaxation time is τ: temperatures swing with periods of"
        " about 2πτ."
    )
    kind = optional("thermostat", str, "langevin", THERMOSTAT)(
        "Bath of what moves: Langevin's, or a chain of Nosé and Hoover"
        " (``nose-hoover``)."
    )
    return [kind, length] if choice else [length]


def _spectrum_args() -> list[Argument]:
    """Make the arguments of the noise's colour."""
    return [
        optional("spectrum", str, "classical", SPECTRUM)(
            "Noise of the atoms' bath: white (``classical``), or coloured so that each"
            " mode has the mean energy of a quantum oscillator"
            " (doi:10.1103/PhysRevLett.103.190601), without (``quantum``) or with that"
            " of its zero point (``zero-point``)."
        ),
        optional("spectrum_cutoff", float, 50.0, POSITIVE)(
            "Highest frequency in THz of coloured noise, above all of the atoms."
        ),
    ]


def _pressure_args() -> list[Argument]:
    """Make the arguments of the barostat."""
    return [
        optional("pressure", [float, list[float], None], None, PRESSURE)(
            "Pressure in GPa, under which the cell changes by stochastic cell rescaling"
            " (doi:10.1063/5.0020514), or a list with one for each replica; null for a"
            " fixed cell. Atoms move with the cell; spins stay as they are."
        ),
        optional("pressure_relaxation_time", float, 1000.0, POSITIVE)(
            "Time in fs in which the volume forgets what it was, if ``compressibility``"
            " is the system's."
        ),
        optional("compressibility", float, 0.005, POSITIVE)(
            "Isothermal compressibility in 1/GPa, roughly: averages do not depend on"
            " it. 0.005 suits oxides, 0.5 liquids."
        ),
        optional("pressure_coupling", str, "isotropic", COUPLING)(
            "What of the cell changes: the volume alone (``isotropic``), lengths along"
            " x, y and z, each on its own (``anisotropic``), or angles, too"
            " (``flexible``)."
        ),
    ]


def _tspin_args() -> list[Argument]:
    """Make the arguments of the ensemble `tspin`."""
    return [
        required("spin_mass", [float, dict], SPIN_MASS)(
            "Inertia μ of the spins in eV fs²/μ_B², of all or by types. Moduli swing"
            " with the angular frequency sqrt(c/μ), c being the curvature of the"
            " energy in the modulus in eV/μ_B²."
        ),
        _time("relaxation_time", "the atoms"),
        _time("spin_relaxation_time", "the spins"),
        _spin_temperature(),
        optional("beyond_range", str, "refuse", BEYOND)(
            "What to do when a modulus leaves the range that the model was trained on:"
            " stop (``refuse``) or ``warn``."
        ),
        *_chain_args(choice=True),
        *_pressure_args(),
    ]


def ensemble_args() -> Argument:
    """Make the section `ensemble`."""
    atoms = _time("relaxation_time", "the atoms")
    pressure = _pressure_args()
    spin_bath = [_damping("spins without a bath"), _spin_temperature()]
    baths = [atoms, *_spectrum_args(), *spin_bath, *pressure]
    chained = [
        optional("relaxation_time", float, 100.0, POSITIVE)(
            "Time τ in fs of the chain, see ``chain_length``."
        ),
        *_chain_args(choice=False),
        *spin_bath,
        *pressure,
    ]
    spins = [_damping("the precession alone")]
    documented = {
        "nve": ([], "Atoms and spins without baths."),
        "langevin": (
            baths,
            "Atoms in Langevin's bath, spins in one with Gilbert's damping.",
        ),
        "nose-hoover": (
            chained,
            "Atoms in a chain of Nosé and Hoover, spins in a bath with Gilbert's"
            " damping.",
        ),
        "spin": (spins, "Spins; the atoms stay where they are."),
        "lattice": (
            [atoms, *_spectrum_args(), *_chain_args(choice=True), *pressure],
            "Atoms; the spins stay as they are.",
        ),
        "tspin": (
            _tspin_args(),
            "Atoms and spin vectors, moduli included, both with inertia"
            " (arXiv:2506.12877). Its times are not physical for the spins.",
        ),
    }
    return section(
        "ensemble",
        "Equations of motion.",
        choices=[Argument(n, dict, f, doc=d) for n, (f, d) in documented.items()],
        choice_doc="What moves, and in which baths.",
    )


def output_args() -> Argument:
    """Make the section `output`."""

    def steps(name: str, of: str, default: int) -> Argument:
        return optional(name, int, default, AT_LEAST_ONE)(
            f"Number of steps between two {of}."
        )

    fields = [
        optional("log", str, "md.log", FILE)(
            "File for energies, temperatures and so on."
        ),
        steps("log_freq", "lines of the log", 100),
        optional("trajectory", [str, None], "md.extxyz", TRAJECTORY)(
            "File of the trajectory; its suffix decides the format: extended XYZ, .traj"
            " (ASE's) or HDF5; null for none. Several replicas write a file each,"
            " ``NAME-K.extxyz``, but share an HDF5 file."
        ),
        steps("trajectory_freq", "frames of the trajectory", 100),
        optional("restart", str, "md.restart.npz", RESTART)(
            "Restart file, from which a run goes on (-r) as if it had never stopped."
        ),
        steps("restart_freq", "restart files", 1000),
    ]
    return Argument(
        "output", dict, fields, optional=True, default={}, doc="Files that are written."
    )


def replica_args() -> list[Argument]:
    """Make the arguments that distinguish replicas: temperatures and seeds."""
    return [
        required("temperature", NUMBERS, KELVINS)(
            "Temperature of the baths and of the first velocities in K. A list makes as"
            " many replicas, which run at once. Rows [time in fs, temperature] make a"
            " ramp, along straight lines: [[0, 600], [5000, 10]] cools all replicas"
            " down."
        ),
        optional("initial_temperature", [float, list[float], None], None, KELVIN)(
            "Temperature of the first velocities in K; null for ``temperature``."
            " Without a bath, atoms of an ideal crystal lose half to the potential."
        ),
        optional("seed", [int, list[int], None], None, SEED)(
            "Seed of all random numbers; null draws one. A list makes as many replicas;"
            " with one seed, replica k has that plus k. A replica is the same to the"
            " last bit whether it runs alone or not."
        ),
    ]


def system_args() -> list[Argument]:
    """Make the remaining arguments about the atoms and what acts on them."""
    return [
        optional("field", [list[float], list[list[float]], None], None, FIELD)(
            "External magnetic field in T, which acts on the spins; or a ramp, rows"
            " [time in fs, x, y, z]."
        ),
        optional("field_frequency", float, 0.0, NOT_NEGATIVE)(
            "Frequency f in THz of an alternating field, ``field`` times cos(2πft),"
            " with the time t since the first run began; 0 for a constant field."
        ),
        optional("fixed_atoms", list[int], [], ATOMS)(
            "Atoms that stay where they are, copies included, by their numbers in the"
            " file from 0; those that the file fixes stay, too."
        ),
        optional("masses", dict, {}, MASSES)(
            "Masses in amu by names of types; the others have those of the file, or of"
            " the elements."
        ),
        optional("fparam", [list[float], None], None, PARAMETERS)(
            "Frame parameters, for a model that takes some."
        ),
    ]


def md_args() -> list[Argument]:
    """Make the arguments of the input of ``dp-spin md``."""
    temperature, first, seed = replica_args()
    return [
        required("model", str, FILE)(
            "Model file, frozen model or prefix of checkpoints."
        ),
        structure_args(),
        spins_args(),
        ensemble_args(),
        temperature,
        first,
        required("timestep", float, POSITIVE)("Timestep in fs."),
        required("steps", int, AT_LEAST_ONE)(
            "Number of steps in total, restarts included."
        ),
        seed,
        *system_args(),
        optional("order_vector", [list[float], list[list[float]], None], None, WAVES)(
            "Wave vector of the staggered order in the log, like ``wave_vector`` of"
            " ``spins``, or a list of all that are equivalent, so that the order stays"
            " as small cells go from one to the other; null for the order of the first"
            " spins, if these are collinear."
        ),
        output_args(),
    ]


# --- Normalisation --------------------------------------------------------------------


def normalize_md(data: dict) -> dict:
    """Check an input and fill in the defaults.

    Parameters
    ----------
    data : dict
        The input as it is written; keys that begin with an underscore are comments.

    Returns
    -------
    dict
        The complete input.

    Raises
    ------
    InputError
        At the first mistake.
    """
    data = with_rules(md_args(), {"output": {}, **data})
    _check_together(data)
    return data


def _check_together(data: dict) -> None:
    """Check values against each other."""
    nrep = replicas(data)
    for name, values in (
        ("seed", data["seed"]),
        ("temperature", data["temperature"]),
        ("initial_temperature", data["initial_temperature"]),
        ("ensemble/spin_temperature", data["ensemble"].get("spin_temperature")),
        ("ensemble/pressure", data["ensemble"].get("pressure")),
    ):
        listed = isinstance(values, list) and not is_ramp(values)
        if listed and len(values) not in (1, nrep):
            raise bad(
                name,
                values,
                f"one number, or one for each of {nrep} replicas",
                "The longest list of `seed` and `temperature` says how many there are",
            )
    if data["field_frequency"] and data["field"] is None:
        raise InputError("`field_frequency` needs a `field` that alternates. Give one.")
    if data["field_frequency"] and is_ramp(data["field"]):
        raise InputError(
            "`field_frequency` needs a constant `field`. Received: a ramp. Give one of "
            "the two."
        )
    _check_chain(data)
    _check_spectrum(data)
    _check_barostat(data)
    names = [data["output"][k] for k in ("log", "trajectory", "restart")]
    if len(set(names)) < len(names):
        raise bad("output", names, "three different files")
    order = data["order_vector"]
    waves = {"order_vector": order}
    if is_ramp(order):
        waves = {f"order_vector/{k}": vector for k, vector in enumerate(order)}
    repeat = data["structure"]["repeat"]
    check_waves(waves | waves_of_rules(data), repeat, "structure/repeat")


def _check_chain(data: dict) -> None:
    """Refuse chains at 0 K: they have no mass."""
    ensemble = data["ensemble"]
    if "nose-hoover" not in (ensemble["type"], ensemble.get("thermostat")):
        return
    for name, value in (
        ("temperature", data["temperature"]),
        ("ensemble/spin_temperature", ensemble.get("spin_temperature")),
    ):
        kelvin = [row[-1] for row in value] if is_ramp(value) else value
        cold = not all(kelvin if isinstance(kelvin, list) else [kelvin])
        # Gilbert's bath of the spins may be cold
        own = name == "temperature" or ensemble["type"] == "tspin"
        if own and value is not None and cold:
            raise bad(name, value, "above 0 K in a chain of Nosé and Hoover")


def _check_spectrum(data: dict) -> None:
    """Check what coloured noise needs."""
    ensemble = data["ensemble"]
    if ensemble.get("spectrum", "classical") == "classical":
        return
    for wrong, name in (
        (ensemble["relaxation_time"] is None, "ensemble/relaxation_time"),
        (ensemble.get("thermostat") == "nose-hoover", "ensemble/thermostat"),
        (ensemble["pressure"] is not None, "ensemble/pressure"),
        (is_ramp(data["temperature"]), "temperature"),
    ):
        if wrong:
            raise InputError(
                f"`ensemble/spectrum` is {show(ensemble['spectrum'])}, which needs "
                "Langevin's bath at a constant temperature in a fixed cell. Change "
                f"that, or `{name}`."
            )
    longest = 1e3 / (2 * ensemble["spectrum_cutoff"])
    if data["timestep"] > longest:
        raise bad(
            "ensemble/spectrum_cutoff",
            ensemble["spectrum_cutoff"],
            f"at most {5e2 / data['timestep']:g} THz with this timestep",
        )


def _check_barostat(data: dict) -> None:
    """Check what a pressure needs."""
    ensemble = data["ensemble"]
    if ensemble.get("pressure") is None:
        return
    if ensemble["relaxation_time"] is None:
        raise bad(
            "ensemble/relaxation_time",
            None,
            "a time in fs",
            "A `pressure` needs atoms in a bath",
        )
    if data["fixed_atoms"]:
        raise bad(
            "fixed_atoms",
            data["fixed_atoms"],
            "no atoms, for all move with the cell",
            "Give no `ensemble/pressure`",
        )


def replicas(data: dict) -> int:
    """Return how many replicas an input has."""
    given = [x for x in (data["seed"], data["temperature"]) if not is_ramp(x)]
    return max([len(x) for x in given if isinstance(x, list)], default=1)


def input_args() -> list[Argument]:
    """Make the whole tree; its anchors begin with ``md``."""
    return [Argument("md", dict, md_args(), doc="Input of ``dp-spin md``.")]


def gen_doc() -> str:
    """Document the arguments as reStructuredText, with an anchor for each."""
    return input_args()[0].gen_doc(make_anchor=True, make_link=True)
