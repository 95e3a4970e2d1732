"""Messages between leaderless replicas: all that an honest node says decodes, and nothing that makes no sense does."""

import msgspec
import pytest

from raftkv.formats.gossip import MEMBERS_LIMIT, NUMBER_MAX, AgreedSizes, Delta, Digest, MemberEntry
from raftkv.formats.peers import MalformedMessageError, Refusal
from raftkv.formats.quorum_messages import (
    ENTRIES_PER_PAGE,
    LOOKED_AT_PER_PAGE,
    MESSAGES_PER_FRAME,
    RANGES_PER_COMPARE,
    ROWS_PER_STORE,
    Compare,
    Compared,
    EventDone,
    Fetch,
    Fetched,
    FetchedPage,
    FetchPage,
    Gossip,
    OfferPage,
    QuestionDeclined,
    ReturnPage,
    StoreDone,
    StoreRows,
    Unsettled,
    WriteEvent,
    decode,
    encode,
    frame,
)
from raftkv.formats.rows import order_key
from raftkv.formats.versions import MAX_COUNTER, KeyState, Version, encode_context, encode_state
from raftkv.quorum.membership.ring import POSITIONS

LAST = POSITIONS - 1
SIZES = AgreedSizes(1, "n1", 3, 2, 2)
STATE = encode_state(KeyState((Version(5, "n1~0123456789abcdef~5", b"value"),), (("n1~0123456789abcdef~5", 5),)))
CONTEXT = encode_context(KeyState((), (("n1", MAX_COUNTER),)))
KEY = "käse".encode()
ENTRY = MemberEntry(
    "n1", "127.0.0.1:8001", "[::1]:9001", "zone", NUMBER_MAX, NUMBER_MAX, "v" * 64, "", phase_version=NUMBER_MAX
)

SENSE = [
    StoreRows(0, ((KEY, STATE),)),
    StoreRows((1 << 64) - 1, ((b"k" * 4096, STATE),) * ROWS_PER_STORE, "n-2.b_c"),
    StoreDone(1, (True, False), ((1, MAX_COUNTER, "n1"),)),
    WriteEvent(1, KEY, None, 0, b"", "n2"),
    WriteEvent(1, KEY, bytes(1 << 20), MAX_COUNTER, CONTEXT),
    EventDone(1, 5, "n1~0123456789abcdef~5", STATE, replaced=False),
    Fetch(1, KEY, hinted=True),
    Fetched(1, None),
    Fetched(1, STATE),
    FetchPage(1, b"", None, 100_000),
    FetchPage(1, b"k" * 5000, b"l" * 5000, 0),
    FetchedPage(1, (), complete=True),
    FetchedPage(1, ((b"a", STATE), (b"b", STATE)), complete=False),
    QuestionDeclined(1, Refusal("disk_full", "the disk is full", retry_after_s=3600.0)),
    Gossip(Digest((("n1", 0, 1, NUMBER_MAX, (1 << 32) - 1),), 0)),
    Gossip(Delta((ENTRY,), SIZES, ("n2",))),
    Compare(1, ((0, 9), (10, LAST)), (b"", bytes(8))),
    Compared(1, ((0, b""), (63, bytes(512)))),
    OfferPage(1, 0, LAST, (1 << 64) - 1, order_key(b"k" * 4096), b"", ((order_key(KEY), bytes(9)),)),
    ReturnPage(1, b"", ((KEY, STATE),), (b"a", b"b")),
    Unsettled(1),
]


@pytest.mark.parametrize("message", SENSE, ids=lambda message: type(message).__name__)
def test_what_honest_nodes_say_is_understood(message):
    assert decode(frame([encode(message)])) == (message,)


