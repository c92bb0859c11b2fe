# SPDX-License-Identifier: Apache-2.0
"""The arguments of `input.json`: their trees and their documentation.

Those of the training are in `deepspin.utils.argcheck_training`. Names, aliases,
defaults and units are those of DeePMD-kit 3.2.0.
"""

from __future__ import annotations

import json

from dargs import Argument, ArgumentEncoder
from dargs.json_schema import generate_json_schema

from deepspin.utils.argcheck_training import (
    learning_rate_args,
    optimizer_args,
    training_args,
    validating_args,
)
from deepspin.utils.arguments import (
    ACTIVATION,
    ACTIVATIONS,
    AT_LEAST_ONE,
    COUNT,
    FM_COMPONENT,
    LOSS_FUNC,
    LOSS_PREFACTORS,
    NOT_NEGATIVE,
    POSITIVE,
    PRECISION,
    SEED,
    SEL,
    WIDTHS,
    is_own,
    optional,
    required,
    section,
)

# --- Trees: one function per component ------------------------------------------------


def _network_args() -> list[Argument]:
    """Make the arguments that both kinds of nets have."""
    return [
        optional("activation_function", str, "tanh", ACTIVATION)(
            f"Activation function: {', '.join(ACTIVATIONS)}. ``silut:T`` is silu up to"
            " T (3 if not given) and a tanh beyond."
        ),
        optional("precision", str, "default", PRECISION)(
            "Precision of the parameters: ``default`` or ``float64``, or ``float32``."
        ),
        optional("seed", [int, None], None, SEED)(
            "Random seed of the initial parameters; null draws one."
        ),
    ]


def descriptor_se_e2_a_args() -> list[Argument]:
    """Make the arguments of the descriptor `se_e2_a`."""
    return [
        optional("sel", [list[int], str], "auto", SEL)(
            "Largest number of neighbours of each type inside ``rcut``. A list with one"
            " number per type of ``type_map``; virtual atoms get that of their type on"
            " top. Or ``auto:F``: the largest number in the training data times F,"
            " rounded up to a multiple of 4; ``auto`` is ``auto:1.1``. What is beyond"
            " it is dropped, the farthest first, and reported."
        ),
        optional("rcut", float, 6.0, POSITIVE)("Cut-off radius, in Å."),
        optional("rcut_smth", float, 0.5, NOT_NEGATIVE)(
            "Radius where the smooth switch to zero at ``rcut`` begins, in Å."
        ),
        optional("neuron", list[int], [10, 20, 40], WIDTHS)(
            "Widths of the layers of the embedding net. A layer as wide as the one"
            " before, or twice as wide, has a skip connection."
        ),
        optional("axis_neuron", int, 4, AT_LEAST_ONE, alias=["n_axis_neuron"])(
            "Number of embedding columns kept on the second axis of the descriptor."
        ),
        optional("resnet_dt", bool, False)(
            "Scale each skip-connected layer of the embedding net by trained factors."
        ),
        optional("type_one_side", bool, False)(
            "One embedding net per type of neighbour; otherwise one per pair of centre"
            " and neighbour type."
        ),
        *_network_args(),
        optional("trainable", bool, True)("Train the embedding nets."),
        optional("exclude_types", list[list[int]], [])(
            "Pairs of types that do not see each other, such as ``[[0, 1]]``. Virtual"
            " types are numbered after those of ``type_map``."
        ),
        optional("env_protection", float, 0.0, NOT_NEGATIVE)(
            "Added to distances before dividing by them, in Å, so that spins of zero"
            " length are allowed."
        ),
        optional("set_davg_zero", bool, False)(
            "Set the mean of the environment matrix to zero instead of that of the"
            " data; recommended with ``atom_ener``."
        ),
    ]


