"""kill -9 and full disks, real ones, in the middle of backups and restores: one line, and nothing that is half done."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from raftkv.client import Client
from raftkv.core.errors import StartupError
from raftkv.instruments.local.cluster import LocalCluster
from raftkv.instruments.local.nodes import loopback_sites, wait_until
from raftkv.process.command import module
from raftkv.storage.backups.reading import verify
from tests.integration.processes import RealCluster, running

pytestmark = pytest.mark.integration

VALUES = {f"k{number}": os.urandom(900_000) for number in range(30)}
ON_SMALL_DISK = 'mount -t tmpfs -o size="$1" none "$2" && shift 2 && exec "$@"'
COMMAND_S = 120


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with running(tmp_path_factory.mktemp("cluster"), 1) as cluster:
        with Client([f"http://127.0.0.1:{cluster.http['n1']}"], timeout_s=30) as client:
            for key, value in VALUES.items():
                client.set(key, value)
        yield cluster


@pytest.fixture(scope="module")
def file(cluster, tmp_path_factory):
    """A backup of it."""
    path = tmp_path_factory.mktemp("file") / "backup"
    done = subprocess.run(backup(cluster, path), capture_output=True, text=True, timeout=COMMAND_S, check=False)
    assert done.returncode == 0, done.stderr
    return path


def backup(cluster: RealCluster, target: Path) -> list[str]:
    return module("raftkv", "backup", str(target), "--config", str(cluster.config))


def small_disk(size: str, mount: Path) -> list[str]:
    """What runs a command that has a full disk at ``mount`` soon, and all to itself."""
    mount.mkdir()
    under = ["unshare", "--mount", "sh", "-c", ON_SMALL_DISK, "-", size, str(mount)]
    tried = subprocess.run([*under, "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"no small disk can be mounted here: {tried.stderr.decode().strip()}")
    return under


def killed_once(command: list[str], is_time: Callable[[], bool]) -> bool:
    """Kill it as soon as it is time; was it still at work?"""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until_s = time.monotonic() + COMMAND_S
    while process.poll() is None and not is_time() and time.monotonic() < until_s:
        time.sleep(0.001)
    process.kill()
    return process.wait() == -9


def sizes(directory: Path, pattern: str) -> int:
    """How much there is in files that match."""
    total = 0
    for path in directory.glob(pattern):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def test_a_backup_that_is_killed_leaves_what_was_there_and_no_other_that_looks_whole(cluster, file, tmp_path):
    target, middles = tmp_path / "monday", 0
    target.write_bytes(file.read_bytes())
    before = verify(target)
    whole_bytes = target.stat().st_size
    for part in (0.02, 0.3, 0.6, 0.9):
        if not killed_once(
            backup(cluster, target), lambda part=part: sizes(tmp_path, ".*/draft") >= part * whole_bytes
        ):
            before = verify(target)
            continue
        assert verify(target) == before
        for draft in tmp_path.glob(".*/draft"):
            if draft.stat().st_size < whole_bytes:
                middles += 1
                with pytest.raises(StartupError):
                    verify(draft)
    assert middles, "none was killed in the middle"

    done = subprocess.run(backup(cluster, target), capture_output=True, text=True, timeout=COMMAND_S, check=False)
    assert done.returncode == 0, done.stderr
    assert verify(target).made_ms > before.made_ms
    assert [path.name for path in tmp_path.iterdir()] == ["monday"], "what was left over is removed by the next"


def test_a_restore_that_is_killed_is_gone_on_with_and_no_node_takes_half_of_it_for_its_own(file, tmp_path):
    data, middles = tmp_path / "data", 0
    with LocalCluster(tmp_path, loopback_sites(3)) as restored:
        command = module("raftkv", "restore", str(file), "--config", str(restored.config))
        for node in ("n1", "n2", "n3"):
            is_time = lambda node=node: sizes(data, f".{node}.restoring/snapshots/*") > 5_000_000  # noqa: E731
            if killed_once(command, is_time):
                middles += bool(list(data.glob(".*.restoring")))
            made = {path.name for path in data.iterdir() if not path.name.startswith(".")}
            assert made <= {"n1", "n2", "n3"}
            for home in made:
                assert (data / home / "restored.json").is_file()
                assert (data / home / "identity.json").is_file()
        assert middles, "none was killed in the middle"

        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, check=False)
        assert done.returncode == 0, done.stderr
        assert list(data.glob(".*")) == []
        restored.start()
        restored.wait_ready()
        with Client([f"http://{site.http}" for site in restored.sites.values()], timeout_s=30) as client:
            assert {key: client.get(key) for key in VALUES} == VALUES


def test_a_backup_that_finds_no_room_says_so_and_leaves_nothing(cluster, tmp_path):
    disk = tmp_path / "disk"
    listed = ["sh", "-c", '"$@"; status=$?; ls -A "$0"; exit $status', str(disk), *backup(cluster, disk / "file")]
    command = [*small_disk("12m", disk), *listed]

    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, check=False)

    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "no space left on the device" in line
    assert str(disk) in line
    assert done.stdout == "", "something is left"
    assert cluster.is_ready("n1")


def test_a_restore_that_finds_no_room_says_so_and_leaves_nothing(file, tmp_path):
    disk = tmp_path / "disk"
    under = small_disk("40m", disk)
    with LocalCluster(tmp_path, loopback_sites(3), data="disk") as restored:
        command = module("raftkv", "restore", str(file), "--config", str(restored.config))
        listed = ["sh", "-c", '"$@"; status=$?; ls -A "$0"; exit $status', str(disk), *command]

        done = subprocess.run([*under, *listed], capture_output=True, text=True, timeout=COMMAND_S, check=False)

    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "no space left on the device" in line
    made = done.stdout.split()
    assert not [name for name in made if name.startswith(".")], "half a node is left"
    assert set(made) <= {"n1", "n2"}


def test_a_scheduled_backup_that_finds_no_room_is_counted_and_its_node_goes_on(tmp_path):
    disk = tmp_path / "disk"
    under = small_disk("4m", disk)
    (site,) = loopback_sites(1)
    sections = f"[backup]\ninterval_s = 1.0\ndirectory = '{disk}'\n"
    site = msgspec.structs.replace(site, under=(*under,))
    with LocalCluster(tmp_path, [site], sections, obedient=False) as cluster:
        cluster.start()
        cluster.wait_ready()
        with Client([f"http://{site.http}"], timeout_s=30) as client:
            wait_until(lambda: "backup made" in cluster.log("n1"), "a small backup")
            for key in list(VALUES)[:8]:
                client.set(key, VALUES[key])
            wait_until(lambda: "backup failed" in cluster.log("n1"), "a failure")
            client.set("later", b"v")
            assert client.get("later") == b"v"
        (line, *_) = [line for line in cluster.log("n1").splitlines() if "backup failed" in line]
        assert "no space left on the device" in line
        root = Path(f"/proc/{cluster.processes['n1'].pid}/root")
        seen = [path for path in (root / disk.relative_to("/")).iterdir() if not path.name.startswith(".")]
        assert seen, "the last good one is still there"
        assert all(verify(path) for path in seen)
