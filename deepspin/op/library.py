# SPDX-License-Identifier: Apache-2.0
"""The compiled library: whether there is one, and whether it is to be used.

Whatever the library does, TensorFlow's own operations do too, more slowly.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from types import ModuleType

import tensorflow as tf

from deepspin import env
from deepspin.op.sources import trouble

log = logging.getLogger(__name__)

PATH = Path(__file__).with_name("libdeepspin.so")
_plain: ContextVar[bool] = ContextVar("deepspin_plain", default=False)


class KernelError(RuntimeError):
    """Something that the kernels cannot do, with what to do about it."""


@cache
def _load() -> ModuleType | None:
    """Operations of the library; None, with one line in the log, without it."""
    if not env.kernels_wanted():
        return None
    env.instruction_set()  # a mistake in it is to be known now
    slower = "training and evaluation are several times slower"
    if not PATH.is_file():
        remedy = "`pip install .` builds them; it needs a C++ compiler"
        log.warning("the kernels are not built: %s (%s)", slower, remedy)
        return None
    module = None
    try:
        reason = trouble(PATH)
        if reason is None:
            module = tf.load_op_library(str(PATH))
            if not hasattr(module, "deepspin_potential"):
                reason, module = "another library", None
    except Exception as error:  # another libc, another processor, no permission, ...
        reason = " ".join(str(error).split())
    if reason is not None:
        log.warning("the kernels do not load: %s (%s)", slower, reason)
    return module


def operations() -> ModuleType | None:
    """Operations of the library, or None where plain TensorFlow is to be used.

    That is within `plain_tensorflow`, beside a GPU, with ``DEEPSPIN_KERNELS=0``, and
    without a library that loads.
    """
    if _plain.get() or _has_gpu():
        return None
    return _load()


@cache
def _has_gpu() -> bool:
    return bool(tf.config.list_physical_devices("GPU"))


@contextmanager
def plain_tensorflow() -> Iterator[None]:
    """Within, models use nothing but TensorFlow's own operations.

    For graphs that leave this program, and for XLA, which compiles no others.
    """
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Within, errors of the kernels are `KernelError`, without TensorFlow's frills."""
    try:
        yield
    except tf.errors.OpError as error:
        found = re.search(r"deepspin: (.+?)(?:\n|\s*\[\[| \[Op:|$)", error.message)
        if found is None:
            raise
        raise KernelError(f"{found[1]}.") from error


def threads() -> int:
    """Threads of the kernels: TensorFlow's within an operation."""
    chosen = tf.config.threading.get_intra_op_parallelism_threads()
    return chosen or len(os.sched_getaffinity(0))
