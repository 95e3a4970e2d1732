"""A replica whose state was changed, with all that vouches for it: it stops serving, says so, and is repaired."""

import subprocess
import sys

import pytest

from raftkv.formats import layout
from raftkv.instruments.local.nodes import wait_until
from raftkv.machine.rows import SummedRows
from raftkv.storage.state.tables import StateTables
from raftkv.storage.state.trust import close_cleanly, open_state
from tests.integration.processes import running

pytestmark = pytest.mark.integration


def change(home):
    """Another value under one key, rightly sealed and summed, as a node would have that computed otherwise."""
    (directory,) = (home / "state").iterdir()
    engine = open_state(directory, layout.TABLES)
    tables = StateTables(engine, layout.TABLES, directory)
    row, part = tables.find(layout.KEYS, b"k3")
    rows = SummedRows(tables)
    rows.put(layout.KEYS, b"k3", row[:-1] + b"!", replaced=part)
    rows.store_sum()
    tables.commit()
    close_cleanly(engine)


def repaired(cluster, *node):
    command = [sys.executable, "-P", "-m", "raftkv", "repair", *node, "--config", str(cluster.home / "cluster.toml")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_replica_that_differs_stops_serving_and_is_repaired(tmp_path):
    with running(tmp_path) as cluster:
        for number in range(10):
            assert cluster.put("n1", f"k{number}", b"value").status_code == 201
        cluster.stop("n3")
        change(cluster.home / "data" / "n3")
        cluster.start("n3")
        wait_until(lambda: cluster.put("n1", "another", b"v", timeout=5).status_code in (200, 201), "a write")
        wait_until(lambda: "this node stops serving" in cluster.log("n3"), "n3 to notice", 20)
        wait_until(lambda: cluster.ask("n3", "/livez") is not None, "n3 to listen", 20)

        for query in ("", "?consistency=local", "?consistency=lease"):
            assert cluster.get("n3", "k3", query).status_code == 503
            assert cluster.get("n1", "k3", query).content == b"value"
        assert b"differs from that of n1 and n2" in cluster.ask("n3", "/readyz")[1]
        assert b"raftkv_diverged 1.0" in cluster.ask("n3", "/metrics")[1]
        cluster.stop("n3")
        cluster.start("n3")
        wait_until(lambda: (cluster.ask("n3", "/readyz") or (0, b""))[1].find(b"differs") > 0, "n3 to remember", 20)
        refused = repaired(cluster, "n1")
        assert "nothing to repair" in refused.stdout + refused.stderr
        assert repaired(cluster).returncode == 2, "nobody is named"

        done = repaired(cluster, "n3")
        assert (done.returncode, done.stdout) == (0, "n3: fetches its data anew from n1, n2\n")
        cluster.wait_ready()
        wait_until(lambda: cluster.get("n3", "k3", "?consistency=local").content == b"value", "the right value", 20)
        assert all(process.poll() is None for process in cluster.processes.values())
