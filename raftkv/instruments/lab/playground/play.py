"""A playground that runs: its clients and what its nodes show, on one asyncio loop in a thread of its own.

Pages and their buttons come on other threads: what they ask for is done on the loop, or at the desk of faults, and
waited for within a deadline.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Coroutine, Iterable
from pathlib import Path
from random import Random
from typing import Annotated, Any, Final, Literal, Self, TypeVar

import msgspec
from msgspec import Meta

from raftkv.core.config import QuorumSection
from raftkv.instruments.lab.playground.board import Board
from raftkv.instruments.lab.playground.cart import CartTold, shop
from raftkv.instruments.lab.playground.faultdesk import FaultDesk, Lasting
from raftkv.instruments.lab.playground.manner import Manner
from raftkv.instruments.lab.playground.saving import SavingError, save
from raftkv.instruments.lab.playground.sights import NodeSights
from raftkv.instruments.lab.playground.telling import KEY_PREFIX
from raftkv.instruments.lab.playground.traffic import KEYS, RATE_MAX, PlayTraffic
from raftkv.instruments.local.cluster import LocalCluster

FRAME_S: Final = 0.25
DONE_WITHIN_S: Final = 30.0
SAVED_MAX: Final = 50

Found = TypeVar("Found")


class TrafficOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What clients shall do from now on; what is ``None`` stays as it is."""

    rate_per_s: Annotated[float, Meta(ge=1, le=RATE_MAX)] | None = None
    paused: bool | None = None
    weak: bool | None = None
    """Raft: writers are content with the leader's own disk (``w=leader``)."""

    lease: bool | None = None
    """Raft: fresh reads trust clocks (``consistency=lease``)."""


