# SPDX-License-Identifier: Apache-2.0
"""The environment: its variables, read and set only here, and TensorFlow's start-up."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import importlib.metadata
import logging
import os
import platform
import sys
import tempfile
from collections.abc import Iterator

log = logging.getLogger(__name__)

# process that computes first; its forks lack TensorFlow's threads, and the kernels'
_computes: list[int] = []
# numbers of malloc.h: largest block from the heap, what to keep and to ask for at once
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
MALLOC_OPTIONS = {
    _M_MMAP_THRESHOLD: 2**25,
    _M_TRIM_THRESHOLD: 2**31 - 1,
    _M_TOP_PAD: 2**28,
}
# what TensorFlow and Keras import if it is there, for plots and data that no verb has
_SPARED = ("matplotlib", "scipy", "sklearn", "pandas", "jax", "cv2", "IPython")


def set_defaults() -> None:
    """Choose Keras' backend and quiet TensorFlow's log, unless the user has chosen.

    Takes effect when called before TensorFlow is imported.

    Raises
    ------
    ValueError
        The user has chosen another backend.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    keras = sys.modules.get("keras")  # before this, as its file keras.json says
    backend = keras.config.backend() if keras else os.environ["KERAS_BACKEND"]
    if backend != "tensorflow":
        raise ValueError(
            "deepspin runs on Keras' backend 'tensorflow'. Received: "
            f"{backend!r}. Set KERAS_BACKEND=tensorflow, or import deepspin first."
        )


def thread_counts() -> tuple[int, int]:
    """Threads (within an operation, between operations), 0 for TensorFlow's choice.

    Read from ``DP_INTRA_OP_PARALLELISM_THREADS`` and
    ``DP_INTER_OP_PARALLELISM_THREADS``, DeePMD-kit's variables.

    Raises
    ------
    ValueError
        One of them is no number.
    """
    counts = []
    for name in ("INTRA", "INTER"):
        variable = f"DP_{name}_OP_PARALLELISM_THREADS"
        text = os.environ.get(variable, "") or "0"
        if not text.isdigit():
            raise ValueError(
                f"{variable} must be a number of threads, 0 for TensorFlow's choice. "
                f"Received: {text!r}"
            )
        counts.append(int(text))
    return counts[0], counts[1]


def kernels_wanted() -> bool:
    """Whether to use the compiled kernels: not with ``DEEPSPIN_KERNELS=0``.

    Raises
    ------
    ValueError
        The variable is neither 0 nor 1.
    """
    text = os.environ.get("DEEPSPIN_KERNELS", "") or "1"
    if text not in ("0", "1"):
        raise ValueError(
            "DEEPSPIN_KERNELS must be 1, for the compiled kernels, or 0, for plain "
            f"TensorFlow. Received: {text!r}"
        )
    return text == "1"


def instruction_set() -> int:
    """Instructions that the kernels may use: ``DEEPSPIN_INSTRUCTIONS``.

    1 for any x86-64 processor, 3 for AVX2, 4 for AVX-512; 0, without the variable, for
    the best that the processor has.
    """
    text = os.environ.get("DEEPSPIN_INSTRUCTIONS", "") or "0"
    if text not in ("0", "1", "3", "4"):
        raise ValueError(
            "DEEPSPIN_INSTRUCTIONS must be 1 (any processor), 3 (AVX2), 4 (AVX-512) "
            f"or 0 (the best there is). Received: {text!r}"
        )
    return int(text)


def workers_told() -> dict[str, str]:
    """What the environment tells of several workers, by the names of its variables."""
    told = ("TF_CONFIG", "DEEPSPIN_PORT")
    names = [*told, *(name for name in os.environ if name.startswith("SLURM_"))]
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def tell_workers(config: str | None) -> None:
    """Have TensorFlow find these workers; None for a program on its own."""
    if config is None:
        os.environ.pop("TF_CONFIG", None)
    else:
        os.environ["TF_CONFIG"] = config


def data_memory() -> float:
    """Bytes of memory that training data may take: ``DEEPSPIN_DATA_MEMORY``, in GiB.

    Without the variable a quarter of the machine's memory, or of what this program may
    have of it.

    Raises
    ------
    ValueError
        The variable is no number above 0.
    """
    text = os.environ.get("DEEPSPIN_DATA_MEMORY", "")
    if text:
        with contextlib.suppress(ValueError):
            if 0 < float(text) < float("inf"):
                return float(text) * 2**30
        raise ValueError(
            f"DEEPSPIN_DATA_MEMORY must be a number of GiB above 0. Received: {text!r}"
        )
    return machine_memory() / 4


def machine_memory() -> float:
    """Bytes of memory of the machine, or of what this program may have of it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # "max" is no number
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            memory = min(memory, int(file.read()))
    return memory


def scratch_folder() -> str:
    """Folder for data that is too large for memory: ``TMPDIR``, or /var/tmp.

    /tmp is in memory itself on many machines.
    """
    chosen = os.environ.get("TMPDIR")
    if chosen or not os.access("/var/tmp", os.W_OK):
        return chosen or tempfile.gettempdir()
    return "/var/tmp"


def keep_freed_memory() -> None:
    """Have the C library keep large blocks that are freed, where it can.

    A training step allocates tens of MB and frees them; given back to the system they
    come again as fresh pages, at a cost that shows.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return
    for parameter, value in MALLOC_OPTIONS.items():
        mallopt(parameter, value)


