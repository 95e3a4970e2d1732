"""A short scenario and the demo on real clusters, from the command line to the report."""

from datetime import datetime

import msgspec
import pytest

from raftkv.cli.main import run
from raftkv.instruments.lab.history import LAST_LOOK
from raftkv.instruments.lab.record import read_evidence, read_run
from raftkv.instruments.lab.report.results import of_run
from tests.pages import ROOT, quoted

pytestmark = pytest.mark.integration

SCENARIO = """
title = "Short"
expect = "The cut-off side waits, or answers from the past."
seed = 5
duration_s = 4
predicts_staleness = true

[workload]
clients = 4
keys = 2
rate_per_s = 40
timeout_s = 0.5
mix = { add = 50, get = 50 }

[[variant]]
name = "raft"
about = "Linearizable reads."
update = "compare_and_set"
promises_linearizable = true

[[variant]]
name = "quorum"
about = "One replica is enough."
mode = "quorum"
update = "context"
config.quorum = { r = 1, w = 1, conflicts = "siblings" }

[[fault]]
at_s = 1
for_s = 2
fault = { kind = "partition", groups = [["n1"], ["rest"]] }
"""


def test_a_scenario_runs_is_recorded_and_told(tmp_path, capsys, monkeypatch):
    (tmp_path / "short.toml").write_text(SCENARIO)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "clusters"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "clusters").mkdir()
    out = tmp_path / "out"
    status = run(["lab", "run", str(tmp_path / "short.toml"), "--seed", "6", "--out", str(out)])
    told = capsys.readouterr().out
    record = read_run(out)
    results = of_run(out)

    assert status == 0
    assert "n1 | n2 n3 begins" in told
    assert str(out / "report.html") in told
    assert record.scenario.seed == 6
    assert (out / "scenario.toml").read_text() == SCENARIO
    assert datetime.fromisoformat(record.started).timestamp() <= (out / "scenario.toml").stat().st_mtime
    for performed, found in zip(record.performed, results.variants, strict=True):
        history = read_evidence(out, performed).history
        assert found.measures.answered > 50
        assert {o.key for o in history if o.note == LAST_LOOK} == {o.key for o in history}
        assert found.measures.lost_additions == 0
        assert found.deaths == []
        assert (out / performed.variant.slug / "cluster.toml").exists()
    assert results.variants[0].judgement.verdict == "linearizable"
    assert results.variants[0].prediction is None
    assert results.variants[1].prediction.fresh_ms_p999 >= 0
    assert msgspec.json.decode((out / "results.json").read_bytes())
    assert list((tmp_path / "clusters").iterdir()) == []


def test_the_demo_announces_what_it_does_and_ends_with_its_report(tmp_path, capsys):
    out = tmp_path / "out"
    status = run(["lab", "demo", "--out", str(out)])
    told = capsys.readouterr().out
    local, linearizable, last_writer, siblings = (each.measures for each in of_run(out).variants)

    assert status == 0
    assert "The leader is cut off." in told
    of_demo, *_ = quoted(ROOT / "docs" / "laboratory.rst")
    assert [line.pattern for line in of_demo if not line.search(told)] == []
    headlines = [line.strip() for line in told.splitlines() if line.startswith(("  Lost", "  Stale", "  Nothing"))]
    assert [line.partition(":")[0].partition(",")[0] for line in headlines] == ["Lost", "Stale", *["Nothing lost"] * 2]
    assert told.rstrip().endswith(f"report: {out / 'report.html'}")
    assert (local.operations, local.refused) == (7, 0)
    assert (linearizable.operations, linearizable.refused, linearizable.stale_reads) == (4, 1, 0)
    assert (last_writer.acknowledged_additions, last_writer.lost_additions) == (2, 1)
    assert (siblings.acknowledged_additions, siblings.lost_additions, siblings.sibling_reads) == (3, 0, 2)
