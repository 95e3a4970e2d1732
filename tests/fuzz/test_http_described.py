"""The HTTP interface against its own description: every answer has a status, a type and a shape that it names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.budget import EXAMPLES, SEED
from tests.fuzz.siege import Siege

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60 + EXAMPLES * 20)]

NODE = "n2"

PHASES = "coverage,fuzzing,stateful" if EXAMPLES else "fuzzing,stateful"
"""The first goes through every limit of every parameter, for half a minute."""

NOT_CHECKED = {
    # 503 and 504 are described, and what is not, 500 among it, fails another check.
    "not_a_server_error",
    # A precondition that fails, two that exclude each other, and what is not built yet are well described, and refused.
    "positive_data_acceptance",
    # Nothing here asks who a client is.
    "ignored_auth",
}


@pytest.mark.parametrize("kind", ["siege", "leaderless_siege"])
def test_every_answer_is_as_described(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    siege: Siege = request.getfixturevalue(kind)
    command = [sys.executable, "-m", "schemathesis.cli", "run", siege.cluster.url(NODE, "/openapi.json")]
    command += ["--checks", "all", "--exclude-checks", ",".join(NOT_CHECKED), "--phases", PHASES]
    command += ["--max-examples", f"{EXAMPLES or 3}", "--seed", f"{SEED}", "--no-shrink", "--continue-on-failure"]
    command += ["--request-timeout", "70", "--generation-database", "none", "--no-color"]

    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert siege.stands()
