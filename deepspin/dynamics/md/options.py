# SPDX-License-Identifier: Apache-2.0
"""The input of ``dp-spin md``: its arguments, their checks and documentation.

Nothing here imports TensorFlow: a mistake in the input is answered at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path

from dargs import Argument, Variant
from dargs.dargs import ArgumentError

from deepspin.utils.argcheck import FILE
from deepspin.utils.refused import InputError, bad, explain

__all__ = ["gen_doc", "input_args", "md_args", "normalize", "replicas"]

TRAJECTORIES = (".extxyz", ".xyz", ".traj", ".h5", ".hdf5")
# how much a wave vector times the supercell may miss an integer
COMMENSURATE = 1e-6


# --- Checks of single values: a test, and what the message expects --------------------


def numbers(test: Callable[[float], bool], length: int | None = None):
    """Check a number, or each of a list of so many."""

    def check(value) -> bool:
        values = value if isinstance(value, list) else [value]
        return len(values) == (length or len(values)) > 0 and all(
            type(x) in (int, float) and math.isfinite(x) and test(x) for x in values
        )

    return check


def _is_direction(value) -> bool:
    if isinstance(value, str):
        return value == "random"
    return numbers(lambda x: True, 3)(value) and any(value)


def _is_trajectory(value) -> bool:
    return FILE[0](value) and Path(value).suffix in TRAJECTORIES


POSITIVE = (numbers(lambda x: x > 0), "a finite number > 0")
NOT_NEGATIVE = (numbers(lambda x: x >= 0), "a finite number >= 0")
KELVIN = (numbers(lambda x: x >= 0), "a temperature >= 0 in K, or a list of them")
AT_LEAST_ONE = (numbers(lambda x: x >= 1), "an integer >= 1")
INTEGER = (numbers(lambda x: True), "an integer")
REPEAT = (numbers(lambda x: x >= 1, 3), "3 integers >= 1")
SEED = (
    numbers(lambda x: 0 <= x < 2**32),
    "an integer from 0 to 2**32 - 1, a list of such, or null",
)
ATOMS = (lambda x: not x or numbers(lambda k: k >= 0)(x), "integers >= 0")
VECTOR = (numbers(lambda x: True, 3), "3 finite numbers")
PARAMETERS = (numbers(lambda x: True), "finite numbers")
DIRECTION = (_is_direction, '3 finite numbers, not all 0, or "random"')
AXIS = (
    lambda x: not isinstance(x, str) and _is_direction(x),
    "3 finite numbers, not all 0",
)
MASSES = (
    lambda x: not x or POSITIVE[0](list(x.values())),
    "finite numbers > 0 by names of types",
)
SPIN_MASS = (
    lambda x: POSITIVE[0](list(x.values()) if isinstance(x, dict) else x),
    "a finite number > 0, or such numbers by names of types",
)
BEYOND = (lambda x: x in ("refuse", "warn"), '"refuse" or "warn"')
TRAJECTORY = (_is_trajectory, f"a file that ends in {', '.join(TRAJECTORIES)}, or null")
RESTART = (lambda x: FILE[0](x) and x.endswith(".npz"), "a file that ends in .npz")

_NO_DEFAULT = object()


def argument(name: str, dtype, doc: str, check=None, default=_NO_DEFAULT) -> Argument:
    """Make an argument; one with a default is optional, null is not checked."""
    test, expected = check or (lambda x: True, "")
    given = {} if default is _NO_DEFAULT else {"optional": True, "default": default}
    return Argument(
        name,
        dtype,
        doc=doc,
        extra_check=lambda x: x is None or test(x),
        extra_check_errmsg=expected,
        **given,
    )


# --- Trees ----------------------------------------------------------------------------


def structure_args() -> Argument:
    """Make the section `structure`."""
    fields = [
        argument(
            "file",
            str,
            "Atoms to begin with: a file that ASE reads, with spins as initial magnetic"
            " moments or in an array ``spin``; or a system of training data (a folder,"
            " or ``file.hdf5#/group``).",
            FILE,
        ),
        argument(
            "frame",
            int,
            "Frame of that file, counted from 0, or from the end if negative.",
            INTEGER,
            -1,
        ),
        argument(
            "repeat",
            list[int],
            "Copies of the cell along its three vectors.",
            REPEAT,
            [1, 1, 1],
        ),
    ]
    return Argument("structure", dict, fields, doc="Atoms, cell and spins.")


def spins_args() -> Argument:
    """Make the list `spins`."""
    fields = [
        argument(
            "type",
            [str, None],
            "Name of the type whose atoms are meant; null for all with spin.",
            default=None,
        ),
        argument(
            "atoms",
            [list[int], None],
            "Atoms that are meant, of those that also have the type: their numbers in"
            " the file, from 0; all copies of them. Null for all.",
            ATOMS,
            None,
        ),
        argument(
            "modulus",
            [float, None],
            "Modulus of the spins in μ_B; null to keep that of the file.",
            POSITIVE,
            None,
        ),
        argument(
            "direction",
            [list[float], str, None],
            "Direction of the spins, of any length; ``random`` for one that is drawn"
            " for each spin and replica; null to keep those of the file.",
            DIRECTION,
            None,
        ),
        argument(
            "wave_vector",
            [list[float], None],
            "Wave vector q in the reciprocal vectors of the file's cell. Spins at R are"
            " reversed where cos(q·R) < 0: an antiferromagnet; with ``axis`` they are"
            " turned by q·R: a spiral. It must fit into the repeated cell.",
            VECTOR,
            None,
        ),
        argument("axis", [list[float], None], "Axis of a spiral.", AXIS, None),
    ]
    return Argument(
        "spins",
        list,
        fields,
        repeat=True,
        optional=True,
        default=[],
        doc="Spins to begin with, in place of those of the file: rules that are"
        " applied one after the other.",
    )


def _time(name: str, what: str) -> Argument:
    return argument(
        name,
        [float, None],
        f"Time in fs in which the bath makes {what} forget their velocities; null for"
        " no such bath.",
        POSITIVE,
        100.0,
    )


def _damping(without: str) -> Argument:
    return argument(
        "damping",
        float,
        "Gilbert's α, the strength of the bath of the spins, without dimension. 0 for"
        f" {without}.",
        NOT_NEGATIVE,
        0.1,
    )


def ensemble_args() -> Argument:
    """Make the section `ensemble`."""
    spin_temperature = argument(
        "spin_temperature",
        [float, list[float], None],
        "Temperature of the bath of the spins, if it is another than ``temperature``:"
        " K, or a list with one for each replica.",
        KELVIN,
        None,
    )
    tspin = [
        argument(
            "spin_mass",
            [float, dict],
            "Inertia μ of the spins in eV fs²/μ_B², of all or by types. Moduli swing"
            " with the angular frequency sqrt(c/μ), c being the curvature of the"
            " energy in the modulus in eV/μ_B².",
            SPIN_MASS,
        ),
        _time("relaxation_time", "the atoms"),
        _time("spin_relaxation_time", "the spins"),
        spin_temperature,
        argument(
            "beyond_range",
            str,
            "What to do when a modulus leaves the range that the model was trained on:"
            " ``refuse`` (stop) or ``warn``.",
            BEYOND,
            "refuse",
        ),
    ]
    choices = [
        Argument("nve", dict, [], doc="Atoms and spins without baths."),
        Argument(
            "langevin",
            dict,
            [
                _time("relaxation_time", "the atoms"),
                _damping("spins without a bath"),
                spin_temperature,
            ],
            doc="Atoms in Langevin's bath, spins in one with Gilbert's damping.",
        ),
        Argument(
            "spin",
            dict,
            [_damping("the precession alone")],
            doc="Spins; the atoms stay where they are.",
        ),
        Argument(
            "lattice",
            dict,
            [_time("relaxation_time", "the atoms")],
            doc="Atoms; the spins stay as they are.",
        ),
        Argument(
            "tspin",
            dict,
            tspin,
            doc="Atoms and spin vectors, moduli included, both with inertia"
            " (arXiv:2506.12877). Its times are not physical for the spins.",
        ),
    ]
    variant = Variant("type", choices, doc="What moves, and in which baths.")
    return Argument("ensemble", dict, [], [variant], doc="Equations of motion.")


def output_args() -> Argument:
    """Make the section `output`."""

    def steps(name: str, of: str, default: int) -> Argument:
        return argument(
            name, int, f"Number of steps between two {of}.", AT_LEAST_ONE, default
        )

    fields = [
        argument("log", str, "File of energies, temperatures, ...", FILE, "md.log"),
        steps("log_freq", "lines of it", 100),
        argument(
            "trajectory",
            [str, None],
            "File of the trajectory, in the format that its name ends in: extended XYZ,"
            " .traj (ASE's) or HDF5; null for none. Of several replicas, each has its"
            " own, ``NAME-K.extxyz``, but all are in one HDF5 file.",
            TRAJECTORY,
            "md.extxyz",
        ),
        steps("trajectory_freq", "frames of it", 100),
        argument(
            "restart",
            str,
            "File to go on from, bit for bit as if nothing had happened (-r).",
            RESTART,
            "md.restart.npz",
        ),
        steps("restart_freq", "writings of it", 1000),
    ]
    return Argument(
        "output", dict, fields, optional=True, default={}, doc="Files that are written."
    )


def md_args() -> list[Argument]:
    """Make the arguments of the input of ``dp-spin md``."""
    temperature = argument(
        "temperature",
        [float, list[float]],
        "Temperature of the baths and of the first velocities in K. A list makes as"
        " many replicas, which run at once.",
        KELVIN,
    )
    first = argument(
        "initial_temperature",
        [float, list[float], None],
        "Temperature in K of the first velocities, if another. Without a bath, half of"
        " it goes into the potential of atoms that begin at rest.",
        KELVIN,
        None,
    )
    seed = argument(
        "seed",
        [int, list[int], None],
        "Seed of all that is random; null draws one. A list makes as many replicas;"
        " with one seed, replica k has that plus k. A replica is the same to the last"
        " bit whether it runs alone or not.",
        SEED,
        None,
    )
    return [
        argument(
            "model", str, "Model file, frozen model or prefix of checkpoints.", FILE
        ),
        structure_args(),
        spins_args(),
        ensemble_args(),
        temperature,
        first,
        argument("timestep", float, "Timestep in fs.", POSITIVE),
        argument("steps", int, "Number of steps, all in all.", AT_LEAST_ONE),
        seed,
        argument(
            "field",
            [list[float], None],
            "External magnetic field in T, which acts on the spins.",
            VECTOR,
            None,
        ),
        argument(
            "field_frequency",
            float,
            "Frequency f in THz of a field that alternates: ``field`` times"
            " cos(2πft), t being the time since the first run began. 0 for a constant"
            " field.",
            NOT_NEGATIVE,
            0.0,
        ),
        argument(
            "fixed_atoms",
            list[int],
            "Atoms that stay where they are, beside those that the file fixes: their"
            " numbers in the file, from 0; all copies of them.",
            ATOMS,
            [],
        ),
        argument(
            "masses",
            dict,
            "Masses in amu by names of types; those of the elements, or the file's,"
            " where none is given.",
            MASSES,
            {},
        ),
        argument(
            "fparam",
            [list[float], None],
            "Frame parameters, for a model that takes some.",
            PARAMETERS,
            None,
        ),
        argument(
            "order_vector",
            [list[float], None],
            "Wave vector of the staggered order that the log tells, as ``wave_vector``"
            " of ``spins``; null for the order of the first spins, if these are"
            " collinear.",
            VECTOR,
            None,
        ),
        output_args(),
    ]


# --- Normalisation --------------------------------------------------------------------


def normalize(data: dict) -> dict:
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


def with_rules(arguments: Iterable[Argument], data: dict) -> dict:
    """Check an input that has rules `spins`, and fill in the defaults."""
    given = dict(data)
    rules = given.pop("spins", [])
    if not isinstance(rules, list) or not all(isinstance(r, dict) for r in rules):
        raise bad("spins", rules, "a list of objects, rules for the spins")
    data = complete(arguments, given)
    data["spins"] = []
    for number, rule in enumerate(rules):
        try:
            data["spins"].append(complete(spins_args().sub_fields.values(), rule))
        except InputError as error:
            raise InputError(f"`spins`, rule {number}: {error}") from error
    for number, rule in enumerate(data["spins"]):
        if rule["axis"] is not None and rule["wave_vector"] is None:
            raise InputError(
                f"`spins`, rule {number} has an `axis` without a `wave_vector`; give "
                "both, for a spiral."
            )
    return data


def complete(arguments: Iterable[Argument], data: dict) -> dict:
    """Check an object, fill in the defaults and leave comments out."""
    base = Argument("input", dict, list(arguments))
    try:
        data = base.normalize_value(data, trim_pattern="_*")
        base.check_value(data, strict=True)
    except ArgumentError as error:
        explain(error, base, data)
    return data


def _check_together(data: dict) -> None:
    """Check what depends on several values."""
    nrep = replicas(data)
    for name, values in (
        ("seed", data["seed"]),
        ("temperature", data["temperature"]),
        ("initial_temperature", data["initial_temperature"]),
        ("ensemble/spin_temperature", data["ensemble"].get("spin_temperature")),
    ):
        if isinstance(values, list) and len(values) not in (1, nrep):
            raise bad(
                name,
                values,
                f"one number, or one for each of {nrep} replicas",
                "The longest list of `seed` and `temperature` says how many there are",
            )
    if data["field_frequency"] and data["field"] is None:
        raise InputError("`field_frequency` needs a `field` that alternates. Give one.")
    names = [data["output"][k] for k in ("log", "trajectory", "restart")]
    if len(set(names)) < len(names):
        raise bad("output", names, "three different files")
    waves = {"order_vector": data["order_vector"]}
    repeat = data["structure"]["repeat"]
    check_waves(waves | waves_of_rules(data), repeat, "structure/repeat")


def waves_of_rules(data: dict) -> dict[str, list[float] | None]:
    """Wave vectors in `spins`, by their places."""
    return {
        f"spins/{number}/wave_vector": rule["wave_vector"]
        for number, rule in enumerate(data["spins"])
    }


def check_waves(
    waves: dict[str, list[float] | None], repeat: list[int], where: str
) -> None:
    """Refuse waves that do not fit into a cell repeated as told by the key `where`."""
    for place, vector in waves.items():
        turns = [q * n for q, n in zip(vector or [0] * 3, repeat, strict=True)]
        if any(abs(x - round(x)) > COMMENSURATE for x in turns):
            raise bad(
                place,
                vector,
                f"a wave that fits into {' x '.join(map(str, repeat))} cells",
                f"Change it, or `{where}`",
            )


def replicas(data: dict) -> int:
    """Return how many replicas an input has."""
    given = (data["seed"], data["temperature"])
    return max([len(x) for x in given if isinstance(x, list)], default=1)


def input_args() -> list[Argument]:
    """Make the whole tree; its anchors begin with ``md``."""
    return [Argument("md", dict, md_args(), doc="Input of ``dp-spin md``.")]


def gen_doc() -> str:
    """Document the arguments as reStructuredText, with an anchor for each."""
    return input_args()[0].gen_doc(make_anchor=True, make_link=True)
