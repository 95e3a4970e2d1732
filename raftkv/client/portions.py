"""What is iterated over: items that come some at a time, each time by a plan. Pure: no socket, no clock.

Whoever performs plans iterates: it asks for ``more`` until there is none, and closes when nobody wants any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from raftkv.client.reach import UnheardError
from raftkv.client.records import not_raftkv
from raftkv.client.steps import AnswerBody, Plan, TakePiece
from raftkv.core.errors import Code, DefiniteError

Item = TypeVar("Item")
Start = TypeVar("Start")
Item_co = TypeVar("Item_co", covariant=True)

PAGE_LIMIT = 1000
"""How many items are asked for at a time; a server may give fewer."""

SILENCE_S: Final = 15.0
"""A stream says every five seconds that nothing happened; three times unheard, its server is gone."""


class Portions(Protocol[Item_co]):
    """Items that come some at a time, each time by a plan; ``close`` may be said at any time."""

    def more(self) -> Plan[Sequence[Item_co] | None]:
        """The next ones, perhaps none; ``None`` when there are no more."""

    def close(self) -> None:
        """No more are wanted. Does not wait."""


class Paged(Generic[Item, Start]):
    """What comes page by page, each with the ``Start`` of the next; ``limit`` is the most items there will be."""

    def __init__(
        self,
        page: Callable[[Start, int | None], Plan[tuple[Sequence[Item], Start | None]]],
        start: Start,
        limit: int | None,
    ) -> None:
        self._page = page
        self._start: Start | None = start
        self._left = limit

    def more(self) -> Plan[Sequence[Item] | None]:
        """See ``Portions``; a page is of one moment, two are of two."""
        if self._start is None or (self._left is not None and self._left <= 0):
            return None
        items, start = yield from self._page(self._start, None if self._left is None else min(self._left, PAGE_LIMIT))
        self._start, self._left = start, None if self._left is None else self._left - len(items)
        return items

    def close(self) -> None:
        """See ``Portions``."""
        self._start = None


class AnswerStream(Generic[Item]):
    """What ``feed`` makes of the pieces of one answer, as they come from one node; ``kind`` is its Content-Type.

    ``silence_s`` is the longest that nothing may come.
    """

    def __init__(
        self,
        begin: Callable[[], Plan[AnswerBody]],
        kind: str,
        feed: Callable[[bytes], list[Item]],
        silence_s: float = SILENCE_S,
    ) -> None:
        self._begin = begin
        self._kind = kind
        self._feed = feed
        self._silence_s = silence_s
        self._body: AnswerBody | None = None

    def more(self) -> Plan[list[Item] | None]:
        """See ``Portions``; raises ``DefiniteError`` when the stream breaks off, and what any request raises."""
        if self._body is None:
            self._body = yield from self._begin()
            kind = self._body.head.header("content-type")
            if kind != self._kind:
                raise not_raftkv(f"no stream, but {kind or 'something of no type'}")
        try:
            piece = yield TakePiece(self._body, self._silence_s)
            if isinstance(piece, UnheardError):
                raise piece
            assert isinstance(piece, bytes)
            return self._feed(piece) if piece else None
        except UnheardError as error:
            raise DefiniteError(Code.QUORUM_UNREACHABLE, f"the stream broke off: its server {error}") from None

    def close(self) -> None:
        """See ``Portions``."""
        if self._body is not None:
            self._body.end()
