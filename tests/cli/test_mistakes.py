# SPDX-License-Identifier: Apache-2.0
"""Every mistake of the table is answered as it says, and nothing else happens."""

from __future__ import annotations

import logging
import os
import re
import shlex
import traceback
from pathlib import Path

import numpy as np
import pytest
from mistakes import IN_ORDER, MISTAKES, SECTIONS, steps
from mistakes.document import DOCUMENT, document, speaker
from mistakes.row import VARIES
from mistakes.valid import make_valid

import deepspin
from deepspin.data.files import DataError
from deepspin.main import main
from deepspin.utils.inputs import load_input
from deepspin.utils.refused import InputError

PACKAGE = str(Path(deepspin.__file__).parent)
PYTHON = [name for name, row in MISTAKES.items() if row.section == "Python"]
COMMANDS = [name for name in MISTAKES if name not in PYTHON]
EXCEPTIONS = {
    error.__name__: error
    for error in (
        *(AttributeError, DataError, InputError),
        *(RuntimeError, TypeError, ValueError),
    )
}
# where the mistakes tried so far were noticed
SITES: dict[str, str] = {}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A valid training, left as it is by what is tried."""
    monkeypatch.chdir(tmp_path)
    make_valid()
    return tmp_path


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Models for calls from Python that do not change them."""
    return steps.models_for_python(tmp_path_factory.mktemp("models"))


@pytest.fixture
def caught():
    """Errors that `main` answers."""
    errors = []

    def note(record):
        if record.exc_info:
            errors.append(record.exc_info[1])
        return True

    log = logging.getLogger("deepspin")
    log.addFilter(note)
    yield errors
    log.removeFilter(note)


def tree():
    """Everything in the current folder."""
    return {
        path: path.read_bytes() if path.is_file() else None
        for path in Path().rglob("*")
    }


def assert_says(answer, row):
    pattern = ".+".join(map(re.escape, row.says.split(VARIES)))
    assert re.fullmatch(pattern, answer), answer


def assert_own_site(name, error):
    """No other mistake ends at the same place of the code."""
    if isinstance(error, SystemExit):  # of argparse
        error = error.__context__ or error
    frames = traceback.extract_tb(error.__traceback__)
    frames = [f for f in frames if f.name not in ("error", "exit")]
    own = [f for f in frames if f.filename.startswith(PACKAGE)]
    last = (frames if isinstance(error, SystemExit) else own or frames)[-1]
    site = f"{last.filename}:{last.lineno}"
    assert SITES.setdefault(site, name) == name, site


@pytest.mark.parametrize("name", COMMANDS)
def test_command(name, folder, caught, capsys, monkeypatch):
    row = MISTAKES[name]
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for step in row.steps:
        step()
    before = tree()
    capsys.readouterr()
    try:
        status = main(shlex.split(row.how))
    except SystemExit as stop:  # argparse: usage, then the message
        caught.append(stop)
        status = stop.code
    err = capsys.readouterr().err
    assert tree() == before
    assert status == row.ends
    *others, last = err.splitlines()
    assert not any(re.match("Traceback|dp-spin: error", line) for line in others)
    head, _, answer = last.partition(": error: ")
    assert head == speaker(row)
    assert_says(answer, row)
    assert_own_site(name, caught[-1])


@pytest.mark.parametrize("name", PYTHON)
def test_call(name, folder, models, tmp_path_factory):
    row = MISTAKES[name]
    if re.search(r"\bmodel\.\w+ = ", row.how):  # changed: not for the others
        models = steps.models_for_python(tmp_path_factory.mktemp("own"))
    names = steps.names_for_python(models)
    before = tree()
    with pytest.raises(EXCEPTIONS[row.ends]) as caught:
        exec(row.how, names)
    assert tree() == before
    assert type(caught.value).__name__ == row.ends
    assert_says(str(caught.value), row)
    assert_own_site(name, caught.value)


def test_valid(folder, models):
    """Without a mistake all of it is accepted, and so after all the mistakes."""
    names = steps.names_for_python(models)
    options = names["normalize"](load_input("input.json"))
    assert options["training"]["numb_steps"] == 3
    (system,) = deepspin.DataSystem("data", **names["model"].data_spec).systems
    assert (system.nframes, system.nloc) == (2, 4)
    result = names["potential"].eval(
        *(names[k] for k in ("coord", "box", "types", "spin"))
    )
    assert np.isfinite(result["force_mag"]).all()


def test_traceback_on_request(folder, capsys):
    """`-v` shows it, `-l` writes it to a file, and the terminal says where."""
    steps.option("model/descriptor/rcutt", 6.0)()
    assert main(["train", "input.json", "-v"]) == 1
    first, second, *_, last = capsys.readouterr().err.splitlines()
    assert first.startswith("dp-spin: error: `model/descriptor/rcutt`")
    assert second == "Traceback (most recent call last):"
    assert last.startswith(
        "deepspin.utils.refused.InputError: `model/descriptor/rcutt`"
    )
    assert main(["train", "input.json", "-l", "run.log"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("(traceback in 'run.log')")
    lines = Path("run.log").read_text(encoding="utf-8").splitlines()
    assert "ERROR" in lines[0] and lines[1] == second and lines[-1] == last


def test_numbers():
    """Many rows in each section, and no name twice."""
    assert sum(len(section.ROWS) for section in IN_ORDER) == len(MISTAKES)
    count = [sum(row.section == s for row in MISTAKES.values()) for s in SECTIONS]
    assert sum(count) == len(MISTAKES) >= 120
    assert min(count) >= 10
    assert len({row.says for row in MISTAKES.values()}) > 0.95 * len(MISTAKES)


def test_document():
    """`python tests/mistakes` has been run."""
    assert DOCUMENT.read_text(encoding="utf-8") == document()