def fitting_ener_args() -> list[Argument]:
    """Make the arguments of the fitting net `ener`."""
    return [
        optional("numb_fparam", int, 0, COUNT)(
            "Number of frame parameters, such as an electron temperature, which the"
            " fitting net takes besides the descriptor. If above 0, every set of every"
            " system needs the file ``fparam.npy``, with so many numbers for each"
            " frame."
        ),
        optional("neuron", list[int], [120, 120, 120], WIDTHS, alias=["n_neuron"])(
            "Widths of the hidden layers of the fitting net. A layer as wide as the one"
            " before has a skip connection."
        ),
        optional("resnet_dt", bool, True)(
            "Scale each skip-connected layer of the fitting net by trained factors."
        ),
        *_network_args(),
        optional("trainable", [list[bool], bool], True)(
            "Train the fitting net: one answer for all, or a list with one per hidden"
            " layer and one for the output layer."
        ),
        optional("rcond", [float, None], None, NOT_NEGATIVE)(
            "Cut-off ratio for small singular values in the least-squares fit of the"
            " energy bias per type, as in ``numpy.linalg.lstsq``."
        ),
        optional("atom_ener", list[float | None], [])(
            "Energy of an isolated atom of each type, in eV; null for those to be"
            " fitted. One per type of ``type_map``, or also one per virtual type."
        ),
    ]


def _use_spin_arg() -> Argument:
    return required("use_spin", [list[bool], list[int], list[str]])(
        "Types that carry a spin: a boolean per type of ``type_map``, or a list of"
        ' type indices, or of names such as ``["Ni"]``, in any order.'
    )


def _ignore_below_arg() -> Argument:
    return optional("ignore_below", float, 0.05, NOT_NEGATIVE, own=True)(
        "Moments in μ_B of atoms without spin in data, which electronic structure codes"
        " tell of every atom: below this they and their magnetic forces are left out,"
        " from this on they are refused."
    )


def spin_ener_spin_args() -> list[Argument]:
    """Make the arguments of the spin scheme `ener_spin`."""
    per_type = "One per spin type, one per type, or one for all."
    docs = {
        "virtual_len": "Distance from an atom to its virtual atom when the spin has the"
        " length ``spin_norm``, in Å.",
        "spin_norm": "Length of the spin that ``virtual_len`` is for, in μ_B.",
        "virtual_scale": "Distance to the virtual atom per length of the spin, in"
        " Å/μ_B; it replaces ``virtual_len`` divided by ``spin_norm``.",
    }
    return [
        _use_spin_arg(),
        *(
            Argument(name, [list[float], float], optional=True, doc=f"{doc} {per_type}")
            for name, doc in docs.items()
        ),
        optional("time_reversal", bool, False, own=True)(
            "Take the mean of the energy and of that of all spins reversed: exactly"
            " even in the spins, at twice the cost."
        ),
        _ignore_below_arg(),
    ]


def baseline_args() -> Argument:
    """Make the section `model/spin[invariant]/baseline`."""
    weights = {
        "weight_e": ("energies per atom", 0.1),
        "weight_fr": ("forces", 1.0),
        "weight_fm_along": ("magnetic forces along the spins", 0.3),
        "weight_fm_across": ("magnetic forces across the spins", 3.0),
        "weight_v": ("virials per atom", 0.3),
    }
    return Argument(
        "baseline",
        [bool, dict],
        [
            optional("nradial", int, 14, AT_LEAST_ONE)(
                "Number of radial functions, Chebyshev polynomials up to ``rcut``."
            ),
            optional("ncross", int, 6, COUNT)(
                "How many of them enter products of sums over neighbours, the second"
                " tier; 0 for none."
            ),
            optional("nframes", int, 500, AT_LEAST_ONE)(
                "Number of frames that are fitted, spread evenly over the training"
                " data."
            ),
            optional("ridge", float, None, POSITIVE)(
                "Ridge, in units of the largest singular value squared; by default the"
                " one that serves a fifth of the frames best, which are held out for"
                " it and then fitted too."
            ),
            *(
                optional(name, float, value, NOT_NEGATIVE)(
                    f"Weight of the {what}, each divided by its spread in the data."
                )
                for name, (what, value) in weights.items()
            ),
            optional("trainable", bool, False)("Train the numbers on with the nets."),
        ],
        optional=True,
        default=True,
        doc="The linear part of the energy, fitted in closed form before the training:"
        " pair energies, exchange, on-site terms. ``false`` leaves it out, ``true``"
        " takes the defaults of its options.",
    )


