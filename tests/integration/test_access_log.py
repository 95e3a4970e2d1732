"""What real nodes say: how they start, and a line for each request where that is wanted; nothing of keys or proofs."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest
import requests

from raftkv import __version__
from raftkv.instruments.local.nodes import wait_until
from tests.integration.processes import RealCluster, running, workers

pytestmark = pytest.mark.integration

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACED = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
LOG = '[log]\nformat = "json"\naccess = true\n'


def lines(cluster: RealCluster, node: str = "n1") -> list[dict[str, Any]]:
    """All that the node has said so far, every line of which is to be an object."""
    whole = (cluster.home / f"{node}.log").read_bytes().rpartition(b"\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


def told(cluster: RealCluster, **wanted: Any) -> list[dict[str, Any]]:
    return [line for line in lines(cluster) if wanted.items() <= line.items()]


def test_a_node_says_what_it_is_before_it_is_ready_and_every_line_has_one_shape(tmp_path) -> None:
    with running(tmp_path, 1, LOG) as cluster:
        pid = cluster.processes["n1"].pid
        first, *_ = lines(cluster)
        os.kill(workers(cluster, "n1")[0], signal.SIGKILL)
        wait_until(lambda: told(cluster, logger="gunicorn.error", process="frontend"), "a word of the lost worker")
        every = lines(cluster)

    assert (first["event"], first["version"], first["pid"], first["mode"]) == ("starting", __version__, pid, "raft")
    assert first["data"] == str(tmp_path / "data" / "n1")
    assert first["http"] == f"127.0.0.1:{cluster.http['n1']}"
    assert first["peer"] == f"127.0.0.1:{cluster.peer['n1']}"
    assert {"timestamp", "level", "node", "process", "event"} <= set.intersection(*(set(line) for line in every))
    assert {line["node"] for line in every} == {"n1"}


def test_a_request_has_a_line_that_says_by_which_route_and_not_which_key(tmp_path) -> None:
    with running(tmp_path, 1, LOG) as cluster:
        put = cluster.put("n1", "my-secret-key", b"my-secret-value", headers=TRACED)
        assert put.status_code == 201
        # A body that is too large is refused before it has come whole.
        assert cluster.put("n1", "k", b"x" * (2 << 20)).status_code == 413
        assert (
            requests.request("BREW", cluster.url("n1", "/kv/my-secret-key?a=my-secret"), timeout=5).status_code == 405
        )
        wait_until(lambda: told(cluster, method="(other)") and told(cluster, status=413), "the last lines")
        (line,) = told(cluster, event="request", trace=TRACE)
        (refused,) = told(cluster, event="request", status=413)
        (other,) = told(cluster, method="(other)")
        text = (cluster.home / "n1.log").read_text()

    assert (line["method"], line["route"], line["status"], line["client"]) == ("PUT", "/kv/{key}", 201, "127.0.0.1")
    assert (line["taken_bytes"], line["sent_bytes"]) == (len("my-secret-value"), len(put.content))
    assert line["ms"] > 0
    assert (refused["client"], refused["route"]) == ("127.0.0.1", "/kv/{key}")
    assert (other["route"], other["status"]) == ("(none)", 405)
    assert "my-secret" not in text
    assert put.request.headers["Authorization"].split()[-1] not in text


def test_without_being_asked_a_node_says_nothing_of_requests(tmp_path) -> None:
    with running(tmp_path, 1, '[log]\nlevel = "warning"\n') as cluster:
        assert cluster.put("n1", "k").ok

        assert (cluster.home / "n1.log").read_text() == ""
