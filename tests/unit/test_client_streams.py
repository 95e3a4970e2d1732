"""Answers that are taken as they come: piece by piece, in lines, in events; no faster than they are taken."""

import asyncio
import contextlib
import time

import pytest

from raftkv import DefiniteError
from raftkv.client import events
from raftkv.client.async_channels import AsyncChannels
from raftkv.client.attempts import Attempts
from raftkv.client.calls import Call
from raftkv.client.events import EventReader, ServerSentEvent
from raftkv.client.exchange import Exchange
from raftkv.client.reach import UnheardError, UnopenedError, host_of
from tests.unit.fake_server import CUT, HANG, Dripping, Told, problem, unused_url


def taken(url, way="__aiter__", *, count=1000, silence_s=5.0, times=1):
    """What a stream gives, at most ``count`` of it, and what it breaks off with; the status before either."""

    async def once(channels):
        found = []
        try:
            async with channels.stream("GET", "/x", headers=(), timeout_s=5.0, silence_s=silence_s) as stream:
                found.append(stream.head.status)
                async for one in getattr(stream, way)():
                    found.append(one)
                    if len(found) > count:
                        break
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


def test_lines_and_events_are_told_as_they_become_whole(serve):
    pieces = [b"data: a\n\nda", 0.05, b"ta: b\n", HANG]

    assert taken(serve(Dripping(pieces)).url, "lines", count=3)[0] == [200, b"data: a", b"", b"data: b"]
    assert taken(serve(Dripping(pieces)).url, "events", count=1)[0] == [200, ServerSentEvent(data=b"a")]


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
        (Dripping([b"a", CUT]), [200, b"a"], "ended in the middle", False),
        (Dripping([b"a", HANG]), [200, b"a"], "said nothing for 0.2 s", True),
        (CUT, [], "ended before a word", False),
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
        async with channels.stream("GET", "/x", headers=(), timeout_s=5.0, silence_s=5.0) as stream:
            pieces = aiter(stream)
            total = len(await anext(pieces))
            await asyncio.sleep(0.5)
            sent_early = server.dripped
            async for piece in pieces:
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


# -- in a thread of its own

FOLLOW = Call(method="GET", path="/x", headers={"Accept": "text/event-stream"}, is_read=True, repeatable=True)


@contextlib.contextmanager
def following(*urls, silence_s=5.0, within_s=5.0):
    exchange = Exchange(Attempts(urls, retry=True), tls_ca=None)
    with exchange.open(FOLLOW, time.monotonic() + within_s, silence_s) as stream:
        yield stream
    exchange.close()


def test_events_are_iterated_over_as_they_come(serve):
    with following(serve(Dripping([b"data: a\n\nda", 0.05, b"ta: b\n\n", HANG])).url) as stream:
        events = stream.events()

        assert stream.head.header("content-type") == "text/event-stream"
        assert [next(events).data, next(events).data] == [b"a", b"b"]


def test_lines_and_pieces_are_iterated_over_to_the_end_and_the_connection_serves_on(serve):
    server = serve(Dripping([b"a\nb", 0.05, b"c\nd"]))
    exchange = Exchange(Attempts((server.url,), retry=True), tls_ca=None)
    for way, expected in (("lines", [b"a", b"bc"]), ("__iter__", [b"a\nb", b"c\nd"])):
        with exchange.open(FOLLOW, time.monotonic() + 5, 5.0) as stream:
            assert list(getattr(stream, way)()) == expected

    assert server.connections == 1


def test_a_stream_is_opened_at_the_next_server_when_one_does_not_answer_or_refuses(serve):
    refusing = serve(problem(503, "not_ready", "no"))
    with following(unused_url(), serve(CUT).url, refusing.url, serve(Dripping([b"a"])).url) as stream:
        assert list(stream) == [b"a"]
    assert refusing.asked[0].headers["accept"] == "text/event-stream"


@pytest.mark.parametrize("answer", [problem(400, "bad_request", "no"), problem(404, "not_found", "no")])
def test_an_answer_that_is_no_stream_is_a_failure_in_its_own_words(serve, answer):
    with pytest.raises(DefiniteError) as failed, following(serve(answer).url):
        pass

    assert failed.value.detail == f"it is {failed.value.code}"


@pytest.mark.parametrize(
    ("ends", "why", "is_silence"), [(CUT, "ended in the middle", False), (HANG, "said nothing for 0.2 s", True)]
)
def test_a_stream_that_breaks_off_or_falls_silent_says_so_after_what_it_gave(serve, ends, why, is_silence):
    server = serve(Dripping([b"a", 0.1, b"b", 0.1, b"c", ends]))
    found = []
    with pytest.raises(UnheardError, match=why) as failed, following(server.url, silence_s=0.2) as stream:
        found.extend(stream)

    assert found == [b"a", b"b", b"c"]
    assert failed.value.is_silence == is_silence


def test_a_thread_that_is_slow_makes_the_server_wait(serve):
    server = serve(Dripping([b"x" * 65536] * 1000))
    with following(server.url) as stream:
        pieces = iter(stream)
        first = len(next(pieces))
        time.sleep(0.5)
        sent_early = server.dripped

        assert sent_early < 500  # what the two sockets hold
        assert first + sum(map(len, pieces)) == 1000 * 65536
