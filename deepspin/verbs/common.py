# SPDX-License-Identifier: Apache-2.0
"""What declarations of verbs share."""

from __future__ import annotations


def add_verb(verbs, common, name: str, entrypoint: str, text: str):
    """Declare a verb: its entry point ``module:function``, and its purpose."""
    parser = verbs.add_parser(name, parents=[common], help=text, description=text)
    parser.set_defaults(entrypoint=entrypoint)
    return parser


def add_force(parser) -> None:
    """Declare the option that lets outputs be replaced."""
    parser.add_argument(
        "--force", action="store_true", help="replace what is at the output"
    )
