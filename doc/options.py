# SPDX-License-Identifier: Apache-2.0
"""What becomes of each option and flag of DeePMD-kit's, for `from-deepmd-kit.md`."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path

from dargs import Argument

from deepspin.entrypoints.elsewhere import OPTIONS, VERBS
from deepspin.main import build_parser
from deepspin.utils.argcheck import train_args
from deepspin.utils.refused import ANY, CHOICES, REFUSED

TESTS = Path(__file__).parent.parent / "tests"
REFERENCE = TESTS / "reference"
# name every option, so that to be in them says nothing
LISTS = {"test_argcheck.py", "test_refused.py", "test_options.py", "test_fuzz.py"}
LISTS |= {"test_inputs.py", "test_bad_input.py", "test_mistakes.py"}


def own() -> dict[str, tuple[str, Argument]]:
    """Arguments of the input by path: where the reference has them, and themselves."""
    return dict(_walk(train_args(), "", ""))


def _walk(
    arguments: list[Argument], path: str, anchor: str
) -> Iterator[tuple[str, tuple[str, Argument]]]:
    for argument in arguments:
        here = f"{path}/{argument.name}".strip("/")
        there = f"{anchor}/{argument.name}".strip("/")
        yield here, (there, argument)
        yield from _walk(list(argument.sub_fields.values()), here, there)
        for flag, variant in argument.sub_variants.items():
            yield f"{here}/{flag}", (f"{there}/{flag}", argument)
            for name, choice in variant.choice_dict.items():
                fields = list(choice.sub_fields.values())
                yield from _walk(fields, here, f"{there}[{name}]")


def refused() -> dict[str, tuple[tuple, str]]:
    """Neutral values of each refused option, and the advice."""
    found = {}
    for paths, row in REFUSED.items():
        section, _, names = paths.rpartition("/")
        for name in names.split("|"):
            found[f"{section}/{name}".strip("/")] = row
    return found


def options() -> Iterator[tuple[str, str, str]]:
    """Each option of DeePMD-kit's input: its path, what happens, and where to read on.

    Raises
    ------
    KeyError
        One that neither works nor is refused by name.
    """
    table = json.loads((REFERENCE / "options.json").read_text("utf-8"))["options"]
    ours, theirs, tests = own(), refused(), _texts()
    for path, row in table.items():
        parent = path.rpartition("/")[0]
        if path in ours:
            anchor, argument = ours[path]
            flag = path.rpartition("/")[2]
            words = f"{{ref}}`works <{anchor}>`"
            lacking = sorted(set(row["choices"]) & {*CHOICES.get(path, ([],))[0]})
            if row["choices"]:
                variant = argument.sub_variants[flag]
                has = {*variant.choice_dict, *variant.choice_alias}
                unknown = set(row["choices"]) - has - set(lacking)
                if unknown:
                    raise KeyError(f"{path}: {sorted(unknown)}")
            if lacking:
                names = ", ".join(f"`{name}`" for name in lacking)
                words += f"; refused: {names}: {CHOICES[path][1]}"
            yield path, words, _tested(path, tests)
        elif path in theirs:
            neutral, advice = theirs[path]
            words = "dropped, whatever its value"
            if neutral is not ANY:
                values = ", ".join(f"`{json.dumps(value)}`" for value in neutral)
                head = f"dropped at {values}, else refused" if values else "refused"
                words = f"{head}: {advice}"
            yield path, words, "`unit/utils/test_refused`"
        elif parent in theirs:
            yield path, f"as `{parent}`", "`unit/utils/test_refused`"
        elif any(name.startswith(f"{path}/") for name in theirs):
            yield path, "its options below", "`unit/utils/test_refused`"
        else:
            raise KeyError(path)


def _texts() -> dict[str, str]:
    """Words of the tests that say what options do, by file."""
    return {
        str(path.relative_to(TESTS).with_suffix("")): path.read_text("utf-8")
        for folder in ("cli", "unit", "physics", "peer")
        for path in sorted((TESTS / folder).rglob("test_*.py"))
        if path.name not in LISTS
    }


def _tested(path: str, tests: dict[str, str]) -> str:
    """A file of tests that sets an option; sections are tested by what is in them."""
    name = path.rpartition("/")[2]
    word = re.compile(rf"['\"/`]{re.escape(name)}['\"`]|\b{re.escape(name)}=")
    found = [file for file, text in tests.items() if word.search(text)]
    if not found:
        raise KeyError(f"{path}: no test sets it")
    best = [file for file in found if file.startswith(("cli", "physics"))] or found
    return f"`{best[0]}`"


def flags() -> Iterator[tuple[str, str, str]]:
    """Each verb of `dp` and each of its options: verb, option, and what happens."""
    table = json.loads((REFERENCE / "command_line.json").read_text("utf-8"))
    kind = argparse._SubParsersAction
    (verbs,) = (a for a in build_parser()._actions if isinstance(a, kind))
    ours = {
        name: {o for action in verb._actions for o in action.option_strings}
        for name, verb in verbs.choices.items()
    }
    for verb, names in table.items():
        if verb == "deepmd-kit":
            continue
        if verb and verb not in ours:
            yield verb, "", VERBS[verb]
            continue
        known = ours.get(verb, {"-h", "--help", "--version"})
        for name in names:
            words = "works" if name in known else OPTIONS[name]
            yield verb, name, words


def option_table() -> list[str]:
    """The options as a table in MyST."""
    rows = ["| option | in deepspin | tested in |", "| --- | --- | --- |"]
    rows += [f"| `{path}` | {words} | {test} |" for path, words, test in options()]
    return rows


def flag_table() -> list[str]:
    """Verbs and their flags as a table in MyST; what answers alike in one row."""
    rows = ["| verb | flags | in deepspin |", "| --- | --- | --- |"]
    merged: dict[tuple[str, str], list[str]] = {}
    for verb, name, words in flags():
        merged.setdefault((verb, words), []).append(f"`{name}`" if name else "all")
    for (verb, words), names in merged.items():
        rows.append(f"| `dp {verb}`".rstrip() + f" | {', '.join(names)} | {words} |")
    return rows
