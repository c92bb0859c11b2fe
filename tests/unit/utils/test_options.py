# SPDX-License-Identifier: Apache-2.0
"""Every option and flag of DeePMD-kit works, is dropped, or is refused by name."""

from __future__ import annotations

import importlib.util
import json

import pytest
from places import REFERENCE, ROOT

from deepspin.utils.argcheck import gen_doc


@pytest.fixture(scope="module")
def options():
    """The module that makes the tables of the documentation."""
    spec = importlib.util.spec_from_file_location("options", ROOT / "doc/options.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_option_has_its_answer(options):
    """And what works is set by a test, and has its place in the reference."""
    listed = json.loads((REFERENCE / "options.json").read_text())["options"]
    rows = {path: (words, test) for path, words, test in options.options()}
    assert list(rows) == list(listed)
    anchors = gen_doc("rst")
    for path, (words, test) in rows.items():
        assert (ROOT / "tests" / f"{test.strip('`')}.py").is_file(), path
        if words.startswith("{ref}"):
            anchor = words.partition("<")[2].partition(">")[0]
            assert f".. _`{anchor}`:" in anchors, path
    assert rows["optimizer/type"][0].count("refused: `AdaMuon`")
    assert rows["training/mixed_precision"][0].startswith("refused: ")
    assert len(rows) == 185


def test_other_names_are_those_of_deepmd(options):
    listed = json.loads((REFERENCE / "options.json").read_text())["options"]
    ours = options.own()
    for path, row in listed.items():
        if path in ours and not row["choices"]:
            assert set(row["alias"]) <= set(ours[path][1].alias), path


def test_every_flag_has_its_answer(options):
    rows = list(options.flags())
    listed = json.loads((REFERENCE / "command_line.json").read_text())
    assert {verb for verb, *_ in rows} == set(listed) - {"deepmd-kit"}
    assert all(words for *_, words in rows)
    said = {(verb, name): words for verb, name, words in rows}
    assert said["test", "-m"] == "works"
    assert said["gui", ""].startswith("`init` writes an input")
    page = (ROOT / "doc" / "from-deepmd-kit.md").read_text("utf-8")
    for name, write in (("option", options.option_table), ("flag", options.flag_table)):
        assert f"```{{{name}-table}}\n```" in page
        assert all(line.count("|") == 4 for line in write()), name
