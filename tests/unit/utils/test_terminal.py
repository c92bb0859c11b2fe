# SPDX-License-Identifier: Apache-2.0
"""Progress on a terminal: one line that changes; plain lines elsewhere."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest
from tiny import write

from deepspin.utils.terminal import ProgressLine, is_live

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
ANY_CODE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal(io.StringIO):
    """What a terminal is shown."""

    def isatty(self):
        return True


def terminal(monkeypatch, width=130):
    """Make stderr a terminal; called in the test, since pytest sets stderr before."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(width))
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


def lines_of(screen):
    """Lines as they were when they were written, without codes."""
    text = ANY_CODE.sub("", screen.getvalue().replace("\r", "\n"))
    return [line.rstrip() for line in text.split("\n") if line.strip()]


def test_training_on_a_terminal(run, data, monkeypatch):
    """The errors are in the line; the log has a line for each step shown."""
    screen = terminal(monkeypatch)
    run("train", write(data), "-l", "run.log")
    lines = lines_of(screen)
    assert not [line for line in lines if line.startswith("batch ")]
    last = next(line for line in reversed(lines) if line.startswith("step "))
    errors = r"val: e \S+ fr \S+ fm \S+ v \S+"
    assert re.match(rf"step +6/6 ━+ \S+ {errors} \S+ ms/step lr 1.0e-04$", last)
    assert any("training step: compiling" in line for line in lines)
    assert any(re.match(r"training step: compiled in \S+ s", line) for line in lines)
    assert any("saved checkpoint model.ckpt-6.keras" in line for line in lines)
    assert COLOUR.search(screen.getvalue())
    log = Path("run.log").read_text()
    assert len(re.findall(r"batch +\d: trn: rmse", log)) == 4


def test_no_color(run, data, monkeypatch):
    screen = terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    run("train", write(data))
    codes = set(COLOUR.findall(screen.getvalue()))
    assert not {code for code in codes if re.search(r"\[(?:.*;)?[34]\d", code)}
    assert any(line.startswith("step ") for line in lines_of(screen))


@pytest.mark.parametrize(
    ("width", "shown_of_it"),
    [
        (40, "val: e 1.00e-03"),
        (60, "val: e 1.00e-03 fr 2.00e-02"),
        (72, "val: e 1.00e-03 fr 2.00e-02 fm 3.00e-02"),
        (85, "val: e 1.00e-03 fr 2.00e-02 fm 3.00e-02 9.9 ms/step"),
        (200, "val: e 1.00e-03 fr 2.00e-02 fm 3.00e-02 9.9 ms/step lr 1.0e-04"),
    ],
)
def test_width(monkeypatch, width, shown_of_it):
    """One line of whole words, however narrow."""
    screen = terminal(monkeypatch, width)
    with ProgressLine(1000, 10) as line:
        line.advance(500)
        errors = ("e 1.00e-03", "fr 2.00e-02", "fm 3.00e-02")
        line.tell("val:", *errors, "9.9 ms/step", "lr 1.0e-04")
    shown = lines_of(screen)
    assert all(len(text) <= width for text in shown)
    assert all(text.startswith("step") for text in shown)
    assert shown[-1].endswith(f" {shown_of_it}")
    assert ("━" in shown[-1]) == (width == 200)


@pytest.mark.parametrize("dumb", [True, False])
def test_not_on_a_terminal(run, data, capsys, monkeypatch, dumb):
    """Plain lines into a file, and on a terminal that cannot go back in a line."""
    if dumb:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        monkeypatch.setenv("TERM", "dumb")
    assert not is_live()
    run("train", write(data))
    err = capsys.readouterr().err
    assert len(re.findall(r"^batch +\d: trn: rmse", err, re.MULTILINE)) == 4
    assert "\x1b" not in err
    assert "━" not in err
