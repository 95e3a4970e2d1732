"""Transactions of the blocking client: sent when their block is left without an exception."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from raftkv.client.exchange import Exchange
from raftkv.client.requests import CallPlans
from raftkv.client.transactions import TransactionRun


class ClientTransaction(TransactionRun):
    """See ``TransactionRun``; it is sent when its ``with`` block is left, and not at all when that raised."""

    def __init__(self, exchange: Exchange, calls: CallPlans) -> None:
        super().__init__(calls)
        self._exchange = exchange

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._exchange.perform(self.sent())
