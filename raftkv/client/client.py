"""The blocking client: what ``raftkv.Client`` offers, in words. ``plans`` decides, ``exchange`` waits.

This module must not import anything of the server.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self, TypeVar, overload

import msgspec

from raftkv.api.bodies import NewAddresses, NewLeader, NewMember
from raftkv.client.arguments import Acks, AnyLease, BackupLevel, Consistency, Key, Value, lease_of, read_of
from raftkv.client.contents import (
    LedContent,
    MembersContent,
    RepairContent,
    ResultContent,
    StatusContent,
    StatusOrProblem,
    TransactionContent,
)
from raftkv.client.coordinating import CoordinatingClient
from raftkv.client.exchange import Exchange
from raftkv.client.records import Page, Record
from raftkv.client.transacting import ClientTransaction

Default = TypeVar("Default")


class Client(CoordinatingClient):
    """A key-value store as seen from Python. Values are bytes, keys are text or bytes (``arguments.Key``).

    ``servers`` is a list of addresses or a comma-separated string; by default ``RAFTKV_SERVERS``, then the embedded
    cluster on 127.0.0.1:8001-8003. The first is asked; on failure the next one, which is then stayed with.
    ``timeout_s`` bounds each call as a whole. ``idempotent=False`` sends writes without an ``Idempotency-Key``: then an
    indefinite failure is raised at once. ``retry=False`` asks every server once at most. Where every server refuses
    connections a call ends after about a second, unless ``await_start=True`` waits for a cluster that will start.
    ``auth`` says who asks where the cluster wants to know: the name of a user and its password, ``("alice", "...")``,
    for which the client gets tokens by itself, or a token; by default ``RAFTKV_USER`` and ``RAFTKV_PASSWORD``, or
    ``RAFTKV_TOKEN``. ``cert`` is the file of a certificate of our own, with its key in it, or ``(certificate, key)``:
    it may name a user. ``tls_ca`` is a file of certificates to trust, by default ``RAFTKV_CACERT``, then the system's.
    ``secret_file`` holds the secret of the cluster named ``cluster``: what changes the cluster needs a proof of it
    wherever the nodes' configuration names one; reads and writes of data never do.

    In a leaderless cluster ``r``, ``acks`` (W) and ``n`` say how many replicas must answer a read, must have a write on
    disk, and hold the key; ``sloppy`` whether others may stand in for those that cannot be reached. ``None``: as the
    cluster is configured.

    One client serves any number of threads, and goes on in a process that was forked: each has connections of its own.
    There is no ``len()``: counting would mean reading every key. The exceptions are drawn in ``raftkv.client.errors``.
    """

    def _exchanging(self, tls: ssl.SSLContext | None) -> Exchange:
        return Exchange(tls=tls)

    def close(self) -> None:
        """Close the connections; a later call opens them again."""
        self._exchange.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- reads

    @overload
    def get(
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
    def get(
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

    def get(
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
        """The value under ``key`` as bytes, or ``default`` when there is none; raises ``SiblingsFound``.

        ``revision``, or ``at``, a time with its zone: as it stood then; raises ``RevisionCompacted`` when that is
        forgotten. Times are those of the log's clock; what it has not come to yet reads as now. ``consistency``:
        ``"linearizable"``, ``"lease"``, ``"eventual"`` or ``"local"``; the cluster's own first choice unless named.
        """
        query = read_of(revision=revision, at=at, consistency=consistency, r=r, n=n, sloppy=sloppy)
        return self._exchange.perform(self._plans.get(key, default, query))

    def get_record(
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
        """The value under ``key`` with its revisions and what kind of read it was; ``None`` when there is none.

        The choices are those of ``get``; raises ``SiblingsFound``.
        """
        query = read_of(revision=revision, at=at, consistency=consistency, r=r, n=n, sloppy=sloppy)
        return self._exchange.perform(self._plans.get_record(key, query))

    def get_records(
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
        return self._exchange.perform(self._plans.get_records(key, query))

    def page(
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
        """One page of the keys with ``prefix`` and ``start`` <= key < ``end``, in key order.

        All of one moment, unless the cluster is leaderless. A page may have fewer keys than ``limit`` and still say
        where the ``next`` begins: the server has a limit of its own, on keys and on bytes.
        """
        plan = self._plans.page(
            prefix, start, end, limit, keys_only=keys_only, consistency=consistency, revision=revision, at=at
        )
        return self._exchange.perform(plan)

    def list(
        self,
        prefix: str = "",
        *,
        limit: int | None = None,
        keys_only: bool = False,
        revision: int | None = None,
        at: datetime | None = None,
        consistency: Consistency | None = None,
    ) -> Iterator[Record]:
        """Every record with ``prefix``, in key order, fetched page by page; ``limit`` is the most there will be.

        Each page is of one moment, two pages are of two, unless a ``revision`` is named, or a time that is past
        (``at``): then all are as it stood then.
        """
        return self._exchange.each(
            self._plans.records(prefix, limit, keys_only=keys_only, consistency=consistency, revision=revision, at=at)
        )

    def status(self) -> StatusContent:
        """How the asked node sees itself and its cluster, as ``GET /status`` says it."""
        return self._exchange.perform(self._plans.status())

    def follow(self) -> Iterator[StatusOrProblem]:
        """The status of the asked node, now and whenever it changes, from one node for as long as it is taken.

        While the node's replica is away there is a problem instead, which has a ``code``. Raises ``DefiniteError`` when
        the stream breaks off, and what any request raises.
        """
        return self._exchange.each(self._plans.follow())

    # -- writes

    def set(
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
        """Store ``value``; returns the revision of the write (0 when ``acks`` asked not to wait until it is known).

        ``ttl``: seconds until the key expires; ``lease``: the lease, or its number, with which it goes.
        ``if_revision``: only if the key stands at that revision (0: does not exist). ``if_absent``: only if it does not
        exist. Raises ``PreconditionFailed`` otherwise. ``acks``: how many replicas must hold the write before the
        answer: ``"majority"`` (default), ``"all"``, a number, or ``"leader"``, which may be lost. ``context``: of the
        record that the writer has seen; siblings that it covers are replaced.
        """
        query = {"ttl": ttl, "lease": lease_of(lease), "w": acks, "n": n, "sloppy": sloppy}
        plan = self._plans.set(key, value, query, if_revision=if_revision, if_absent=if_absent, context=context)
        return self._exchange.perform(plan)

    def delete(
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
        return self._exchange.perform(self._plans.delete(key, query, if_revision=if_revision, context=context))

    def delete_prefix(self, prefix: str) -> int:
        """Remove every key with ``prefix``, at one revision; returns how many there were."""
        return self._exchange.perform(self._plans.delete_prefix(prefix))

    def increment(self, key: Key, by: int = 1, *, minimum: int | None = None, maximum: int | None = None) -> int:
        """Add ``by`` to the integer under ``key``, which is kept as text; returns what it is then.

        A key that is not there counts as 0. Raises ``DefiniteError`` with the code ``not_an_integer``, or
        ``out_of_bounds`` where it would pass ``minimum`` or ``maximum``.
        """
        return self._exchange.perform(self._plans.increment(key, by, minimum, maximum))

    def touch(self, key: Key, ttl: float | None) -> bool:
        """Let ``key`` live for ``ttl`` seconds from now on, ``None`` for ever; says whether there is such a key.

        Its value and its revision stay.
        """
        return self._exchange.perform(self._plans.touch(key, ttl))

    def compact(self, revision: int) -> int:
        """Forget what the store was before ``revision``; returns the oldest revision that can be read.

        Raises ``RevisionCompacted`` where more is forgotten already.
        """
        return self._exchange.perform(self._plans.compact(revision))

    def transaction(self) -> ClientTransaction:
        """Operations that are done together, or not at all, when its ``with`` block is left; see ``TransactionForm``.

        One request and one revision. Raises ``RequirementFailed`` then, unless there is another branch.
        """
        return ClientTransaction(self._exchange, self._calls)

    def transact(self, content: Mapping[str, object] | bytes) -> TransactionContent:
        """Carry out a transaction in the form of ``POST /txn``, in JSON or what JSON is made of; returns its answer.

        Values are text, or ``{"base64": ...}``. See ``transaction`` for one that is written in Python.
        """
        return self._exchange.perform(self._plans.transact(content))

    def batch(
        self, operations: Sequence[Mapping[str, object]], *, acks: Acks | None = None
    ) -> tuple[ResultContent, ...]:
        """Carry out independent operations, in order, in one step; returns one result each, as ``POST /batch`` does.

        An operation is ``{"op": "put", "key", "value", "if_revision", "ttl"}``, ``{"op": "delete", "key",
        "if_revision"}`` or ``{"op": "get", "key"}``. A result has the ``status`` that the operation would have had
        alone; a failed one does not stop the others. Values in results are bytes. There are none when ``acks`` asked
        not to wait.
        """
        return self._exchange.perform(self._plans.batch(operations, acks))

    # -- in the style of a mapping

    def __getitem__(self, key: Key) -> bytes:
        value: bytes | None = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: Key, value: Value) -> None:
        self.set(key, value)

    def __delitem__(self, key: Key) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def __contains__(self, key: Key) -> bool:
        return self._exchange.perform(self._plans.has(key))

    def __iter__(self) -> Iterator[str]:
        return (record.key for record in self.list(keys_only=True))

    # -- the cluster

    def members(self) -> MembersContent:
        """The members as the asked node knows them, as ``GET /cluster/members`` says it."""
        return self._exchange.perform(self._plans.members())

    def ask(
        self, method: str, path: str, content: Mapping[str, object] | msgspec.Struct | None = None
    ) -> Mapping[str, object]:
        """What the API says to a request about the cluster for which there is no method here: JSON to JSON.

        ``path`` is percent-encoded, and may have a query. It is asked by the secret, if there is one. What is no GET is
        sent once; raises as other writes do.
        """
        return self._exchange.perform(self._plans.ask(method, path, content))

    def add_member(self, node: str, *, http: str, peer: str, zone: str = "") -> MembersContent:
        """Let a node join; returns the members. Its data moves in afterwards.

        Where there is a leader it is a ``learner`` first, and a ``voter`` by itself once it has caught up.
        """
        content = NewMember(id=node, http=http, peer=peer, zone=zone)
        return self._exchange.perform(self._plans.add_member(content))

    def remove_member(self, node: str) -> MembersContent:
        """Let a node leave; returns the members. In a leaderless cluster its data moves out first, if it lives."""
        return self._exchange.perform(self._plans.remove_member(node))

    def promote_member(self, node: str) -> MembersContent:
        """Let a node vote that only learns, if it has caught up, before it does by itself; returns the members."""
        return self._exchange.perform(self._plans.promote_member(node))

    def move_member(self, node: str, *, http: str, peer: str) -> MembersContent:
        """Let a member of a cluster with a leader have other addresses; returns the members."""
        content = NewAddresses(http=http, peer=peer)
        return self._exchange.perform(self._plans.move_member(node, content))

    def transfer(self, node: str) -> LedContent:
        """Let ``node`` lead; returns who leads, and in which term. Clients wait meanwhile, and lose nothing."""
        return self._exchange.perform(self._plans.transfer(NewLeader(to=node)))

    def backup(self, consistency: BackupLevel | None = None) -> Iterator[bytes]:
        """All that the asked node holds, as a file that ``raftkv restore`` takes, piece by piece, while writes go on.

        With a leader it is one state, and has all that was acknowledged before; ``"local"``: what that node has
        applied. Without one it is what that node holds: ``raftkv backup`` gathers the rest. A file that breaks off is
        none; then this raises ``DefiniteError``.
        """
        return self._exchange.each(self._plans.backup(consistency))

    def repair(self) -> RepairContent:
        """Let the asked node compare its data with every replica of it; returns what that did."""
        return self._exchange.perform(self._plans.repair())