def keep_compiled_programs() -> None:
    """Have XLA keep what it compiles in ``$XDG_CACHE_HOME/deepspin``, or ~/.cache.

    A second start then takes less. Programs are for one processor and one TensorFlow,
    so each pair has a folder of its own. A user's ``TF_XLA_FLAGS`` that name a folder,
    empty perhaps, are left alone.
    """
    option = "--tf_xla_persistent_cache_directory"
    flags = os.environ.get("TF_XLA_FLAGS", "")
    if option in flags:
        return
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    key = hashlib.sha256(f"{_processor()} {_tensorflow_version()}".encode())
    folder = os.path.join(base, "deepspin", f"xla-{key.hexdigest()[:16]}")
    try:
        os.makedirs(os.path.dirname(folder), mode=0o700, exist_ok=True)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        ours = os.stat(folder).st_uid == os.getuid()
        if ours:  # what is in there is run: nobody else may write it, or need read it
            os.chmod(folder, 0o700)
    except OSError:  # no home, or a full disk: compile anew then
        return
    if ours and os.access(folder, os.W_OK) and not any(c.isspace() for c in folder):
        os.environ["TF_XLA_FLAGS"] = f"{flags} {option}={folder}".strip()


def _processor() -> str:
    """Model and features of the processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = file.read().partition("\n\n")[0].splitlines()
    except OSError:
        return platform.machine()
    return "".join(x for x in lines if x.startswith(("model name", "flags", "Feat")))


def _tensorflow_version() -> str:
    for name in ("tensorflow", "tensorflow-cpu", "tensorflow-intel"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return "unknown"


def start_tensorflow(*, alone: bool = True) -> None:
    """Import TensorFlow for the command line: quietly, with the threads asked for.

    Not `alone`, other workers are joined later, before the first operation.
    """
    claim_process()
    set_defaults()
    keep_freed_memory()
    keep_compiled_programs()
    intra, inter = thread_counts()
    kernels_wanted(), instruction_set()  # a mistake in them is to be known now
    with held_back(2):
        with _sparing_imports():
            import keras  # noqa: F401  # TensorFlow does so, or does later
            import tensorflow as tf

        threading = tf.config.threading
        found = (
            threading.get_intra_op_parallelism_threads(),
            threading.get_inter_op_parallelism_threads(),
        )
        try:
            if intra not in (0, found[0]):
                threading.set_intra_op_parallelism_threads(intra)
            if inter not in (0, found[1]):
                threading.set_inter_op_parallelism_threads(inter)
        except RuntimeError:  # TensorFlow is at work: its threads are what they are
            log.warning(
                "DP_INTRA_OP_PARALLELISM_THREADS and DP_INTER_OP_PARALLELISM_THREADS "
                "are without effect: this process has used TensorFlow with %s and %s "
                "threads (0: its choice). Set them before",
                *found,
            )
        if alone:
            tf.zeros([])  # the first operation has something to say too


@contextlib.contextmanager
def _sparing_imports() -> Iterator[None]:
    """Import TensorFlow without what it can do without, and with fewer looks at it.

    Its half a million objects stay to the end: the garbage collector is not to look at
    them while they come, later, or at the end, where it takes a second.
    """
    if "tensorflow" in sys.modules:  # a program of somebody else
        yield
        return
    spared = [name for name in _SPARED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(spared))  # type: ignore[arg-type]  # refuses them
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        for name in spared:
            del sys.modules[name]
        if collects:
            gc.enable()
    gc.freeze()


def claim_process() -> None:
    """Tell that this process is about to compute.

    Raises
    ------
    RuntimeError
        It is a fork of one that has computed. TensorFlow's threads are not in it, and
        it would wait for them for ever.
    """
    if not _computes:
        _computes.append(os.getpid())
    if _computes[0] != os.getpid():
        raise RuntimeError(
            f"Process {os.getpid()} is a fork of {_computes[0]}, which has used "
            "TensorFlow, and lacks its threads: it would hang for ever. Start "
            'processes by "spawn" or "forkserver", as in '
            'multiprocessing.get_context("spawn").'
        )


def share_threads(processes: int) -> None:
    """Give each of several processes one thread, or a single one all cores.

    Of LAMMPS and of TensorFlow, before these are loaded; what the user has chosen
    stays.
    """
    count = "1" if processes > 1 else str(len(os.sched_getaffinity(0)))
    os.environ.setdefault("OMP_NUM_THREADS", count)
    os.environ.setdefault("DP_INTRA_OP_PARALLELISM_THREADS", count)
    os.environ.setdefault("DP_INTER_OP_PARALLELISM_THREADS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@contextlib.contextmanager
def held_back(*outputs: int) -> Iterator[None]:
    """Keep what libraries write to outputs (1, 2), and show it if the block fails."""
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        saved = {number: os.dup(number) for number in outputs}
        for number in outputs:
            os.dup2(kept.fileno(), number)
        try:
            yield
        except Exception:
            os.dup2(saved[2], 2)
            kept.seek(0)
            os.write(2, kept.read())
            raise
        finally:
            for number, copy in saved.items():
                os.dup2(copy, number)
                os.close(copy)