NONSENSE = {
    "an empty key": StoreRows(1, ((b"", STATE),)),
    "a key that is too long": StoreRows(1, ((b"k" * 4097, STATE),)),
    "a key that is no text": StoreRows(1, ((KEY, STATE), (b"\xff", STATE))),
    "a hint for what is no node": StoreRows(1, ((KEY, STATE),), "n1\0n2"),
    "nothing to store": StoreRows(1, ()),
    "more to store than one message has": StoreRows(1, ((KEY, STATE),) * (ROWS_PER_STORE + 1)),
    "nothing stored": StoreDone(1, ()),
    "more stored than one message has": StoreDone(1, (True,) * (ROWS_PER_STORE + 1)),
    "a number below 0": StoreDone(1, (True,), ((-1, 1, "n1"),)),
    "a counter beyond all clocks": StoreDone(1, (True,), ((0, MAX_COUNTER + 1, "n1"),)),
    "a counter below 0": StoreDone(1, (True,), ((0, -1, "n1"),)),
    "a stamp that breaks a header": StoreDone(1, (True,), ((0, 1, "n1\r\nSet-Cookie: a"),)),
    "a stamp by a name without end": StoreDone(1, (True,), ((0, 1, "n" * 1000),)),
    "an event with half a context": WriteEvent(1, KEY, None, 0, CONTEXT[:-1]),
    "an event that expires beyond all time": WriteEvent(1, KEY, b"", MAX_COUNTER + 1, b""),
    "an event that expired before all time": WriteEvent(1, KEY, b"", -1, b""),
    "an event done without a state": EventDone(1, 5, "n1", b"", replaced=False),
    "an event done with a state of another": EventDone(1, 6, "n1~0123456789abcdef~5", STATE, replaced=False),
    "a limit below 0": FetchPage(1, b"", None, -1),
    "a limit beyond all pages": FetchPage(1, b"", None, 100_001),
    "a page with nothing that goes on": FetchedPage(1, (), complete=False),
    "a page out of order": FetchedPage(1, ((b"b", STATE), (b"a", STATE)), complete=True),
    "a page with a key twice": FetchedPage(1, ((b"a", STATE), (b"a", STATE)), complete=True),
    "a page with a key that is no text": FetchedPage(1, ((b"\xff", STATE),), complete=True),
    "a wait that is no number": QuestionDeclined(1, Refusal("disk_full", "", retry_after_s=float("nan"))),
    "a wait without end": QuestionDeclined(1, Refusal("disk_full", "", retry_after_s=float("inf"))),
    "a wait below 0": QuestionDeclined(1, Refusal("disk_full", "", retry_after_s=-1.0)),
    "a reason without end": QuestionDeclined(1, Refusal("disk_full", "x" * 5000)),
    "a member of no name": Gossip(Delta((msgspec.structs.replace(ENTRY, id="n1\n"),), SIZES)),
    "a zone without end": Gossip(Delta((msgspec.structs.replace(ENTRY, zone="z" * 256),), SIZES)),
    "an address without end": Gossip(Delta((msgspec.structs.replace(ENTRY, peer="z" * 300),), SIZES)),
    "a view without end": Gossip(Delta((msgspec.structs.replace(ENTRY, view="z" * 65),), SIZES)),
    "a generation beyond all": Gossip(Delta((msgspec.structs.replace(ENTRY, generation=NUMBER_MAX + 1),), SIZES)),
    "a heartbeat below 0": Gossip(Delta((msgspec.structs.replace(ENTRY, heartbeat=-1),), SIZES)),
    "no replicas": Gossip(Delta((), AgreedSizes(1, "n1", 0, 1, 1))),
    "reads of nobody": Gossip(Delta((), AgreedSizes(1, "n1", 3, 0, 1))),
    "writes to more than there are": Gossip(Delta((), AgreedSizes(1, "n1", 3, 1, 4))),
    "more members than there may be": Gossip(Digest((("n1", 0, 0, 0, 0),) * (MEMBERS_LIMIT + 1), 0)),
    "ranges without roots": Compare(1, ((0, 9), (10, 11)), (b"",)),
    "roots without ranges": Compare(1, ((0, 9),), (b"", b"")),
    "a position below 0": Compare(1, ((-1, 9),), (b"",)),
    "more ranges than one asks about": Compare(
        1, ((0, 9),) * (RANGES_PER_COMPARE + 1), (b"",) * (RANGES_PER_COMPARE + 1)
    ),
    "leaves of no tree": Compared(1, ((0, bytes(513)),)),
    "leaves below 0": OfferPage(1, 0, 9, -1, b"", b"", ()),
    "a place without a key": OfferPage(1, 0, 9, 1, b"", b"", ((bytes(8), bytes(8)),)),
    "a mark without end": OfferPage(1, 0, 9, 1, b"", b"", ((order_key(KEY), bytes(17)),)),
    "more keys than one page offers": OfferPage(
        1, 0, 9, 1, b"", b"", ((order_key(KEY), bytes(8)),) * (ENTRIES_PER_PAGE + 1)
    ),
    "more rows than one page returns": ReturnPage(1, b"", ((KEY, STATE),) * (LOOKED_AT_PER_PAGE + 1), ()),
    "a key that is wanted twice": ReturnPage(1, b"", (), (KEY, KEY)),
}


@pytest.mark.parametrize("message", NONSENSE.values(), ids=NONSENSE)
def test_what_makes_no_sense_is_not_understood(message):
    with pytest.raises(MalformedMessageError):
        decode(frame([encode(Unsettled(1)), encode(message)]))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x91\x92\x7f\x01",
        frame([encode(Unsettled(1))])[:-1],
        frame([encode(Unsettled(1))]) + b"\0",
        frame([encode(Unsettled(1))] * (MESSAGES_PER_FRAME + 1)),
        b"\x91" * 100_000,
    ],
    ids=["nothing", "no msgpack", "an unknown kind", "half", "more than all", "too many", "deep nesting"],
)
def test_what_is_no_frame_is_not_understood(payload):
    with pytest.raises(MalformedMessageError):
        decode(payload)
