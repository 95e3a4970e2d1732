"""``raftkv watch`` over a real cluster: no revision is missed or repeated while the nodes that it asks are killed."""

import subprocess
import time

import msgspec
import pytest

from raftkv import Client
from raftkv.process.command import module
from tests.integration.processes import running

pytestmark = pytest.mark.integration

ROUND = 20


def told(path):
    """The revisions whose lines are whole."""
    return [msgspec.json.decode(line)["revision"] for line in path.read_bytes().split(b"\n")[:-1]]


def test_a_watch_misses_and_repeats_nothing_while_the_nodes_that_it_asks_are_killed(tmp_path):
    seen = tmp_path / "seen"
    with running(tmp_path) as cluster:
        servers = [cluster.url(node, "") for node in cluster.nodes]
        command = module("raftkv", "watch", "p/", "--json", "--server", ",".join(servers))
        with Client(servers[::-1], timeout_s=30.0) as store, seen.open("wb") as lines:
            expected = [store.set("p/begin", "0")]
            process = subprocess.Popen([*command, "--from", str(expected[0])], stdout=lines)
            for victim in cluster.nodes[:2]:
                expected += [store.set("p/k", str(number)) for number in range(ROUND)]
                store.set("other", "is not watched")
                cluster.kill(victim)
                expected += [store.set("p/k", str(number)) for number in range(ROUND)]
                cluster.start(victim)
                cluster.wait_ready(victim)
            end_s = time.monotonic() + 60
            while told(seen)[-1:] != expected[-1:]:
                assert time.monotonic() < end_s, "it did not come to pass"
                time.sleep(0.05)
            process.terminate()
            process.wait(timeout=60)
            oldest = store.compact(expected[-1])
            late = subprocess.run([*command, "--from", "1"], capture_output=True, check=False)

    assert told(seen) == expected
    assert (late.returncode, late.stdout) == (1, b"")
    assert late.stderr == f"raftkv: the oldest revision that can be read is {oldest}\n".encode()
