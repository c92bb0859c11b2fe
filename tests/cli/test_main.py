# SPDX-License-Identifier: Apache-2.0
"""The command line, as far as it needs no TensorFlow."""

from __future__ import annotations

import inspect
import json
import logging
import re
import subprocess
import sys

import pytest
from places import REFERENCE

from deepspin import __version__
from deepspin.dynamics.relax.search import Changes, Plan
from deepspin.entrypoints import elsewhere
from deepspin.infer.accuracy import Comparison
from deepspin.infer.candidates import Bounds
from deepspin.infer.deviation import Measure
from deepspin.main import build_parser, main
from deepspin.pictures.results import draw_results

VERBS = (
    *("init", "check-data", "check-symmetry", "neighbor-stat", "convert-data", "train"),
    *(
        "plot",
        "test",
        "model-devi",
        "select",
        "export-dft",
        "import-dft",
        "relax",
        "md",
        "thermo",
        "exchange",
        "magnons",
        "spectrum",
        "change-bias",
        "freeze",
        "compress",
        "show",
    ),
    *("convert-from", "convert-to", "doc-train-input"),
)
ANCHORS = [
    *("model/type_map", "model/spin", "loss"),
    *(f"model/spin[ener_spin]/{k}" for k in ("use_spin", "virtual_len", "spin_norm")),
    *(
        f"loss[ener_spin]/{end}_pref_{term}"
        for end in ("start", "limit")
        for term in ("e", "fr", "fm", "v")
    ),
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*args):
    return subprocess.run(
        [sys.executable, "-m", "deepspin", *args], capture_output=True, text=True
    )


# --- What is asked --------------------------------------------------------------------


