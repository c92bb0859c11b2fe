# SPDX-License-Identifier: Apache-2.0
"""What people, continuous integration and pages say of the house is the same."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import yaml
from places import ROOT

import deepspin

PACKAGE = Path(deepspin.__file__).parent
RUN = (ROOT / ".ci" / "run").read_text("utf-8")


def tox_commands() -> dict[str, str]:
    """Commands of each environment of `tox.ini`."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string((ROOT / "tox.ini").read_text("utf-8"))
    sections = {s.partition(":")[2]: parser[s] for s in parser.sections()}
    return {name: s["commands"] for name, s in sections.items() if "commands" in s}


TOX = tox_commands()


def test_every_room_is_in_contributing():
    """Folders and files of the package have a row in the table, nothing else has."""
    table = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("\n## Rooms\n")[2]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(.+?)`", row)}
    files = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py"}
    assert named == files | {f"{p.parent.name}/" for p in PACKAGE.glob("*/__init__.py")}


def test_integration_calls_every_command():
    """All of `tox.ini` but what writes files, and the tests, which README.md calls."""
    called = re.findall(r"^(?:\w+=\w+ )?tox ([\w,]+)", RUN, re.MULTILINE)
    names = [name for names in called for name in names.split(",")]
    assert sorted(names) == sorted(set(TOX) - {"format", "test"})


def test_integration_runs_the_test_command_of_the_readme():
    (command,) = re.findall(
        r"^python3 -m venv \.venv .* pytest .*$",
        (ROOT / "README.md").read_text("utf-8"),
        re.MULTILINE,
    )
    assert f"\n    {command}\n" in RUN
    tests = TOX["test"].removesuffix(" {posargs}")
    assert command.endswith(f"/{tests}")


def test_format_writes_what_lint_asks_for():
    tools = re.findall(r"^(?:bash -c ')?([\w-]+)", TOX["lint"].strip(), re.MULTILINE)
    written = TOX["format"].strip()
    for tool in tools:
        assert re.search(rf"\b{tool} ", written), tool


def test_commits_are_checked_by_the_same_commands():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert {hook["id"] for hook in hooks} == {"lint", "spell", "types"}
    for hook in hooks:
        assert hook["entry"] == f"tox run -q -e {hook['id']}"
        assert hook["id"] in TOX


def test_version():
    """That of the last release, in three places, and its day in two."""
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    unreleased, last, *_ = re.findall(r"^## (.+)$", text, re.MULTILINE)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert unreleased == "[Unreleased]"
    assert citation["version"] == deepspin.__version__
    assert last == f"[{deepspin.__version__}] - {citation['date-released']}"
