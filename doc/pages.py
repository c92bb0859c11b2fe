# SPDX-License-Identifier: Apache-2.0
"""What the pages need beside text: formulas without JavaScript, generated parts."""

from __future__ import annotations

import argparse
import inspect
import re
from functools import partial

import options
from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util.inspect import stringify_signature

from deepspin.main import build_parser

# --- Formulas: MathML, which browsers set themselves ----------------------------------


def visit_math(writer, node: nodes.math) -> None:
    """Write a formula within a line."""
    writer.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def visit_math_block(writer, node: nodes.math_block) -> None:
    """Write a formula of its own."""
    formula = tex2mathml(node.astext(), as_block=True)
    writer.body.append(f'<div class="math">{formula}</div>\n')
    raise nodes.SkipNode


# --- Docstrings -----------------------------------------------------------------------


def mend_docstring(app: Sphinx, what: str, name: str, obj, options, lines) -> None:
    """Number references as a list, and keep napoleon from reading types in prose."""
    lines[:] = [re.sub(r"^\.\. \[(\d+)\] ", r"\1. ", line) for line in lines]
    lines[:] = [re.sub(r"\[(\d+)\]_", r"[\1]", line) for line in lines]
    if what == "property":  # "Length: of what" is a sentence, no type
        lines[0] = lines[0].replace(": ", " – ")


def true_signature(app: Sphinx, what: str, name: str, obj, options, signature, returns):
    """Show the arguments of Keras' classes, which hide them."""
    if what != "class":
        return None
    whole = inspect.signature(obj.__init__)
    own = [p for p in whole.parameters.values() if p.name not in ("self", "kwargs")]
    text = stringify_signature(whole.replace(parameters=own), show_annotation=False)
    return text, returns


def forget_arguments(app: Sphinx, env, docname: str) -> None:
    """Have dargs forget a page that is read again; it takes them for duplicates."""
    arguments = env.domaindata["dargs"]["arguments"]
    for name in [k for k, (page, _) in arguments.items() if page == docname]:
        del arguments[name]


# --- Generated parts, as MyST ---------------------------------------------------------


def command_line() -> list[str]:
    """Every verb of dp-spin: its purpose, usage and options."""
    subparsers = (argparse._SubParsersAction,)
    actions = build_parser()._actions
    (verbs,) = (action for action in actions if isinstance(action, subparsers))
    lines = []
    for name, parser in verbs.choices.items():
        parser.formatter_class = partial(argparse.HelpFormatter, width=72)
        head = "usage: "
        usage = parser.format_usage().removeprefix(head).rstrip()
        usage = usage.replace("\n" + " " * len(head), "\n")
        lines += [f"(verb-{name})=", f"### dp-spin {name}", ""]
        lines += [parser.description, "", "```text", usage, "```", ""]
        for action in parser._actions:
            if action.dest not in ("help", "verbose", "log_path"):
                meaning = action.help[0].upper() + action.help[1:]
                lines += [_spelling(action), f": {meaning}.", ""]
    return lines


def _spelling(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else action.metavar or action.dest.upper()
    if action.choices:
        value = " | ".join(map(str, action.choices))
    spellings = [f"{name} {value}".strip() for name in action.option_strings or [""]]
    return ", ".join(f"`{spelling}`" for spelling in spellings)


def generated(write) -> type[Directive]:
    """Make a directive of a function that writes lines of MyST."""

    class Generated(Directive):
        def run(self) -> list[nodes.Node]:
            node = nodes.Element()
            lines = StringList(write(), self.name)
            self.state.nested_parse(lines, 0, node, match_titles=True)
            return node.children

    return Generated


def setup(app: Sphinx) -> dict:
    """Register with Sphinx."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.connect("autodoc-process-docstring", mend_docstring, priority=400)
    app.connect("autodoc-process-signature", true_signature)
    app.connect("env-purge-doc", forget_arguments)
    app.add_directive("command-line", generated(command_line))
    app.add_directive("option-table", generated(options.option_table))
    app.add_directive("flag-table", generated(options.flag_table))
    return {"parallel_read_safe": False}
