"""The clients of a playground: writers and readers of a few keys that ask all the while, at a rate that can be changed.

Some writes are *receipts*: each has a key of its own, so that its loss shows even where the next write would hide that
of another. At every node a *local* reader and a *fresh* one read the same keys, each by itself, so that one who waits
for an answer that does not come holds up nobody. Writers ask any node. Each operation is judged as it ends
(``LiveVerdict``), and kept for the run's history. Now and then a key is left alone until nothing is under way on it,
and looked at once more, as strongly as the mode can. Owned by one asyncio loop; its clock is ``time.monotonic_ns``.
Every wait has a deadline; a client has one request under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from random import Random
from typing import Final, Literal

import msgspec

from raftkv.client.async_channels import AsyncChannels
from raftkv.core.config import Address
from raftkv.instruments.lab.dialect import WEAK, ClientStep, Meaning
from raftkv.instruments.lab.exchange import attempt, channel
from raftkv.instruments.lab.history import LAST_LOOK, GetAction, ObservedOperation, Outcome, PutAction
from raftkv.instruments.lab.playground.manner import Manner
from raftkv.instruments.lab.playground.retained import Retained
from raftkv.instruments.lab.playground.telling import KEY_PREFIX, Teller
from raftkv.instruments.lab.playground.verdict import AnswerAge, LiveVerdict, written

KEYS: Final = tuple(KEY_PREFIX + name for name in (b"apples", b"pears"))
RECEIPTS: Final = KEY_PREFIX + b"receipt/"
RECEIPT_SHARE: Final = 0.4
RECEIPTS_MAX: Final = 500
"""So many wait to be looked for; of more the oldest are not."""

WRITERS: Final = 2
RATE_DEFAULT: Final = 30.0
SHARES: Final = {"writes": 1, "local": 3, "fresh": 3}
"""How often one client asks compared with another: what changes more often than people can read teaches nothing."""

RATE_MAX: Final = 200.0
TIMEOUT_S: Final = 1.0
THINK_MOST_S: Final = 1.0
REFUSED_PAUSE_S: Final = 0.1
LOOK_EVERY_S: Final = 6.0
LOOK_TIMEOUT_S: Final = 2.0
WINDOW_MAX: Final = 400
"""So many operations of a key are judged together, unless it cannot be looked at for longer."""

QUIET_S: Final = 4.0
"""What was under way on a key when it is left alone has ended by then: requests have a deadline."""

CHECK_S: Final = 1.0
MARKS_MAX: Final = 4000
"""Operations that wait to be shown; of more the oldest are never drawn."""


class Lane(msgspec.Struct, kw_only=True):
    """One client as people see it. ``client`` is its number in the history, a new one after each unknown outcome.

    ``contexts`` stand for what it has read of each key.
    """

    number: int
    name: str
    kind: Literal["writes", "local", "fresh", "looks"]
    node: str
    client: int
    contexts: dict[bytes, str] = {}


class Mark(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One operation as it is drawn; moments are milliseconds since the playground began.

    ``outcome`` is that of the history, or ``weak``: acknowledged by fewer than a majority. ``harm``: ``stale`` where
    the answer was too old, though allowed to be; ``broken`` where it was not allowed to be.
    """

    lane: int
    key: str
    node: str
    began_ms: int
    ended_ms: int
    outcome: str
    value: str | None
    siblings: list[str]
    behind: int
    stale_ms: int
    harm: Literal["", "stale", "broken"]
    note: str


