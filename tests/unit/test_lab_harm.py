"""A report tells harm first: what is red, what is amber, what is drawn, of histories in which harm was planted."""

import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from raftkv.instruments.lab.history import CompareAndSet, DeleteAction, GetAction, History, Outcome, PutAction
from raftkv.instruments.lab.report import sentences
from raftkv.instruments.lab.report.figures import strip
from raftkv.instruments.lab.report.harm import harmed
from raftkv.instruments.lab.report.losses import plainest_loss
from raftkv.instruments.lab.report.measures import measured
from raftkv.instruments.lab.report.pace import paced
from raftkv.instruments.lab.report.page import page
from raftkv.instruments.lab.report.results import judged, of_run
from raftkv.instruments.lab.report.timelines import narrow, of_loss, wide
from tests.unit.lab_histories import MS, bars_of, done, texts_of


@pytest.fixture(scope="module")
def results():
    return of_run(Path(__file__).parent / "lab_run")


def variant_of(each, operations, **changed):
    """``each`` with the history of ``operations``, of a kind of cluster that is ``changed`` so."""
    history = History(operations)
    harm = harmed(history)
    return replace(
        each,
        variant=replace(each.variant, **changed),
        judgement=judged(history),
        measures=measured(history, harm),
        pace=paced(history, harm, [], began_ns=0, ended_ns=200 * MS),
        curve=(),
        prediction=None,
        loss=plainest_loss(history, harm, origin_ns=0),
    )


def look(value, key=b"k"):
    return done(9, GetAction(), value, at=150, note="last look", key=key)


KEPT = [done(1, PutAction(b"a"), at=0), done(2, GetAction(), b"a", at=10), look(b"a")]
LOST = [done(1, PutAction(b"a"), at=0), done(2, PutAction(b"b"), at=10), look(b"a")]
UNDONE = [done(1, PutAction(b"a"), at=0), done(2, DeleteAction(), True, at=10), look(b"a")]
STALE = [
    done(1, PutAction(b"a"), at=0),
    done(2, PutAction(b"b"), at=10),
    done(3, GetAction(), b"a", at=20),
    look(b"b"),
]
FALSE = [
    done(1, PutAction(b"a"), at=0, outcome=Outcome.FAILED),
    done(2, GetAction(), b"a", at=10),
    look(None),
]
CART = b"list/cart"
DROPPED = [
    done(1, GetAction(), None, at=0, key=CART),
    done(2, GetAction(), None, at=5, key=CART),
    done(1, PutAction(b"milk"), at=10, key=CART),
    done(2, PutAction(b"bread"), at=20, key=CART),
    look(b"bread", CART),
]
BOTH = [
    done(1, PutAction(b"milk"), at=10, key=CART),
    done(2, PutAction(b"bread"), at=10, key=CART),
    done(9, GetAction(), b"bread", at=150, note="last look", siblings=(b"milk",), key=CART),
]
LOCAL = {"mode": "raft", "read": "consistency=local", "promises_linearizable": False}
PROMISED = {"mode": "raft", "read": "", "promises_linearizable": True}
STRICT = {"mode": "quorum", "read": "", "config": {"quorum": {"sloppy": False}}}
SLOPPY = {"mode": "quorum", "read": "", "config": {}}


@pytest.mark.parametrize(
    ("operations", "variant", "tone", "words"),
    [
        (KEPT, LOCAL, "is-fine", "Nothing lost, nothing stale"),
        (LOST, LOCAL, "is-harm", "Lost: 1 of 2 writes"),
        (LOST, PROMISED, "is-harm", "Lost: 1 of 2 writes"),
        (LOST, SLOPPY, "is-harm", "Lost: 1 of 2 writes"),
        (UNDONE, SLOPPY, "is-harm", "Lost: 1 deletion"),
        (DROPPED, PROMISED, "is-harm", "Lost: 1 of 2 additions"),
        (BOTH, SLOPPY, "is-fine", "Nothing lost, nothing stale"),
        (STALE, LOCAL, "is-allowed", "Stale: 1 of 1 reads, allowed here"),
        (STALE, SLOPPY, "is-allowed", "Stale: 1 of 1 reads, allowed here"),
        (STALE, PROMISED, "is-harm", "Stale: 1 of 1 reads, although fresh answers were promised"),
        (STALE, STRICT, "is-harm", "Stale: 1 of 1 reads, although fresh answers were promised"),
        (FALSE, LOCAL, "is-harm", "False: dirty read"),
    ],
)
def test_red_is_harm_and_only_harm(results, operations, variant, tone, words):
    each = variant_of(results.variants[0], operations, **variant)
    (card,) = re.findall(r'<section class="card ([\w-]+)">', page(replace(results, variants=(each,)), ""))

    assert card == tone
    assert sentences.headline(each) == words


