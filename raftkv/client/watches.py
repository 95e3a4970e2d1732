"""Watches of the blocking client: iterated over in one thread, closed from any. ``watching`` decides."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Generic, Self, TypeVar

from raftkv.client.exchange import Exchange
from raftkv.client.portions import Portions
from raftkv.client.requests import CallPlans
from raftkv.client.watching import Flattened, RevisionStream, WatchedChange, WatchedRevision, WatchRange

Item = TypeVar("Item")


class ClientStream(Generic[Item]):
    """What comes, item by item, until ``close``, which any thread may call: then iterating ends."""

    def __init__(self, exchange: Exchange, portions: Portions[Item]) -> None:
        self._exchange = exchange
        self._portions = portions
        self._items: deque[Item] = deque()
        self._is_over = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Item:
        while not self._items:
            items = None if self._is_over else self._exchange.perform(self._portions.more())
            if items is None:
                self.close()
                raise StopIteration
            self._items.extend(items)
        return self._items.popleft()

    def close(self) -> None:
        """End it at once."""
        self._is_over = True
        self._items.clear()
        self._portions.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, {'closed' if self._is_over else 'open'}>"


class ClientWatch(ClientStream[WatchedChange]):
    """Changes, one by one; see ``Client.watch``."""

    def __init__(self, exchange: Exchange, calls: CallPlans, watched: WatchRange, from_revision: int | None) -> None:
        self._revisions = RevisionStream(calls, watched, from_revision)
        super().__init__(exchange, Flattened(self._revisions))

    @property
    def seen_revision(self) -> int | None:
        """Nothing up to this revision will come any more; ``None`` until that is known."""
        return self._revisions.seen_revision

    def revisions(self) -> ClientStream[WatchedRevision]:
        """The same, all changes of a revision together."""
        return ClientStream(self._exchange, self._revisions)
