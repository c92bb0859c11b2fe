# SPDX-License-Identifier: Apache-2.0
"""What the environment tells of other workers."""

from __future__ import annotations

import json
import socket

import pytest

from deepspin.training.cluster import find_cluster

pytestmark = pytest.mark.any_version


@pytest.fixture
def told(monkeypatch):
    """Set variables, with none of the surroundings: ``told(TF_CONFIG=...)``."""
    environment = {}
    monkeypatch.setattr("os.environ", environment)

    def tell(**variables):
        environment.clear()
        environment.update({k: str(v) for k, v in variables.items()})
        return find_cluster()

    return tell


def config(cluster, **task):
    return json.dumps({"cluster": cluster, "task": task})


@pytest.mark.parametrize(
    "text", ["", "{}", config({}), config({"worker": ["a:1"]}, type="worker", index=0)]
)
def test_alone(told, text):
    assert told(TF_CONFIG=text) is None


def test_tf_config(told):
    found = told(TF_CONFIG=config({"worker": ["a:1", "b:2"]}, type="worker", index=1))
    assert (found.addresses, found.index) == (("a:1", "b:2"), 1)
    assert told(TF_CONFIG=found.config) == found


@pytest.mark.parametrize(
    ("kind", "index", "number"), [("chief", 0, 0), ("worker", 1, 2)]
)
def test_chief_comes_first(told, kind, index, number):
    jobs = {"worker": ["b:2", "c:3"], "chief": ["a:1"]}
    found = told(TF_CONFIG=config(jobs, type=kind, index=index))
    assert (found.addresses, found.index) == (("a:1", "b:2", "c:3"), number)


def slurm(nodes, tasks, rank, node, **more):
    return {
        "SLURM_STEP_NUM_TASKS": 4,
        "SLURM_STEP_NODELIST": nodes,
        "SLURM_STEP_TASKS_PER_NODE": tasks,
        "SLURM_PROCID": rank,
        "SLURM_NODEID": node,
        **more,
    }


@pytest.mark.parametrize(
    ("nodes", "tasks", "rank", "node", "addresses"),
    [
        ("n[9-10]", "2(x2)", 2, 1, ["n9:7", "n9:8", "n10:7", "n10:8"]),
        ("a,b-x", "1,3", 1, 1, ["a:7", "b-x:7", "b-x:8", "b-x:9"]),
        (
            "r[01,03-04]-ib,m5",
            "1(x4)",
            3,
            3,
            ["r01-ib:7", "r03-ib:7", "r04-ib:7", "m5:7"],
        ),
        ("localhost", "4", 0, 0, [f"localhost:{port}" for port in (7, 8, 9, 10)]),
    ],
)
def test_slurm(told, nodes, tasks, rank, node, addresses):
    found = told(**slurm(nodes, tasks, rank, node, DEEPSPIN_PORT=7))
    assert (list(found.addresses), found.index) == (addresses, rank)


def test_jobs_on_a_node_take_other_ports(told):
    ports = set()
    for job in (100, 101):
        found = told(**slurm("n1", "4", 0, 0, SLURM_JOB_ID=job))
        ports |= set(found.addresses)
    assert len(ports) == 8


def test_slurm_alone(told):
    assert told(SLURM_STEP_NUM_TASKS=1, SLURM_PROCID=0) is None
    assert told(SLURM_NTASKS=4, SLURM_JOB_ID=1) is None  # a batch script


def test_tf_config_comes_before_slurm(told):
    text = config({"worker": ["a:1", "b:2"]}, type="worker", index=1)
    assert told(TF_CONFIG=text, **slurm("n1", "4", 0, 0)).source == "TF_CONFIG"


def test_free_port_is_accepted(told):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    addresses = [f"127.0.0.1:{port}", "127.0.0.1:1"]
    told(TF_CONFIG=config({"worker": addresses}, type="worker", index=0)).check()