def test_the_worst_comes_first_and_whether_it_is_linearizable_is_a_tag(results):
    best = variant_of(results.variants[0], BOTH, name="siblings", **SLOPPY)
    middle = variant_of(results.variants[0], STALE, name="local", **LOCAL)
    worst = variant_of(results.variants[0], DROPPED, name="blind", **PROMISED)
    text = page(replace(results, variants=(best, middle, worst)), "")

    assert re.findall(r"<section.*?<h3>(.*?)</h3>", text, re.DOTALL) == ["blind", "local", "siblings"]
    assert re.findall(r'<p class="tag"><span>(.*?)</span>', text) == [
        "linearizable, as promised",
        "not linearizable, nor promised",
        "not linearizable, nor promised",
    ]


def test_a_promise_that_was_broken_without_a_stale_read_is_harm(results):
    twice = [
        done(1, PutAction(b"a"), at=0),
        done(2, CompareAndSet(b"a", b"b"), True, at=10),
        done(3, CompareAndSet(b"a", b"c"), True, at=20),
        look(b"c"),
    ]
    each = variant_of(results.variants[0], twice, **PROMISED)

    assert sentences.tone(each) == "is-harm"
    assert sentences.headline(each) == "Not linearizable, against its promise"


@pytest.mark.parametrize("draw", [wide, narrow])
def test_a_lost_update_is_drawn_with_who_read_what_who_wrote_what_and_which_write_is_gone(draw):
    history = History([*DROPPED, done(3, PutAction(b"x"), at=12, key=b"other"), look(b"x", b"other")])
    loss = plainest_loss(history, harmed(history), origin_ns=0)
    picture = draw(of_loss(loss, ()))

    assert loss.sentence == (
        "client 1 added milk, and was told at 0.011 s that it is done; "
        "client 2 had read the list before that, and wrote it back without milk"
    )
    assert [kind for kind, *_ in sorted(bars_of(picture), key=lambda bar: bar[1])] == [
        *("good", "good", "bad", "write", "good"),
    ]
    told = " ".join(texts_of(picture))
    for words in ("put [milk], lost", "put [bread], without milk", "get → [bread], without milk", "gone"):
        assert words in told


def test_of_many_losses_the_plainest_is_told():
    crowd = [
        done(1, PutAction(b"a,b,c"), at=0, until=40, key=CART),
        done(2, PutAction(b"a,b,d"), at=5, until=30, key=CART),
        done(3, PutAction(b"e"), at=50, key=CART),
        done(4, PutAction(b"f"), at=60, key=CART),
    ]
    history = History([*crowd, look(b"f", CART)])

    assert plainest_loss(history, harmed(history), origin_ns=0).lost.client == 3
    assert plainest_loss(History(KEPT), harmed(History(KEPT)), origin_ns=0) is None


@pytest.mark.parametrize(
    ("operations", "words"),
    [
        (LOST, "client 2's put of 'b' was acknowledged at 0.011 s; in the end 'a' is there, which is older"),
        (UNDONE, "client 2 was told at 0.011 s that its delete is done; in the end 'a' is back"),
        ([LOST[0], look(None)], "client 1's put of 'a' was acknowledged at 0.001 s; in the end nothing is there"),
    ],
)
def test_what_is_gone_is_told_in_a_sentence(operations, words):
    history = History(operations)

    assert plainest_loss(history, harmed(history), origin_ns=0).sentence == words


def test_stale_reads_and_lost_writes_are_piled_as_such(results):
    each = variant_of(results.variants[0], [*STALE[:3], *LOST[:2], look(b"a")], **LOCAL)
    kinds = [kind for kind, *_ in bars_of(strip(each.pace, "both"))]

    assert {"warn", "bad", "good faint"} <= set(kinds)
