"""One cluster for all attacks, judged after each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fuzz.budget import EXAMPLES, SEED
from tests.fuzz.siege import TRAITOR, Siege
from tests.integration.processes import RealCluster


def pytest_report_header() -> str:
    return f"fuzz: RAFTKV_FUZZ_EXAMPLES={EXAMPLES} RAFTKV_FUZZ_SEED={SEED}"


@pytest.fixture(scope="session")
def besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    with RealCluster(tmp_path_factory.mktemp("siege"), size=4) as cluster:
        nodes = [node for node in cluster.nodes if node != TRAITOR]
        cluster.start(*nodes)
        cluster.wait_ready(*nodes)
        yield Siege(cluster)


@pytest.fixture
def siege(besieged: Siege) -> Iterator[Siege]:
    yield besieged
    besieged.check()
