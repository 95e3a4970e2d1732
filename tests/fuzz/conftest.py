"""One cluster of each kind for all attacks, judged after each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from tests.fuzz.budget import EXAMPLES, SEED
from tests.fuzz.http_talk import WAYS
from tests.fuzz.siege import TRAITOR, Siege
from tests.integration.processes import RealCluster


def pytest_report_header() -> str:
    return f"fuzz: RAFTKV_FUZZ_EXAMPLES={EXAMPLES} RAFTKV_FUZZ_SEED={SEED}"


@contextmanager
def standing(cluster: RealCluster, *, absent: str = "", gone: str = "") -> Iterator[Siege]:
    """Nodes that are ready, but for one that never came, or one that was there and is gone."""
    with cluster:
        cluster.start(*[node for node in cluster.nodes if node != absent])
        cluster.wait_ready()
        if gone:
            cluster.kill(gone)
        yield Siege(cluster)


@pytest.fixture(scope="session")
def besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    with standing(RealCluster(tmp_path_factory.mktemp("siege"), size=4), absent=TRAITOR) as siege:
        yield siege


@pytest.fixture(scope="session")
def besieged_leaderless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    cluster = RealCluster(tmp_path_factory.mktemp("leaderless"), size=4, mode="quorum")
    with standing(cluster, gone=TRAITOR) as siege:  # it serves once all its members have been there
        yield siege


@pytest.fixture(scope="session")
def besieged_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    """One node, and every port of it speaks TLS."""
    home = tmp_path_factory.mktemp("tls")
    cluster = RealCluster(home, 1, certified(home), scheme="https")
    cluster.verify = str(home / "ca.pem")
    with standing(cluster) as siege:
        yield siege


def certified(home: Path) -> str:
    """Make certificates in ``home``; returns the sections of a configuration that uses them."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    (home / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(home / "key.pem"))
    (home / "key.pem").chmod(0o600)
    authority.cert_pem.write_to_path(str(home / "ca.pem"))
    names = 'tls_cert = "cert.pem"\ntls_key = "key.pem"\ntls_ca = "ca.pem"\n'
    return f"[http]\n{names}[peers]\n{names}"


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def before(request: pytest.FixtureRequest) -> bytes:
    """What is sent first so that requests go either way."""
    return request.param


@pytest.fixture
def siege(besieged: Siege) -> Iterator[Siege]:
    with besieged.attack() as siege:
        yield siege


@pytest.fixture
def leaderless_siege(besieged_leaderless: Siege) -> Iterator[Siege]:
    with besieged_leaderless.attack() as siege:
        yield siege


@pytest.fixture
def tls_siege(besieged_tls: Siege) -> Iterator[Siege]:
    with besieged_tls.attack() as siege:
        yield siege