def spin_invariant_args() -> list[Argument]:
    """Make the arguments of the spin scheme `invariant`."""
    return [
        _use_spin_arg(),
        optional("soc", bool, False)(
            "Spin-orbit coupling: only the rotation of lattice and spins together"
            " leaves the energy. Without it also that of the spins alone."
        ),
        baseline_args(),
        _ignore_below_arg(),
    ]


def spin_args() -> Argument:
    """Make the section `model/spin`."""
    virtual = "Each spin is a virtual atom, at a distance proportional to the spin."
    invariant = (
        "Scalar products of spins; the energy is even in them and, without spin-orbit"
        " coupling, does not change when all spins turn. A linear part is fitted in"
        " closed form, nets learn what it leaves. An option of deepspin, unknown to"
        " DeePMD-kit."
    )
    return section(
        "spin",
        "Which atoms carry a spin, and how the model sees it.",
        choices=[
            Argument("ener_spin", dict, spin_ener_spin_args(), doc=virtual),
            Argument("invariant", dict, spin_invariant_args(), doc=invariant),
        ],
        default="ener_spin",
        choice_doc="How spins enter the model.",
    )


def descriptor_args() -> Argument:
    """Make the section `model/descriptor`."""
    doc = "Smooth, from distances and directions of the neighbours."
    fields = descriptor_se_e2_a_args()
    return section(
        "descriptor",
        "What an atom sees of its neighbours.",
        choices=[Argument("se_e2_a", dict, fields, alias=["se_a"], doc=doc)],
        choice_doc="Type of the descriptor.",
    )


def fitting_net_args() -> Argument:
    """Make the section `model/fitting_net`."""
    return section(
        "fitting_net",
        "What energy follows from the descriptor.",
        choices=[Argument("ener", dict, fitting_ener_args(), doc="Energy of an atom.")],
        default="ener",
        choice_doc="Quantity to fit.",
    )


def model_args() -> Argument:
    """Make the section `model`."""
    nets = [descriptor_args(), fitting_net_args()]
    return section(
        "model",
        "The model: types, descriptor, fitting net and spins.",
        [
            required("type_map", list[str])("Names of the types, such as elements."),
            optional("data_stat_nbatch", int, 10, AT_LEAST_ONE)(
                "Number of batches of each system used for the statistics."
            ),
            optional("data_stat_protect", float, 1e-2, POSITIVE)(
                "Smallest standard deviation that a frame parameter is divided by, for"
                " parameters that hardly vary. Without `numb_fparam` it has no effect."
            ),
            spin_args(),
        ],
        [Argument("standard", dict, nets, doc="A descriptor and a fitting net.")],
        "standard",
        "Type of the model.",
    )


#: Term of the loss: (what it compares, file of the label, start, limit, unit).
PREFACTORS = {
    "e": ("the energy", "energy", 0.02, 1.0, "1/eV²"),
    "fr": ("the forces on the atoms", "force", 1000.0, 1.0, "Å²/eV²"),
    "fm": ("the magnetic forces", "force_mag", 10000.0, 10.0, "μ_B²/eV²"),
    "v": ("the virial", "virial", 0.0, 0.0, "1/eV²"),
    "ae": ("the energies of the atoms", "atom_ener", 0.0, 0.0, "1/eV²"),
}


