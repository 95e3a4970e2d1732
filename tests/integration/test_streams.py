"""What becomes of standard output and standard error is nobody's trouble: nodes, ``up`` and ``proxy`` go on serving."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from raftkv.instruments.local.nodes import loopback_sites, wait_until
from raftkv.instruments.local.processes import descendants
from raftkv.process.command import module
from tests.integration.processes import RealCluster

pytestmark = pytest.mark.integration

MODES = pytest.mark.parametrize("mode", ["raft", "quorum"])
CONSOLE_SCRIPT = Path(sys.executable).with_name("raftkv")
PIPE_BYTES = 4096


def fill(descriptor):
    """Leave no room in the pipe."""
    os.set_blocking(descriptor, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(descriptor, b"x")
    os.set_blocking(descriptor, True)


class Log:
    """A named pipe in place of a node's log, with this test as its only reader."""

    def __init__(self, cluster, node, *, full=False):
        path = cluster.home / f"{node}.log"
        os.mkfifo(path)
        self.reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(self.reading, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        # Held open, so that a restarted node finds the pipe as the last one left it.
        self.writing = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        if full:
            fill(self.writing)

    def read(self):
        """Everything that waits in the pipe."""
        found = b""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self.reading, 1 << 16):
                found += chunk
        return found

    def close(self):
        """The reader goes away."""
        os.close(self.reading)
        os.close(self.writing)
        self.reading = os.open(os.devnull, os.O_RDONLY)
        self.writing = os.open(os.devnull, os.O_RDONLY)


def dropped(cluster, node):
    """What ``/metrics`` counts, by process."""
    lines = cluster.request("GET", node, "/metrics").text.splitlines()
    found = [line for line in lines if line.startswith("raftkv_log_lines_dropped_total{")]
    return {line.split('"')[1]: float(line.split()[-1]) for line in found}


