"""The measured work, against a store in memory: every count of a result comes from answers that were really given."""

from collections import Counter

import pytest

from raftkv.instruments.load.dialect import RaftkvDialect
from raftkv.instruments.load.engine import Failure, Times
from raftkv.instruments.load.plan import VALUE_BYTES_MIN, Distribution, LoadPlan, Ratio, parse_ratio
from raftkv.instruments.load.report import COLUMNS, csv_fields, latency_rows, remarks
from raftkv.instruments.load.result import result
from raftkv.instruments.load.samples import Age, RequestKind
from raftkv.instruments.load.traffic import Traffic

REFUSED = b'{"code": "no_leader", "applied": "no", "detail": "there is\\nno leader"}'


ABSENT = b'{"code":"not_found","applied":"no","detail":""}'


class Store:
    """One client after the other reads and writes a dictionary; every request takes 1 ms."""

    def __init__(self, *, writers=(0, 1, 2), **plan):
        self.plan = LoadPlan(clients=2, keys=10, **plan)
        self.traffic = Traffic(self.plan, RaftkvDialect(self.plan), run="run", readers=range(3), writers=writers)
        self.traffic.begin_s = 0.0
        self.values = {}
        self.now_s = 0.0
        self.calls = []

    @property
    def samples(self):
        return self.traffic.samples

    def begin(self, client=0):
        call = self.traffic.begin(client, self.now_s)
        self.calls.append(call)
        return call

    def answer(self, call, status=200, body=None):
        head, _, value = call.request.partition(b"\r\n\r\n")
        if head.startswith(b"PUT") and status == 200:
            self.values[call.key] = value
            body = b"{}"
        elif body is None:
            status, body = (200, self.values[call.key]) if call.key in self.values else (404, ABSENT)
        began_s, self.now_s = self.now_s, self.now_s + 0.001
        return self.traffic.answered(call, status, body, Times(began_s, began_s, self.now_s))

    def run(self, count):
        for _ in range(count):
            assert self.answer(self.begin())

    def result(self):
        return result(
            self.samples,
            self.plan,
            servers=("h:1",),
            began="now",
            version="0",
            seconds=1.0,
            unsent=0,
            client_cores=0.5,
        )


def failures(store):
    return {key: each.count for key, each in store.samples.errors.items()}


@pytest.mark.parametrize("ratio", [Ratio(1, 99), Ratio(90, 10)])
def test_operations_come_in_the_ratio_that_was_planned_on_all_servers(ratio):
    store = Store(ratio=ratio)
    store.run(5000)

    assert store.samples.latencies_us[RequestKind.WRITE].total() / 5000 == pytest.approx(ratio.write_share, rel=0.25)
    assert all(count > 1500 for count in Counter(call.server for call in store.calls).values())


def test_writes_can_be_kept_to_some_of_the_servers():
    store = Store(ratio=Ratio(1, 1), writers=(1,))
    store.run(500)

    assert {call.server for call in store.calls if call.before is None} == {1}
    assert {call.server for call in store.calls if call.before is not None} == {0, 1, 2}


def test_the_same_seed_sends_the_same_requests_and_another_one_does_not():
    requests = []
    for seed in (1, 1, 2):
        store = Store(seed=seed)
        store.run(100)
        requests.append([(call.request, call.server) for call in store.calls])

    assert requests[0] == requests[1] != requests[2]


@pytest.mark.parametrize("size", [VALUE_BYTES_MIN, 100, 10_000])
def test_values_have_the_size_that_was_planned_and_name_their_write(size):
    store = Store(ratio=Ratio(1, 0), value_bytes=size)
    store.run(20)

    assert {len(value) for value in store.values.values()} == {size}
    assert len(set(store.values.values())) == len(store.values)


def test_a_store_that_answers_one_after_the_other_is_never_stale():
    store = Store(ratio=Ratio(1, 1), distribution=Distribution.LOCAL_IN_TIME)
    store.run(2000)
    found = store.result().freshness

    assert found.reads > 900
    assert (found.stale, found.missed, found.backward, found.during_write) == (0, 0, 0, 0)
    assert sum(found.since_write_ms[Age.NEWEST].values()) > 900
    assert not found.since_write_ms[Age.STALE]


