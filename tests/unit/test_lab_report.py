"""Every number of a report comes from the raw history: counted here once more, in the plainest way, from its lines.

``lab_run`` is what a short run left behind: a partition, lists, keys written and deleted once, in three variants.
"""

import itertools
import json
import re
import shutil
from pathlib import Path
from random import Random
from xml.etree import ElementTree as ET

import pytest
from msgspec.structs import replace

from raftkv.instruments.lab.faults import Partition
from raftkv.instruments.lab.history import CompareAndSet, DeleteAction, GetAction, History, Outcome, PutAction
from raftkv.instruments.lab.nemesis import FaultEvent
from raftkv.instruments.lab.record import MeasuredDelay
from raftkv.instruments.lab.report import sentences
from raftkv.instruments.lab.report.drawing import Canvas
from raftkv.instruments.lab.report.harm import harmed
from raftkv.instruments.lab.report.make import report
from raftkv.instruments.lab.report.measures import measured as measures_of
from raftkv.instruments.lab.report.pace import Tally, paced
from raftkv.instruments.lab.report.page import page
from raftkv.instruments.lab.report.results import judged, of_run
from raftkv.instruments.lab.report.staleness import curve, predicted
from raftkv.instruments.lab.report.table import rows
from raftkv.instruments.lab.report.timelines import Scene, label, narrow, of_witness, wide
from raftkv.instruments.lab.wording import clock_for
from tests.unit.lab_histories import MS, bars_of, done, texts_of

RUN = Path(__file__).parent / "lab_run"


@pytest.fixture(scope="module")
def results():
    return of_run(RUN)


def lines_of(slug):
    lines = [json.loads(line) for line in (RUN / slug / "history.jsonl").read_text().splitlines()]
    return sorted(lines, key=lambda line: line["invoked_ns"])


def is_look(line):
    return line.get("note") == "last look"


def is_ok(line):
    return line["outcome"] == "ok"


def writes_of(lines, key):
    """What may have changed the key, and what it left there."""
    for line in lines:
        has_effect = line["outcome"] != "failed" and line.get("result") is not False
        if line["key"] == key and line["action"] != "get" and has_effect:
            yield line


def shown(read):
    return [read.get("result"), *read.get("siblings", [])]


def missed(lines, read):
    """Acknowledged writes that had returned before the read, all of whose values are later than what it was shown."""
    found = []
    for write in writes_of(lines, read["key"]):
        if not is_ok(write) or write["returned_ns"] >= read["invoked_ns"]:
            continue
        sources = [other for other in writes_of(lines, read["key"]) if other.get("value") in shown(read)]
        if all(is_ok(source) and source["returned_ns"] < write["invoked_ns"] for source in sources):
            found.append(write)
    return found


def quantile(lines, share):
    took_ms = sorted((line["returned_ns"] - line["invoked_ns"]) / 1e6 for line in lines)
    return next((ms for number, ms in enumerate(took_ms, start=1) if number >= share * len(took_ms)), None)


def backwards(lines, reads):
    count = 0
    for number, later in enumerate(reads):
        earlier = [r for r in reads[:number] if (r["client"], r["key"]) == (later["client"], later["key"])]
        writes = list(writes_of(lines, later["key"]))
        seen = [w for r in earlier for w in writes if w.get("value") in shown(r) and w.get("value") is not None]
        begun = {}
        for write in seen:
            begun[write["value"]] = min(write["invoked_ns"], begun.get(write["value"], write["invoked_ns"]))
        sources = [write for write in writes if write.get("value") in shown(later)]
        count += any(all(is_ok(s) and s["returned_ns"] < at_ns for s in sources) for at_ns in begun.values())
    return count


