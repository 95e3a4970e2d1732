"""Transactions of the client for asyncio: sent when their block is left without an exception."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from raftkv.client.async_exchange import AsyncExchange
from raftkv.client.requests import CallPlans
from raftkv.client.transactions import TransactionRun


class AsyncTransaction(TransactionRun):
    """See ``TransactionRun``; it is sent when its ``async with`` block is left, and not at all when that raised."""

    def __init__(self, exchange: AsyncExchange, calls: CallPlans) -> None:
        super().__init__(calls)
        self._exchange = exchange

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self._exchange.perform(self.sent())
