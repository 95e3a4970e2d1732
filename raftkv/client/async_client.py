"""The client for asyncio: ``raftkv.Client`` with ``await``. ``plans`` decides, ``async_exchange`` awaits.

This module must not import anything of the server.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self, TypeVar, overload

import msgspec

from raftkv.api.bodies import NewAddresses, NewLeader, NewMember
from raftkv.client.arguments import Acks, AnyLease, BackupLevel, Consistency, Key, Value, lease_of, read_of
from raftkv.client.async_coordinating import AsyncCoordinatingClient
from raftkv.client.async_exchange import AsyncExchange
from raftkv.client.async_transacting import AsyncTransaction
from raftkv.client.contents import (
    LedContent,
    MembersContent,
    RepairContent,
    ResultContent,
    StatusContent,
    StatusOrProblem,
    TransactionContent,
)
from raftkv.client.records import Page, Record

Default = TypeVar("Default")


class AsyncClient(AsyncCoordinatingClient):
    """``Client`` for asyncio: the same arguments, calls, results, failures and rules, with ``await``.

    ``list`` and ``follow`` are iterated over by ``async for``. In place of the style of a mapping there is ``has``.
    One client serves any number of tasks of one event loop; it goes on on another loop once the first has ended.
    Leave it by ``async with`` or ``close``. A call whose task is cancelled, or whose own timeout is shorter, may have
    been sent: of a write nobody knows then.
    """

    def _exchanging(self, tls: ssl.SSLContext | None) -> AsyncExchange:
        return AsyncExchange(tls=tls)

    async def close(self) -> None:
        """Close the connections; a later call opens them again."""
        self._exchange.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- reads

    @overload
    async def get(
        self,
        key: Key,
        default: None = None,
        *,
        revision: int | None = None,
        at: datetime | None = None,
        consistency: Consistency | None = None,
        r: int | None = None,
        n: int | None = None,
        sloppy: bool | None = None,
    ) -> bytes | None: ...

    @overload
    async def get(
        self,
        key: Key,
        default: Default,
        *,
        revision: int | None = None,
        at: datetime | None = None,
        consistency: Consistency | None = None,
        r: int | None = None,
        n: int | None = None,
        sloppy: bool | None = None,
    ) -> bytes | Default: ...

    async def get(
        self,
        key: Key,
        default: object = None,
        *,
        revision: int | None = None,
        at: datetime | None = None,
        consistency: Consistency | None = None,
        r: int | None = None,
        n: int | None = None,
        sloppy: bool | None = None,
    ) -> object:
        """The value under ``key`` as bytes, or ``default``; raises ``SiblingsFound``. See ``Client.get``."""
        query = read_of(revision=revision, at=at, consistency=consistency, r=r, n=n, sloppy=sloppy)
        return await self._exchange.perform(self._plans.get(key, default, query))

    async def get_record(
        self,
        key: Key,
        *,
        revision: int | None = None,
        at: datetime | None = None,
        consistency: Consistency | None = None,
        r: int | None = None,
        n: int | None = None,
        sloppy: bool | None = None,
    ) -> Record | None:
        """The value under ``key`` with its revisions, or ``None``. See ``Client.get_record``."""
        query = read_of(revision=revision, at=at, consistency=consistency, r=r, n=n, sloppy=sloppy)
        return await self._exchange.perform(self._plans.get_record(key, query))

    async def get_records(
        self,
        key: Key,
        *,
        revision: int | None = None,
        at: datetime | None = None,
        consistency: Consistency | None = None,
        r: int | None = None,
        n: int | None = None,
        sloppy: bool | None = None,
    ) -> tuple[Record, ...]:
        """As ``get_record``, but every one of the key's siblings, oldest stamp first; empty when there is none."""
        query = read_of(revision=revision, at=at, consistency=consistency, r=r, n=n, sloppy=sloppy)
        return await self._exchange.perform(self._plans.get_records(key, query))

    async def page(
        self,
        prefix: str = "",
        *,
        start: str = "",
        end: str | None = None,
        limit: int | None = None,
        keys_only: bool = False,
        revision: int | None = None,
        at: datetime | None = None,
        consistency: Consistency | None = None,
    ) -> Page:
        """One page of the keys with ``prefix`` and ``start`` <= key < ``end``, in key order. See ``Client.page``."""
        plan = self._plans.page(
            prefix, start, end, limit, keys_only=keys_only, consistency=consistency, revision=revision, at=at
        )
        return await self._exchange.perform(plan)

    async def has(self, key: Key) -> bool:
        """Is there such a key?"""
        return await self._exchange.perform(self._plans.has(key))

    def list(
        self,
        prefix: str = "",
        *,
        limit: int | None = None,
        keys_only: bool = False,
        revision: int | None = None,
        at: datetime | None = None,
        consistency: Consistency | None = None,
    ) -> AsyncIterator[Record]:
        """Every record with ``prefix``, in key order, fetched page by page. See ``Client.list``."""
        return self._exchange.each(
            self._plans.records(prefix, limit, keys_only=keys_only, consistency=consistency, revision=revision, at=at)
        )

    async def status(self) -> StatusContent:
        """How the asked node sees itself and its cluster, as ``GET /status`` says it."""
        return await self._exchange.perform(self._plans.status())

    def follow(self) -> AsyncIterator[StatusOrProblem]:
        """The status of the asked node, now and whenever it changes. See ``Client.follow``."""
        return self._exchange.each(self._plans.follow())

    # -- writes

    async def set(
        self,
        key: Key,
        value: Value,
        *,
        ttl: float | None = None,
        lease: AnyLease | None = None,
        if_revision: int | None = None,
        if_absent: bool = False,
        acks: Acks | None = None,
        n: int | None = None,
        sloppy: bool | None = None,
        context: str = "",
    ) -> int:
        """Store ``value``; returns the revision of the write. See ``Client.set``."""
        query = {"ttl": ttl, "lease": lease_of(lease), "w": acks, "n": n, "sloppy": sloppy}
        plan = self._plans.set(key, value, query, if_revision=if_revision, if_absent=if_absent, context=context)
        return await self._exchange.perform(plan)

    async def delete(
        self,
        key: Key,
        *,
        if_revision: int | None = None,
        acks: Acks | None = None,
        n: int | None = None,
        sloppy: bool | None = None,
        context: str = "",
    ) -> bool:
        """Remove ``key``; says whether there was anything to remove. The choices are those of ``set``."""
        query = {"w": acks, "n": n, "sloppy": sloppy}
        return await self._exchange.perform(self._plans.delete(key, query, if_revision=if_revision, context=context))

    async def delete_prefix(self, prefix: str) -> int:
        """Remove every key with ``prefix``, at one revision; returns how many there were."""
        return await self._exchange.perform(self._plans.delete_prefix(prefix))

    async def increment(self, key: Key, by: int = 1, *, minimum: int | None = None, maximum: int | None = None) -> int:
        """Add ``by`` to the integer under ``key``; returns what it is then. See ``Client.increment``."""
        return await self._exchange.perform(self._plans.increment(key, by, minimum, maximum))

    async def touch(self, key: Key, ttl: float | None) -> bool:
        """Let ``key`` live for ``ttl`` seconds from now on, ``None`` for ever; says whether there is such a key.

        Its value and its revision stay.
        """
        return await self._exchange.perform(self._plans.touch(key, ttl))

    async def compact(self, revision: int) -> int:
        """Forget what the store was before ``revision``; returns the oldest revision that can be read.

        Raises ``RevisionCompacted`` where more is forgotten already.
        """
        return await self._exchange.perform(self._plans.compact(revision))

    def transaction(self) -> AsyncTransaction:
        """Operations that are done together when its ``async with`` block is left; see ``Client.transaction``."""
        return AsyncTransaction(self._exchange, self._calls)

    async def transact(self, content: Mapping[str, object] | bytes) -> TransactionContent:
        """Carry out a transaction in the form of ``POST /txn``, in JSON or what JSON is made of; returns its answer.

        Values are text, or ``{"base64": ...}``. See ``transaction`` for one that is written in Python.
        """
        return await self._exchange.perform(self._plans.transact(content))

    async def batch(
        self, operations: Sequence[Mapping[str, object]], *, acks: Acks | None = None
    ) -> tuple[ResultContent, ...]:
        """Carry out independent operations in one step; returns one result each. See ``Client.batch``."""
        return await self._exchange.perform(self._plans.batch(operations, acks))

    # -- the cluster

    async def members(self) -> MembersContent:
        """The members as the asked node knows them, as ``GET /cluster/members`` says it."""
        return await self._exchange.perform(self._plans.members())

    async def ask(
        self, method: str, path: str, content: Mapping[str, object] | msgspec.Struct | None = None
    ) -> Mapping[str, object]:
        """See ``Client``."""
        return await self._exchange.perform(self._plans.ask(method, path, content))

    async def add_member(self, node: str, *, http: str, peer: str, zone: str = "") -> MembersContent:
        """Let a node join; returns the members. Its data moves in afterwards.

        Where there is a leader it is a ``learner`` first, and a ``voter`` by itself once it has caught up.
        """
        content = NewMember(id=node, http=http, peer=peer, zone=zone)
        return await self._exchange.perform(self._plans.add_member(content))

    async def remove_member(self, node: str) -> MembersContent:
        """Let a node leave; returns the members. In a leaderless cluster its data moves out first, if it lives."""
        return await self._exchange.perform(self._plans.remove_member(node))

    async def promote_member(self, node: str) -> MembersContent:
        """Let a node vote that only learns, if it has caught up, before it does by itself; returns the members."""
        return await self._exchange.perform(self._plans.promote_member(node))

    async def move_member(self, node: str, *, http: str, peer: str) -> MembersContent:
        """Let a member of a cluster with a leader have other addresses; returns the members."""
        content = NewAddresses(http=http, peer=peer)
        return await self._exchange.perform(self._plans.move_member(node, content))

    async def transfer(self, node: str) -> LedContent:
        """Let ``node`` lead; returns who leads, and in which term. Clients wait meanwhile, and lose nothing."""
        return await self._exchange.perform(self._plans.transfer(NewLeader(to=node)))

    def backup(self, consistency: BackupLevel | None = None) -> AsyncIterator[bytes]:
        """All that the asked node holds, as a file, piece by piece. See ``Client.backup``."""
        return self._exchange.each(self._plans.backup(consistency))

    async def repair(self) -> RepairContent:
        """Let the asked node compare its data with every replica of it; returns what that did."""
        return await self._exchange.perform(self._plans.repair())