def test_every_measure_is_what_the_raw_lines_say(results):
    for each in results.variants:
        lines = lines_of(each.variant.slug)
        traffic, looks = [x for x in lines if not is_look(x)], [x for x in lines if is_look(x)]
        reads = [x for x in traffic if x["action"] == "get" and is_ok(x)]
        writes = [x for x in traffic if x["action"] != "get" and is_ok(x)]
        stale = [(read, missed(lines, read)) for read in reads if missed(lines, read)]
        lost = [w for look in looks if not look["key"].startswith("list/") for w in missed(lines, look)]
        effective = [w for key in {x["key"] for x in lines} for w in writes_of(lines, key) if is_ok(w)]
        added = {(w["key"], w["value"].split(",")[-1]) for w in effective if w["key"].startswith("list/")}
        there = {(x["key"], item) for x in looks for value in shown(x) if value for item in value.split(",")}
        found = each.measures

        assert (found.operations, found.answered) == (len(traffic), sum(map(is_ok, traffic)))
        assert found.refused == sum(x["outcome"] == "failed" for x in traffic)
        assert found.unknown == sum(x["outcome"] == "unknown" for x in traffic)
        assert found.availability == found.answered / found.operations
        assert (found.reads, found.stale_reads) == (len(reads), len(stale))
        ages_s = [(r["invoked_ns"] - min(w["returned_ns"] for w in ws)) / 1e9 for r, ws in stale]
        assert found.stalest_s == max(ages_s, default=0.0)
        assert found.behind_max == max((len(ws) for _, ws in stale), default=0)
        assert found.own_writes_missed == sum(any(w["client"] == r["client"] for w in ws) for r, ws in stale)
        assert found.backwards_reads == backwards(lines, reads)
        deleted = [r for r, ws in stale if r.get("result") is not None and any(w["action"] == "delete" for w in ws)]
        assert found.deleted_reads == len(deleted)
        assert found.sibling_reads == sum("siblings" in r for r in reads)
        assert found.siblings_max == max([len(shown(r)) for r in reads if "siblings" in r], default=0)
        assert found.sibling_keys == sum("siblings" in x for x in looks)
        assert found.acknowledged_writes == sum(not w["key"].startswith("list/") for w in effective)
        assert found.lost_writes == sum(w["action"] != "delete" for w in lost)
        assert found.resurrected_deletes == sum(w["action"] == "delete" for w in lost)
        assert (found.acknowledged_additions, found.lost_additions) == (len(added), len(added - there))
        assert (found.read.ms_p50, found.read.ms_p99) == (quantile(reads, 0.5), quantile(reads, 0.99))
        assert (found.write.ms_p50, found.write.ms_p99) == (quantile(writes, 0.5), quantile(writes, 0.99))
        assert (found.read.ms_max, found.write.ms_max) == (quantile(reads, 1), quantile(writes, 1))


def test_the_committed_run_has_something_of_everything(results):
    total = {name: sum(getattr(each.measures, name) for each in results.variants) for name in (
        "stale_reads", "own_writes_missed", "backwards_reads", "deleted_reads", "sibling_reads", "sibling_keys",
        "lost_writes", "resurrected_deletes", "lost_additions", "unknown", "refused",
    )}  # fmt: skip

    assert all(total.values()), total
    assert any(each.prediction is not None for each in results.variants)
    assert all(each.curve for each in results.variants)


def is_gone(lines, write):
    """Was it acknowledged, and does the last look leave it out?"""
    (look,) = [x for x in lines if is_look(x) and x["key"] == write["key"]]
    if write["action"] == "get" or write.get("result") is False:
        return False
    if write["key"].startswith("list/"):
        return write["value"].split(",")[-1] not in {
            item for value in shown(look) if value for item in value.split(",")
        }
    return write in missed(lines, look)


def tally_of(part, lines):
    took = [x for x in part if is_ok(x)]
    stale, lost = (
        sum(x["action"] == "get" and missed(lines, x) != [] for x in took),
        sum(is_gone(lines, x) for x in took),
    )
    refused, unknown = (sum(x["outcome"] == outcome for x in part) for outcome in ("failed", "unknown"))
    return Tally(good=len(took) - stale - lost, stale=stale, lost=lost, refused=refused, unknown=unknown)


def test_every_slice_of_time_is_what_the_raw_lines_say(results):
    for each in results.variants:
        pace, all_lines = each.pace, lines_of(each.variant.slug)
        lines = [x for x in all_lines if not is_look(x)]
        events = json.loads((RUN / each.variant.slug / "events.json").read_text())
        at_s = {id(x): (x["invoked_ns"] - each.origin_ns) / 1e9 for x in lines}
        last = len(pace.whole) - 1
        for number, piece in enumerate(pace.whole):
            part = [x for x in lines if min(last, int(at_s[id(x)] / pace.slice_s)) == number]
            took = [x for x in part if is_ok(x)]

            assert piece.tally == tally_of(part, all_lines)
            assert (piece.ms_p50, piece.ms_p99) == (quantile(took, 0.5), quantile(took, 0.99))
            for node, counts in pace.by_node.items():
                assert counts[number] == tally_of([x for x in part if x["node"] == node], all_lines)
        ((begin, end), (band,)) = events, pace.bands
        from_s, until_s = ((event["at_ns"] - each.origin_ns) / 1e9 for event in (begin, end))
        during = [x for x in lines if from_s <= at_s[id(x)] < until_s]

        assert (band.from_s, band.until_s) == (from_s, until_s)
        assert pace.operations_in_faults == len(during)
        assert pace.answered_in_faults == sum(map(is_ok, during))


