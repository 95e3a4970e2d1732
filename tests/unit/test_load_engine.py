"""The engine against small servers on this machine: who waits for whom, from when time counts, what failures are."""

import asyncio
import contextlib
import functools
import time
from itertools import pairwise

import pytest

from raftkv.instruments.load.engine import ClosedLoop, Failure, LoadCall, LoadTarget, OpenLoop, _Engine, drive
from raftkv.instruments.load.plan import LoadError
from raftkv.instruments.load.pour import ATTEMPTS_MAX, Pour

REQUEST = b"GET /kv/k HTTP/1.1\r\nHost: x\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
REFUSED = Failure("no", "unreachable")
LIMIT_S = 20.0


class Site:
    """A server; ``serve`` is awaited for each request and gives the answer's bytes, or ``None`` to hang up."""

    def __init__(self, serve):
        self._serve = serve
        self.connections = 0
        self.requests = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        self.address = LoadTarget("127.0.0.1", self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_error):
        self._server.close()

    async def _client(self, reader, writer):
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                answer = await self._serve()
                if answer is None:
                    break
                writer.write(answer)
        writer.close()


class Record:
    """Work that sends ``count`` requests at most, to ``servers`` in turn, and remembers what came of each."""

    def __init__(self, count, servers=1, *, is_good=True):
        self._left = count
        self._servers = servers
        self._is_good = is_good
        self.under_way = []
        self.most_under_way = 0
        self.answers = []
        self.failures = []
        self.times = []

    def begin(self, _client, _began_s):
        if not self._left:
            return None
        self._left -= 1
        call = LoadCall(request=REQUEST, server=self._left % self._servers)
        self.under_way.append(call)
        self.most_under_way = max(self.most_under_way, len(self.under_way))
        return call

    def answered(self, call, status, body, times):
        self._end(call, times)
        self.answers.append((status, body))
        return self._is_good

    def failed(self, call, failure, times):
        self._end(call, times)
        self.failures.append(failure)

    def _end(self, call, times):
        self.under_way.remove(call)
        assert times.due_s <= times.began_s <= times.ended_s
        self.times.append(times)


async def at_once():
    return ANSWER


async def never():
    await asyncio.Event().wait()


async def hang_up():
    return None


def on_a_loop(test):
    @functools.wraps(test)
    def run():
        asyncio.run(test())

    return run


def forever():
    return ClosedLoop(time.perf_counter() + LIMIT_S)


@on_a_loop
async def test_in_a_closed_loop_every_client_waits_for_its_answer_and_connections_are_kept():
    async with Site(at_once) as one, Site(at_once) as other:
        work = Record(100, servers=2)
        await drive(work, [one.address, other.address], forever(), clients=5, timeout_s=5)

        assert work.answers == [(200, b"ok")] * 100
        assert work.most_under_way == 5
        assert one.requests == other.requests == 50
        assert one.connections <= 5


@on_a_loop
async def test_a_closed_loop_ends_when_its_time_is_over():
    async with Site(at_once) as site:
        work = Record(10**9)
        await drive(work, [site.address], ClosedLoop(time.perf_counter() + 0.05), clients=2, timeout_s=5)

        assert work.answers
        assert not work.under_way


def test_an_interrupt_at_the_very_end_is_not_lost(monkeypatch):
    """What ends there is another task; whoever waits for its end must not take the interrupt for that."""
    driving = []

    async def interrupts(_engine, _timeout_s):
        try:
            await asyncio.Event().wait()
        finally:
            driving[0].cancel()

    async def drive_once():
        async with Site(at_once) as site:
            driving.append(asyncio.current_task())
            await drive(Record(1), [site.address], forever(), clients=1, timeout_s=5)

    monkeypatch.setattr(_Engine, "give_up_silent", interrupts)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(drive_once())


@on_a_loop
async def test_in_an_open_loop_a_request_that_waited_for_a_client_counts_from_when_it_was_due():
    """Coordinated omission: while the first request hangs, nine more become due, and each shows its wait."""
    begin_s = time.perf_counter()

    async def first_slow():
        if site.requests == 1:
            await asyncio.sleep(begin_s + 0.1 - time.perf_counter())
        return ANSWER

    async with Site(first_slow) as site:
        work = Record(10)
        pace = OpenLoop(begin_s, begin_s + LIMIT_S, 100.0)
        await drive(work, [site.address], pace, clients=1, timeout_s=5)

        assert all(abs(later.due_s - earlier.due_s - 0.01) < 0.002 for earlier, later in pairwise(work.times))
        assert all(later.began_s >= work.times[0].ended_s > later.due_s for later in work.times[1:])


