"""Range exchange: two replicas compare what they hold of ring ranges, and each gets what it lacks (anti-entropy).

One mechanism serves three needs: anti-entropy in the background (Dynamo, section 4.7), repair on demand, and the move
of data after a ring change, when a node asks the former owners for the ranges that it gains.

A session is between this node and one peer, over a list of ranges. Hash trees say which ranges differ and in which
leaves; the session then goes through the differing leaves page by page: this node shows keys and fingerprints, the peer
sends what is missing or different here and names what it lacks itself. Every page is bounded, one question is under way
at a time, and the next waits until the throttle allows it and until what came in is durable. A session that is cut off
is forgotten: what it did stays done, and the next one finds only the rest to differ.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

import msgspec

from raftkv.core.errors import Refused
from raftkv.formats.peers import MalformedMessageError, refusal_of
from raftkv.formats.quorum_messages import (
    ENTRIES_PER_PAGE,
    LOOKED_AT_PER_PAGE,
    NO_ANSWER,
    RANGES_PER_COMPARE,
    Compare,
    Compared,
    OfferPage,
    QuestionDeclined,
    ReturnPage,
    StoreRows,
)
from raftkv.formats.rows import POSITION_BYTES, OrderKey
from raftkv.formats.versions import decode_state, encode_state
from raftkv.quorum.data.intake import Intake
from raftkv.quorum.data.store import Store as Replica
from raftkv.quorum.data.trees import Leaves, Trees, differing, leaf_of, root_of
from raftkv.quorum.membership.ring import Range
from raftkv.quorum.outbox import Outbox
from raftkv.quorum.settings import DISK_FULL, PAGE_BYTES, STRANGE_RANGE


class ExchangeTotals(msgspec.Struct):
    """What sessions have done."""

    ranges: int = 0
    differing: int = 0
    received: int = 0
    received_bytes: int = 0
    sent: int = 0

    def add(self, other: ExchangeTotals) -> None:
        """Count what ``other`` did as well."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class ExchangeSession:
    """Our side of an exchange that this node began. ``ask`` sends the next question, ``take`` takes its answer."""

    def __init__(
        self,
        session_id: int,
        peer: str,
        ranges: Sequence[Range],
        *,
        store: Replica,
        intake: Intake,
        trees: Trees,
        outbox: Outbox,
        now_s: float,
        bytes_per_s: int,
        done: Callable[[ExchangeSession], None],
    ) -> None:
        """``bytes_per_s`` throttles it; ``done`` is called once it is over, ``failed`` if it could not go through."""
        self.id = session_id
        self.peer = peer
        self.totals = ExchangeTotals(ranges=len(ranges))
        self.failed = False
        self.over = False
        self.asked_s: float | None = None
        self.resume_s = now_s
        self.done_ranges: list[Range] = []
        self.matched: dict[Range, bytes] = {}
        """The roots of those that were found to be equal."""
        self._store = store
        self._intake = intake
        self._is_staged = False
        self._fetched: list[Range] = []
        self._trees = trees
        self._outbox = outbox
        self._done = done
        self._bytes_per_s = bytes_per_s
        self._uncompared = deque(ranges)
        self._comparing: list[Range] = []
        self._own: dict[Range, Leaves] = {}
        self._unpaged: deque[tuple[Range, int]] = deque()
        self._after: OrderKey = b""
        self._offered: frozenset[bytes] = frozenset()
        self._owed: deque[bytes] = deque()

    def ask(self, now_s: float) -> None:
        """Send the next question if its time has come and what it needs is there."""
        if self.over or self._is_staged or self.asked_s is not None or now_s < self.resume_s:
            return
        if self._owed:
            self.resume_s = now_s + self._pay() / self._bytes_per_s
            return
        if self._unpaged:
            self._offer_page()
        elif self._uncompared or self._comparing:
            if not self._compare():
                return
        else:
            self._finish()
            return
        self.asked_s = now_s

    @property
    def compared_count(self) -> int:
        """How many ranges were compared."""
        return self.totals.ranges - len(self._uncompared) - len(self._comparing)

    def grown(self, finished: dict[Range, Leaves]) -> None:
        """Trees that this session may be waiting for."""
        for piece in self._comparing:
            if piece in finished:
                self._own[piece] = finished[piece]

    def take(self, answer: Compared | ReturnPage | QuestionDeclined, now_s: float) -> None:
        """The peer's answer to the question under way.

        Raises ``MalformedMessageError`` or ``MalformedStateError`` for one that does not fit; nothing was taken then.
        """
        if isinstance(answer, QuestionDeclined):
            self.fail()
        elif isinstance(answer, Compared):
            self._compared(answer)
        else:
            self.resume_s = now_s + self._page_returned(answer) / self._bytes_per_s
        self.asked_s = None

    def committed(self) -> None:
        """What came in is durable, and ranges of which it was the last are done."""
        self._is_staged = False
        self.done_ranges += self._fetched
        self._fetched.clear()

    def fail(self) -> None:
        """It cannot go on."""
        if not self.over:
            self.failed = True
            self._finish()

    def _finish(self) -> None:
        self.over = True
        self._done(self)

    def _compare(self) -> bool:
        while self._uncompared and len(self._comparing) < RANGES_PER_COMPARE:
            self._comparing.append(self._uncompared.popleft())
        ready = True
        for piece in self._comparing:
            if piece not in self._own:
                leaves = self._trees.leaves(piece)
                if leaves is None:
                    ready = False
                else:
                    self._own[piece] = leaves
        if ready:
            roots = tuple(root_of(self._own[piece]) for piece in self._comparing)
            ranges = tuple((piece.start, piece.last) for piece in self._comparing)
            self._outbox.post(self.peer, Compare(self.id, ranges, roots))
        return ready

    def _compared(self, answer: Compared) -> None:
        if not self._comparing:
            raise MalformedMessageError("roots compared that nobody asked about")
        different = dict(answer.leaves)
        for number, piece in enumerate(self._comparing):
            theirs = different.get(number)
            bits = 0 if theirs is None else differing(self._own[piece], theirs)
            if bits:
                self.totals.differing += 1
                self._unpaged.append((piece, bits))
            else:
                self.done_ranges.append(piece)
                self.matched[piece] = root_of(self._own[piece])
        self._comparing.clear()
        self._own.clear()

    def _offer_page(self) -> None:
        piece, bits = self._unpaged[0]
        rows = (row for row in self._store.scan_order(piece, self._after) if bits >> leaf_of(piece, row[0]) & 1)
        entries = tuple(islice(rows, ENTRIES_PER_PAGE))
        until = entries[-1][0] if len(entries) == ENTRIES_PER_PAGE else b""
        self._offered = frozenset([where[POSITION_BYTES:] for where, _ in entries])
        self._outbox.post(self.peer, OfferPage(self.id, piece.start, piece.last, bits, self._after, until, entries))

    def _page_returned(self, answer: ReturnPage) -> int:
        """Take a page; returns how many bytes came in."""
        if not self._unpaged or (answer.until and answer.until <= self._after):
            raise MalformedMessageError("a page that was not asked for")
        if not self._offered.issuperset(answer.wanted):
            raise MalformedMessageError("keys are wanted that were not offered")
        moved = 0
        for key, state, size_bytes in [(key, decode_state(row), len(row)) for key, row in answer.rows]:
            taken = self._intake.take(key, state)
            moved += size_bytes
            if not isinstance(taken, Refused):
                before, now = taken
                self.totals.received += now != before
                self._is_staged = True
            elif taken is DISK_FULL:
                self.fail()
                return moved
            # Else its stamp is of a wild clock: it stays where it is, and the range goes on to differ.
        self.totals.received_bytes += moved
        self._owed.extend(answer.wanted)
        self._after = answer.until
        if not answer.until:
            piece, _ = self._unpaged.popleft()
            (self._fetched if self._is_staged else self.done_ranges).append(piece)
        return moved

    def _pay(self) -> int:
        """Send what the peer lacks, no more than a page at once; returns how many bytes it were."""
        moved = 0
        while self._owed and moved < PAGE_BYTES:
            key = self._owed.popleft()
            state = self._store.read(key)
            if state is not None:
                encoded = encode_state(state)
                self._outbox.post(self.peer, StoreRows(NO_ANSWER, ((key, encoded),)))
                self.totals.sent += 1
                moved += len(encoded)
        return moved