def test_the_staleness_curve_is_what_the_raw_lines_say(results):
    for each in results.variants:
        lines = [x for x in lines_of(each.variant.slug) if not is_look(x)]
        points = []
        for read in (x for x in lines if x["action"] == "get" and is_ok(x)):
            before = [w for w in writes_of(lines, read["key"]) if is_ok(w) and w["returned_ns"] < read["invoked_ns"]]
            if before:
                last = max(before, key=lambda w: w["returned_ns"])
                points.append(((read["invoked_ns"] - last["returned_ns"]) / 1e6, last in missed(lines, read)))
        for found in each.curve:
            part = [is_stale for ms, is_stale in points if found.from_ms <= ms <= found.until_ms]

            assert (found.reads, found.stale) == (len(part), sum(part))
        assert sum(found.reads for found in each.curve) > len(points) - 30


def test_the_page_shows_every_number_of_the_table_and_every_verdict(results):
    text = page(results, "the scenario's text")

    for row in rows(results):
        for each, cell in zip(results.variants, row.cells, strict=True):
            assert f'data-of="{each.variant.name}">{cell}</td>' in text
    for each in results.variants:
        assert f"<h3>{each.variant.name}</h3>" in text
        assert each.judgement.verdict in text


def test_every_number_on_a_card_is_one_of_the_measures(results):
    text = page(results, "")
    for each, card in zip(
        sentences.worst_first(results).variants,
        re.findall(r'<section class="card.*?</section>', text, re.DOTALL),
        strict=True,
    ):
        found, pace = each.measures, each.pace
        known = {f"{value:,}" for value in vars_of(found) if isinstance(value, int)} | {f"{found.stalest_s:.2f}"}
        known |= {f"{found.stalest_s * 1000:.0f}", "1"}
        known |= {f"{found.availability:.1%}", f"{pace.answered_in_faults / pace.operations_in_faults:.1%}"}
        known |= {f"{found.read.ms_p50:.1f}", f"{found.write.ms_p50:.1f}"}
        told = re.findall(r"\d[\d,.]*%?", card.partition(f">{each.variant.about}</p>")[2])

        assert {number.rstrip(".,") for number in told} <= known


def vars_of(struct):
    return [getattr(struct, name) for name in struct.__struct_fields__]


def test_a_page_needs_nothing_from_anywhere_else(results):
    text = page(results, "")

    assert not re.search(r"<(script|link|img|iframe|object)\b|@import|url\(|\bsrc=", text)
    assert set(re.findall(r"https?://[^\"' <]+", text)) <= {"http://www.w3.org/2000/svg"}


def test_what_comes_from_a_scenario_or_a_history_is_escaped(results):
    evil = "<script>alert(1)</script>"
    text = page(results, evil)

    assert evil not in text
    assert "&lt;script&gt;" in text


