# SPDX-License-Identifier: Apache-2.0
"""What the declarations of verbs share."""

import argparse
from dataclasses import dataclass

import pytest

from deepspin.entrypoints.common import add_doc, add_verb, claim_frozen, take
from deepspin.utils.outputs import OutputError


@dataclass(frozen=True)
class Size:
    width: float = 1.0
    height: float = 2.0


def test_take():
    """Fields are taken out, others stay; what is not given has its default."""
    options = {"height": 3.0, "colour": "red"}
    assert take(Size, options) == Size(1.0, 3.0)
    assert options == {"colour": "red"}


def test_verb_calls_what_it_is_given():
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers()
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-v", action="store_true")
    add_verb(verbs, common, "go", print, "Go.")
    options = parser.parse_args(["go", "-v"])
    assert options.call is print and options.v


def test_doc_is_asked_for_only_then(capsys):
    parser = argparse.ArgumentParser()
    add_doc(parser, lambda: "all of it")
    assert vars(parser.parse_args([])) == {}
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(["--doc"])
    assert not stop.value.code
    assert capsys.readouterr().out == "all of it\n"


@pytest.mark.parametrize("name", ["m.pb", "m.keras", "m.PB"])
def test_files_are_no_frozen_models(tmp_path, name):
    with pytest.raises(OutputError, match="would be a folder, a SavedModel"):
        claim_frozen(str(tmp_path / name), True)


def test_other_folders_are_not_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(OutputError, match="is no frozen model, so it is not replaced"):
        claim_frozen(str(tmp_path / "mine"), True)
    claim_frozen(str(tmp_path / "new"), False)
