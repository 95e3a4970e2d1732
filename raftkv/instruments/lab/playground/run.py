"""``raftkv lab playground``: a cluster of its own and the page to play with it, until Ctrl-C or until its time is over.

Rules: whatever way it ends, every process has ended and nothing of its data is left; it ends, too, when the process
that started it does, so that a closed terminal leaves nothing behind. If it is killed, its nodes end by themselves,
and the next one removes its data.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from raftkv.backup.fetching import workspace
from raftkv.client import Client
from raftkv.core.config import Address, QuorumSection
from raftkv.core.errors import StartupError
from raftkv.core.listening import close, listen
from raftkv.instruments.lab.playground.likeness import copy_keys
from raftkv.instruments.lab.playground.play import Playground
from raftkv.instruments.lab.playground.server import serving
from raftkv.instruments.lab.run import Tell
from raftkv.instruments.lab.scenario import Variant
from raftkv.instruments.local.cluster import LocalCluster
from raftkv.instruments.local.nodes import loopback_sites

LOOK_S: Final = 0.5
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class PlaygroundPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be started. ``source`` is where keys are copied from, asked before anything is broken."""

    mode: str
    nodes: int
    quorum: QuorumSection
    for_s: float
    listen: Address
    out: Path
    command: str


def perform(plan: PlaygroundPlan, tell: Tell, source: Client | None = None) -> None:
    """Play until a signal, or until the time is over; raises ``ClusterError`` and ``StartupError``."""
    parent = os.getppid()
    listeners = listen(plan.listen, "the page")
    with contextlib.ExitStack() as held, _signalled() as over:
        held.callback(close, listeners)
        home = held.enter_context(workspace(Path(tempfile.gettempdir()), "raftkv-playground"))
        cluster = held.enter_context(LocalCluster(home, loopback_sites(plan.nodes), _sections(plan), mode=plan.mode))
        tell(f"starting {plan.nodes} nodes in {plan.mode} mode ...")
        cluster.start()
        cluster.wait_ready()
        about = "" if source is None else _copied(source, cluster, tell)
        until_s = time.monotonic() + plan.for_s
        playground = Playground(cluster, plan.quorum, out=plan.out, command=plan.command, until_s=until_s, about=about)
        held.enter_context(playground)
        address = held.enter_context(serving(playground, listeners[0]))
        tell(f"open this in a browser:\n\n    {address}\n")
        time_left = f"{plan.for_s / 60:.0f} minutes" if plan.for_s >= 120 else f"{plan.for_s:.0f} seconds"
        tell(f"It ends with Ctrl-C, or by itself in {time_left}.")
        _wait(over, until_s, playground, parent)
    tell("ended: its nodes have stopped, and their data is removed")


def _sections(plan: PlaygroundPlan) -> str:
    if plan.mode == "raft":
        return ""
    quorum = plan.quorum
    config = {name: getattr(quorum, name) for name in ("n", "r", "w", "conflicts", "sloppy")}
    return Variant(name="playground", about="-", mode="quorum", config={"quorum": config}).sections()


def _copied(source: Client, cluster: LocalCluster, tell: Tell) -> str:
    copied = copy_keys(source, cluster)
    said = f"{copied.keys:,} {'key' if copied.keys == 1 else 'keys'} copied" + (
        "" if copied.is_all else ", the first of more"
    )
    tell(said)
    return said


def _wait(over: threading.Event, until_s: float, playground: Playground, parent: int) -> None:
    while not over.wait(LOOK_S) and time.monotonic() < until_s and os.getppid() == parent:
        if playground.failure is not None:
            raise StartupError(f"the playground broke off: {playground.failure!r}") from playground.failure


@contextlib.contextmanager
def _signalled() -> Iterator[threading.Event]:
    """Set when somebody wants us to end, by a signal; a second one finds us ending already."""
    over = threading.Event()
    previous = {number: signal.signal(number, lambda *_: over.set()) for number in _SIGNALS}
    try:
        yield over
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