def test_a_report_is_made_of_its_folder_alone_and_equal_evidence_gives_an_equal_one(tmp_path):
    for name in ("one", "two"):
        shutil.copytree(RUN, tmp_path / name)
        report(tmp_path / name)
    one, two = (
        {p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.*")} for n in ("one", "two")
    )

    assert one == two
    pictures = [content for path, content in one.items() if path.suffix == ".svg"]
    assert len(pictures) >= 7
    for picture in pictures:
        assert ET.fromstring(picture).tag.endswith("svg")
        assert b"var(" not in picture


# --- measures of histories made by hand


def measured(history):
    return measures_of(history, harmed(history))


def test_a_read_of_a_write_that_is_under_way_or_of_unknown_outcome_is_not_stale():
    history = History(
        [
            done(1, PutAction(b"a"), at=0, outcome=Outcome.UNKNOWN),
            done(1, PutAction(b"b"), at=10),
            done(2, PutAction(b"c"), at=20, until=100),
            done(3, GetAction(), b"a", at=30),
            done(3, GetAction(), b"c", at=40),
            done(3, GetAction(), b"b", at=50),
        ]
    )

    assert measured(history).stale_reads == 0


def test_a_stale_read_is_as_old_as_the_first_write_that_it_misses():
    history = History(
        [
            done(1, PutAction(b"a"), at=0),
            done(1, PutAction(b"b"), at=10),
            done(2, PutAction(b"c"), at=500),
            done(1, GetAction(), b"a", at=1011),
        ]
    )
    found = measured(history)

    assert (found.stale_reads, found.own_writes_missed, found.behind_max, found.stalest_s) == (1, 1, 2, 1.0)


def test_a_value_that_outlives_a_deletion_is_a_resurrected_delete_and_no_lost_write():
    look = done(9, GetAction(), b"a", at=100, note="last look")
    found = measured(History([done(1, PutAction(b"a"), at=0), done(2, DeleteAction(), True, at=10), look]))

    assert (found.resurrected_deletes, found.lost_writes) == (1, 0)


def test_a_write_that_lost_to_one_that_was_under_way_at_the_same_time_is_not_called_lost():
    look = done(9, GetAction(), b"a", at=100, note="last look")
    found = measured(
        History([done(1, PutAction(b"a"), at=0, until=20), done(2, PutAction(b"b"), at=10, until=15), look])
    )

    assert found.lost_writes == 0


def test_an_addition_that_is_in_any_sibling_is_not_lost():
    key = b"list/k"
    writes = [
        done(1, PutAction(b"x"), at=0, key=key),
        done(2, PutAction(b"y"), at=0, key=key),
        done(3, PutAction(b"z"), at=0, key=key),
    ]
    conditional = [
        done(4, CompareAndSet(b"q", b"q,v"), result=False, at=5, key=key),
        done(4, CompareAndSet(b"x", b"x,w"), result=True, at=5, key=key),
    ]
    look = done(9, GetAction(), b"x", at=100, note="last look", siblings=(b"y",), key=key)
    found = measured(History([*writes, *conditional, look]))

    assert (found.acknowledged_additions, found.lost_additions, found.sibling_keys) == (4, 2, 1)


def test_two_values_at_once_are_a_contradiction_and_their_writers_the_proof():
    history = History(
        [
            done(1, PutAction(b"a"), at=0, until=9),
            done(2, PutAction(b"b"), at=1, until=9),
            done(3, GetAction(), b"b", at=20, siblings=(b"a",)),
        ]
    )
    judgement = judged(history)

    assert judgement.verdict == "not linearizable"
    assert judgement.proof.sentence == "client 3 was given 'a' and 'b' at once at 0.021 s"
    assert judgement.proof.operations == history.operations


def test_a_witness_has_a_bar_for_each_operation_and_marks_the_moment():
    operations = [
        done(1, PutAction(b"<a>"), at=0),
        done(2, PutAction(b"b"), at=3, outcome=Outcome.UNKNOWN),
        done(1, PutAction(b"c"), at=10),
        done(2, GetAction(), b"<a>", at=20),
    ]
    judgement = judged(History(operations))
    scene = of_witness(judgement.proof, is_harm=False)

    assert len(judgement.proof.operations) == 3
    for picture in (wide(scene), narrow(scene)):
        words = texts_of(picture)
        assert [each for each in words if each.startswith(("put", "get"))] == [
            "put '<a>'",
            "put 'c'",
            "get → '<a>', stale",
        ]
        assert "stale read" in words
        assert [kind for kind, *_ in bars_of(picture)] == ["write", "write", "warn"]
        assert picture.alone().count('class="moment warn"') == 1


@pytest.mark.parametrize("draw", [wide, narrow])
def test_a_story_has_a_bar_for_each_operation_in_order_and_its_faults_behind_them(draw):
    operations = (done(1, PutAction(b"a"), at=0), done(2, GetAction(), b"a", at=10), done(1, GetAction(), b"a", at=50))
    cut = Partition(groups=(("n1",), ("n2",)))
    events = [FaultEvent(at_ns=at * MS, what=what, fault=cut) for at, what in ((5, "begin"), (20, "end"))]
    bands = paced(History(operations), harmed(History(operations)), events, began_ns=0, ended_ns=60 * MS).bands
    picture = draw(Scene(description="raft", operations=operations, origin_ns=0, bands=bands))
    found = bars_of(picture)
    (_, begin, end), (_, put, _) = (next(each for each in found if each[0] == kind) for kind in ("band", "write"))
    first, second = sorted(at for kind, at, _ in found if kind == "good")

    assert texts_of(picture).count("partition n1 | n2") == 1
    assert put < begin < first < end < second


def test_the_latency_of_a_lonely_slice_is_a_dot():
    canvas = Canvas(10, 10, "one")
    canvas.curve([(3, 4)], "thick")

    assert 'd="M3.0 4.0 h0"' in canvas.alone()


def test_moments_have_as_many_digits_as_tell_them_apart():
    def of(gap_ns):
        return clock_for([replace(done(1, GetAction(), at=0), returned_ns=gap_ns)], 0).digits

    assert [of(gap_ns) for gap_ns in (5 * MS, MS, 190_000, 1_000, 1)] == [3, 3, 4, 6, 9]


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        (done(1, PutAction(b"a,b"), at=0, key=b"list/k"), "put [a, b]"),
        (done(1, PutAction(b"a,b,c,d"), at=0, key=b"list/k"), "put [4 things, last d]"),
        (done(1, GetAction(), b"a", at=0, key=b"list/k", siblings=(b"b", b"c")), "get → [a] | [b] | [c]"),
        (done(1, GetAction(), b"a", at=0, siblings=(b"b",)), "get → 'a' | 'b'"),
        (done(1, GetAction(), at=0, key=b"list/k"), "get → nothing"),
        (done(1, CompareAndSet(None, b"a"), True, at=0, key=b"list/k"), "cas nothing to [a] → done"),
        (done(1, PutAction(b"v"), at=0, outcome=Outcome.UNKNOWN), "put 'v' ?"),
        (done(1, PutAction(b"v"), at=0, outcome=Outcome.FAILED), "put 'v' refused"),
    ],
)
def test_bars_are_labelled_in_few_words(operation, words):
    assert label(operation) == words


