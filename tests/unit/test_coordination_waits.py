"""Waiting for one thing to change."""

from __future__ import annotations

from raftkv.core.requests import Compact
from tests.unit.driven_feed import Driven, Solo


def test_a_wait_ends_once_when_something_in_its_range_changes(solo: Solo, driven: Driven) -> None:
    heard: list[str] = []
    driven.feed.wait(b"k", b"k\x00", 0, lambda: heard.append("k"))
    driven.feed.wait(b"l", b"m", 0, lambda: heard.append("l"))
    never = driven.feed.wait(b"k", b"k\x00", 0, lambda: heard.append("never"))
    driven.settle()
    never.end()
    solo.put("j")
    driven.settle()
    assert heard == []
    solo.put("k")
    solo.put("k")
    driven.settle()

    assert heard == ["k"]
    assert driven.feed.listener_count == 1


def test_a_wait_for_what_has_happened_already_or_is_forgotten_ends_at_once(solo: Solo, driven: Driven) -> None:
    heard: list[str] = []
    for _ in range(3):
        solo.put("k")
    solo._carry_out(Compact(revision=3))
    driven.feed.wait(b"k", b"k\x00", 2, lambda: heard.append("forgotten"))
    solo.put("k")
    driven.feed.wait(b"k", b"k\x00", 3, lambda: heard.append("happened"))
    driven.feed.wait(b"k", b"k\x00", 4, lambda: heard.append("not yet"))
    driven.settle()

    assert heard == ["forgotten", "happened"]