def test_an_open_loop_is_due_at_its_rate_however_late_it_is_asked():
    pace = OpenLoop(100.0, 101.0, 4.0)

    assert [pace.take(now_s) for now_s in (100.0, 100.0, 100.9)] == [100.0, 100.25, 100.5]
    assert pace.unsent_count == 1
    assert pace.take(101.0) is None
    assert pace.unsent_count == 1


def test_what_an_open_loop_could_not_send_while_it_warmed_up_is_forgotten():
    pace = OpenLoop(100.0, 104.0, 2.0, warm_up_s=2.0)

    assert [pace.take(now_s) for now_s in (100.0, 101.9, 102.1)] == [100.0, 100.5, 102.0]
    assert pace.unsent_count == 3


def test_requests_of_the_warm_up_are_not_counted_as_unsent():
    pace = OpenLoop(100.0, 104.0, 2.0, warm_up_s=2.0)

    assert pace.unsent_count == 4
    assert pace.take(100.0) == 100.0
    assert pace.unsent_count == 4
    assert OpenLoop(100.0, 101.45, 1.0, warm_up_s=1.4).unsent_count == 0


def test_an_open_loop_has_no_more_requests_than_fit_its_time():
    pace = OpenLoop(100.0, 101.0, 2.0)

    assert [pace.take(100.0) for _ in range(3)] == [100.0, 100.5, None]
    assert pace.unsent_count == 0


@on_a_loop
async def test_a_server_that_is_silent_is_given_up_and_the_outcome_is_unknown():
    async with Site(never) as site:
        work = Record(1)
        await drive(work, [site.address], forever(), clients=1, timeout_s=0.05)

        assert [(failure.applied, failure.code) for failure in work.failures] == [("unknown", "no_answer")]


@on_a_loop
async def test_a_server_that_hangs_up_leaves_the_outcome_unknown():
    async with Site(hang_up) as site:
        work = Record(2)
        await drive(work, [site.address], forever(), clients=1, timeout_s=5)

        assert [(failure.applied, failure.code) for failure in work.failures] == [("unknown", "connection_lost")] * 2


@on_a_loop
async def test_a_request_that_never_left_was_definitely_not_applied():
    async with Site(at_once) as site:
        address = site.address
    work = Record(1)
    await drive(work, [address], forever(), clients=1, timeout_s=5)

    assert [(failure.applied, failure.code) for failure in work.failures] == [("no", "unreachable")]
    assert work.failures[0].detail.startswith(f"{address.host}:{address.port}: ")


@on_a_loop
async def test_what_is_no_http_is_a_failure():
    async def nonsense():
        return b"SSH-2.0-x\r\n\r\n"

    async with Site(nonsense) as site:
        work = Record(1)
        await drive(work, [site.address], forever(), clients=1, timeout_s=5)

        assert "not readable" in work.failures[0].detail


@on_a_loop
async def test_what_the_work_raises_ends_the_run():
    class Broken(Record):
        def answered(self, *_answer):
            raise ZeroDivisionError

    async with Site(at_once) as site:
        with pytest.raises(ZeroDivisionError):
            await drive(Broken(10), [site.address], forever(), clients=3, timeout_s=5)


def pour(items, judge):
    return Pour(
        items,
        request=lambda _item, _turn, _began_s: LoadCall(request=REQUEST, server=0),
        judge=lambda _call, answer, _times: judge(answer),
    )


@on_a_loop
async def test_pouring_repeats_what_was_refused_until_all_is_done():
    async def refuse_thrice():
        return ANSWER if site.requests > 3 else ANSWER.replace(b"200 OK", b"503 No")

    async with Site(refuse_thrice) as site:
        work = pour(range(10), lambda answer: None if answer[0] == 200 else REFUSED)
        await drive(work, [site.address], forever(), clients=2, timeout_s=5)

        assert work.done == 10
        assert site.requests == 13


@on_a_loop
async def test_pouring_gives_up_when_one_item_keeps_failing():
    work = pour(range(1), lambda failure: failure)
    call = work.begin(0, 0.0)
    for _ in range(ATTEMPTS_MAX - 1):
        work.failed(call, REFUSED, None)
        call = work.begin(0, 0.0)

    with pytest.raises(LoadError, match="unreachable"):
        work.failed(call, REFUSED, None)
