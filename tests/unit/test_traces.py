"""The header of W3C Trace Context, by the rules of its recommendation (level 1, section 3.2)."""

from __future__ import annotations

import pytest

from raftkv.api.traces import TraceParent, trace_parent

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "text", [f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00", f"cc-{TRACE}-{PARENT}-01-what-the-future-will-bring"]
)
def test_a_trace_and_who_asks_are_found(text: str) -> None:
    assert trace_parent(text) == TraceParent(TRACE, PARENT, int(text[53:55], 16))


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"cc-{TRACE}-{PARENT}-01.more",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-0g",
        f" 00-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01\n",
    ],
)
def test_what_breaks_the_rules_is_no_trace(text: str) -> None:
    assert trace_parent(text) is None
