"""What processes import before they answer: a node that starts serves nobody, so what it never needs is not loaded."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from raftkv.instruments.local.nodes import wait_until
from tests.integration.processes import RealCluster
from tests.unit.front_end import FrontEnd

pytestmark = pytest.mark.integration

OF_FLASK = {"flask", "werkzeug", "jinja2", "prometheus_client", "raftkv.http.app"}
OF_THE_REPLICA = {"pysyncobj", "rocksdict", "raftkv.raft", "raftkv.quorum", "raftkv.peers", "raftkv.node"}
OF_THE_FRONT_END = OF_FLASK | {"gunicorn", "raftkv.http", "argon2"}
OF_THE_OTHER_MODE = {"raft": {"raftkv.quorum", "rocksdict"}, "quorum": {"raftkv.raft", "pysyncobj"}}
OF_NO_NODE = {"rich.console", "pygments", "requests", "boto3", "jsonschema", "hdrh", "opentelemetry"}


def loaded(said: str) -> set[str]:
    """What a process has imported, by what ``-X importtime`` let it say."""
    return set(re.findall(r"^import time: +\d+ \| +\d+ \| +([\w.]+)$", said, re.MULTILINE))


@pytest.mark.parametrize("mode", ["raft", "quorum"])
def test_a_replica_loads_nothing_of_its_front_end_nor_of_what_is_rarely_wanted(tmp_path: Path, mode: str) -> None:
    with RealCluster(tmp_path, mode=mode) as cluster:
        python, *arguments = cluster.command("n1")
        with (tmp_path / "imports").open("w+") as said:
            node = subprocess.Popen([python, "-X", "importtime", *arguments], stderr=said)
            try:
                wait_until(lambda: cluster.ask("n1", "/livez"), "the node to answer")
            finally:
                node.terminate()
                assert node.wait(30) == 0
            found = loaded(Path(said.name).read_text())

    assert {"raftkv.node", f"raftkv.{mode}.replica"} <= found
    assert found & (OF_NO_NODE | OF_THE_FRONT_END | OF_THE_OTHER_MODE[mode] | {"raftkv.backup"}) == set()


def test_a_worker_answers_hot_routes_before_it_has_flask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    front_end = FrontEnd(tmp_path)
    try:
        front_end.wait_until_ready()
        asked = [("PUT", "/kv/k"), ("GET", "/kv/k"), ("GET", "/livez"), ("GET", "/status"), ("GET", "/cluster/members")]
        assert all(
            front_end.ask(method, target, b"v" if method == "PUT" else None)[0] < 300 for method, target in asked
        )
        at_first = loaded(front_end.said())

        assert front_end.ask("GET", "/metrics")[0] == 200
        in_the_end = loaded(front_end.said())
    finally:
        front_end.stop()
    assert {"raftkv.http.door.general", "gunicorn.arbiter"} <= at_first
    assert at_first & (OF_NO_NODE | OF_FLASK | OF_THE_REPLICA | {"click", "raftkv.client"}) == set()
    assert in_the_end >= OF_FLASK


@pytest.mark.parametrize(
    ("arguments", "status", "more"),
    [(["--version"], 0, {"raftkv.client", "asyncio"}), (["--server", "http://127.0.0.1:1", "get", "k"], 3, set())],
)
def test_a_command_loads_nothing_of_a_server(arguments: list[str], status: int, more: set[str]) -> None:
    command = [sys.executable, "-P", "-X", "importtime", "-c", "from raftkv.__main__ import main; main()", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)

    assert done.returncode == status, done.stderr
    found = loaded(done.stderr)
    assert "raftkv.cli.main" in found
    assert found & (OF_NO_NODE | OF_THE_REPLICA | OF_THE_FRONT_END | {"structlog", "uvloop", "lmdb"} | more) == set()
