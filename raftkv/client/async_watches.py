"""Watches of the client for asyncio: iterated over in one task, closed from any. ``watching`` decides."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Generic, Self, TypeVar

from raftkv.client.async_exchange import AsyncExchange
from raftkv.client.portions import Portions
from raftkv.client.requests import CallPlans
from raftkv.client.watching import Flattened, RevisionStream, WatchedChange, WatchedRevision, WatchRange

Item = TypeVar("Item")


class AsyncStream(Generic[Item]):
    """What comes, item by item, until ``close``, which any task may call: then iterating ends."""

    def __init__(self, exchange: AsyncExchange, portions: Portions[Item]) -> None:
        self._exchange = exchange
        self._portions = portions
        self._items: deque[Item] = deque()
        self._is_over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        while not self._items:
            items = None if self._is_over else await self._exchange.perform(self._portions.more())
            if items is None:
                await self.close()
                raise StopAsyncIteration
            self._items.extend(items)
        return self._items.popleft()

    async def close(self) -> None:
        """End it at once."""
        self._is_over = True
        self._items.clear()
        self._portions.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, {'closed' if self._is_over else 'open'}>"


class AsyncWatch(AsyncStream[WatchedChange]):
    """Changes, one by one; see ``Client.watch``."""

    def __init__(
        self, exchange: AsyncExchange, calls: CallPlans, watched: WatchRange, from_revision: int | None
    ) -> None:
        self._revisions = RevisionStream(calls, watched, from_revision)
        super().__init__(exchange, Flattened(self._revisions))

    @property
    def seen_revision(self) -> int | None:
        """Nothing up to this revision will come any more; ``None`` until that is known."""
        return self._revisions.seen_revision

    def revisions(self) -> AsyncStream[WatchedRevision]:
        """The same, all changes of a revision together."""
        return AsyncStream(self._exchange, self._revisions)
