"""Answers that are taken as they come: piece by piece, in lines, in events; no faster than they are taken."""

import asyncio
import contextlib
import time

import pytest

from raftkv import DefiniteError
from raftkv.client import events
from raftkv.client.async_channels import AsyncChannels
from raftkv.client.async_exchange import AsyncExchange
from raftkv.client.attempts import Attempts
from raftkv.client.calls import Call
from raftkv.client.events import EventReader, LineReader, ServerSentEvent
from raftkv.client.exchange import Exchange
from raftkv.client.portions import AnswerStream
from raftkv.client.reach import UnheardError, UnopenedError, host_of
from tests.unit.fake_server import CUT, HANG, Dripping, Told, problem, unused_url


@contextlib.asynccontextmanager
async def begun(channels):
    host = channels.host
    body = await channels.begin("GET", host.form("GET").request("/x"), 5.0)
    try:
        yield body
    finally:
        body.end()


def taken(url, *, count=1000, silence_s=5.0, times=1):
    """The pieces of a stream, at most ``count``, and what it breaks off with; the status before either."""

    async def once(channels):
        found = []
        try:
            async with begun(channels) as body:
                found.append(body.head.status)
                while len(found) <= count and (piece := await body.piece(silence_s)):
                    found.append(piece)
        except (UnheardError, UnopenedError) as error:
            found.append(error)
        return found

    async def run():
        channels = AsyncChannels(host_of(url), tls=None, limit=1)
        found = [await once(channels) for _ in range(times)]
        channels.close()
        assert channels.in_use == 0
        return found

    return asyncio.run(run())


# -- lines and events, however they are split


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_events_are_the_same_however_they_are_split(step):
    text = (
        b'id: 7\nevent: put\ndata: {"a":\r\ndata:1}\r\n\r\n: up\n\ndata\n\nevent: no\n\nid: 8\ndata:  x\nretry: 1\n\n'
    )
    reader = EventReader()
    found = [event for at in range(0, len(text), step) for event in reader.feed(text[at : at + step])]

    assert found == [
        ServerSentEvent(data=b'{"a":\n1}', event="put", id="7"),
        ServerSentEvent(data=b"", id="7"),
        ServerSentEvent(data=b" x", id="8"),
    ]


@pytest.mark.parametrize("text", [b"x" * 101, b"data: 345678\n" * 9])
def test_an_event_beyond_all_bounds_is_unreadable(text, monkeypatch):
    monkeypatch.setattr(events, "EVENT_BYTES_MAX", 100)
    with pytest.raises(UnheardError):
        EventReader().feed(text)


# -- on an asyncio loop


def test_pieces_come_before_the_answer_ends_and_the_connection_serves_on(serve):
    server = serve(Dripping([b"a", 0.05, b"b"]))
    first, second = taken(server.url, times=2)

    assert first == second == [200, b"a", b"b"]
    assert server.connections == 1


def test_an_answer_of_any_kind_can_be_taken_as_a_stream(serve):
    assert taken(serve(Told(404, b"no")).url)[0] == [404, b"no"]
    assert taken(serve(Told(200)).url)[0] == [200]


def test_who_leaves_early_gives_the_connection_up(serve):
    server = serve(Dripping([b"a", HANG]))

    assert taken(server.url, count=1, times=2) == [[200, b"a"]] * 2
    assert server.connections == 2


@pytest.mark.parametrize(
    ("answer", "before", "why", "is_silence"),
    [
        (Dripping([b"a", CUT]), [200, b"a"], "in the middle of its answer", False),
        (Dripping([b"a", HANG]), [200, b"a"], "said nothing for 0.2 s", True),
        (CUT, [], "before it had answered", False),
    ],
)
def test_a_stream_that_breaks_off_says_so(serve, answer, before, why, is_silence):
    ((*found, error),) = taken(serve(answer).url, silence_s=0.2)

    assert found == before
    assert isinstance(error, UnheardError)
    assert why in str(error)
    assert error.is_silence == is_silence


def test_of_a_stream_to_nobody_nothing_was_sent():
    ((error,),) = taken(unused_url())

    assert isinstance(error, UnopenedError)


def test_a_consumer_that_is_slow_makes_the_server_wait(serve):
    server = serve(Dripping([b"x" * 65536] * 1000))

    async def run():
        channels = AsyncChannels(host_of(server.url), tls=None, limit=1)
        async with begun(channels) as body:
            total = len(await body.piece(5.0))
            await asyncio.sleep(0.5)
            sent_early = server.dripped
            while piece := await body.piece(5.0):
                total += len(piece)
        return sent_early, total

    sent_early, total = asyncio.run(run())

    assert sent_early < 500  # what the two sockets hold
    assert total == 1000 * 65536


