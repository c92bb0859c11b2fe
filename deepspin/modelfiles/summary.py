# SPDX-License-Identifier: Apache-2.0
"""What is in a model file, in a few lines; needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from deepspin.interop.files import is_deepmd
from deepspin.modelfiles.find import is_frozen
from deepspin.spins.schemes import scheme_of_layer

# in metadata, what wrote a file
PROGRAMS = ("deepspin", "tensorflow", "keras")


def summary(path: Path, model: dict, metadata: dict) -> Iterator[tuple[str, str]]:
    """Lines of a summary: what, and its value.

    Parameters
    ----------
    path : Path
        The file.
    model, metadata : dict
        Configuration of the model, and metadata of the file.
    """
    descriptor, fitting, spin = (
        model[part]["config"] for part in ("descriptor", "fitting", "spin")
    )
    yield "file", f"{path} ({_kind(path)})"
    if "deepspin" in metadata:
        made = [f"{k} {metadata[k]}" for k in PROGRAMS if k in metadata]
        yield "written by", ", ".join(made)
    if "step" in metadata:
        total = metadata.get("input", {}).get("training", {}).get("numb_steps")
        yield "step", f"{metadata['step']}" + (f" of {total}" if total else "")
    yield "types", " ".join(model["type_map"])
    yield from _spin_rows(model["type_map"], spin, metadata)
    yield "cutoff", f"{descriptor['rcut']:g} Å, smooth from {descriptor['rcut_smth']:g}"
    names = scheme_of_layer(model["spin"]).neighbor_names(model["type_map"])
    sel = zip(names, descriptor["sel"], strict=True)
    yield "sel", ", ".join(f"{name} {n}" for name, n in sel)
    if metadata.get("min_nbor_dist"):
        yield "nearest in training", f"{metadata['min_nbor_dist']:.4f} Å"
    for name, seen in (metadata.get("environments") or {}).items():
        known = {b: m["coordination"] for b, m in seen.items() if "coordination" in m}
        ends = (f"{b} {low:.3f} to {high:.3f}" for b, (low, high) in known.items())
        yield f"coordination of {name}", f"in training: {', '.join(ends)}"
    yield "descriptor", _descriptor(descriptor)
    yield "fitting net", _net(fitting)
    if fitting.get("numb_fparam"):
        yield "frame parameters", f"{fitting['numb_fparam']} (`fparam`)"
    if "compressed" in metadata:
        yield "compressed", _tables(metadata["compressed"])
    yield from _magnetism(metadata.get("magnetism") or {})
    yield "weights", f"{_count(descriptor, fitting, len(names)):,} to train"


def _kind(path: Path) -> str:
    if is_deepmd(path):
        own = "DeePMD-kit's own form"
        return "DeePMD-kit's frozen form" if path.suffix == ".pb" else own
    return "frozen, a SavedModel" if is_frozen(path) else "Keras archive"


def _magnetic(type_map: list[str], spin: dict, text: str) -> list[str]:
    pairs = zip(type_map, spin["use_spin"], strict=True)
    return [text.format(name) for name, magnetic in pairs if magnetic]


def _tables(report: dict) -> str:
    text = f"{sum(report['pieces'])} pieces in {len(report['pieces'])} tables, "
    text += f"{report['bytes'] / 1000:.0f} kB"
    if "error" not in report:
        return text + f", within {report['table_error']:.1e} of the embedding nets"
    worst = max(report["error"][name]["max"] for name in ("force", "force_mag"))
    return text + f", forces within {worst:.1e} of their rms"


def _spin_rows(
    type_map: list[str], spin: dict, metadata: dict
) -> Iterator[tuple[str, str]]:
    if "soc" in spin:
        yield "spin scheme", "invariant" + (", soc" if spin["soc"] else "")
    for k, name in enumerate(_magnetic(type_map, spin, "{}")):
        options = ("virtual_len", "spin_norm", "virtual_scale")
        given = [f"{o} {spin[o][k]:g}" for o in options if spin.get(o)]
        parts = [", ".join(given)] if given else []
        low, high = (metadata.get("spin_range") or {}).get(name, (None, None))
        if low is not None:
            parts.append(f"|S| in training {low:.4f} to {high:.4f} μ_B")
        yield f"spin of {name}", "; ".join(parts)


def _descriptor(config: dict) -> str:
    axis = f", axis_neuron {config['axis_neuron']}"
    if "nradial" in config:
        count = f"{config['nradial']} Chebyshev polynomials"
        return f"{count} in {config['neuron'][-1]} mixtures{axis}"
    return _net(config) + axis


def _magnetism(found: dict) -> Iterator[tuple[str, str]]:
    for shell in found.get("exchange", []):
        text = f"{shell['J']:.3f} meV at {shell['distance']:.3f} Å, {shell['number']}"
        if shell["spread"] > 0.0005:
            text += f" neighbours, spread {shell['spread']:.3f}"
        yield f"J of {'-'.join(shell['pair'])}", text
    for name, powers in found.get("site", {}).items():
        text = ", ".join(f"|S|^{n} {value:.5g}" for n, value in powers.items())
        yield f"on {name} (eV)", text


def _net(config: dict) -> str:
    dtype = config["dtype"]
    dtype = dtype["config"]["name"] if isinstance(dtype, dict) else dtype
    text = "-".join(map(str, config["neuron"]))
    text += f" {config['activation_function']}, {dtype}"
    if config["resnet_dt"]:
        text += ", resnet_dt"
    if "type_one_side" in config:
        text += ", type_one_side" if config["type_one_side"] else ", two-sided"
    return text


def _count(descriptor: dict, fitting: dict, nblocks: int) -> int:
    """Number of trainable weights."""

    def dense(widths: list[int]) -> int:
        return sum((a + 1) * b for a, b in pairwise(widths))

    def steps(widths: list[int], doubling: bool) -> int:
        pairs = pairwise(widths)
        return sum(b for a, b in pairs if b == a or (doubling and b == 2 * a))

    total, embedding = 0, [1, *descriptor["neuron"]]
    if not descriptor.get("leaves") and "nradial" not in descriptor:
        nets = nblocks * (1 if descriptor["type_one_side"] else descriptor["ntypes"])
        total = nets * dense(embedding)
        if descriptor["resnet_dt"]:
            total += nets * steps(embedding, True)
    inputs = fitting["dim_descrpt"] + fitting.get("numb_fparam", 0)
    widths = [inputs, *fitting["neuron"]]
    each = dense([*widths, 1])
    if fitting["resnet_dt"]:
        each += steps(widths[1:], False)
    return total + fitting["ntypes"] * each