# --- the prediction


def constant_delays(write_ms, round_trip_ms):
    nodes = ("n1", "n2", "n3")
    writes = [
        MeasuredDelay(kind="write", origin=a, number=0, node=b, seconds=write_ms / 1000)
        for a, b in itertools.permutations(nodes, 2)
    ]
    alone = [MeasuredDelay(kind="read", origin=a, number=0, replicas=1, seconds=0.001) for a in nodes]
    seconds = 0.001 + round_trip_ms / 1000
    both = [MeasuredDelay(kind="read", origin=a, number=0, replicas=2, seconds=seconds) for a in nodes]
    return [*writes, *alone, *both]


def stale_at(prediction, ms):
    return [p for at, p in zip(prediction.ms, prediction.stale, strict=True) if at <= ms][-1]


def test_reads_of_one_replica_are_stale_at_the_two_others_until_the_write_arrives():
    found = predicted(constant_delays(20, 0), r=1, w=1, random=Random(1))

    assert abs(stale_at(found, 10) - 2 / 3) < 0.02
    assert stale_at(found, 21) == 0
    assert found.fresh_ms_p999 == pytest.approx(20)


def test_quorums_that_overlap_are_never_predicted_to_be_stale():
    for r, w in ((2, 2), (1, 3), (3, 1)):
        found = predicted(constant_delays(20, 4), r=r, w=w, random=Random(1))

        assert max(found.stale) == 0, (r, w)


def test_the_delays_of_one_write_are_drawn_together():
    nodes = ("n1", "n2", "n3")
    delays = [delay for delay in constant_delays(0, 0) if delay.kind == "read"]
    for origin in nodes:
        early, late = (node for node in nodes if node != origin)
        for number, (first, second) in enumerate([(early, late), (late, early)]):
            delays.append(MeasuredDelay(kind="write", origin=origin, number=number, node=first, seconds=0.0))
            delays.append(MeasuredDelay(kind="write", origin=origin, number=number, node=second, seconds=0.04))
    found = predicted(delays, r=1, w=2, random=Random(1))

    assert abs(stale_at(found, 20) - 1 / 3) < 0.02  # drawn apart, half of all writes would be late, or early, at both


def test_without_measured_delays_nothing_is_predicted():
    assert predicted([], r=1, w=1, random=Random(1)) is None
    assert predicted(constant_delays(20, 0), r=5, w=1, random=Random(1)) is None


def test_few_reads_make_no_curve():
    assert curve(History([done(1, PutAction(b"a"), at=0), done(1, GetAction(), b"a", at=5)])) == ()