def children(pid):
    """The processes that ``pid`` has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def stir(cluster):
    """Make every node say something, and hold the cluster to serving: one is killed and restarted, all hear SIGHUP."""
    victim = cluster.leader_now() or "n1"
    others = [node for node in cluster.nodes if node != victim]
    cluster.kill(victim)
    wait_until(lambda: all(cluster.put(node, "k", "v").ok for node in others), "writes without one node")
    cluster.start(victim)
    cluster.wait_ready()
    for process in cluster.processes.values():
        process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert cluster.ended() == {}
    for node in cluster.nodes:
        assert cluster.put(node, f"at-{node}", node).ok
    assert {node: cluster.get(node, f"at-{node}").text for node in cluster.nodes} == {
        node: node for node in cluster.nodes
    }


@MODES
def test_readers_of_the_log_that_go_away_end_no_node(tmp_path, mode):
    with RealCluster(tmp_path, mode=mode) as cluster:
        logs = {node: Log(cluster, node) for node in cluster.nodes}
        cluster.start()
        cluster.wait_ready()
        assert all(b"listening" in log.read() for log in logs.values())
        assert dropped(cluster, "n1") == {"frontend": 0, "replica": 0}
        for log in logs.values():
            log.close()
        for node in cluster.nodes:  # a restarted node finds a log again
            (tmp_path / f"{node}.log").unlink()

        stir(cluster)

        assert any(dropped(cluster, node)["replica"] > 0 for node in cluster.nodes)
        assert all(cluster.stop(node) == 0 for node in cluster.nodes)


@MODES
def test_a_log_that_nobody_reads_holds_no_node_up(tmp_path, mode):
    with RealCluster(tmp_path, mode=mode) as cluster:
        logs = {node: Log(cluster, node, full=True) for node in cluster.nodes}
        cluster.start()
        cluster.wait_ready()

        stir(cluster)

        # Whoever reads at last finds all that was said, in order.
        heard = ""

        def all_heard():
            nonlocal heard
            heard += logs["n2"].read().decode()
            return "event=listening" in heard

        wait_until(all_heard, "the lines of n2")
        assert all(cluster.stop(node) == 0 for node in cluster.nodes)


@MODES
def test_a_full_log_disk_ends_no_node(tmp_path, mode):
    with RealCluster(tmp_path, mode=mode) as cluster:
        for node in cluster.nodes:
            (tmp_path / f"{node}.log").symlink_to("/dev/full")
        cluster.start()
        cluster.wait_ready()

        stir(cluster)

        assert all(dropped(cluster, node)["replica"] > 0 for node in cluster.nodes)
        assert all(cluster.stop(node) == 0 for node in cluster.nodes)


def test_a_front_end_that_loses_a_worker_has_another_though_nobody_reads_what_it_says_of_it(tmp_path):
    with RealCluster(tmp_path, size=1) as cluster:
        log = Log(cluster, "n1", full=True)
        cluster.start()
        cluster.wait_ready()
        node = cluster.processes["n1"].pid
        (arbiter,) = children(node)
        (worker,) = children(arbiter)
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: set(children(arbiter)) - {worker}, "another worker")
        cluster.wait_ready()
        assert cluster.put("n1", "k", "v").status_code == 201

        wait_until(lambda: b"SIGKILL" in log.read(), "gunicorn to say so, once it is read")
        assert cluster.stop("n1") == 0


def test_a_node_that_cannot_start_says_so_by_its_exit_status_even_to_a_full_disk(tmp_path):
    with RealCluster(tmp_path, size=1) as cluster, Path("/dev/full").open("wb") as full:
        cluster.start()
        cluster.wait_ready()
        second = subprocess.run(cluster.command("n1"), stdout=full, stderr=full, timeout=30, check=False)

        assert second.returncode == 2


@MODES
def test_closed_standard_descriptors_are_nobodys_trouble(tmp_path, mode):
    with RealCluster(tmp_path, size=1, mode=mode, sections="[quorum]\nn = 1\nr = 1\nw = 1\n") as cluster:
        command = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *cluster.command("n1")]
        cluster.processes["n1"] = subprocess.Popen(command)
        cluster.wait_ready()
        assert cluster.put("n1", "k", "v").status_code == 201
        pid = cluster.processes["n1"].pid
        opened = {
            str(Path(f"/proc/{each}/fd/{number}").readlink()) for each in descendants(pid) for number in (0, 1, 2)
        }

        assert opened == {os.devnull}
        assert cluster.stop("n1") == 0


def up_config(tmp_path, mode="raft"):
    nodes = "".join(f'[[node]]\nid = "{s.id}"\nhttp = "{s.http}"\npeer = "{s.peer}"\n' for s in loopback_sites(3))
    path = tmp_path / "c.toml"
    path.write_text(f'[cluster]\nmode = "{mode}"\ndata_dir = "data"\n{nodes}')
    return path, [line.split('"')[1] for line in nodes.splitlines() if line.startswith("http")]


def is_ready(address):
    try:
        return requests.get(f"http://{address}/readyz", timeout=2).ok
    except requests.RequestException:
        return False


@MODES
@pytest.mark.parametrize("output", ["full disk", "reader gone", "unread"])
def test_up_goes_on_and_ends_with_a_true_status_whatever_becomes_of_its_output(tmp_path, mode, output):
    config, addresses = up_config(tmp_path, mode)
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    if output == "unread":
        fill(writing)
    if output == "full disk":
        os.close(writing)
        writing = os.open("/dev/full", os.O_WRONLY)
    process = subprocess.Popen(module("raftkv", "up", str(config)), stdout=writing, stderr=writing)
    os.close(writing)
    try:
        if output == "reader gone":
            assert os.read(reading, 1)
            os.close(reading)
        wait_until(lambda: all(map(is_ready, addresses)), "the cluster to be ready")
        nodes = children(process.pid)
        for node in nodes[:2]:
            os.kill(node, signal.SIGHUP)  # they say something
        time.sleep(0.5)
        os.kill(nodes[0], signal.SIGKILL)
        wait_until(lambda: requests.put(f"http://{addresses[1]}/kv/k", data=b"v", timeout=10).ok, "a write")
        assert process.poll() is None
    finally:
        process.terminate()
        assert process.wait(30) == 0
        if output != "reader gone":
            os.close(reading)


def test_a_proxy_whose_first_line_nobody_takes_serves(tmp_path):
    with RealCluster(tmp_path, size=1) as cluster, Path("/dev/full").open("wb") as full:
        cluster.start()
        cluster.wait_ready()
        (site,) = loopback_sites(1)
        command = module("raftkv", "proxy", str(cluster.config), "--listen", str(site.http))
        process = subprocess.Popen(command, stdout=full, stderr=full)
        try:
            wait_until(lambda: is_ready(site.http), "the proxy to be ready")
            assert requests.put(f"http://{site.http}/kv/k", data=b"v", timeout=10).status_code == 201
        finally:
            process.terminate()
            assert process.wait(20) == 0


@MODES
def test_a_cluster_starts_in_a_locale_without_umlauts_from_files_full_of_them(tmp_path, mode):
    folder = tmp_path / "B\u00fccher"
    folder.mkdir()
    config, addresses = up_config(folder, mode)
    text = config.read_text().replace(
        'data_dir = "data"', 'name = "\u00e4\u00f6\u00fc"\ndata_dir = "d\u00e4ten"  # \u20ac'
    )
    config.write_bytes(b"\xef\xbb\xbf" + text.encode())  # with the byte order mark of some editors
    environment = os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([CONSOLE_SCRIPT, "up", config], stdout=log, stderr=log, env=environment)
    try:
        wait_until(lambda: all(map(is_ready, addresses)), "the cluster to be ready")
        done = subprocess.run([CONSOLE_SCRIPT, "--config", config, "status"], env=environment, check=False)
    finally:
        process.terminate()
        assert process.wait(30) == 0
    assert done.returncode == 0
    assert (folder / "d\u00e4ten" / "n1").is_dir()
    assert "Error" not in (tmp_path / "log").read_text()


MODULES = (
    "flask",
    "random",
    "queue",
    "logging",
    "gunicorn",
    "click",
    "msgspec",
    "structlog",
    "json",
    "socket",
    "usercustomize",
)


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """A current directory full of files that leave a mark when they are executed."""
    folder = tmp_path / "hostile"
    (folder / "raftkv").mkdir(parents=True)
    mark = f"open({str(tmp_path / 'executed')!r}, 'a').write(__name__ + '\\n')\n"
    for name in MODULES:
        (folder / f"{name}.py").write_text(mark)
    for name in ("__init__", "__main__", "node"):
        (folder / "raftkv" / f"{name}.py").write_text(mark)
    monkeypatch.chdir(folder)
    yield folder
    assert not (tmp_path / "executed").exists(), (tmp_path / "executed").read_text()


@MODES
def test_nothing_of_the_current_directory_is_executed_by_a_cluster(tmp_path, hostile, mode):
    config, addresses = up_config(tmp_path, mode)
    config.write_text(config.read_text() + "[raft]\nsnapshot_entries = 10\ntrailing_entries = 0\n")
    process = subprocess.Popen([CONSOLE_SCRIPT, "up", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (site,) = loopback_sites(1)
    proxy = None
    try:
        wait_until(lambda: all(map(is_ready, addresses)), "the cluster to be ready")
        for number in range(30):  # enough for a snapshot, which a process of its own writes
            assert requests.put(f"http://{addresses[0]}/kv/k{number}", data=b"v", timeout=10).ok
        if mode == "raft":
            wait_until(lambda: list(tmp_path.glob("data/n1/snapshots/*")), "a snapshot")
        command = [CONSOLE_SCRIPT, "proxy", config, "--listen", str(site.http)]
        proxy = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: is_ready(site.http), "the proxy to be ready")
        for command in (["get", "k1"], ["status"], ["bench", "--seconds=1", "--warm-up=0"]):
            done = subprocess.run([CONSOLE_SCRIPT, "--config", config, *command], capture_output=True, check=False)
            assert done.returncode == 0, done.stderr
    finally:
        for each in (proxy, process):
            if each is not None:
                each.terminate()
                assert each.wait(30) == 0


def test_nothing_of_the_current_directory_is_executed_by_the_laboratory(tmp_path, hostile):
    command = [CONSOLE_SCRIPT, "lab", "run", "staleness", "--duration", "1", "--out", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)

    assert done.returncode in (0, 1), done.stderr
    assert (tmp_path / "out").is_dir()


def test_a_module_that_is_started_from_a_directory_of_ones_own_runs_none_of_its_files(hostile):
    """``python -m`` itself looks for ``raftkv`` there first; once ours has been found, nothing else is."""
    (hostile / "raftkv").rename(hostile / "other")
    for name in ("json", "socket", "usercustomize"):
        (hostile / f"{name}.py").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "raftkv", "node", "x.toml", "--id=n1"], capture_output=True, check=False
    )

    assert done.returncode == 2
