"""How bodies come in: whole, in their time, and never too much of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from raftkv.http.carrying import HELD_BYTES_MAX, PATIENCE_S, SLOWEST_BYTES_PER_S, Bodies, IncompleteError

CHUNKED = {b"transfer-encoding": b"chunked"}
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
    return asyncio.run(Bodies(monotonic_s=lambda: sender.now_s).read(CHUNKED, sender.receive, LIMIT))


def test_a_body_that_drips_is_given_up() -> None:
    sender = Sender([b"x"] * 1000, pause_s=PATIENCE_S / 2)

    with pytest.raises(IncompleteError) as caught:
        read(sender)

    assert caught.value.response.status == 400
    assert sender.now_s < 2 * PATIENCE_S


def test_a_slow_body_that_keeps_coming_is_read_whole() -> None:
    chunks = [bytes(SLOWEST_BYTES_PER_S)] * 100

    assert read(Sender(chunks, pause_s=1.0)) == b"".join(chunks)


def test_bodies_under_way_share_what_they_may_hold_and_give_it_back() -> None:
    async def scenario() -> tuple[int, bytes]:
        bodies = Bodies(monotonic_s=lambda: 0.0)
        stuck = [
            asyncio.ensure_future(bodies.read(CHUNKED, Sender([bytes(LIMIT)], ends=False).receive, LIMIT))
            for _ in range(2)
        ]
        await asyncio.sleep(0)
        with pytest.raises(IncompleteError) as caught:
            await bodies.read(CHUNKED, Sender([b"one more"]).receive, LIMIT)
        for one in stuck:
            one.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
        return caught.value.response.status, await bodies.read(CHUNKED, Sender([b"one more"]).receive, LIMIT)

    assert asyncio.run(scenario()) == (429, b"one more")
