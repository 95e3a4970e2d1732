"""The tests of etcd's Go client, and of what it is built on, as Debian's ``golang-etcd-server-dev`` has them.

Those that want a cluster get it from ``clusters.py``, since ``go/integration`` stands in the place of the package that
runs etcd within the test. Nothing of etcd is kept here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.clients.clusters import Begin, Clusters, served
from tests.clients.suites import BEGINNING, Outcomes

LIBRARY: Final = Path("/usr/share/gocode")
ETCD: Final = LIBRARY / "src" / "go.etcd.io" / "etcd"
OURS: Final = Path(__file__).parent / "go"
BUILD_S: Final = 600
TEST_S: Final = 600
"""For one test, its clusters included: some have nine, and wait for leases."""
AT_ONCE: Final = 2

# Of the package that is replaced: its bridge can break connections, and its tests want no server in their own process.
_KEPT: Final = re.compile(
    r"bridge|cluster_direct|doc|util_test|v3(election|lock)_grpc_test"
    r"|v3_(auth|barrier|double_barrier|election|grpc_inflight|grpc|lease|lock|queue|stm|watch)_test"
)
_SHORT: Final = re.compile(r'"(123|bar)"')
"""A password of fewer characters than ``raftkv`` takes, in what tests users."""
_USERS: Final = ("clientv3/example_auth_test.go", "clientv3/integration/user_test.go", "integration/v3_auth_test.go")

MEMBERS: Final = "a member is added by raftkv node --join"
LEADER: Final = "MoveLeader may be asked of any node"
METRICS: Final = "/metrics are raftkv's own"
REVISION: Final = "a change of users is a revision"
NOBODY: Final = "who shows no token is not told of leases"
HASTE: Final = "gives up where nodes take seconds to start"
PACKED: Final = "it counts answers, and changes that follow closely come in one"
IDS: Final = "leases are numbered from 1 to 2^62"
PROLONGED: Final = "a change of the leader prolongs no lease"
DEPTH: Final = "transactions stand eight deep in each other at most"


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package of etcd's with tests, and those that pass on etcd alone, with the reason."""

    name: str
    tests: str = "."
    differing: Mapping[str, str] = field(default_factory=dict)


def lacking() -> str:
    """What is not installed, if anything is."""
    if shutil.which("go") is None:
        return "there is no Go (golang-go)"
    return "" if (ETCD / "integration").is_dir() else "there are no sources of etcd (golang-etcd-server-dev)"


def _overlay(home: Path) -> Path:
    replaced = {}
    for source in (ETCD / "integration").glob("*.go"):
        if source.name == "cluster.go":
            replaced[str(source)] = str(OURS / "integration" / "clusters.go")
        elif not _KEPT.fullmatch(source.stem):
            replaced[str(source)] = ""
    for number, name in enumerate(_USERS):
        longer = home / f"{number}_test.go"
        longer.write_text(_SHORT.sub(r'"\1 and longer"', (ETCD / name).read_text()))
        replaced[str(ETCD / name)] = str(longer)
    overlay = home / "overlay.json"
    overlay.write_text(json.dumps({"Replace": replaced}))
    return overlay


def _built(command: list[str], folder: Path, home: Path) -> None:
    settings = {"GO111MODULE": "off", "GOPATH": str(LIBRARY), "GOCACHE": str(home / "cache"), "CGO_ENABLED": "0"}
    subprocess.run(command, cwd=folder, env=os.environ | settings | {"GOFLAGS": ""}, timeout=BUILD_S, check=True)


def compiled(package: Package, home: Path) -> Path:
    """The program that is its tests."""
    program = home / "tests"
    overlay = _overlay(home)
    _built(["go", "test", "-vet=off", "-c", f"-overlay={overlay}", "-o", str(program), f"./{package.name}"], ETCD, home)
    return program


def built(name: str, home: Path) -> Path:
    """A program of ours that uses the client."""
    program = home / name
    _built(["go", "build", "-o", str(program), "."], OURS / name, home)
    return program


def listed(program: Path, package: Package, begin: Begin, home: Path) -> list[str]:
    """Its tests, and those of its examples whose output is known. Some start a cluster before they tell."""
    command = [program, "-test.run=Test", "-test.list", package.tests]
    with served(Clusters(home, begin)) as url:
        told = subprocess.run(
            command, cwd=home, env=os.environ | {"RAFTKV_CLUSTERS": url}, capture_output=True, text=True, check=True
        )
    return [name for name in told.stdout.split() if name.startswith(("Test", "Example"))]


def outcomes(program: Path, names: Iterable[str], begin: Begin, home: Path) -> tuple[Outcomes, int]:
    """Which of ``names`` passed, each in a process and with clusters of its own, and how many nodes they killed.

    What a test says stands in ``home``.
    """
    clusters = Clusters(home, begin)
    with served(clusters) as url, ThreadPoolExecutor(AT_ONCE) as pool:
        run = _runner(program, url, home)
        found = dict(pool.map(run, names))
    return {name: has_passed for name, has_passed in found.items() if has_passed is not None}, clusters.kills


def _runner(program: Path, url: str, home: Path) -> Callable[[str], tuple[str, bool | None]]:
    def run(name: str) -> tuple[str, bool | None]:
        folder = home / name
        folder.mkdir(exist_ok=True)
        command = [str(program), "-test.v", f"-test.timeout={TEST_S}s", f"-test.run=^{name}$"]
        with (folder / "said").open("w+") as said:
            subprocess.run(
                command, cwd=folder, env=os.environ | {"RAFTKV_CLUSTERS": url}, stdout=said, stderr=said, check=False
            )
            said.seek(0)
            ended = re.search(rf"^--- (PASS|FAIL|SKIP): {name} ", said.read(), re.MULTILINE)
        return name, (ended[1] == "PASS" if ended[1] != "SKIP" else None) if ended else False

    return run


PACKAGES: Final = (
    Package(
        name="clientv3/integration",
        differing={
            "TestLeaseRenewLostQuorum": HASTE,
            "TestLeasingReconnectOwnerRevoke": HASTE,
            "TestMaintenanceMoveLeader": LEADER,
            "TestMemberAdd": MEMBERS,
            "TestMemberAddForLearner": MEMBERS,
            "TestMemberPromote": MEMBERS,
            "TestMaxLearnerInCluster": MEMBERS,
            "TestWatchCancelOnServer": METRICS,
            "TestWatchMultiWatcher": PACKED,
        },
    ),
    Package(name="clientv3/ordering"),
    Package(name="clientv3/concurrency"),
    Package(name="clientv3", tests="Example"),
    Package(
        name="integration",
        differing={
            "TestV3AuthRevision": REVISION,
            "TestV3AuthWithLeaseRevokeWithRoot": NOBODY,
            "TestV3LeaseNegativeID": IDS,
            "TestV3LeasePrmote": PROLONGED,
            "TestV3TxnInvalidRange": BEGINNING,
            "TestV3TxnNestedPath": DEPTH,
            "TestV3WatchCancellation": METRICS,
        },
    ),
)