class Answering:
    """Our side of exchanges that others began: it holds nothing of them but questions waiting for a tree."""

    def __init__(self, *, store: Replica, trees: Trees, outbox: Outbox) -> None:
        self._store = store
        self._trees = trees
        self._outbox = outbox
        self._waiting: dict[str, tuple[Compare, dict[int, Leaves]]] = {}

    def take(self, peer: str, question: Compare | OfferPage) -> None:
        """``peer`` asks."""
        ranges = [(question.start, question.last)] if isinstance(question, OfferPage) else question.ranges
        if not all(self._trees.knows(Range(*piece)) for piece in ranges):
            self._outbox.post(peer, QuestionDeclined(question.id, refusal_of(STRANGE_RANGE)))
        elif isinstance(question, OfferPage):
            self._return_page(peer, question)
        else:
            # One question of each peer: a new one means that it has given up the one before.
            self._waiting[peer] = (question, {})
            self._try(peer, {})

    def lost(self, peer: str) -> None:
        """``peer`` is gone, and does not wait any more."""
        self._waiting.pop(peer, None)

    def grown(self, finished: dict[Range, Leaves]) -> None:
        """Trees that questions may be waiting for."""
        for peer in tuple(self._waiting):
            self._try(peer, finished)

    def _try(self, peer: str, finished: dict[Range, Leaves]) -> None:
        question, found = self._waiting[peer]
        for number, (start, last) in enumerate(question.ranges):
            if number in found:
                continue
            piece = Range(start, last)
            leaves = finished.get(piece)
            if leaves is None:
                leaves = self._trees.leaves(piece)
            if leaves is not None:
                found[number] = leaves
        if len(found) < len(question.ranges):
            return
        del self._waiting[peer]
        different = tuple(
            (number, found[number]) for number, root in enumerate(question.roots) if root_of(found[number]) != root
        )
        self._outbox.post(peer, Compared(question.id, different))

    def _return_page(self, peer: str, offer: OfferPage) -> None:
        piece, theirs = Range(offer.start, offer.last), dict(offer.entries)
        rows: list[tuple[bytes, bytes]] = []
        wanted: list[bytes] = []
        until, size_bytes = offer.until, 0
        seen, before = 0, b""
        for where, mark in self._store.scan_order(piece, offer.after):
            if offer.until and where > offer.until:
                break
            if not offer.leaves >> leaf_of(piece, where) & 1:
                continue
            seen += 1
            their_mark = theirs.pop(where, None)
            if their_mark != mark:
                key = where[POSITION_BYTES:]
                state = self._store.read(key)
                if state is not None:
                    encoded = encode_state(state)
                    if rows and size_bytes + len(encoded) > PAGE_BYTES:
                        until = before  # a large row has a page of its own
                        break
                    rows.append((key, encoded))
                    size_bytes += len(encoded) + len(key)
                if their_mark is not None:
                    wanted.append(key)
            if size_bytes >= PAGE_BYTES or seen >= LOOKED_AT_PER_PAGE:
                until = where
                break
            before = where
        # What was offered beyond where this page ends is offered again with the next.
        wanted += [where[POSITION_BYTES:] for where in theirs if not until or where <= until]
        self._outbox.post(peer, ReturnPage(offer.id, until, tuple(rows), tuple(wanted)))
