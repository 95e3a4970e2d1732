"""The same bytes by both ways of a node, whole and in pieces: the answers differ in nothing but times and numbers."""

from __future__ import annotations

import re
from itertools import pairwise, product

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.fuzz.budget import EXAMPLES, made_up
from tests.fuzz.http_talk import WAYS, converse_in_pieces
from tests.fuzz.siege import Siege
from tests.fuzz.test_http_raw import BYTES, NODE, bent

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60 + EXAMPLES * 2)]

_DATE = re.compile(rb"(?i)\r\ndate: [^\r]*")
_NUMBER = re.compile(rb"HTTP/1\.[01] \d{3} |\d+")


def lasting(received: bytes) -> bytes:
    """``received`` without dates, and without numbers but for statuses: there are more revisions each time."""
    return _NUMBER.sub(lambda found: found[0] if found[0].startswith(b"HTTP") else b"#", _DATE.sub(b"", received))


@made_up
@given(data=st.data())
def test_both_ways_answer_alike_whole_and_in_pieces(siege: Siege, data: st.DataObject) -> None:
    sent = data.draw(st.lists(bent(), min_size=1, max_size=3).map(b"".join) | BYTES)
    assume(b"w=all" not in sent and b"/status" not in sent)  # what is in doubt, or changes by itself
    cuts = sorted({0, len(sent), *data.draw(st.lists(st.integers(0, len(sent)), max_size=4))})
    pieces = [sent[start:end] for start, end in pairwise(cuts)] or [b""]
    said = {}
    for (way, before), cut in product(WAYS.items(), (False, True)):
        siege.cluster.request("DELETE", NODE, "/kv/fuzz")
        received, is_all = converse_in_pieces(
            siege, NODE, [before + pieces[0], *pieces[1:]] if cut else [before + sent]
        )
        said[way, cut] = lasting(received), is_all
    first, is_all_of_first = said["general", False]
    for way, (received, is_all) in said.items():
        if is_all and is_all_of_first:
            assert received == first, (way, sent, pieces)
        else:
            assert received.startswith(first) or first.startswith(received), (way, sent, pieces)
