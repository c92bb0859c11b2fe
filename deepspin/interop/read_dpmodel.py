# SPDX-License-Identifier: Apache-2.0
"""Read models in DeePMD-kit's own form, see `deepspin.interop.dpmodel`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepspin.descriptor.env_mat import float32_range
from deepspin.interop.deepmd import normalize_model
from deepspin.interop.dpmodel import DESCRIPTOR, FITTING, OURS, RANGES
from deepspin.interop.tree import read_tree
from deepspin.model.ener import SpinEnergyModel, build_model
from deepspin.utils.limits import check_nets
from deepspin.utils.network import ResidualDense

# of what DeePMD-kit 3.2 writes
_VERSIONS = {"backbone_model": 2, "descriptor": 3, "fitting": 4}


class _Unknown(ValueError):
    """Something of a file that deepspin cannot take over."""


def load_dpmodel(path: str | Path) -> tuple[SpinEnergyModel, dict]:
    """Read a spin model in DeePMD-kit's own form.

    Parameters
    ----------
    path : str
        A ``.dp``, ``.yaml`` or ``.yml`` file.

    Returns
    -------
    model : SpinEnergyModel
        The same model, with the same numbers.
    metadata : dict
        What tells of it, see `read_metadata`: of ``input`` the section ``model``,
        normalised, and ``min_nbor_dist`` if known; of a file that deepspin wrote all
        that it tells of the training's data. What models of DeePMD-kit's other
        backends have beyond an input (`placeholders` of `Spin`, `float32_cutoff` of
        `DescrptSeA`) is in the model alone.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is damaged, no spin model, or deepspin lacks what it needs.
    """
    content = read_tree(path)
    try:
        check_nets("it", Path(path).stat().st_size, content["model"])
        model, options = _Reader(content["model"]).load()
        nearest = content.get("@variables", {}).get("min_nbor_dist")
    except (ValueError, OSError) as error:
        raise ValueError(f"'{path}' cannot be taken over: {error}") from error
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(
            f"'{path}' is no model of DeePMD-kit 3, or damaged "
            f"({type(error).__name__}: {error}). Write it again, as with `dp "
            "convert-backend`."
        ) from error
    metadata: dict[str, Any] = {"input": {"model": options}}
    ours = content.get(OURS)
    if isinstance(ours, dict):
        metadata |= {name: ours[name] for name in RANGES if name in ours}
    if nearest is not None:
        metadata["min_nbor_dist"] = float(nearest)
    return model, metadata


class _Reader:
    """A model from the tree that describes it.

    Parameters
    ----------
    tree : dict
        What the file holds under ``model``.
    """

    def __init__(self, tree: dict):
        if "model_dict" in tree:
            raise _Unknown("it holds several models (`model_dict`). Choose one.")
        if tree["type"] != "spin_ener":
            raise _Unknown(
                f"it is of type '{tree['type']}'. Expected 'spin_ener', a model with "
                "virtual atoms for spins."
            )
        self.spin, self.backbone = tree["spin"], tree["backbone_model"]
        self.descriptor = self.backbone["descriptor"]
        self.fitting = self.backbone["fitting"]
        self.ntypes = len(self.spin["use_spin"])
        self._check()
        self.sel = [int(n) for n in self.descriptor["sel"]]
        ends = np.cumsum(self.sel)
        self.slots = [slice(e - n, e) for e, n in zip(ends, self.sel, strict=True)]
        statistics = self.descriptor["@variables"]
        self.davg, self.dstd = (statistics[name] for name in ("davg", "dstd"))
        self.excluded = {
            (a, b)
            for part in (
                (self.backbone, "pair_exclude_types"),
                (self.descriptor, "exclude_types"),
            )
            for pair in part[0][part[1]]
            for a, b in (pair, pair[::-1])
        }
        self.unpaired = [
            self.ntypes + t for t, x in enumerate(self.spin["use_spin"]) if not x
        ]
        self.placeholders = self._needs_placeholders()

    # -- what there may be -------------------------------------------------------------

    def _check(self) -> None:
        """Refuse what deepspin lacks."""
        descriptor, fitting, backbone = self.descriptor, self.fitting, self.backbone
        if descriptor["type"] != "se_e2_a" or fitting["type"] != "ener":
            raise _Unknown(
                f"it has the descriptor '{descriptor['type']}' and the fitting net "
                f"'{fitting['type']}'. Only 'se_e2_a' with 'ener' can be."
            )
        parts = {"backbone_model": backbone, "descriptor": descriptor}
        parts |= {"fitting": fitting}
        for name, part in parts.items():
            if part["@version"] > _VERSIONS[name]:
                raise _Unknown(
                    f"its {name} is of version {part['@version']}; known are those up "
                    f"to {_VERSIONS[name]}, of DeePMD-kit 3.2. Write it with that."
                )
        if "compress" in descriptor:
            raise _Unknown(
                "it is compressed: its embedding nets are tables. Take the model that "
                "it was made of."
            )
        silent = list(range(self.ntypes, 2 * self.ntypes))
        out_bias = backbone["@variables"]["out_bias"]
        lacking = {
            "`numb_aparam`": fitting["numb_aparam"],
            "`use_aparam_as_mask`": fitting.get("use_aparam_as_mask"),
            "`dim_case_embd`": fitting.get("dim_case_embd"),
            "`mixed_types`": fitting["mixed_types"],
            "`layer_name`": fitting.get("layer_name"),
            "`atom_exclude_types` of atoms": (
                sorted(backbone["atom_exclude_types"]) != silent
                or not set(fitting["exclude_types"]) <= set(silent)
            ),
            "`use_exp_switch`": descriptor["env_mat"].get("use_exp_switch"),
            "another `out_bias` for each frame or output": (
                out_bias.shape != (1, 2 * self.ntypes, 1)
            ),
            "no `virtual_scale`": self.spin["virtual_scale"] is None,
        }
        for name, found in lacking.items():
            if found:
                raise _Unknown(f"it has {name}, for which deepspin has no place.")
        same = ("rcut",) * 2, ("rcut_smth",) * 2, ("env_protection", "protection")
        if any(descriptor[a] != descriptor["env_mat"][b] for a, b in same):
            raise _Unknown("its `env_mat` contradicts its descriptor. Write it again.")
        for part in (descriptor, fitting):
            if part["precision"] not in ("float64", "float32"):
                raise _Unknown(
                    f"its nets are in {part['precision']}. Train one in float64 or "
                    "float32."
                )

    def _needs_placeholders(self) -> bool:
        """Whether sections without atoms change numbers."""
        n = self.ntypes
        own = [self.sel[n + t] == self.sel[t] for t in range(n)]
        paired = [n + t not in self.unpaired for t in range(n)]
        counted = [p for p in self.unpaired if self.davg[:n, self.slots[p]].any()]
        exact = all(same for same, pair in zip(own, paired, strict=True) if pair)
        if not exact or (counted and not all(own)):
            raise _Unknown(
                f"its `sel` {self.sel} is not the same for types and their virtual "
                "ones."
            )
        level = self.backbone["pair_exclude_types"] if counted else self.excluded
        known = {(a, b) for pair in level for a, b in (tuple(pair), tuple(pair)[::-1])}
        for p, i in itertools.product(self.unpaired, range(n)):
            if self.sel[p] and (p, i) not in known:
                raise _Unknown(
                    f"atoms of type {i} see virtual atoms of type {p - n}, which has "
                    "no spin (`pair_exclude_types`)."
                )
        return bool(counted)

    # -- what it is --------------------------------------------------------------------

    def load(self) -> tuple[SpinEnergyModel, dict]:
        """Model and options."""
        options = normalize_model(self._options())
        hidden = {
            "spin": {"placeholders": self.placeholders},
            "descriptor": {"float32_cutoff": self._cutoffs()[2]},
        }
        extended = {k: {**options[k], **more} for k, more in hidden.items()}
        model = build_model({**options, **extended})
        scheme: Any = model.spin.scheme
        owners = scheme.owners
        self.numbers = [*range(self.ntypes), *(self.ntypes + t for t in owners)]
        self._copy_statistics(model)
        self._copy_embeddings(model)
        self._copy_fitting(model)
        return model, options

    def _options(self) -> dict:
        descriptor, fitting = self.descriptor, self.fitting
        rcut, rcut_smth, _ = self._cutoffs()
        given = {name: descriptor[name] for name in DESCRIPTOR}
        scales = zip(self.spin["use_spin"], self.spin["virtual_scale"], strict=True)
        return {
            "type_map": self.backbone["type_map"][: self.ntypes],
            "descriptor": {
                **given,
                "rcut": rcut,
                "rcut_smth": rcut_smth,
                "sel": self.sel[: self.ntypes],
                "exclude_types": self._excluded_pairs(),
                "activation_function": _activation(descriptor),
            },
            "fitting_net": {
                **{name: fitting[name] for name in FITTING},
                "activation_function": _activation(fitting),
                "atom_ener": self._vacuum_energies(),
            },
            "spin": {
                "use_spin": [bool(x) for x in self.spin["use_spin"]],
                "virtual_scale": [float(scale) for flag, scale in scales if flag],
            },
        }

    def _cutoffs(self) -> tuple[float, float, bool]:
        """Cutoffs, and whether they mean the same rounded to float32."""
        there = self.descriptor["env_mat"]
        rcut, rcut_smth = float(there["rcut"]), float(there["rcut_smth"])
        _, begin, length = float32_range(rcut, rcut_smth)
        if begin != rcut_smth or abs(rcut - rcut_smth - length) > 1e-15 * rcut:
            return rcut, rcut_smth, False
        return float(str(np.float32(rcut))), float(str(np.float32(rcut_smth))), True

    def _excluded_pairs(self) -> list[list[int]]:
        """Pairs that do not see each other, by our numbers, centres first."""
        spin_types = [t for t, x in enumerate(self.spin["use_spin"]) if x]
        numbers = [*range(self.ntypes), *(self.ntypes + t for t in spin_types)]
        ours = {number: e for e, number in enumerate(numbers)}
        return sorted(
            [ours[a], ours[b]]
            for a, b in self.excluded
            if a < self.ntypes and a <= b and b in ours
        )

    def _bias(self) -> np.ndarray:
        """Energies of the types, (ntypes,)."""
        bias = self.fitting["@variables"]["bias_atom_e"][: self.ntypes, 0]
        return bias + self.backbone["@variables"]["out_bias"][0, : self.ntypes, 0]

    def _vacuum_energies(self) -> list[float | None]:
        """Option `atom_ener`: energies of types whose atoms alone have just that."""
        given = self.fitting.get("atom_ener") or []
        if all(x is None for x in given):
            return []
        given = [*given, *[0.0] * self.ntypes]  # missing ones count, too
        pairs = zip(self._bias(), given, strict=False)
        return [None if x is None else float(bias) for bias, x in pairs]

    # -- weights -----------------------------------------------------------------------

    def _copy_statistics(self, model: SpinEnergyModel) -> None:
        davg, dstd = np.zeros((self.ntypes, 4)), np.ones((self.ntypes, 4))
        for i in range(self.ntypes):
            found = [np.zeros((0, 2, 4))]  # slot, mean and width, component
            for j in self.numbers:
                pair = self.davg[i, self.slots[j]], self.dstd[i, self.slots[j]]
                if (i, j) not in self.excluded or j in self.unpaired:
                    found.append(np.stack(pair, axis=1))
                elif pair[0].any():
                    raise _Unknown(
                        f"types {i} and {j} do not see each other "
                        "(`pair_exclude_types`), but empty slots of them count "
                        "(`davg` is not 0)."
                    )
            rows = np.concatenate(found)
            if len(rows) and (np.ptp(rows, axis=0).any() or rows[:, 0, 1:].any()):
                raise _Unknown(
                    "`davg` or `dstd` is not the same in every slot, or `davg` of a "
                    "direction is not 0."
                )
            if len(rows):
                davg[i], dstd[i] = rows[0]
        model.descriptor.davg.assign(davg)
        model.descriptor.dstd.assign(dstd)

    def _copy_embeddings(self, model: SpinEnergyModel) -> None:
        descriptor, nets = model.descriptor, self.descriptor["embeddings"]["networks"]
        one_side = descriptor.type_one_side
        for i in range(1 if one_side else self.ntypes):
            for e, j in enumerate(self.numbers):
                net = nets[j if one_side else i + 2 * self.ntypes * j]
                _copy_net(net, descriptor.net(i, e), f"embedding net {i}, {j}")

    def _copy_fitting(self, model: SpinEnergyModel) -> None:
        fitting, variables = model.fitting, self.fitting["@variables"]
        fitting.bias_atom_e.assign(self._bias())
        if fitting.numb_fparam:
            fitting.fparam_avg.assign(variables["fparam_avg"])
            fitting.fparam_inv_std.assign(variables["fparam_inv_std"])
        # sections that are not there count in the norm of the descriptor
        factor = np.ones((fitting.dim_descrpt + fitting.numb_fparam, 1))
        norm = sum(self.sel) / sum(model.descriptor.sel)
        factor[: fitting.dim_descrpt] = norm**2
        for t in range(self.ntypes):
            net = self.fitting["nets"]["networks"][t]
            _copy_net(net, fitting.net(t), f"fitting net {t}", factor)


def _activation(part: dict) -> str:
    """Activation function by our name; both forms of GELU are one there."""
    name = part["activation_function"].lower()
    name = name.replace("custom_silu", "silut")
    return {"gelu_tf": "gelu", "none": "linear"}.get(name, name)


def _copy_net(
    net: dict,
    layers: Sequence[ResidualDense],
    name: str,
    divisor: np.ndarray | float = 1.0,
) -> None:
    """Copy the weights of a net, the first matrix divided by `divisor`."""
    for k, (there, layer) in enumerate(zip(net["layers"], layers, strict=True)):
        n_in, n_out = layer.n_in, layer.n_out
        matrix = there["@variables"]["w"]
        adds = there["resnet"] and n_out in (n_in, 2 * n_in)
        ours = layer.residual and n_out in (n_in, 2 * n_in)
        if adds != ours:
            raise _Unknown(
                f"layer {k} of {name} {'adds' if adds else 'does not add'} its input, "
                f"{'but none' if adds else 'as one'} of {n_in} to {n_out} does here."
            )
        for weight, value in (
            (layer.matrix, matrix / divisor if k == 0 else matrix),
            (layer.bias, there["@variables"]["b"]),
            (layer.idt, there["@variables"]["idt"]),
        ):
            if (weight is None) != (value is None):
                raise _Unknown(f"layer {k} of {name} has no bias, or another `idt`.")
            if weight is None:
                continue
            if matrix.dtype != np.dtype(weight.dtype):
                raise _Unknown(f"{name} is in {matrix.dtype}, not in {weight.dtype}.")
            weight.assign(value.astype(matrix.dtype).reshape(weight.shape))
