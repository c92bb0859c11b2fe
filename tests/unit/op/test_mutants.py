# SPDX-License-Identifier: Apache-2.0
"""Mistakes that are put into the C++ sources: where, and what is made of survivors."""

from __future__ import annotations

import mutants
import pytest
from mutants import (
    MUTANTS,
    Copies,
    Mutant,
    MutantError,
    main,
    needed,
    sources,
    survivors,
)
from places import ROOT

pytestmark = pytest.mark.any_version
MUTANT = Mutant("one", "pool.cc", "fetch_add(1)", "fetch_add(2)", ("a.py",))


def test_every_mutant_applies():
    """Once, at some place of its own, to tests that are there."""
    right = sources()
    changed = [(m.file, m.applied(right[m.file])) for m in MUTANTS]
    assert len(set(changed)) == len(MUTANTS) >= 20
    assert len({m.name for m in MUTANTS}) == len(MUTANTS)
    for mutant in MUTANTS:
        assert (ROOT / "tests" / mutant.tests[0]).is_file()


@pytest.mark.parametrize(
    ("old", "new", "times"),
    [("no such text", "x", 0), ("int", "long", 2), ("fetch", "fetch", 1)],
)
def test_what_does_not_apply(old, new, times):
    mutant = Mutant("one", "a.cc", old, new, ())
    with pytest.raises(MutantError, match=f"one: a.cc has `{old}` {times} times"):
        mutant.applied("int a; int b; fetch(1);")


def test_what_a_source_needs():
    """What it includes, and so on; nothing of the system's."""
    texts = {
        "a.cc": '#include <c>\n#include "b.h"\n',
        "b.h": '#include "d.h"\n',
        "d.h": '#include "b.h"\n',
        "e.h": "",
    }
    assert needed("a.cc", texts) == ["a.cc", "b.h", "d.h"]


class Answers:
    """In place of `Copies`: tests that notice some texts."""

    def __init__(self, noticed):
        self.noticed, self.text = noticed, ""

    def build(self, sources):
        self.text = "".join(sources.values())

    def test(self, tests):
        return not any(text in self.text for text in self.noticed)


def test_survivors(capsys):
    two = Mutant("two", "pool.cc", "int busy = 0;", "int busy = 1;", ("a.py",))
    assert survivors((MUTANT, two), Answers(["fetch_add(2)"])) == [two]
    assert survivors((MUTANT, two), Answers(["fetch_add(2)", "busy = 1"])) == []
    said = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert said == ["caught", "SURVIVES", "caught", "caught"]
    with pytest.raises(MutantError, match=r"a\.py fails without a mistake"):
        survivors((MUTANT,), Answers(["fetch_add(1)"]))


@pytest.mark.parametrize(("alive", "status"), [([MUTANT], 1), ([], 0)])
def test_status(alive, status, monkeypatch, capsys):
    monkeypatch.setattr(mutants, "Copies", lambda folder: None)
    monkeypatch.setattr(mutants, "survivors", lambda chosen, copies: alive)
    assert main([]) == status
    caught = len(MUTANTS) - len(alive)
    said = capsys.readouterr().out
    assert said == f"{len(MUTANTS)} mutants, {caught} caught\n"
    with pytest.raises(SystemExit):
        main(["no such name"])


def test_of_tests(tmp_path, monkeypatch):
    """Passing and failing tests are told apart from none, and from skipped ones."""
    for file in ("deepspin/op/a.so", "deepspin/op/src/a.h", "tests/x.py", "setup.cfg"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("")
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    copies = Copies(tmp_path / "tree")
    assert not list((tmp_path / "tree" / "deepspin").rglob("a.*"))
    text = (
        "import pytest\ndef test_a(): assert {}\n@pytest.mark.skip\ndef test_b(): 1\n"
    )
    for name, right in (("x", True), ("y", False)):
        (tmp_path / "tree" / "tests" / f"{name}.py").write_text(text.format(right))
        assert copies.test((f"{name}.py", "-k", "test_a")) is right
    for word in ("nothing", "test_b"):
        with pytest.raises(MutantError, match=r"y\.py .* ran no test"):
            copies.test(("y.py", "-k", word))
