"""An address of its own for clients of etcd: it is the one they are told, and serves all that the other does."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from raftkv.core.config import Address
from raftkv.instruments.lab.namespaces import why_unavailable
from raftkv.instruments.local.nodes import Site, free_ports
from tests.integration.etcd_oracle import program
from tests.integration.processes import RealCluster
from tests.integration.test_etcdctl import Etcdctl

pytestmark = pytest.mark.integration


class TwoDoors(RealCluster):
    """Each node has such an address, in ``etcd``."""

    def __init__(self, home: Path, sections: str = "") -> None:
        super().__init__(home, sections=sections)
        self.etcd = dict(zip(self.nodes, free_ports(len(self.nodes)), strict=True))
        text = self.config.read_text()
        for node, port in self.etcd.items():
            text = text.replace(f'id = "{node}"\n', f'id = "{node}"\netcd = "127.0.0.1:{port}"\n')
        self.config.write_text(text)


@pytest.fixture(params=["", "[http]\nworkers = 0\n"], ids=["a front-end of its own", "one process"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TwoDoors]:
    with TwoDoors(tmp_path, request.param) as cluster:
        cluster.start()
        cluster.wait_ready()
        yield cluster


def test_both_addresses_serve_everything_and_clients_are_told_the_one_for_them(
    cluster: TwoDoors, tmp_path: Path
) -> None:
    sites = {
        node: Site(id=node, http=Address("127.0.0.1", port), peer=cluster.sites[node].peer)
        for node, port in cluster.etcd.items()
    }
    etcdctl = Etcdctl(sites, tmp_path)

    assert etcdctl("put", "a", "1") == "OK\n"
    assert cluster.get("n2", "a").content == b"1"
    assert requests.get(f"http://127.0.0.1:{cluster.etcd['n2']}/kv/a", timeout=10).content == b"1"
    told = {one["name"]: one["clientURLs"] for one in etcdctl.json("member", "list")["members"]}
    assert told == {node: [f"http://127.0.0.1:{port}"] for node, port in cluster.etcd.items()}
    assert etcdctl("endpoint", "health", "--cluster", at=("n1",)).count("is healthy") == 3


_TOOLS = ("ip", "unshare")
UP = """
ip link set lo up
"$0" -P -m raftkv up --etcd >said 2>&1 & up=$!
told() { "$1" --endpoints=127.0.0.1:2379,127.0.0.1:22379,127.0.0.1:32379 endpoint health >health 2>&1; }
tries=0
until told "$1"; do tries=$((tries + 1)); [ $tries -lt 150 ] || { cat said health; exit 1; }; sleep 0.2; done
"$1" put --endpoints=127.0.0.1:2379 a 1 && "$1" get --endpoints=127.0.0.1:32379 a
kill -TERM $up
wait $up
"""
"""What is typed where nobody else has these ports."""


@pytest.mark.skipif(why_unavailable(_TOOLS) is not None, reason=why_unavailable(_TOOLS) or "")
def test_a_cluster_to_try_serves_on_etcds_own_ports(tmp_path: Path) -> None:
    command = ["unshare", "--net", "sh", "-c", UP, sys.executable, program("etcdctl")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)

    assert done.stdout == "OK\na\n1\n", done.stderr
    told = "clients of etcd: --endpoints=127.0.0.1:2379,127.0.0.1:22379,127.0.0.1:32379"
    assert told in (tmp_path / "said").read_text().splitlines()


def test_a_taken_port_is_refused_in_one_line(tmp_path: Path) -> None:
    with TwoDoors(tmp_path) as cluster, socket.socket() as taken:
        taken.bind(("127.0.0.1", cluster.etcd["n1"]))
        taken.listen()
        status, said = cluster.run_to_the_end("n1")

    assert status == 2
    *_, last = said.splitlines()
    assert re.fullmatch(r"raftkv: n1: etcd: cannot listen on 127\.0\.0\.1:\d+: Address already in use", last)
