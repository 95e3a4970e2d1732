"""One address for a whole cluster, in both modes: the walk-through of the first reference system as it is typed."""

import contextlib
import os
import signal
import subprocess

import pytest
import requests

from raftkv.instruments.local.nodes import free_ports, wait_until
from raftkv.process.command import module
from tests.integration.processes import running

pytestmark = pytest.mark.integration
RAFTKV = module("raftkv")


def typed(*arguments):
    done = subprocess.run([*RAFTKV, *arguments], capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout


@contextlib.contextmanager
def proxy_for(cluster, **environment):
    """A proxy that is told of one node only, in that ``environment``; ends with SIGTERM and leaves nothing behind."""
    address = f"127.0.0.1:{free_ports(1)[0]}"
    command = [*RAFTKV, "--server", cluster.url("n1", ""), "proxy", "--listen", address]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True, env={**os.environ, **environment}
    )
    try:
        url = f"http://{address}"
        assert process.stdout.readline().startswith(f"listening on {url} for ")
        wait_until(lambda: requests.get(f"{url}/livez", timeout=10).ok or None, "the proxy")
        yield url
        process.terminate()
        assert process.wait(15) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("mode", ["raft", "quorum"])
def test_the_first_reference_system_works_as_typed_also_when_a_node_is_killed(tmp_path, mode):
    with running(tmp_path, mode=mode) as cluster, proxy_for(cluster) as url:
        assert typed("--server", url, "set", "mykey", "myvalue") == (0, "OK\n")
        assert typed("--server", url, "get", "mykey") == (0, "myvalue\n")
        assert requests.post(f"{url}/set", json={"key": "k", "value": "v"}, timeout=10).status_code == 201
        assert requests.get(f"{url}/get?key=k", timeout=10).json()["value"] == "v"
        assert requests.delete(f"{url}/delete?key=k", timeout=10).status_code == 200
        assert requests.get(f"{url}/get?key=k", timeout=10).status_code == 404
        peers = requests.get(f"{url}/status", timeout=10).json()["peers"]
        assert [peer["id"] for peer in peers] == ["n1", "n2", "n3"]

        cluster.kill("n1")

        for _ in range(3):
            assert typed("--server", url, "get", "mykey") == (0, "myvalue\n")
        assert typed("--server", url, "set", "another", "value") == (0, "OK\n")


def test_a_write_that_nobody_can_take_is_told_as_not_applied(tmp_path):
    with running(tmp_path) as cluster, proxy_for(cluster) as url:
        cluster.kill(*cluster.nodes)

        answer = requests.put(f"{url}/kv/k", data=b"v", timeout=10)

        assert answer.status_code == 503
        assert answer.json()["applied"] == "no"
        assert typed("--server", url, "--timeout", "1", "set", "k", "v")[0] == 3
