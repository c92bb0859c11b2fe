# SPDX-License-Identifier: Apache-2.0
"""The code of the documentation runs, and what its text names is there.

The blocks ``sh`` and ``python`` of a page run in the order of the page, in a folder of
its own, on the shipped example made small: a few frames, small nets, few steps. Blocks
of the class ``no-test`` do not run, nor do those listed in `NOT_RUN`.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import invariant_models
import numpy as np
import pytest
from places import ROOT

import deepspin
from deepspin.main import build_parser, main
from deepspin.utils.inputs import normalize

DOC = ROOT / "doc"
BLOCK = re.compile(r"^```(?P<info>.*)\n(?P<code>(?:.*\n)*?)```$", re.MULTILINE)
LANGUAGES = ("sh", "python")
# beginnings of blocks of README.md, where classes cannot be given: continuous
# integration installs
NOT_RUN = ("python3 -m venv",)
# pages: how many of their blocks do not run
EXPECTED_NOT_RUN = {
    "README.md": 2,
    "command-line.md": 1,
    "frozen.md": 1,
    "from-deepmd-kit.md": 1,
    "getting-started.md": 1,
    "invariant.md": 1,
    "lammps.md": 2,
    "md.md": 1,
    "releasing.md": 1,
    "speed.md": 7,
    "workers.md": 4,
}
# pages that begin at the root of the repository; the others in the example's folder,
# after its training
FROM_ROOT = ("getting-started.md",)
STEPS, FRAMES = 20, 2
# the trainings that pages begin with; the first is run once, in the place of both
TRAININGS = ("dp-spin train input_short.json", "dp-spin train input.json")


def blocks(page: Path) -> list[tuple[str, str, bool]]:
    """Language, code and whether it runs, of each block of shell or Python."""
    found = []
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        language = block["info"].removeprefix("{code-block}").strip()
        code = block["code"]
        skipped = ":class: no-test" in code or code.startswith(NOT_RUN)
        if language in LANGUAGES:
            found.append((language, code, not skipped))
    return found


# all but the one that shows mistakes, which test_mistakes.py makes
TEXTS = [ROOT / "README.md", *sorted(set(DOC.glob("*.md")) - {DOC / "mistakes.md"})]
PAGES = [page for page in TEXTS if any(runs for _, _, runs in blocks(page))]


def small_input(path: Path) -> None:
    """Make an input of the example one of seconds, the model that of `frozen.pb`.

    This is what shortens the trainings of all pages.
    """
    options = json.loads(path.read_text(encoding="utf-8"))
    with np.load(ROOT / "tests" / "reference" / "base.npz") as frozen:
        options["model"] = json.loads(str(frozen["input"]))["model"]
    options["training"] |= {
        "numb_steps": STEPS,
        "disp_freq": 10,
        "save_freq": 10,
        "jit_compile": False,
    }
    options["training"]["training_data"]["batch_size"] = 1
    options["training"]["validation_data"]["numb_btch"] = 2
    path.write_text(json.dumps(options), encoding="utf-8")


def small_dynamics(path: Path) -> None:
    """Shorten an input of ``dp-spin md``: ten steps, or ten more after those."""
    options = json.loads(path.read_text(encoding="utf-8"))
    options["steps"] = 20 if options["ensemble"]["type"] == "nve" else 10
    freqs = {f"{name}_freq": 5 for name in ("log", "trajectory", "restart")}
    options["output"] |= freqs
    path.write_text(json.dumps(options), encoding="utf-8")


def small_motion(path: Path) -> None:
    """Shorten a trajectory to the fewest frames that have a spectrum."""
    options = json.loads(path.read_text(encoding="utf-8"))
    options |= {"steps": 30, "timestep": 0.01}  # the small model is steep
    options["output"]["trajectory_freq"] = 1
    path.write_text(json.dumps(options), encoding="utf-8")


def small_ladder(path: Path) -> None:
    """Make an input of ``dp-spin thermo`` one of a few moves of a small cell."""
    options = json.loads(path.read_text(encoding="utf-8"))
    options |= {"sizes": [[1, 1, 1]], "equilibration": 3, "samples": 6}
    options["temperature"] = options["temperature"][:3]
    path.write_text(json.dumps(options), encoding="utf-8")


def small_data(source: Path, target: Path) -> None:
    """Copy the example's data, a few frames of the smaller cell for each system.

    Batches of one shape are traced once, which is what takes time here.
    """
    for system in source.glob("*/*"):
        folder = target / system.relative_to(source)
        shutil.copytree(source / "train" / f"{system.name[:-3]}-16", folder)
        for file in folder.rglob("*.npy"):
            np.save(file, np.load(file)[:FRAMES])


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Root of a small copy of the repository's example, after its training."""
    root = tmp_path_factory.mktemp("doc") / "root"
    nio, ours = ROOT / "examples" / "NiO", root / "examples" / "NiO"
    small_data(nio / "data", ours / "data")
    shutil.copytree(nio / "se_e2_a", ours / "se_e2_a")
    folder = ours / "se_e2_a"
    for path in folder.glob("*.json"):
        small_input(path)
    shutil.copytree(nio / "md", ours / "md")
    for path in (ours / "md").glob("*.json"):
        small_dynamics(path)
    shutil.copytree(nio / "thermo", ours / "thermo")
    for path in (ours / "thermo").glob("*.json"):
        small_ladder(path)
    shutil.copytree(nio / "exchange", ours / "exchange")
    small_motion(ours / "exchange" / "spectrum.json")
    (ours / "invariant").mkdir()
    deepspin.save_model(
        invariant_models.build(), ours / "invariant" / "model.ckpt-1000.keras", {}
    )
    shutil.copytree(nio / "active", ours / "active")
    shutil.copy(nio / "generate.py", ours / "generate.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_dp_spin(TRAININGS[0])
    # what pages call others' files
    shutil.copy(folder / "model.ckpt-8000.keras", folder / "other.keras")
    shutil.copy(ROOT / "tests" / "reference" / "base.pb", folder / "frozen.pb")
    shutil.copytree(ours / "data" / "valid" / "spin-files-16", folder / "systems")
    return root


def run_dp_spin(line: str) -> None:
    """Run a command, and have a training end with the name it has after 8,000 steps."""
    verb, *options = shlex.split(line, comments=True)[1:]
    assert main([verb, *options]) == 0, line
    if verb == "train" and Path(f"model.ckpt-{STEPS}.keras").exists():
        shutil.copy(f"model.ckpt-{STEPS}.keras", "model.ckpt-8000.keras")


def run_shell(code: str, patch: pytest.MonkeyPatch) -> None:
    """Run commands of dp-spin within this process."""
    for line in code.replace("\\\n", " ").replace("&&", "\n").splitlines():
        words = shlex.split(line, comments=True)
        if not words or shlex.join(words) in TRAININGS:  # done already
            continue
        if words[0] == "cd":
            patch.chdir(words[1])
        else:
            assert words[0] == "dp-spin", f"no way to run {line!r} here"
            run_dp_spin(line)


def frames() -> dict[str, np.ndarray]:
    """Frames that README.md calls ``coord``, ``box``, ``atype`` and ``spin``."""
    system = ROOT / "examples" / "NiO" / "data" / "valid" / "spin-files-16"
    arrays = {
        name: np.load(system / "set.000" / f"{name}.npy")
        for name in ("coord", "box", "spin")
    }
    return {**arrays, "atype": np.loadtxt(system / "type.raw", dtype=int)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_run(page, trained, tmp_path, monkeypatch):
    root = tmp_path / "root"
    shutil.copytree(trained, root)
    inside = page.name not in FROM_ROOT
    monkeypatch.chdir(root / "examples" / "NiO" / "se_e2_a" if inside else root)
    names: dict = {"__name__": "__main__", **frames()}
    for language, code, runs in blocks(page):
        if runs and language == "sh":
            run_shell(code, monkeypatch)
        elif runs:
            exec(compile(code, str(page), "exec"), names)


def test_few_blocks_do_not_run():
    found = {}
    for page in TEXTS:
        skipped = [code for _, code, runs in blocks(page) if not runs]
        if skipped:
            found[page.name] = len(skipped)
    assert found == EXPECTED_NOT_RUN


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page):
    """Verbs and options of every block, run or not, are those of the program."""
    for _, code, _ in blocks(page):
        lines = code.replace("\\\n", " ")
        for words in re.findall(r"dp-spin (.+?)(?:$|&&|\s#)", lines, re.MULTILINE):
            if not words.startswith("--version"):
                build_parser().parse_args(shlex.split(words))


def test_the_short_input_differs_in_prefactors_only():
    folder = ROOT / "examples" / "NiO" / "se_e2_a"
    inputs = []
    for name in ("input.json", "input_short.json"):
        options = normalize(json.loads((folder / name).read_text(encoding="utf-8")))
        prefactors = [key for key in options["loss"] if "_pref_" in key]
        inputs.append((options, [options["loss"].pop(key) for key in prefactors]))
    (documented, theirs), (short, ours) = inputs
    assert short == documented
    assert ours != theirs


def labels_of_input() -> set[str]:
    """Anchors of the input reference."""
    from deepspin.utils.argcheck import gen_doc

    return set(re.findall(r"^ *\.\. _`(.*?)`: *$", gen_doc(), re.MULTILINE))


def test_labels_of_the_input_are_linked():
    """What DeePMD-kit's pages link into the input reference is there, and linked."""
    wanted = {"model/type_map", "model/spin", "loss[ener_spin]/start_pref_fr"}
    wanted |= {
        f"model/spin[ener_spin]/{key}"
        for key in ("use_spin", "virtual_len", "spin_norm")
    }
    wanted |= {
        f"loss[ener_spin]/{end}_pref_{term}"
        for end in ("start", "limit")
        for term in ("e", "fr", "fm", "v")
    }
    text = (DOC / "fit-spin-energy.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\{ref\}`[^`<]*<(.*?)>`", text))
    assert wanted <= linked
    assert wanted <= labels_of_input()
    inside = {label for label in linked if "/" in label}
    assert inside <= labels_of_input()


def test_every_public_name_is_in_the_reference():
    import deepspin

    text = (DOC / "api.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\.\. auto\w+:: (\w+)$", text, re.MULTILINE))
    assert documented == set(deepspin.__all__) - {"__version__"}


def test_names_for_dynamics_are_in_the_reference():
    from deepspin import dynamics

    text = "".join((DOC / name).read_text("utf-8") for name in ("api.md", "relax.md"))
    dotted = r"^\.\. auto\w+:: deepspin\.dynamics\.(?:\w+\.)?(\w+)$"
    assert set(dynamics.__all__) <= set(re.findall(dotted, text, re.MULTILINE))


def test_conventions_are_those_of_the_code():
    """The table of arrays has the names, shapes and units of `deepspin.keys`."""
    from deepspin import keys

    text = (DOC / "conventions.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| \((.*?)\) \|(.*?)\|", text, re.MULTILINE)
    table = {name: (shape.rstrip(","), unit.strip()) for name, shape, unit in rows}
    expected = {
        key.name: (", ".join(map(str, key.shape)), key.unit)
        for key in (*keys.INPUTS, *keys.OUTPUTS)
    }
    assert table == expected