class PlayTraffic:
    """All clients of a cluster whose nodes serve at ``servers``. ``is_settled``: is nothing broken, and are all level?

    ``leaders`` are those who take themselves for one.
    """

    def __init__(
        self,
        manner: Manner,
        servers: Mapping[str, Address],
        *,
        random: Random,
        is_settled: Callable[[], bool],
        leaders: Callable[[], list[str]],
    ) -> None:
        self.origin_ns = time.monotonic_ns()
        self.names: dict[int, str] = {}
        self.rate_per_s = RATE_DEFAULT
        self.is_paused = False
        self.write_query = ""
        """More of the query of writes, such as ``w=leader``; empty: what the cluster is configured for."""

        self.fresh_name = manner.fresh_name
        self._fresh_query = manner.fresh_query
        self.lanes: list[Lane] = []
        self.reads: dict[str, dict[str, dict[str, Mark]]] = {node: {} for node in servers}
        """The last local and the last fresh read of each key at each node."""

        self.teller = Teller(self.origin_ns, self.names)
        self.verdict = LiveVerdict(KEYS, teller=self.teller, is_linearizable=manner.is_linearizable)
        self.retained = Retained(KEYS)
        self._manner = manner
        self._servers = dict(servers)
        self._random = random
        self._is_settled = is_settled
        self._leaders = leaders
        self._marks: deque[Mark] = deque(maxlen=MARKS_MAX)
        self._numbers = dict.fromkeys(KEYS, 0)
        self._receipt_number = 0
        self._receipts: deque[ObservedOperation] = deque(maxlen=RECEIPTS_MAX)
        self._held: set[bytes] = set()
        self._under_way = dict.fromkeys(KEYS, 0)
        self._looked_s = dict.fromkeys(KEYS, time.monotonic())
        self._looking = asyncio.Lock()
        for number in range(WRITERS):
            self._lane(f"writer {number + 1}", "writes", "")
        for node in servers:
            self._lane(f"{manner.local_name} reader at {node}", "local", node)
            self._lane(f"{manner.fresh_name} reader at {node}", "fresh", node)
        self._looker = self._lane("the laboratory", "looks", "")

    def _lane(self, name: str, kind: Literal["writes", "local", "fresh", "looks"], node: str) -> Lane:
        lane = Lane(number=len(self.lanes), name=name, kind=kind, node=node, client=len(self.names) + 1)
        self.names[lane.client] = name
        self.lanes.append(lane)
        return lane

    def read_fresh(self, level: str) -> None:
        """Raft: let reads that are to be fresh ask for this level from now on."""
        self.fresh_name, self._fresh_query = level, f"consistency={level}"
        for lane in self.lanes:
            if lane.kind == "fresh":
                lane.name = self.names[lane.client] = f"{level} reader at {lane.node}"

    def take_marks(self) -> list[Mark]:
        """What has ended since this was asked last, as far as it is held."""
        marks = list(self._marks)
        self._marks.clear()
        return marks

    async def run(self) -> None:
        """Ask until cancelled."""
        async with asyncio.TaskGroup() as group:
            for lane in self.lanes:
                if lane is not self._looker:
                    group.create_task(self._client(lane))
            group.create_task(self._judge())

    # -- clients

    async def _client(self, lane: Lane) -> None:
        channels = {node: channel(address) for node, address in self._servers.items() if lane.node in ("", node)}
        turn = lane.number  # readers take the keys in turn, each beginning with another
        try:
            while True:
                await asyncio.sleep(self._think_s(lane))
                turn += 1
                key = self._random.choice(KEYS) if lane.kind == "writes" else KEYS[turn % len(KEYS)]
                if self.is_paused:
                    continue
                node = lane.node or self._random.choice(self._taking())
                if lane.kind == "writes" and self._random.random() < RECEIPT_SHARE:
                    await self._give_receipt(lane, node, channels[node])
                    continue
                if key in self._held:
                    continue
                self._under_way[key] += 1
                try:
                    found = await self._turn(lane, key, node, channels[node])
                finally:
                    self._under_way[key] -= 1
                if found.outcome is not Outcome.OK:
                    await asyncio.sleep(REFUSED_PAUSE_S)
        finally:
            for each in channels.values():
                each.close()

    def _taking(self) -> list[str]:
        """Who is asked to write: any node, but where a leader's own disk is enough, whoever takes itself for one."""
        return (self._leaders() if self.write_query else []) or list(self._servers)

    def _think_s(self, lane: Lane) -> float:
        all_of_them = sum(SHARES.get(each.kind, 0) for each in self.lanes)
        return min(THINK_MOST_S, self._random.expovariate(self.rate_per_s * SHARES[lane.kind] / all_of_them))

    async def _turn(self, lane: Lane, key: bytes, node: str, asked: AsyncChannels) -> Meaning:
        if lane.kind != "writes":
            return await self._read(lane, key, node, asked)
        if self._manner.merges:  # who writes says what it replaces, so it has to read that first
            context = (await self._read(lane, key, node, asked)).context
            lane.contexts[key] = context or lane.contexts.get(key, "")
        return await self._write(lane, key, node, asked)

    async def _read(self, lane: Lane, key: bytes, node: str, asked: AsyncChannels) -> Meaning:
        step = ClientStep(key=key, action=GetAction())
        query = self._manner.local_query if lane.kind == "local" else self._fresh_query
        found, operation = await self._asked(lane, step, node, asked, query=query, note=lane.kind)
        age = self.verdict.ended(operation, "none" if lane.kind == "local" else "fresh")
        self._keep(lane, operation, age)
        return found

    async def _write(self, lane: Lane, key: bytes, node: str, asked: AsyncChannels) -> Meaning:
        self._numbers[key] += 1
        step = ClientStep(key=key, action=PutAction(b"%d" % self._numbers[key]), context=lane.contexts.get(key, ""))
        now_ns = time.monotonic_ns()
        begun = Meaning(outcome=Outcome.UNKNOWN).observed(
            step, client=lane.client, node=node, invoked_ns=now_ns, ended_ns=now_ns, note="under way"
        )
        self.verdict.begun(begun)
        found, operation = await self._asked(lane, step, node, asked, write_query=self.write_query)
        self.verdict.ended(operation)
        self._keep(lane, operation, None)
        return found

    async def _give_receipt(self, lane: Lane, node: str, asked: AsyncChannels) -> None:
        self._receipt_number += 1
        step = ClientStep(key=RECEIPTS + b"%d" % self._receipt_number, action=PutAction(b"paid"))
        found, operation = await self._asked(lane, step, node, asked, write_query=self.write_query)
        self.verdict.counted(operation)
        self._keep(lane, operation, None)
        if found.outcome is Outcome.OK:
            self._receipts.append(operation)

    async def _asked(
        self,
        lane: Lane,
        step: ClientStep,
        node: str,
        asked: AsyncChannels,
        *,
        query: str = "",
        write_query: str = "",
        note: str = "",
        timeout_s: float = TIMEOUT_S,
    ) -> tuple[Meaning, ObservedOperation]:
        invoked_ns = time.monotonic_ns()
        found = await attempt(asked, step, timeout_s=timeout_s, query=query, write_query=write_query)
        ended_ns = time.monotonic_ns()
        notes = ", ".join(each for each in (note, found.note) if each)
        operation = found.observed(
            step, client=lane.client, node=node, invoked_ns=invoked_ns, ended_ns=ended_ns, note=notes
        )
        if found.outcome is Outcome.UNKNOWN:  # it may still be under way, so the client goes on under a new number
            lane.client = len(self.names) + 1
            self.names[lane.client] = lane.name
        return found, operation

    def _keep(self, lane: Lane, operation: ObservedOperation, age: AnswerAge | None) -> None:
        self.retained.add(operation)
        mark = self._mark(lane, operation, age)
        self._marks.append(mark)
        if lane.kind in ("local", "fresh"):
            self.reads[lane.node].setdefault(mark.key, {})[lane.kind] = mark

    def _mark(self, lane: Lane, operation: ObservedOperation, age: AnswerAge | None) -> Mark:
        ended_ns = time.monotonic_ns() if operation.returned_ns is None else operation.returned_ns
        is_read = isinstance(operation.action, GetAction)
        value = operation.result if is_read else written(operation)
        assert not isinstance(value, bool)
        is_weak = operation.outcome is Outcome.OK and WEAK in operation.note
        return Mark(
            lane=lane.number,
            key=operation.key.removeprefix(KEY_PREFIX).decode(),
            node=operation.node,
            began_ms=(operation.invoked_ns - self.origin_ns) // 1_000_000,
            ended_ms=(ended_ns - self.origin_ns) // 1_000_000,
            outcome="weak" if is_weak else operation.outcome.value,
            value=None if value is None else value.decode(errors="backslashreplace"),
            siblings=[each.decode(errors="backslashreplace") for each in operation.siblings],
            behind=0 if age is None else age.behind,
            stale_ms=0 if age is None else round(age.stale_ms),
            harm="" if age is None else "stale" if lane.kind == "local" else "broken",
            note=operation.note.rpartition(", ")[2],
        )

    # -- looks

    async def _judge(self) -> None:
        while True:
            await asyncio.sleep(CHECK_S)
            self.verdict.check()
            due_s = time.monotonic() - LOOK_EVERY_S
            late = [key for key in KEYS if self._looked_s[key] < due_s or self.verdict.size(key) > WINDOW_MAX]
            if late and not self.is_paused:
                await self.look(min(late, key=self._looked_s.__getitem__))
                await self._look_for_receipts()

    async def look(self, key: bytes, note: str = "look") -> ObservedOperation | None:
        """Leave ``key`` alone for a moment and look at it once more; ``None`` where that cannot be had now."""
        self._looked_s[key] = time.monotonic()
        if not (self._manner.is_linearizable or self._is_settled()):
            return None
        async with self._looking:
            self._held.add(key)
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(QUIET_S):
                        while self._under_way[key]:  # noqa: ASYNC110  nobody waits on the other side for long
                            await asyncio.sleep(0.01)
                return None if self._under_way[key] else await self._look(key, note)
            finally:
                self._held.discard(key)

    async def _look_for_receipts(self) -> None:
        """Look for each that was acknowledged, once, until one cannot be looked for now."""
        while self._receipts and (self._manner.is_linearizable or self._is_settled()):
            found = await self._looked_up(self._receipts[0].key, LAST_LOOK)
            if found is None:
                return
            self.verdict.audited(self._receipts.popleft(), found)
            self.retained.add(found)

    async def _look(self, key: bytes, note: str) -> ObservedOperation | None:
        operation = await self._looked_up(key, note)
        if operation is not None:
            self.verdict.close(key, operation)
            if note != LAST_LOOK:
                self.retained.close(key, operation)
        return operation

    async def _looked_up(self, key: bytes, note: str) -> ObservedOperation | None:
        """The strongest read of ``key`` at any node that answers it."""
        step = ClientStep(key=key, action=GetAction())
        for node in self._random.sample(sorted(self._servers), len(self._servers)):
            asked = channel(self._servers[node])
            try:
                _, operation = await self._asked(
                    self._looker,
                    step,
                    node,
                    asked,
                    query=self._manner.look_query,
                    note=note,
                    timeout_s=LOOK_TIMEOUT_S,
                )
            finally:
                asked.close()
            if operation.outcome is Outcome.OK:
                return operation
        return None

    async def whole(self) -> list[ObservedOperation] | None:
        """All that is kept, with one more look at every key at its end; ``None`` where that cannot be had now.

        Clients wait meanwhile.
        """
        was_paused, self.is_paused = self.is_paused, True
        try:
            looks = [await self.look(key, LAST_LOOK) for key in KEYS]
            found = [look for look in looks if look is not None]
            return [*self.retained.operations(), *found] if len(found) == len(KEYS) else None
        finally:
            self.is_paused = was_paused