def test_an_answer_that_drips_is_as_bounded_in_time_as_any(serve):
    server = serve(Dripping([b"a", 0.1] * 100))

    async def run():
        channels = AsyncChannels(host_of(server.url), tls=None, limit=1)
        await channels.exchange("GET", "/x", headers=(), timeout_s=0.5)

    begun_s = time.monotonic()
    with pytest.raises(UnheardError):
        asyncio.run(run())
    assert time.monotonic() - begun_s < 5


# -- as plans, performed by a thread that waits and on a loop

FOLLOW = Call(method="GET", path="/x", headers={"Accept": "text/event-stream"}, is_read=True, repeatable=True)


def pieces_of(piece):
    return [piece]


def waiting(portions, count, pause_s):
    """The first ``count`` items; ``pause_s`` passes after the first."""
    exchange, found = Exchange(), []
    try:
        with contextlib.closing(exchange.each(portions)) as items:
            for item in items:
                found.append(item)
                if len(found) == count:
                    break
                if len(found) == 1:
                    time.sleep(pause_s)
    except DefiniteError as error:
        found.append(error)
    exchange.close()
    return found


def awaiting(portions, count, pause_s):
    """The same on a loop."""

    async def run():
        exchange, found = AsyncExchange(), []
        try:
            async with contextlib.aclosing(exchange.each(portions)) as items:
                async for item in items:
                    found.append(item)
                    if len(found) == count:
                        break
                    if len(found) == 1:
                        await asyncio.sleep(pause_s)
        except DefiniteError as error:
            found.append(error)
        exchange.close()
        return found

    return asyncio.run(run())


@pytest.fixture(params=[waiting, awaiting])
def follow(request):
    def follow(*urls, feed=pieces_of, silence_s=5.0, count=None, pause_s=0.0):
        attempts = Attempts(urls, retry=True, now_s=time.monotonic)
        stream = AnswerStream(
            lambda: attempts.begun(FOLLOW, time.monotonic() + 5.0), "text/event-stream", feed, silence_s
        )
        return request.param(stream, count, pause_s)

    return follow


def test_events_are_iterated_over_as_they_come(serve, follow):
    server = serve(Dripping([b"data: a\n\nda", 0.05, b"ta: b\n\n", HANG]))

    assert [one.data for one in follow(server.url, feed=EventReader().feed, count=2)] == [b"a", b"b"]


def test_lines_and_pieces_are_iterated_over_to_the_end(serve, follow):
    for feed, expected in ((LineReader().feed, [b"a", b"bc"]), (pieces_of, [b"a\nb", b"c\nd"])):
        assert follow(serve(Dripping([b"a\nb", 0.05, b"c\nd"])).url, feed=feed) == expected


def test_after_a_stream_that_came_to_its_end_the_connection_serves_on(serve):
    server, exchange = serve(Dripping([b"a", 0.05, b"b"])), Exchange()
    attempts = Attempts((server.url,), retry=True, now_s=time.monotonic)
    for _ in range(2):
        stream = AnswerStream(lambda: attempts.begun(FOLLOW, time.monotonic() + 5.0), "text/event-stream", pieces_of)
        assert b"".join(exchange.each(stream)) == b"ab"  # in as many pieces as they came
    exchange.close()

    assert server.connections == 1


def test_a_stream_is_opened_at_the_next_server_when_one_does_not_answer_or_refuses(serve, follow):
    refusing = serve(problem(503, "not_ready", "no"))

    assert follow(unused_url(), serve(CUT).url, refusing.url, serve(Dripping([b"a"])).url) == [b"a"]
    assert refusing.asked[0].headers["accept"] == "text/event-stream"


@pytest.mark.parametrize("answer", [problem(400, "bad_request", "no"), problem(404, "not_found", "no")])
def test_an_answer_that_is_no_stream_is_a_failure_in_its_own_words(serve, follow, answer):
    (failed,) = follow(serve(answer).url)

    assert failed.detail == f"it is {failed.code}"


@pytest.mark.parametrize(("ends", "why"), [(CUT, "in the middle of its answer"), (HANG, "said nothing for 0.2 s")])
def test_a_stream_that_breaks_off_or_falls_silent_says_so_after_what_it_gave(serve, follow, ends, why):
    server = serve(Dripping([b"a", 0.1, b"b", 0.1, b"c", ends]))
    *found, failed = follow(server.url, silence_s=0.2)

    assert found == [b"a", b"b", b"c"]
    assert why in failed.detail


def test_who_is_slow_makes_the_server_wait(serve, follow):
    server = serve(Dripping([b"x" * 65536] * 1000))
    sent_early = []

    def feed(piece):
        sent_early.append(server.dripped)
        return [piece]

    found = follow(server.url, feed=feed, pause_s=0.5)

    assert sent_early[1] < 500  # what the two sockets hold
    assert sum(map(len, found)) == 1000 * 65536
