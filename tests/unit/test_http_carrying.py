"""How bodies come in: whole, in their time, and never too much of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from raftkv.http.door.carrying import Bodies, IncompleteError
from raftkv.http.door.room import PATIENCE_S, SHORT_PATIENCE_S, SLOWEST_BYTES_PER_S, HeldBytes

CHUNKED = {b"transfer-encoding": b"chunked"}
HELD_BYTES_MAX = 32 << 20
LIMIT = HELD_BYTES_MAX // 2  # so that two fill what may be held


class Sender:
    """Sends ``chunks``, one every ``pause_s`` of its clock; then stops short, or ends the body if it ``ends``."""

    def __init__(self, chunks: Iterable[bytes], *, pause_s: float = 0.0, ends: bool = True) -> None:
        self.now_s = 0.0
        self._chunks = iter(chunks)
        self._pause_s = pause_s
        self._ends = ends

    async def receive(self) -> dict[str, Any]:
        chunk = next(self._chunks, None)
        if chunk is None and not self._ends:
            await asyncio.Event().wait()
        self.now_s += self._pause_s
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}


def read(sender: Sender) -> bytes:
    def now_s() -> float:
        return sender.now_s

    room = HeldBytes(HELD_BYTES_MAX, monotonic_s=now_s)
    body = asyncio.run(Bodies(room, monotonic_s=now_s).read(CHUNKED, sender.receive, LIMIT))
    assert room.held_bytes == 0
    return body


def test_a_body_that_drips_is_given_up() -> None:
    sender = Sender([b"x"] * 1000, pause_s=PATIENCE_S / 2)

    with pytest.raises(IncompleteError) as caught:
        read(sender)

    assert caught.value.response.status == 400
    assert sender.now_s <= 2 * PATIENCE_S


def test_a_slow_body_that_keeps_coming_is_read_whole() -> None:
    chunks = [bytes(SLOWEST_BYTES_PER_S)] * 100

    assert read(Sender(chunks, pause_s=1.0)) == b"".join(chunks)


def test_bodies_under_way_share_what_they_may_hold_and_give_it_back() -> None:
    async def scenario() -> tuple[int, bytes]:
        now = 0.0
        room = HeldBytes(HELD_BYTES_MAX, monotonic_s=lambda: now)
        bodies = Bodies(room, monotonic_s=lambda: now)
        stuck = [
            asyncio.ensure_future(bodies.read(CHUNKED, Sender([bytes(LIMIT)], ends=False).receive, LIMIT))
            for _ in range(2)
        ]
        await asyncio.sleep(0)
        with pytest.raises(IncompleteError) as caught:
            await bodies.read(CHUNKED, Sender([b"one more"]).receive, LIMIT)
        now = 2 * SHORT_PATIENCE_S + HELD_BYTES_MAX  # longer than bodies of that size may take
        whole = await bodies.read(CHUNKED, Sender([b"one more"]).receive, LIMIT)
        given_up = [one for one in stuck if isinstance(await settled(one), IncompleteError)]
        assert len(given_up) == 1  # which is enough
        for one in stuck:
            one.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
        assert room.held_bytes == 0
        return caught.value.response.status, whole

    assert asyncio.run(scenario()) == (429, b"one more")


async def settled(task: asyncio.Future[bytes]) -> BaseException | None:
    await asyncio.wait([task], timeout=0.1)
    return task.exception() if task.done() else None
