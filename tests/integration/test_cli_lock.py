"""A command under ``raftkv lock`` ends before another can hold the lock, also when the cluster loses its majority."""

import subprocess
import time

import pytest

from raftkv.process.command import module, python
from tests.integration.processes import running

pytestmark = pytest.mark.integration

STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(sys.argv[1], "w") as said:
    while True:
        said.write(f"{os.environ['RAFTKV_LOCK_TOKEN']} {time.monotonic()}\\n")
        said.flush()
        time.sleep(0.01)
"""
"""Says all the time that it holds the lock, and does not listen."""


def until(condition, limit_s=60.0):
    end_s = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < end_s, "it did not come to pass"
        time.sleep(0.05)
    return found


def moments(path):
    """The tokens and the moments that a command told."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [(int(token), float(moment)) for token, moment in map(str.split, lines)]


def locked(cluster, path, *options):
    servers = ",".join(cluster.url(node, "") for node in cluster.nodes)
    command = module("raftkv", "lock", "job", "--server", servers, "--ttl", "4", *options, "--")
    return subprocess.Popen([*command, *python("-c", STUBBORN, str(path))], stderr=subprocess.PIPE)


def test_a_command_ends_before_its_lock_can_be_anothers(tmp_path):
    with running(tmp_path) as cluster:
        first = locked(cluster, tmp_path / "first")
        until(lambda: moments(tmp_path / "first"))
        lost = cluster.nodes[:2]
        for node in lost:
            cluster.kill(node)

        _, told = first.communicate(timeout=60)
        assert first.returncode == 4
        assert b"job could not be kept, and " in told
        for node in lost:
            cluster.start(node)
        cluster.wait_ready(*lost)
        second = locked(cluster, tmp_path / "second")
        until(lambda: moments(tmp_path / "second"))
        second.kill()  # its guard ends the command
        second.communicate(timeout=60)

    one, other = moments(tmp_path / "first"), moments(tmp_path / "second")
    assert one[-1][1] < other[0][1]
    assert one[0][0] < other[0][0]


def test_a_command_that_runs_to_its_end_lets_the_next_one_begin(tmp_path):
    with running(tmp_path) as cluster:
        servers = ",".join(cluster.url(node, "") for node in cluster.nodes)
        done = [
            subprocess.run(
                module("raftkv", "lock", "job", "--server", servers, "sh", "-c", "echo $RAFTKV_LOCK_TOKEN; exit 7"),
                capture_output=True,
                check=False,
            )
            for _ in range(2)
        ]

    assert [one.returncode for one in done] == [7, 7]
    assert int(done[0].stdout) < int(done[1].stdout)
