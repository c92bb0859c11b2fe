# SPDX-License-Identifier: Apache-2.0
"""Mistakes, and what dp-spin answers: the table behind a test and a page.

One file per section. ``python tests/mistakes`` writes ``doc/mistakes.md``;
``tests/cli/test_mistakes.py`` makes each mistake in a folder of its own and compares.
No two rows end at the same ``raise``.
"""

from __future__ import annotations

from . import (
    command_line,
    data,
    dft,
    dynamics,
    formats,
    input_file,
    magnetism,
    model_files,
    python,
    temperature_curves,
)

IN_ORDER = (
    input_file,
    data,
    formats,
    command_line,
    dft,
    dynamics,
    temperature_curves,
    magnetism,
    model_files,
    python,
)
SECTIONS = {section.TITLE: section.ABOUT for section in IN_ORDER}
MISTAKES = {name: row for section in IN_ORDER for name, row in section.ROWS.items()}
