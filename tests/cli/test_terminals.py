# SPDX-License-Identifier: Apache-2.0
"""Every verb on terminals of other encodings, and names that terminals act on."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest
import small_data

from deepspin.main import VERBS, main
from deepspin.utils.terminal import REPLACED, any_encoding, shown

EVIL = "\x1b[31mO\x9b\u202e"
SHOWN = r"\x1b[31mO\x9b\u202e"


class Screens:
    """Standard outputs of some encoding."""

    def __init__(self, monkeypatch, encoding):
        self.encoding, self.bytes = encoding, [io.BytesIO(), io.BytesIO()]
        for name, to in zip(("stdout", "stderr"), self.bytes, strict=True):
            stream = io.TextIOWrapper(to, encoding=encoding, write_through=True)
            monkeypatch.setattr(sys, name, stream)

    @property
    def text(self):
        return "".join(to.getvalue().decode(self.encoding) for to in self.bytes)


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    arrays, types = small_data.frames()
    folder = tmp_path_factory.mktemp("data")
    return str(small_data.write(folder / f"É{EVIL}", arrays, types, ("Ni", EVIL)))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gbk"])
def test_every_help(monkeypatch, encoding):
    """Of all verbs, with Å and μ_B in it."""
    screens = Screens(monkeypatch, encoding)
    for verb in VERBS:
        name = verb.__name__.rsplit(".", 1)[1].replace("_", "-")
        name = {"doc": "doc-train-input"}.get(name, name)
        with pytest.raises(SystemExit) as end:
            main([name, "-h"])
        assert end.value.code == 0
    assert "uB" in screens.text.replace("_", "") or "μ_B" in screens.text
    assert main(["doc-train-input"]) == 0
    assert "rcut" in screens.text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gbk"])
def test_verbs(monkeypatch, tmp_path, system, encoding):
    monkeypatch.chdir(tmp_path)
    screens = Screens(monkeypatch, encoding)
    log = tmp_path / "log"
    spin = ["--use-spin", "Ni", "--virtual-len", "0.4", "--spin-norm", "1.27"]
    for arguments in (
        ["check-data", system],
        ["neighbor-stat", "-s", system, "-r", "4", "-t", "Ni", EVIL, *spin],
        ["init", system, "-o", "made.json"],
        ["check-data", f"nowhere{EVIL}"],
        ["show", system],
    ):
        wrong = arguments[0] == "show" or system not in arguments
        assert main([*arguments, "-l", str(log)]) == int(wrong)
    text = screens.text
    assert "nearest A" in text or "nearest Å" in text
    for told in (text, log.read_text(encoding="utf-8")):
        assert not set(EVIL) - set("[31mO") & set(told)
        assert SHOWN in told
    made = json.loads((tmp_path / "made.json").read_text(encoding="utf-8"))
    assert EVIL in made["model"]["type_map"]


def test_utf_8_has_all_signs(monkeypatch, system):
    screens = Screens(monkeypatch, "utf-8")
    assert main(["check-data", system]) == 0
    assert "Å" in screens.text and "É" in screens.text


def test_odd_bytes_of_a_name(monkeypatch, tmp_path):
    """A folder's name that is no UTF-8 is shown, too, and in the log file."""
    screens = Screens(monkeypatch, "utf-8")
    log = tmp_path / "log"
    assert main(["check-data", "no\udcff", "-l", str(log)]) == 1
    assert r"no\udcff" in screens.text and r"no\udcff" in log.read_text("utf-8")


def test_outputs_are_left_as_they_were(monkeypatch):
    screens = Screens(monkeypatch, "ascii")
    with any_encoding():
        assert sys.stdout.errors == sys.stderr.errors == REPLACED
        sys.stdout.write("|S| ± 1.2 μ_B in Å², café … θ")
    assert sys.stdout.errors == "strict"
    assert screens.text == r"|S| +- 1.2 u_B in A^2, cafe ... \u03b8"
    with any_encoding():
        monkeypatch.setattr(sys, "stdout", io.StringIO())  # as others do


def test_broken_pipes_are_left_alone(monkeypatch):
    """What cannot be flushed, and what others have closed."""
    broken = io.TextIOWrapper(io.BufferedWriter(Broken()))
    monkeypatch.setattr(sys, "stdout", broken)
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO()))
    with any_encoding():
        broken.write("x")
        sys.stderr.close()
    with pytest.raises(BrokenPipeError):
        broken.flush()
    Broken.works = True
    broken.close()


class Broken(io.RawIOBase):
    """A pipe that nobody reads."""

    works = False

    def writable(self):
        return True

    def write(self, content):
        if not self.works:
            raise BrokenPipeError
        return len(content)


def test_shown():
    assert shown("a\tb\nÅ é 你") == "a\tb\nÅ é 你"
    assert shown("\r\x07\x7f\u2066") == r"\r\x07\x7f\u2066"


def test_arguments(monkeypatch):
    screens = Screens(monkeypatch, "ascii")
    with pytest.raises(SystemExit):
        main(["show", "x", EVIL])
    assert SHOWN in screens.text and "\x1b" not in screens.text
    assert not logging.getLogger("deepspin").handlers