def loss_ener_spin_args() -> list[Argument]:
    """Make the arguments of the loss `ener_spin`."""
    args = []
    for term, (quantity, label, start, limit, unit) in PREFACTORS.items():
        args += [
            optional(f"start_pref_{term}", float, start, NOT_NEGATIVE)(
                f"Weight of {quantity} in the loss at the start of the training, in"
                f" {unit}. Labels come from ``{label}``; with this and"
                f" ``limit_pref_{term}`` at zero, the term is left out."
            ),
            optional(f"limit_pref_{term}", float, limit, NOT_NEGATIVE)(
                f"Weight of {quantity} in the loss in the limit of a vanishing learning"
                f" rate, in {unit}."
            ),
        ]
    return [
        *args,
        optional("prefactors", [str, None], None, LOSS_PREFACTORS, own=True)(
            "``given``: those above; ``auto``: each term divided by the mean square"
            " that it has before the first step, and constant. By default ``auto`` with"
            " ``model/spin[invariant]`` if none is given above, else ``given``."
        ),
        optional("fm_component", str, "full", FM_COMPONENT, own=True)(
            "What of the magnetic forces counts: ``full``, or only the components"
            " ``transverse`` (across the spins: what turns them) or ``longitudinal``"
            " (along them). Data whose spins were fixed in direction alone know no more"
            " than ``transverse``."
        ),
        optional("fm_longitudinal", [float, None], None, NOT_NEGATIVE, own=True)(
            "With ``fm_component`` ``full``, what the part along the spins counts"
            " beside the part across them. By default 1 with prefactors that are given;"
            " with ``prefactors`` ``auto`` such that both count alike."
        ),
        optional("enable_atom_ener_coeff", bool, False)(
            "Sum the energies of the atoms with the coefficients in"
            " ``atom_ener_coeff``, as for the energy of a reaction."
        ),
        optional("loss_func", str, "mse", LOSS_FUNC)(
            "``mse``: mean square error; ``mae``: mean absolute error."
        ),
        optional("intensive_ener_virial", bool, False)(
            "Divide the square errors of energy and virial by the square of the number"
            " of atoms instead of the number."
        ),
    ]


def loss_args() -> Argument:
    """Make the section `loss`."""
    doc = "Errors of energy, forces, magnetic forces and virial."
    return section(
        "loss",
        "The loss. Its weights go from start to limit with the learning rate.",
        choices=[Argument("ener_spin", dict, loss_ener_spin_args(), doc=doc)],
        choice_doc="Type of the loss.",
    )


def train_args() -> list[Argument]:
    """Make the sections of an input."""
    return [
        model_args(),
        learning_rate_args(),
        optimizer_args(),
        loss_args(),
        training_args(),
        validating_args(),
    ]


def without_own(data: dict) -> dict:
    """Copy sections of an input without the options that DeePMD-kit has not.

    Nor those that are null, as if not given, which it does not allow for each.
    """
    return _without_own({arg.name: arg for arg in train_args()}, data)


def _without_own(fields: dict[str, Argument], data: dict) -> dict:
    kept = {}
    for name, value in data.items():
        field = fields.get(name)
        if value is None or (field is not None and is_own(field)):
            continue
        if field is not None and isinstance(value, dict):
            chosen = field.flatten_sub(value)
            value = _without_own(chosen, value)
        kept[name] = value
    return kept


# --- Documentation --------------------------------------------------------------------


def gen_doc(out_type: str = "rst") -> str:
    """Document the arguments.

    Parameters
    ----------
    out_type : str
        `rst`, `json` or `json_schema`.

    Returns
    -------
    str
        reStructuredText with an anchor per argument, the trees in JSON, or a JSON
        schema for editors.

    Raises
    ------
    ValueError
        If `out_type` is another one.
    """
    args = train_args()
    if out_type == "rst":
        return "\n\n".join(a.gen_doc(make_anchor=True, make_link=True) for a in args)
    if out_type == "json":
        return json.dumps(args, cls=ArgumentEncoder)
    if out_type == "json_schema":
        root = Argument("deepspin", dict, args, doc="Input of dp-spin train.")
        return json.dumps(generate_json_schema(root))
    raise ValueError(
        f"`out_type` must be 'rst', 'json' or 'json_schema'. Received: {out_type!r}"
    )
