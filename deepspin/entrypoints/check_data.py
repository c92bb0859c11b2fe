# SPDX-License-Identifier: Apache-2.0
"""``dp-spin check-data``: what to know about data before a fit."""

from __future__ import annotations

import json as json_module
import logging
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from deepspin.entrypoints.common import Verbs, add_data, add_spin, add_verb
from deepspin.utils.terminal import say

log = logging.getLogger(__name__)


def add_parser(verbs: Verbs, common: ArgumentParser) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        common,
        "check-data",
        check_data,
        "Look data over: ranges, outliers, distances, torques, duplicates.",
    )
    add_data(parser)
    add_spin(parser)
    parser.add_argument(
        "--json", metavar="FILE", help="also write what was found to this file"
    )


def check_data(*, systems: Sequence[str], json: str | None = None, **spin: Any) -> dict:
    """Print tables of what systems hold, and what in them to look at.

    Parameters
    ----------
    systems : sequence of str
        Systems, or folders to search.
    json : str, optional
        File to write all numbers to.
    **spin
        How to read them, see `deepspin.survey.scheme.survey`.

    Returns
    -------
    dict
        What the file would hold: ``type_map``, ``spin``, ``systems``, ``twins`` (frames
        that occur twice), ``findings`` and ``unreadable``.

    Raises
    ------
    DataError
        A system cannot be read; the others are reported all the same.
    """
    from deepspin.data.files import DataError
    from deepspin.survey.comparison import measure
    from deepspin.survey.findings import look
    from deepspin.survey.report import report
    from deepspin.survey.scheme import survey
    from deepspin.utils.outputs import claim, replacing

    if json is not None:
        claim(json)
    data = survey(systems, **spin)
    data.report()
    facts, same, failed = measure(data, spin.get("input"))
    notes = data.doubts + look(facts, same, data.type_map)
    say(report(facts, data.type_map, notes))
    result = {
        "type_map": data.type_map,
        "spin": data.section,
        "systems": facts,
        "twins": same,
        "findings": notes,
        "unreadable": failed,
    }
    if json is not None:
        with replacing(json) as partial:
            partial.write_text(json_module.dumps(result, indent=2) + "\n", "utf-8")
    for text in failed[:-1]:
        log.error("%s", text)
    if failed:
        count = f"{len(failed)} of {len(data.paths)} systems cannot be read"
        raise DataError(f"{failed[-1]} ({count})")
    return result
