# SPDX-License-Identifier: Apache-2.0
"""Which processes train together, and which of them this one is; no TensorFlow."""

from __future__ import annotations

import errno
import json
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from deepspin import env

# jobs of TF_CONFIG that train, in the order in which TensorFlow counts them
JOBS = ("chief", "worker")
EXAMPLE = (
    '{"cluster": {"worker": ["host1:12345", "host2:12345"]}, '
    '"task": {"type": "worker", "index": 0}}'
)
# without DEEPSPIN_PORT the tasks of a node take ports from here on, by the job's number
FIRST_PORT, JOBS_APART, TASKS_APART = 15000, 500, 32


@dataclass(frozen=True)
class Cluster:
    """Processes that train together.

    Parameters
    ----------
    addresses : tuple of str
        ``host:port`` of each; the first is the chief, which alone writes files.
    index : int
        Which of them this one is.
    source : str
        What told so.
    """

    addresses: tuple[str, ...]
    index: int
    source: str = field(compare=False)

    @property
    def config(self) -> str:
        """As TensorFlow reads it in ``TF_CONFIG``."""
        task = {"type": "worker", "index": self.index}
        return json.dumps(
            {"cluster": {"worker": list(self.addresses)}, "task": task}, sort_keys=True
        )

    def check(self) -> None:
        """Make sure that all hosts are known, and the port of this one is free.

        Raises
        ------
        ValueError
            A host is not known.
        OSError
            The port is taken, or is not one of this machine.
        """
        for address in self.addresses:
            host, _, port = address.rpartition(":")
            try:
                socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
            except OSError as error:
                raise ValueError(
                    f"{self.source}: the host of worker '{address}' is not known here "
                    f"({error.strerror}). Give a name that all workers know, or an "
                    "address."
                ) from error
        port = self.addresses[self.index].rpartition(":")[2]
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", int(port)))
                probe.listen()
            except OSError as error:
                used = error.errno == errno.EADDRINUSE
                why = "is in use" if used else f"cannot be taken: {error.strerror}"
                raise OSError(
                    f"{self.source}: port {port} of worker {self.index} "
                    f"('{self.addresses[self.index]}') {why}. Give each worker another "
                    "index, and a port that is free."
                ) from error


def find_cluster() -> Cluster | None:
    """What ``TF_CONFIG`` or SLURM tell of other workers; None if there are none.

    Raises
    ------
    ValueError
        It cannot be understood.
    """
    told = env.workers_told()
    if "TF_CONFIG" in told:
        return _of_tf_config(told["TF_CONFIG"])
    number = told.get("SLURM_STEP_NUM_TASKS", "1")
    return _of_slurm(told) if number != "1" else None


def _of_tf_config(text: str) -> Cluster | None:
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"TF_CONFIG is not JSON ({error}). Expected: {EXAMPLE}. Received: {text}"
        ) from error
    jobs = config.get("cluster", {}) if isinstance(config, dict) else None
    if not (isinstance(jobs, dict) and all(map(_is_addresses, jobs.values()))):
        raise ValueError(
            "TF_CONFIG must tell in `cluster` the workers' addresses, each HOST:PORT. "
            f"Expected: {EXAMPLE}. Received: {text}"
        )
    if not jobs:
        return None
    unknown = sorted(set(jobs) - set(JOBS))
    if unknown:
        raise ValueError(
            f"TF_CONFIG: {unknown} have nothing to do here: all train, as 'worker'. "
            f"Expected: {EXAMPLE}. Received: {text}"
        )
    addresses = [address for job in JOBS for address in jobs.get(job, [])]
    if len(set(addresses)) < len(addresses):
        raise ValueError(
            "TF_CONFIG has an address twice. Give each worker its own. Received: "
            f"{text}"
        )
    return _with_index(addresses, _place(config.get("task"), jobs, text), "TF_CONFIG")


def _is_addresses(value: Any) -> bool:
    """Whether it is a list of HOST:PORT."""
    return isinstance(value, list) and all(
        isinstance(a, str) and re.fullmatch(r"\S+:\d{1,5}", a) for a in value
    )


def _place(task: Any, jobs: Mapping[str, list], text: str) -> int:
    """Number of this process among all of `jobs`."""
    kind, index = ("worker", None)
    if isinstance(task, dict):
        kind, index = task.get("type", "worker"), task.get("index")
    own = jobs.get(kind, []) if isinstance(kind, str) else []
    if not (isinstance(index, int) and 0 <= index < len(own)):
        there = ", ".join(f"{job} 0 to {len(own) - 1}" for job, own in jobs.items())
        raise ValueError(
            f"TF_CONFIG must tell in `task` which worker this one is: {there}. "
            f"Expected: {EXAMPLE}. Received: {text}"
        )
    return index + (len(jobs.get("chief", [])) if kind == "worker" else 0)


def _with_index(addresses: list[str], index: int, source: str) -> Cluster | None:
    return Cluster(tuple(addresses), index, source) if len(addresses) > 1 else None


# --- SLURM ----------------------------------------------------------------------------


def _of_slurm(told: Mapping[str, str]) -> Cluster | None:
    """Tasks of a step of SLURM, which places them node by node."""
    try:
        hosts = list(_hosts(told["SLURM_STEP_NODELIST"]))
        tasks = list(_numbers(told["SLURM_STEP_TASKS_PER_NODE"]))
        rank, node = int(told["SLURM_PROCID"]), int(told["SLURM_NODEID"])
        first = _first_port(told)
    except (KeyError, ValueError) as error:
        raise ValueError(
            "SLURM tells of several tasks, but not where they are "
            f"({type(error).__name__}: {error}). Start them with srun, or write "
            f"TF_CONFIG for each: {EXAMPLE}"
        ) from error
    nodes = [n for n, number in enumerate(tasks) for _ in range(number)]
    if len(hosts) != len(tasks) or nodes[rank : rank + 1] != [node]:
        raise ValueError(
            f"SLURM's task {rank} is on node {node} of {hosts}, which have {tasks} "
            "tasks: they are not placed node by node. Start them with "
            "srun --distribution=block."
        )
    addresses = [
        f"{host}:{first + task}"
        for host, number in zip(hosts, tasks, strict=True)
        for task in range(number)
    ]
    return _with_index(addresses, rank, "SLURM")


def _first_port(told: Mapping[str, str]) -> int:
    """Port of the first task of each node: two jobs on one node take others."""
    if "DEEPSPIN_PORT" in told:
        return int(told["DEEPSPIN_PORT"])
    job = int(told.get("SLURM_JOB_ID", 0))
    return FIRST_PORT + job % JOBS_APART * TASKS_APART


def _hosts(text: str) -> Iterator[str]:
    """``n[1-2,07],m5`` as n1, n2, n07, m5."""
    for part in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text):
        prefix, _, ranges = part.partition("[")
        if not ranges:
            yield part
            continue
        numbers, _, suffix = ranges.partition("]")
        for span in numbers.split(","):
            begin, _, end = span.partition("-")
            for number in range(int(begin), int(end or begin) + 1):
                yield f"{prefix}{number:0{len(begin)}d}{suffix}"


def _numbers(text: str) -> Iterator[int]:
    """``3(x2),1`` as 3, 3, 1."""
    for part in text.split(","):
        number, _, times = part.partition("(x")
        yield from [int(number)] * int(times.rstrip(")") or 1)
