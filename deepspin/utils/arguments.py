# SPDX-License-Identifier: Apache-2.0
"""How one argument of an input is made: its type, its default, the check of its value.

`deepspin.utils.argcheck` makes the trees of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dargs import Argument, Variant

ACTIVATIONS = (
    *("tanh", "relu", "relu6", "softplus", "sigmoid", "gelu", "gelu_tf", "silu"),
    *("silut", "linear", "none"),
)
PRECISIONS = ("default", "float64", "float32")
AUGMENTATIONS = ("spin_rotation", "time_reversal")
# of a full validation: label, kind of its error
METRICS = tuple(
    f"{q}:{k}" for q in ("E", "FR", "FM", "S", "V") for k in ("MAE", "RMSE")
)


# --- Checks of single values: a test, and what the message expects --------------------


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _is_activation(x: str) -> bool:
    name, colon, threshold = x.lower().partition(":")
    if colon:
        return name == "silut" and _is_number(threshold)
    return name in ACTIVATIONS


def _is_sel(x: list[int] | str) -> bool:
    if isinstance(x, list):
        return len(x) > 0 and min(x) >= 0 and max(x) > 0
    name, colon, factor = x.partition(":")
    return name == "auto" and (not colon or (_is_number(factor) and float(factor) >= 1))


def _is_batch_size(x: list[int] | int | str) -> bool:
    if isinstance(x, str):
        return re.fullmatch(r"auto(:0*[1-9]\d*)?", x) is not None
    return min(x, default=0) >= 1 if isinstance(x, list) else x >= 1


def _is_auto_prob(x: str) -> bool:
    name, *blocks = x.split(";")
    return (name == "prob_uniform" and not blocks) or (
        name == "prob_sys_size"
        and all(re.fullmatch(r"\d+:\d+:[\d.]+(e-?\d+)?", block) for block in blocks)
    )


def _is_sys_probs(x: list[float]) -> bool:
    assigned = sum(p for p in x if p >= 0)
    if len(x) == 0 or assigned > 1 + 1e-8:
        return False
    return min(x) < 0 or math.isclose(assigned, 1, rel_tol=0, abs_tol=1e-6)


Check = tuple[Callable[[Any], bool], str]

NO_DECAY = (lambda x: x == 0, '0; "AdamW" is the type whose parameters decay')
POSITIVE = (lambda x: x > 0, "a number > 0")
NOT_NEGATIVE = (lambda x: x >= 0, "a number >= 0")
COUNT = (lambda x: x >= 0, "an integer >= 0")
AT_LEAST_ONE = (lambda x: x >= 1, "an integer >= 1")
RATIO = (lambda x: 0 < x <= 1, "a number in (0, 1]")
BETWEEN = (lambda x: 0 < x < 1, "a number in (0, 1)")
BETA = DECAY = WARMUP_RATIO = (lambda x: 0 <= x < 1, "a number in [0, 1)")
WIDTHS = (lambda x: len(x) > 0 and min(x) >= 1, "a list of integers >= 1")
SEED = (lambda x: 0 <= x < 2**32, "an integer from 0 to 2**32 - 1, or null")
PATHS = (lambda x: len(x) > 0 and all(x), "at least one path")
FILE = (
    lambda x: Path(x).name not in ("", "..") and not x.endswith("/") and "\0" not in x,
    "the path of a file",
)
FOLDER = (lambda x: x != "" and "\0" not in x, "the path of a folder")
STAT_FILE_MODE = (lambda x: x in ("update", "read"), '"update" or "read"')
METRIC = (
    lambda x: x.upper() in METRICS,
    f"one of {', '.join(METRICS)}",
)
LOSS_PREFACTORS = (lambda x: x in ("auto", "given"), '"auto" or "given"')
FACTOR = (
    lambda x: x == "fit" if isinstance(x, str) else x > 0,
    'a number > 0, or "fit"',
)
AUGMENTATION = (
    lambda x: set(x) <= set(AUGMENTATIONS),
    f"a list of {' and '.join(AUGMENTATIONS)}",
)
FM_COMPONENT = (
    lambda x: x in ("full", "transverse", "longitudinal"),
    '"full", "transverse" or "longitudinal"',
)
DECAY_TYPE = (
    lambda x: x in ("inverse_linear", "cosine", "linear"),
    '"inverse_linear", "cosine" or "linear"',
)
LOSS_FUNC = (lambda x: x in ("mse", "mae"), '"mse" or "mae"')
ACTIVATION = (_is_activation, f'one of {", ".join(ACTIVATIONS)}, or "silut:T"')
PRECISION = (lambda x: x in PRECISIONS, f"one of {', '.join(PRECISIONS)}")
SEL = (_is_sel, 'numbers of neighbours, not all 0, or "auto" or "auto:F" with F >= 1')
BATCH_SIZE = (
    _is_batch_size,
    'an integer >= 1, a list of such, "auto", or "auto:N" with N >= 1',
)
AUTO_PROB = (
    _is_auto_prob,
    '"prob_uniform", "prob_sys_size" or "prob_sys_size;A:B:W;..."',
)
SYS_PROBS = (
    _is_sys_probs,
    "probabilities that sum to 1, or to at most 1 when some are negative",
)


# --- Arguments ------------------------------------------------------------------------

_OWN = " An option of deepspin, unknown to DeePMD-kit."


def optional(
    name: str,
    dtype: Any,
    default: object,
    check: Check | None = None,
    alias: list[str] | None = None,
    own: bool = False,
) -> Callable[[str], Argument]:
    """Take name, type, default, check; return what takes the doc and makes the rest.

    A null, where the type or the default allows one, is not checked. `own` marks what
    DeePMD-kit has not, see `is_own`.
    """
    test, expected = check or (lambda x: True, "")

    def with_doc(doc: str) -> Argument:
        return Argument(
            name,
            dtype,
            optional=True,
            default=default,
            alias=alias,
            doc=doc + _OWN * own,
            extra_check=lambda x: x is None or test(x),
            extra_check_errmsg=expected,
        )

    return with_doc


def is_own(argument: Argument) -> bool:
    """Whether DeePMD-kit has no such option, which its documentation says."""
    return argument.doc.endswith(_OWN)


def required(
    name: str, dtype: Any, check: Check | None = None, alias: list[str] | None = None
) -> Callable[[str], Argument]:
    """Like `optional`, without a default."""
    test, expected = check or (None, "")
    return lambda doc: Argument(
        name, dtype, alias=alias, doc=doc, extra_check=test, extra_check_errmsg=expected
    )


def section(
    name: str,
    doc: str,
    fields: Sequence[Argument] = (),
    choices: Sequence[Argument] = (),
    default: str = "",
    choice_doc: str = "",
    may_lack: bool = False,
) -> Argument:
    """Make an object with one choice of `type`, optional if it has a default.

    What `may_lack` in an input is filled in with defaults.
    """
    variant = Variant(
        "type", choices, optional=bool(default), default_tag=default, doc=choice_doc
    )
    lack: dict = {"optional": True, "default": {}} if may_lack else {}
    return Argument(name, dict, fields, [variant] if choices else [], doc=doc, **lack)