def test_help_names_the_verbs(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["-h"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: dp-spin ")
    for verb in VERBS:
        assert re.search(rf"^    {verb}\b", out, re.MULTILINE)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb(verb, capsys):
    """Every option is explained, and the default that argparse knows is told."""
    with pytest.raises(SystemExit) as stop:
        main([verb, "-h"])
    assert stop.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith(f"usage: dp-spin {verb} ")
    assert "-v, --verbose" in out
    assert re.search("-l( LOG)?, --log-path LOG", out)  # Python 3.13 says LOG once
    (verbs,) = (a for a in build_parser()._actions if a.dest == "verb")
    for action in verbs.choices[verb]._actions:
        assert action.help
        if isinstance(action.default, str | int) and action.const is None:
            if action.default != "==SUPPRESS==":
                assert f"default: {action.default}" in out


# what takes the options that a call does not name
TAKEN = {
    "relax": (Changes, Plan),
    "test": (Comparison,),
    "model-devi": (Measure, Bounds),
    "plot": (draw_results,),
}


@pytest.mark.parametrize("verb", VERBS)
def test_defaults_are_those_of_python(verb):
    """What the command line leaves out, and what a keyword does, is the same."""
    (verbs,) = (a for a in build_parser()._actions if a.dest == "verb")
    parser, known = verbs.choices[verb], {}
    for taker in (parser.get_default("call"), *TAKEN.get(verb, ())):
        known |= inspect.signature(taker).parameters
    for action in parser._actions:
        if action.dest in known and not action.required:
            default = known[action.dest].default
            assert default in (inspect.Parameter.empty, action.default), action.dest


def test_verbs_are_all_tested():
    (verbs,) = (a for a in build_parser()._actions if a.dest == "verb")
    assert tuple(verbs.choices) == VERBS


DP = json.loads((REFERENCE / "command_line.json").read_text())


REQUIRED = {
    **{v: ["file"] for v in ("train", "show", "convert-from", "change-bias")},
    "model-devi": ["-m", "one", "two"],
}


@pytest.mark.parametrize("verb", [verb for verb in DP if verb != "deepmd-kit"])
def test_what_users_of_deepmd_kit_type(verb, capsys):
    """Every verb and option of ``dp`` is there, or answered by name."""
    if verb in elsewhere.VERBS:
        with pytest.raises(SystemExit) as stop:
            main([verb, "input.json"])
        assert stop.value.code == 2
        said = " ".join(capsys.readouterr().err.split())
        assert f"`{verb}` is a verb of DeePMD-kit: {elsewhere.VERBS[verb]}." in said
        return
    parser = build_parser()
    if verb:
        (verbs,) = (a for a in parser._actions if a.dest == "verb")
        parser = verbs.choices[verb]
    ours = {name for action in parser._actions for name in action.option_strings}
    for option in set(DP[verb]) - ours:
        words = (
            [verb, *REQUIRED.get(verb, ()), option] if verb else [option, "show", "m"]
        )
        with pytest.raises(SystemExit):
            main(words)
        said = " ".join(capsys.readouterr().err.split())
        assert f"`{option}` is an option of DeePMD-kit: " in said, (verb, option)


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"deepspin {__version__}\n"


def test_python_m():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"deepspin {__version__}\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "required: verb"),
        (["trian"], "invalid choice: 'trian'"),
        (["train"], "required: INPUT"),
        (["train", "input.json", "--fast"], "unrecognized arguments: --fast"),
        (["train", "input.json", "-i", "a", "-r", "b"], "-r.* not allowed with .*-i"),
        (["test", "-n", "few"], "-n/--numb-test: invalid int value"),
        (["doc-train-input", "--out-type", "md"], "invalid choice: 'md'"),
    ],
)
def test_wrong_usage(args, message, capsys):
    """Argparse's own: usage and a line, exit status 2."""
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize("out_type", ["rst", "json", "json_schema"])
def test_documentation(out_type, capsys):
    assert main(["doc-train-input", "--out-type", out_type]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    if out_type == "rst":
        for anchor in ANCHORS:
            assert out.count(f".. _`{anchor}`:") == 1
    else:
        data = json.loads(out)
        if out_type == "json_schema":
            assert data["$schema"].startswith("https://json-schema.org/")
            sections = list(data["properties"])
        else:
            sections = [section["name"] for section in data]
        names = "model learning_rate optimizer loss training validating"
        assert sections == names.split()


def test_reader_goes_away():
    """As in ``dp-spin doc-train-input | head -1``."""
    code = "import sys; sys.stdin.readline()"
    with subprocess.Popen(
        [sys.executable, "-m", "deepspin", "doc-train-input"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as writer:
        subprocess.run([sys.executable, "-c", code], stdin=writer.stdout, check=True)
        writer.stdout.close()
        assert writer.stderr.read() == b""


# --- Mistakes -------------------------------------------------------------------------

MISTAKES = {
    "absent": (["train", "absent.json"], "There is no input file 'absent.json'."),
    "suffix": (["train", "input.txt"], "'input.txt' must end in .json, .yaml or .yml."),
    "not JSON": (["train", "broken.json"], "'broken.json' is not valid JSON: .*line 2"),
    "typo": (["train", "typo.json"], "`model/descriptor/rcutt` is not a key .*`rcut`"),
    "no data": (["test", "-m", "m.keras", "-s", "absent"], "'absent' does not exist."),
    "no list": (
        ["test", "-m", "m.keras", "-f", "absent.txt"],
        "'absent.txt' is not a file.",
    ),
    "no frozen model": (["convert-from", "a.pb", "-o", "b.keras"], "'a.pb' is not"),
    "no folder of the log": (["doc-train-input", "-l", "no/log"], "no/log"),
}


@pytest.fixture
def inputs(folder):
    (folder / "m.keras").write_text("")
    (folder / "broken.json").write_text('{"model":\n {,}}')
    model = {
        "type_map": ["Ni", "O"],
        "spin": {"use_spin": [True, False], "virtual_len": [0.4], "spin_norm": [1.2]},
        "descriptor": {"type": "se_e2_a", "rcutt": 6.0},
        "fitting_net": {},
    }
    data = {
        "model": model,
        "learning_rate": {"start_lr": 1e-3},
        "loss": {"type": "ener_spin"},
        "training": {"training_data": {"systems": ["a"]}, "numb_steps": 1},
    }
    (folder / "typo.json").write_text(json.dumps(data))


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes(case, inputs, capsys):
    """One line, exit status 1."""
    args, message = MISTAKES[case]
    assert main(args) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(rf"dp-spin: error: .*{message}.*\n", err)


def test_mistake_in_a_process(inputs):
    done = run("train", "typo.json")
    assert done.returncode == 1
    assert re.fullmatch("dp-spin: error: .*did you mean `rcut`.*\n", done.stderr)


def test_traceback_on_request(inputs, capsys):
    assert main(["train", "typo.json", "-v"]) == 1
    first, second, *_, last = capsys.readouterr().err.splitlines()
    assert first.startswith("dp-spin: error: `model/descriptor/rcutt`")
    assert second.startswith("Traceback")
    assert "InputError: `model/descriptor/rcutt`" in last


@pytest.mark.parametrize("verbose", [False, True])
def test_traceback_in_the_log(verbose, inputs, capsys):
    """The log has the traceback, the terminal says where it is."""
    assert main(["train", "typo.json", "-l", "run.log", *["-v"] * verbose]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("(traceback in 'run.log')")
    assert (len(lines) > 1) == verbose
    with open("run.log", encoding="utf-8") as file:
        first, second, *_, last = file.read().splitlines()
    assert re.match(r"\d{4}-\d\d-\d\d .* ERROR   deepspin `model/desc", first)
    assert second.startswith("Traceback")
    assert "InputError: `model/descriptor/rcutt`" in last


# --- Messages -------------------------------------------------------------------------


def speak(monkeypatch, act):
    monkeypatch.setattr("deepspin.entrypoints.doc.doc_train_input", act)


def test_log(monkeypatch, capsys, folder):
    """Messages go to the terminal as they are and to the log with time and origin."""

    def act(out_type):
        log = logging.getLogger("deepspin.train")
        log.debug("for experts")
        log.info("step %d", 1)
        log.warning("odd")

    speak(monkeypatch, act)
    assert main(["doc-train-input", "-l", "run.log"]) == 0
    assert capsys.readouterr().err == "step 1\ndp-spin: warning: odd\n"
    info, warning = (folder / "run.log").read_text("utf-8").splitlines()
    assert info.endswith("INFO    deepspin.train step 1")
    assert warning.endswith("WARNING deepspin.train odd")
    assert main(["doc-train-input", "-v"]) == 0
    assert "for experts\nstep 1\n" in capsys.readouterr().err


def test_log_is_left_as_it_was(inputs, caplog):
    """`main` may be called from Python, again and again."""
    main(["train", "typo.json", "-l", "run.log"])
    assert logging.getLogger("deepspin").handlers == []
    logging.getLogger("deepspin").warning("still heard")
    assert "still heard" in caplog.text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError(), "ValueError"),
        (OSError("a\n b"), "a b"),
        (
            KeyError("x"),
            "unexpected KeyError: 'x'. Please report this with the traceback, which -v "
            "shows.",
        ),
    ],
)
def test_odd_messages(error, text, monkeypatch, capsys):
    """An empty one is replaced by its kind, line ends are folded."""

    def act(out_type):
        raise error

    speak(monkeypatch, act)
    assert main(["doc-train-input"]) == 1
    assert capsys.readouterr().err == f"dp-spin: error: {text}\n"


def test_interrupt(monkeypatch, capsys):
    """Ctrl-C is no error; 130 is what shells expect."""

    def act(out_type):
        raise KeyboardInterrupt

    speak(monkeypatch, act)
    assert main(["doc-train-input"]) == 130
    assert capsys.readouterr().err == "dp-spin: warning: interrupted\n"
