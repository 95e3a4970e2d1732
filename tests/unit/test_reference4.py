"""The sixteen runs' report: the answer follows from the results by its rules, and every number in it is a result's."""

import msgspec
import pytest

from raftkv.core.config import parse_config
from raftkv.instruments.lab.reference4.choices import CHOICES, DELAYS
from raftkv.instruments.lab.reference4.plots import binned, counts_us, edges
from raftkv.instruments.lab.reference4.report import page, write
from raftkv.instruments.lab.reference4.runs import ReferenceRun, load
from raftkv.instruments.lab.reference4.verdict import answer, cost
from raftkv.instruments.load.plan import RATIOS
from raftkv.instruments.load.result import Result, latency
from raftkv.instruments.load.samples import Age, Errors, ReadFreshness, RequestKind

ALL_ONE, ONE_ALL, MAJORITIES, LEADERLESS = CHOICES
SECONDS = 10.0


def made(choice, ratio=RATIOS[2], *, count=1000, read_ms=50, write_ms=700, stale=0, errors=0):
    """A run of ``count`` operations in the ratio, all reads alike and all writes alike."""
    writes = round(count * ratio.write_share)
    counts = {RequestKind.READ: {read_ms * 1000: count - writes}, RequestKind.WRITE: {write_ms * 1000: writes}}
    failed = Errors(kind=RequestKind.WRITE, applied="unknown", code="outcome_unknown", count=errors, first="")
    result = Result(
        plan=choice.plan(ratio, seconds=SECONDS, warm_up_s=0, seed=1, clients=4),
        servers=("h:1",),
        began="2026-01-01T00:00:00+00:00",
        version="1.2.3",
        seconds=SECONDS,
        per_second=count / SECONDS,
        latency={kind: latency(found) for kind, found in counts.items()},
        errors=(failed,) if errors else (),
        freshness=ReadFreshness(
            reads=count - writes,
            stale=stale,
            missed=0,
            backward=3,
            during_write=20,
            during_write_older=7,
            since_write_ms={Age.NEWEST: {0: 5, 900: count - writes - 5 - stale}, Age.STALE: {12: stale}},
        ),
        unsent=0,
        client_cores=0.1,
    )
    return ReferenceRun(choice=choice, result=result)


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.name)
def test_a_choice_is_a_configuration_that_nodes_take(choice):
    nodes = "".join(
        f'[[node]]\nid = "n{k}"\nhttp = "127.0.0.1:{k}"\npeer = "127.0.0.1:{k + 10}"\n' for k in range(1, 6)
    )
    config = parse_config(f'[cluster]\nname = "x"\nmode = "{choice.mode}"\n{nodes}{choice.sections}')

    assert config.delays == DELAYS
    if choice.mode == "quorum":
        assert (config.quorum.n, config.quorum.r, config.quorum.w) == (5, choice.r, choice.w)


def test_a_write_takes_as_long_as_the_delays_of_its_last_replica():
    assert [choice.least_write_s for choice in CHOICES] == pytest.approx([0.7, 0, 0.3, 0.7])


def test_what_goes_on_with_nodes_down_follows_from_r_and_w_and_a_leader_needs_a_majority():
    assert [(choice.down_for_writes, choice.down_for_reads) for choice in CHOICES] == [(0, 4), (2, 0), (2, 2), (0, 4)]


def test_the_mean_time_of_an_operation_is_that_of_its_parts():
    found = cost(made(ALL_ONE, RATIOS[1], count=1000, read_ms=50, write_ms=700))

    assert (found.reads_part_ms, found.writes_part_ms) == pytest.approx((45, 70))
    assert found.mean_ms == pytest.approx(115)


def test_the_fastest_wins_unless_reads_must_be_fresh_and_it_was_stale():
    slow, fast = made(ALL_ONE, count=500), made(ONE_ALL, count=2000, stale=1)
    found = answer([slow, fast])

    assert (found.fresh, found.any) == (slow, fast)
    assert any("1 of its 1000 reads were stale (0.1%)" in reason for reason in found.reasons)


def test_of_choices_that_are_about_equally_fast_the_one_wins_that_bears_more_failures():
    rigid, tolerant = made(ALL_ONE, count=1000), made(MAJORITIES, count=920)

    assert answer([rigid, tolerant]).any == tolerant

    too_slow = made(MAJORITIES, count=880)

    assert answer([rigid, too_slow]).any == rigid


def test_a_choice_whose_operations_failed_is_out():
    failing, slow = made(ALL_ONE, count=2000, errors=100), made(MAJORITIES, count=100)
    found = answer([failing, slow])

    assert found.any == found.fresh == slow
    assert any(reason == f"Not {ALL_ONE.title}: 100 operations failed." for reason in found.reasons)


def test_where_every_choice_was_stale_none_is_the_answer():
    found = answer([made(choice, stale=2) for choice in CHOICES])

    assert found.fresh is None
    assert found.reasons[0] == "No choice had fresh reads throughout."


def every_run():
    return tuple(
        made(choice, ratio, count=1000 + 100 * place) for place, choice in enumerate(CHOICES) for ratio in RATIOS
    )


def test_the_page_has_an_answer_for_every_ratio_a_row_for_every_run_and_its_numbers():
    text = page(every_run(), image_format="svg", command="raftkv bench reference4")
    rows = [line for line in text.splitlines() if line.startswith("| leader")]

    assert len(rows) == 16
    assert rows[0] == (
        "| leader-follower, W=5 R=1 | 1/99 | 100 | 50 | 50 | 50 | 700 | 700 | 700 | 0 (0.0%) | 3 | 7 of 20 | 0 |"
    )
    assert all(f"| {ratio} | **" in text and f"**{ratio} writes/reads.**" in text for ratio in RATIOS)


def test_the_report_and_its_images_are_made_from_the_stored_results(tmp_path):
    runs = (made(ONE_ALL, stale=4), made(LEADERLESS, RATIOS[3]))
    for run in reversed(runs):
        (tmp_path / f"{run.name}.json").write_bytes(msgspec.json.encode(run))
    loaded = load(tmp_path)
    path = write(loaded, tmp_path, image_format="svg", command="x")
    images = {part.split(")")[0] for part in path.read_text().split("](")[1:]}

    assert loaded == runs
    assert images == {"comparison.svg", "leader-w1-r5-50-50.svg", "leaderless-w5-r1-90-10.svg"}
    assert all((tmp_path / image).read_text().startswith("<svg") for image in images)


def test_the_bars_of_a_graph_count_every_sample_once():
    counts = {0: 1, 1: 2, 7: 3, 8: 4, 99_999: 5, 1_000_000: 6}
    bins = edges(0, max(counts))

    assert sum(binned(counts, bins)) == 21
    assert bins == sorted(set(bins))
    assert bins[-1] > 1_000_000


def test_the_stored_histogram_gives_back_what_was_counted():
    stored = counts_us(latency({1000: 3, 50_000: 5, 700_000: 7}))

    assert sorted(stored.values()) == [3, 5, 7]
    assert sorted(stored) == pytest.approx([1000, 50_000, 700_000], rel=1e-3)
