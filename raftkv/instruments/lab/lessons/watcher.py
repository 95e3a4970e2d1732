"""A watcher through a partition: on the node that is cut off it hears nothing, then everything, and nothing twice."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from random import Random
from typing import Final, Self

import msgspec

from raftkv.api import headers as names
from raftkv.api import paths
from raftkv.api.answers import ChangesTold, ProgressTold, Stored
from raftkv.client.channels import Channels
from raftkv.client.events import EventReader
from raftkv.client.http1 import RequestForm
from raftkv.client.reach import Host, UnheardError
from raftkv.core.config import Address
from raftkv.instruments.lab.faults import Partition
from raftkv.instruments.lab.lessons.fencing import CLUSTER
from raftkv.instruments.lab.lessons.lesson import Lesson, Tell, ToBeSeen
from raftkv.instruments.lab.lessons.plain_client import PlainClient
from raftkv.instruments.lab.namespaces import Namespaces, why_unavailable
from raftkv.instruments.lab.nemesis import Nemesis
from raftkv.instruments.lab.run import started
from raftkv.instruments.local.nodes import loopback_sites, wait_until

PREFIX: Final = "news/"
ITEMS: Final = 10
"""Written before, during and after."""

SILENT_S: Final = 30.0
"""A watcher hears at least how far it has seen, far more often."""

LOOK_S: Final = 2.0
HEARD_S: Final = 20.0


class NewsWatcher:
    """Watches at one node, on one connection, until left; ``heard`` are revisions, ``seen`` how far it knows it is."""

    def __init__(self, address: Address) -> None:
        self.heard: list[int] = []
        self.seen = 0
        self.ended = ""
        self._is_left = False
        self._channels = Channels()
        host = Host(address.host, address.port)
        form = RequestForm("GET", [("Host", host.authority), ("Accept", names.EVENTS)])
        request = form.request(f"{paths.WATCH}?prefix={PREFIX}&progress_s=1")
        self._body = self._channels.begin(host, "GET", request, SILENT_S)
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_left = True
        self._thread.join(LOOK_S + SILENT_S)
        self._body.end()
        self._channels.close()

    def _listen(self) -> None:
        reader = EventReader()
        try:
            while not self._is_left and (piece := self._body.piece(SILENT_S)):
                for event in reader.feed(piece):
                    if event.event == "changes":
                        told = msgspec.json.decode(event.data, type=ChangesTold)
                        self.heard += [told.revision] * len(told.changes)
                        self.seen = told.revision
                    elif event.event == "progress":
                        self.seen = msgspec.json.decode(event.data, type=ProgressTold).revision
                    else:
                        self.ended = event.data.decode()
        except UnheardError as error:
            self.ended = str(error)


def perform(folder: Path, tell: Tell) -> list[ToBeSeen]:
    """The same prefix is watched at two nodes, one of which is cut off for a while."""
    in_namespaces = why_unavailable() is None
    words = "each in a network of its own" if in_namespaces else "on this machine"
    tell(f"Three nodes start, {words}. The same prefix is watched at two of them: GET /watch?prefix={PREFIX}")
    with contextlib.ExitStack() as stack:
        namespaces = stack.enter_context(Namespaces(3)) if in_namespaces else None
        sites = loopback_sites(3) if namespaces is None else namespaces.sites
        cluster = stack.enter_context(started(CLUSTER, sites, folder))
        apart, beside = cluster.followers()
        leader = cluster.leader()
        writer = PlainClient([str(cluster.sites[node].http) for node in (leader, beside)])
        here = stack.enter_context(NewsWatcher(cluster.sites[apart].http))
        there = stack.enter_context(NewsWatcher(cluster.sites[beside].http))
        written = _write(writer, 0)
        _wait(here, written)
        tell(f"   {leader} leads. {ITEMS} keys are written; both watchers hear of all, up to revision {written[-1]}.")
        nemesis = stack.enter_context(Nemesis(cluster, random=Random(0), namespaces=namespaces))  # noqa: S311  no draws
        cut = nemesis.begin(Partition(groups=((apart,), ("rest",))))
        tell(f"\n   {apart} is cut off from the others; its watcher still reaches it. {ITEMS} more keys are written.")
        written += _write(writer, ITEMS)
        _wait(there, written)
        time.sleep(LOOK_S)
        heard_apart, seen_apart = len(here.heard), here.seen
        tell(
            f"   At {beside} the watcher has heard of all {len(there.heard)}. At {apart} it heard of {heard_apart},\n"
            f"   and is told that it has seen everything up to revision {seen_apart}: it is behind, not lost."
        )
        nemesis.end(cut)
        tell("\n   The network is mended, and once more keys are written.")
        written += _write(writer, 2 * ITEMS)
        for watcher in (here, there):
            _wait(watcher, written)
        tell(f"   Both watchers have heard of {len(here.heard)}, on the connections that they had from the beginning.")
        return [
            ToBeSeen("the watcher on the other side heard at once", there.heard[: 2 * ITEMS] == written[: 2 * ITEMS]),
            ToBeSeen(
                "on the node that was cut off nothing was heard, and none of it was claimed to be seen",
                heard_apart == ITEMS and seen_apart < written[ITEMS],
            ),
            ToBeSeen("then everything, in order, no gap and nothing twice", here.heard == written and not here.ended),
        ]


def _write(writer: PlainClient, first: int) -> list[int]:
    """Write keys, one after the other; returns their revisions."""
    revisions = []
    for number in range(first, first + ITEMS):
        path = paths.filled(paths.KEY, f"{PREFIX}{number}")
        revision = writer.document(Stored, "PUT", path, b"something happened").revision
        assert revision is not None
        revisions.append(revision)
    return revisions


def _wait(watcher: NewsWatcher, written: list[int]) -> None:
    wait_until(lambda: watcher.ended or watcher.heard[-1:] == written[-1:], "a watcher to hear of everything", HEARD_S)


LESSON: Final = Lesson("A watcher through a partition hears nothing, then everything", perform)
