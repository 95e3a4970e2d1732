"""Clients of etcd with the suites that those who make them test them with: got from their registries, run as they are.

Nothing of them is kept here. What a suite asks of the machine beside etcd (``etcdctl``, ``pgrep``) it finds in a folder
of its own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol
from xml.etree import ElementTree as ET

from tests.integration.etcd_clusters import EtcdCluster
from tests.integration.etcd_oracle import program

PREPARE_S: Final = 600
RUN_S: Final = 900
TEST_S: Final = 60

ALARMS: Final = "alarms rise and end by themselves"
BEGINNING: Final = "to compact to revision 2, the first write, forgets nothing"
SNAPSHOT: Final = "a snapshot is raftkv's own backup, which etcdctl cannot read"

Outcomes = Mapping[str, bool]
"""Which tests passed; those that were skipped are not among them."""


class Suite(Protocol):
    """Tests of one client. ``differing`` are those that pass on etcd alone, and why."""

    name: str
    differing: Mapping[str, str]
    bears_kills: bool
    is_secured: bool

    def prepare(self, home: Path) -> str:
        """Get all that it needs below ``home``; why that cannot be done, if it cannot."""

    def run(self, home: Path, cluster: EtcdCluster) -> Outcomes:
        """What became of its tests on node n1 of ``cluster``."""


def outcome_of(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """``command`` in ``folder``, as long as a run may take."""
    return subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=RUN_S, check=False
    )


@dataclass(frozen=True, kw_only=True)
class PythonSuite:
    """See ``Suite``: a source distribution with tests for pytest, in a virtual environment."""

    name: str
    release: str
    """As PyPI has it, with its version."""
    packages: tuple[str, ...]
    tests: tuple[str, ...]
    environment: Callable[[str], Mapping[str, str]]
    """What tells the suite where n1 is."""
    options: tuple[str, ...] = ()
    build_with: tuple[str, ...] = ()
    fixtures: str = ""
    """What a source distribution has left out of its ``conftest.py``."""
    differing: Mapping[str, str] = field(default_factory=dict)
    bears_kills: bool = True
    """Do its tests leave alone all nodes but n1?"""
    is_secured: bool = False

    def prepare(self, home: Path) -> str:
        """See ``Suite``."""
        python = self._python(home)
        pip = [python, "-m", "pip", "--disable-pip-version-check"]
        steps = [[sys.executable, "-m", "venv", str(home / "venv")]]
        isolation = []
        if self.build_with:
            isolation = ["--no-build-isolation"]
            steps.append([*pip, "install", *self.build_with])
        steps.append([*pip, "install", *isolation, self.release, "pytest", "pytest-timeout", *self.packages])
        distribution = re.split(r"\W", self.release)[0]
        steps.append([*pip, "download", "--no-deps", *isolation, f"--no-binary={distribution}", self.release])
        for step in steps:
            done = outcome_of(step, home)
            if done.returncode:
                return f"{' '.join(step)}: {done.stderr[-2000:]}"
        (archive,) = home.glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(home, filter="data")
        (home / archive.name.removesuffix(".tar.gz")).rename(home / "source")
        if self.fixtures:
            (home / "source" / "tests" / "conftest.py").write_text(self.fixtures)
        return ""

    def run(self, home: Path, cluster: EtcdCluster) -> Outcomes:
        """See ``Suite``."""
        tools, report = cluster.home / "tools", cluster.home / "report.xml"
        tools.mkdir()
        (tools / "etcdctl").symlink_to(program("etcdctl"))
        others = "\n".join(str(pid) for node, pid in cluster.first.items() if node != "n1")
        (tools / "pgrep").write_text(f"#!/bin/sh\necho '{others}'\n")  # the suites look for the nodes of ``pifpaf``
        (tools / "pgrep").chmod(0o755)
        command = [self._python(home), "-m", "pytest", "-p", "no:cacheprovider", f"--timeout={TEST_S}"]
        environment = {**self.environment(str(cluster.sites["n1"].http)), "ETCDCTL_API": "3"}
        environment["PATH"] = f"{tools}:{os.environ['PATH']}"
        command += ["--tb=short", f"--junitxml={report}", *self.options, *self.tests]
        done = outcome_of(command, home / "source", **environment)
        (cluster.home / "said").write_text(done.stdout + done.stderr)
        assert report.exists(), done.stdout[-3000:] + done.stderr[-3000:]
        return read_report(report)

    def _python(self, home: Path) -> str:
        return str(home / "venv" / "bin" / "python")


def read_report(report: Path) -> dict[str, bool]:
    """Of what pytest wrote."""
    found: dict[str, bool] = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        if case.find("skipped") is None:
            name = f"{case.get('classname')}.{case.get('name')}"
            found[name] = found.get(name, True) and case.find("failure") is None and case.find("error") is None
    return found


@dataclass(frozen=True, kw_only=True)
class NodeSuite:
    """See ``Suite``: ``etcd3`` of npm. Its package has no tests, so ``RAFTKV_ETCD3_NODE`` names a checkout of it."""

    name: str = "etcd3 (Node)"
    differing: Mapping[str, str] = field(default_factory=dict)
    bears_kills: bool = True
    is_secured: bool = True

    def prepare(self, home: Path) -> str:
        """See ``Suite``."""
        checkout = os.environ.get("RAFTKV_ETCD3_NODE")
        if not checkout:
            return "RAFTKV_ETCD3_NODE names no checkout of it"
        steps = [
            ["git", "clone", "--quiet", checkout, str(home / "source")],
            ["npm", "--prefix", "source", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            ["npm", "--prefix", "source", "run", "build:ts"],
        ]
        for step in steps:
            done = outcome_of(step, home)
            if done.returncode:
                return f"{' '.join(step)}: {done.stderr[-2000:]}"
        return ""

    def run(self, home: Path, cluster: EtcdCluster) -> Outcomes:
        """See ``Suite``. It reads its certificates from its own folder."""
        folder, report = cluster.home / "suite", cluster.home / "report.json"
        subprocess.run(["cp", "-r", str(home / "source"), str(folder)], check=True)
        certificates = folder / "src" / "test" / "certs"
        for mine, its in (
            (cluster.authority, "certs/ca.crt"),
            (cluster.home / "node.pem", "certs/etcd0.localhost.crt"),
            (cluster.home / "node.key", "private/etcd0.localhost.key"),
        ):
            (certificates / its).write_bytes(mine.read_bytes())
        command = ["npx", "mocha", "--reporter", "json", "--reporter-option", f"output={report}"]
        done = outcome_of(command, folder, ETCD_ADDR=str(cluster.sites["n1"].http), ETCD_VERSION="3.5.1")
        (cluster.home / "said").write_text(done.stdout + done.stderr)
        assert report.exists(), done.stdout[-3000:] + done.stderr[-3000:]
        told = json.loads(report.read_text())
        return {one["fullTitle"]: not one["err"] for one in told["tests"] if one not in told["pending"]}


SUITES: Final[tuple[Suite, ...]] = (
    PythonSuite(
        name="etcd3gw",
        release="etcd3gw==2.7.0",
        packages=("ddt", "fixtures", "oslotest", "testtools"),
        tests=("etcd3gw/tests",),
        environment=lambda at: {"TOOZ_TEST_HTTP_URL": f"http://{at}", "TOOZ_TEST_ETCD_PORT": at.rpartition(":")[2]},
    ),
    PythonSuite(
        name="tooz",
        release="tooz[etcd3gw,ipc]==9.1.0",
        packages=("ddt", "fixtures", "pymemcache", "redis", "requests", "sysv_ipc", "testtools"),
        tests=("tooz/tests/test_coordination.py", "tooz/tests/test_partitioner.py"),
        options=("-k", "not File and not IPC and not Memcached and not Redis"),
        environment=lambda at: {"TOOZ_TEST_URL": f"etcd3+http://{at}"},
    ),
    PythonSuite(
        name="etcd3 (Python)",
        release="etcd3==0.12.0",
        # It was made for these. What would raise alarms in, and compact, whatever is at port 2379 is left out.
        packages=("grpcio", "hypothesis<5.40", "mock", "protobuf<4", "six", "tenacity==6.3.1"),
        build_with=("setuptools<80", "wheel"),
        tests=("tests",),
        options=(
            "--deselect=tests/test_etcd3.py::TestAlarms",
            "--deselect=tests/test_etcd3.py::TestClient::test_compact",
        ),
        environment=lambda at: {"PYTHON_ETCD_HTTP_URL": f"http://{at}", "TEST_ETCD_VERSION": "v3.5.1"},
        bears_kills=False,
        differing={
            "tests.test_etcd3.TestEtcd3.test_snapshot": SNAPSHOT,
            "tests.test_etcd3.TestEtcd3.test_watch_key_with_revision_compacted": BEGINNING,
        },
    ),
    PythonSuite(
        name="aetcd",
        release="aetcd==1.0.0",
        packages=("pytest-asyncio", "pytest-cov", "pytest-mock"),
        tests=("tests",),
        options=("--no-cov",),
        environment=lambda at: {"TEST_ETCD_HTTP_URL": f"http://{at}"},
        differing={
            "tests.integration.test_maintenance.test_create_alarm_all_members": ALARMS,
            "tests.integration.test_maintenance.test_create_alarm_specific_member": ALARMS,
            "tests.integration.test_maintenance.test_disarm_alarm": ALARMS,
            "tests.integration.test_maintenance.test_list_alarms": ALARMS,
            "tests.integration.test_maintenance.test_snapshot": SNAPSHOT,
        },
    ),
    PythonSuite(
        name="etcetra",
        release="etcetra==0.1.19",
        packages=("pytest-asyncio",),
        tests=("tests",),
        options=("-o", "asyncio_mode=auto"),
        environment=lambda at: {"RAFTKV_NODE": at},
        fixtures="""
import os
import etcetra, pytest

@pytest.fixture
def etcd_addr():
    return etcetra.HostPortPair.parse(os.environ["RAFTKV_NODE"])

@pytest.fixture
async def etcd(etcd_addr):
    client = etcetra.EtcdClient(etcd_addr)
    yield client
    async with client.connect() as connected:
        await connected.delete_prefix("/test")
""",
    ),
    NodeSuite(),
)
