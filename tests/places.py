# SPDX-License-Identifier: Apache-2.0
"""Where things are that tests need."""

from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
REFERENCE = TESTS / "reference"  # numbers of DeePMD-kit and what made them
FILES = TESTS / "files"  # one of each format that was ever written
