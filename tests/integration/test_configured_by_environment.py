"""Nodes that are told everything by their environment, as containers are: replica, front-end and workers."""

import os
import subprocess

import pytest
import requests

from raftkv.core.environment import NODES
from raftkv.instruments.local.nodes import loopback_sites, wait_until
from raftkv.instruments.local.processes import descendants
from raftkv.process.command import module

pytestmark = pytest.mark.integration


def test_variables_reach_every_process_of_a_node_and_no_file_is_needed(tmp_path):
    sites = loopback_sites(1)
    (site,) = sites
    http = f"http://{site.http}"
    told = {
        NODES: f'[{{id = "n1", http = "{site.http}", peer = "{site.peer}"}}]',
        "RAFTKV_ID": "n1",
        "RAFTKV_CLUSTER__DATA_DIR": str(tmp_path / "data"),
        "RAFTKV_HTTP__MAX_VALUE_BYTES": "10",
        "RAFTKV_HTTP__WORKERS": "2",
    }
    with (tmp_path / "log").open("wb") as log:
        node = subprocess.Popen(module("raftkv", "node"), env=os.environ | told, cwd=tmp_path, stderr=log)
    try:
        wait_until(lambda: _is_ready(http), "the node to be ready")

        assert requests.put(f"{http}/kv/k", data=b"ten bytes.", timeout=10).status_code == 201
        assert requests.put(f"{http}/kv/k", data=b"eleven of it", timeout=10).status_code == 413
        assert (tmp_path / "data" / "n1" / "log").is_dir()
        assert len(descendants(node.pid)) == 1 + 1 + 2  # the replica, the front-end's arbiter, the workers
    finally:
        node.terminate()
        assert node.wait(30) == 0


def _is_ready(http):
    try:
        return requests.get(f"{http}/readyz", timeout=2).status_code == 200
    except requests.ConnectionError:
        return False