def test_a_store_that_loses_a_write_has_stale_reads():
    store = Store(ratio=Ratio(1, 1))
    store.run(200)
    store.values.clear()
    while store.samples.freshness.missed == 0:
        store.run(1)
    found = store.result().freshness

    assert found.stale == found.missed == found.backward == 1
    assert sum(found.since_write_ms[Age.STALE].values()) == 1


def test_a_value_of_another_key_is_a_failure():
    store = Store(ratio=Ratio(1, 1))
    store.run(200)
    call = next(call for call in iter(store.begin, None) if call.before is not None)

    assert not store.answer(call, 200, store.values[(call.key + 1) % 10])
    assert failures(store) == {("read", "no", "wrong_value"): 1}


def test_values_that_were_there_before_the_run_are_old_and_no_failure():
    store = Store(ratio=Ratio(0, 1))
    store.values = dict.fromkeys(range(10), b"other.0.1.noise")
    store.run(10)

    assert store.samples.freshness.stale == 0


def test_failures_are_counted_by_kind_and_code_and_have_no_latency():
    store = Store(ratio=Ratio(1, 0))
    store.answer(store.begin(), 503, REFUSED)
    store.answer(store.begin(), 503, REFUSED)
    store.traffic.failed(store.begin(), Failure("unknown", "no_answer"), Times(0, 0, 1))

    assert failures(store) == {("write", "no", "no_leader"): 2, ("write", "unknown", "no_answer"): 1}
    assert store.samples.done_count == 0
    assert [(each.code, each.count) for each in store.result().errors] == [("no_leader", 2), ("no_answer", 1)]


def test_a_read_that_was_not_answered_is_no_reason_for_doubt():
    store = Store(ratio=Ratio(0, 1))
    store.traffic.failed(store.begin(), Failure("unknown", "no_answer"), Times(0, 0, 1))

    assert failures(store) == {("read", "no", "no_answer"): 1}


def test_what_was_due_before_the_window_is_judged_and_not_counted():
    store = Store(ratio=Ratio(1, 1))
    store.traffic.begin_s = 10.0
    store.run(100)
    store.values.clear()
    store.run(100)
    store.answer(store.begin(), 503, REFUSED)

    assert (store.samples.done_count, store.samples.failed_count, store.samples.freshness.stale) == (0, 0, 0)

    store.now_s = 10.0
    store.values.clear()
    store.run(100)

    assert store.samples.done_count == 100
    assert store.samples.freshness.missed > 0


def test_latency_counts_from_when_the_request_was_due():
    store = Store(ratio=Ratio(1, 0))
    store.traffic.answered(store.begin(), 200, b"{}", Times(1.0, 1.5, 1.501))

    assert store.result().latency[RequestKind.WRITE].max_ms == 501.0


def test_percentiles_are_those_of_the_samples():
    store = Store()
    store.samples.latencies_us[RequestKind.READ].update({(number + 1) * 1000: 1 for number in range(10_000)})
    found = store.result().latency[RequestKind.READ]
    shown = (found.p50_ms, found.p90_ms, found.p95_ms, found.p99_ms, found.p999_ms, found.p9999_ms, found.max_ms)

    assert shown == pytest.approx((5000, 9000, 9500, 9900, 9990, 9999, 10_000), rel=1e-3)
    assert found.mean_ms == 5000.5
    assert found.count == 10_000


def test_the_table_and_the_spreadsheet_show_what_was_counted():
    store = Store(ratio=Ratio(1, 0))
    store.run(3)
    store.answer(store.begin(), 503, REFUSED)
    found = store.result()
    (row,) = latency_rows(found)
    fields = csv_fields(found)

    assert dict(zip(COLUMNS, row, strict=True)) | {"mean ms": "1.00"} == {
        "kind": "write",
        "count": "3",
        "errors": "1",
        **dict.fromkeys(("mean ms", "p50", "p90", "p99", "p99.9", "p99.99", "max"), "1.00"),
        "per s": "3",
    }
    assert any("1 writes failed: no_leader, applied: no (first: there is no leader)" in line for line in remarks(found))
    assert (fields["write_count"], fields["write_errors"], fields["read_count"], fields["read_p50_ms"]) == (3, 1, 0, "")


@pytest.mark.parametrize("text", ["", "1", "1/", "0/0", "-1/2", "1/2/3", "a/b", "1.5/2", "50/60", "1/1"])
def test_what_is_no_ratio_is_refused(text):
    with pytest.raises(ValueError, match="ratio"):
        parse_ratio(text)