class Playground:
    """``cluster`` has started; ``out`` is where runs are saved; it is over by itself at ``until_s`` (monotonic)."""

    def __init__(
        self,
        cluster: LocalCluster,
        quorum: QuorumSection,
        *,
        out: Path,
        command: str,
        until_s: float,
        about: str = "",
    ) -> None:
        self.manner = Manner.raft() if cluster.mode == "raft" else Manner.quorum(quorum)
        self._quorum = quorum
        self._nodes = list(cluster.nodes)
        self._servers = {node: cluster.sites[node].http for node in cluster.nodes}
        self._out = out
        self._command = command
        self._until_s = until_s
        self.desk = FaultDesk(cluster)
        self._sights = NodeSights(self._servers)
        random = Random()  # noqa: S311  nothing secret is drawn from it
        self._traffic = PlayTraffic(
            self.manner,
            self._servers,
            random=random,
            is_settled=self._is_settled,
            leaders=self._sights.leaders,
        )
        self._saved: dict[str, Path] = {}
        self._cart_number = 0
        self.board = Board(self._setup(about))
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="playground", daemon=True)

    def __enter__(self) -> Self:
        self.desk.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.board.end()
        self._loop.call_soon_threadsafe(self._cancel)
        self._thread.join()
        self.desk.__exit__()

    def _setup(self, about: str) -> dict[str, Any]:
        manner = self.manner
        return {
            "mode": manner.mode,
            "nodes": self._nodes,
            "keys": [key.removeprefix(KEY_PREFIX).decode() for key in KEYS],
            "lanes": [{"name": lane.name, "kind": lane.kind, "node": lane.node} for lane in self._traffic.lanes],
            "local": manner.local_name,
            "promise": manner.promise,
            "merges": manner.merges,
            "quorum": {"n": self._quorum.n, "r": self._quorum.r, "w": self._quorum.w},
            "about": about,
        }

    # -- on the loop

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._all())
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001  handed to the thread that looks after us
            self.failure = error
        finally:
            self.board.end()

    async def _all(self) -> None:
        self._task = asyncio.current_task()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._traffic.run())
            group.create_task(self._sights.run())
            group.create_task(self._show())

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _show(self) -> None:
        while True:
            self.board.publish(
                self._sights.take(), self._traffic.take_marks(), self._play(), self._faults(self.desk.past)
            )
            await asyncio.sleep(FRAME_S)

    def _play(self) -> dict[str, Any]:
        traffic, origin_ms = self._traffic, self._traffic.origin_ns // 1_000_000
        newest = {key: traffic.verdict.newest(key) for key in KEYS}
        return {
            "now_ms": time.monotonic_ns() // 1_000_000 - origin_ms,
            "left_s": max(0, round(self._until_s - time.monotonic())),
            "faults": self._faults(self.desk.lasting),
            "down": sorted(self.desk.down),
            "rate": traffic.rate_per_s,
            "paused": traffic.is_paused,
            "weak": bool(traffic.write_query),
            "fresh": traffic.fresh_name,
            "lease": traffic.fresh_name == "lease",
            "reads": traffic.reads,
            "newest": {
                key.removeprefix(KEY_PREFIX).decode(): getattr(write.action, "value", b"").decode()
                for key, write in newest.items()
                if write is not None
            },
            "score": traffic.verdict.score,
            "stories": list(traffic.verdict.stories),
            "worst": traffic.verdict.worst,
        }

    def _faults(self, shown: Iterable[Lasting]) -> list[dict[str, Any]]:
        origin_ms = self._traffic.origin_ns // 1_000_000
        return [
            {
                "kind": each.kind,
                "places": each.places,
                "at_ms": each.at_ms - origin_ms,
                "until_ms": None if each.until_ms is None else each.until_ms - origin_ms,
            }
            for each in shown
        ]

    def _is_settled(self) -> bool:
        """Is nothing broken, and does no node keep writes for another?"""
        if self.desk.lasting or self.desk.down:
            return False
        sights = [self._sights.newest(node) for node in self._nodes]
        return all(sight is not None and not sight.hints_pending for sight in sights)

    # -- from other threads

    def _done(self, work: Coroutine[Any, Any, Found]) -> Found:
        """What came of ``work`` on the loop; raises ``TimeoutError``."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DONE_WITHIN_S)

    def change(self, order: TrafficOrder) -> None:
        """Let clients do as ``order`` says."""
        self._done(self._change(order))

    async def _change(self, order: TrafficOrder) -> None:
        traffic = self._traffic
        traffic.rate_per_s = traffic.rate_per_s if order.rate_per_s is None else order.rate_per_s
        traffic.is_paused = traffic.is_paused if order.paused is None else order.paused
        if order.weak is not None and self.manner.mode == "raft":
            traffic.write_query = "w=leader" if order.weak else ""
        if order.lease is not None and self.manner.mode == "raft":
            traffic.read_fresh("lease" if order.lease else self.manner.fresh_name)

    def cart(self, *, with_care: bool) -> CartTold:
        """Let two people fill a cart; ``with_care``: each writes only what it has seen, where the mode can do that."""
        self._cart_number += 1
        update: Literal["put", "compare_and_set", "context"] = "put"
        if with_care:
            update = "compare_and_set" if self.manner.mode == "raft" else "context"
        nodes = [node for node in self._nodes if node not in self.desk.down] or self._nodes
        return self._done(shop(self._cart_number, update, self._servers, nodes, read=self.manner.fresh_query))

    def save(self) -> tuple[str, Path]:
        """Write a run of all that is kept, and its report; returns a word that ``saved`` knows it by, and the page.

        Raises ``SavingError``.
        """
        if len(self._saved) >= SAVED_MAX:
            raise SavingError(f"{SAVED_MAX} runs were saved already")
        try:
            operations = self._done(self._traffic.whole())
        except TimeoutError:
            operations = None
        if not operations:
            raise SavingError("a run ends with a look at every key, which cannot be had now: heal the cluster first")
        folder = self._out / f"lab-playground-{time.strftime('%Y%m%d-%H%M%S')}-{len(self._saved) + 1}"
        try:
            page = save(
                folder,
                sorted(operations, key=lambda each: each.invoked_ns),
                self.desk.events,
                manner=self.manner,
                quorum=self._quorum,
                node_count=len(self._nodes),
                clients=len(self._traffic.lanes) - 1,
                rate_per_s=self._traffic.rate_per_s,
                deaths=self.desk.deaths,
                command=self._command,
            )
        except OSError as error:
            raise SavingError(f"{error.filename}: {error.strerror}") from None
        word = secrets.token_urlsafe(16)
        self._saved[word] = page
        return word, page

    def saved(self, word: str) -> Path | None:
        """The page of a run that was saved."""
        return self._saved.get(word)
