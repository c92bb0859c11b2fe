# SPDX-License-Identifier: Apache-2.0
"""Write ``doc/mistakes.md``: ``python tests/mistakes``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from mistakes.document import DOCUMENT, document

DOCUMENT.write_text(document(), encoding="utf-8")
