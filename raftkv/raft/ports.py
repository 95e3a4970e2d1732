"""What the replica needs of the world, and what its parts are to each other.

``raftkv.peers`` and ``raftkv.storage`` answer the ports to the world in a real node, virtual ends in a simulation. What
a part needs of the engine (``raftkv.raft.engine``) it declares itself, beside its class: another engine answers those.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from raftkv.formats.configurations import Configuration
from raftkv.formats.raft_messages import Message
from raftkv.formats.snapshots import Manifest
from raftkv.storage.snapshots.files import WrittenBody
from raftkv.storage.state.tables import StateTables

Handlers = Mapping[type[Any], Callable[[str, Any, float], None]]
"""By kind of message: what is done with one, given who sent it and the time (monotonic seconds)."""


class Part(Protocol):
    """A part of the replica that has a say with its peers.

    Handlers run between rounds of work. They change bookkeeping and post answers; nothing is flushed, sent or answered
    to clients by them. They may raise ``MalformedMessageError``, which costs the sender its connection.
    """

    def handlers(self) -> Handlers:
        """The messages that this part, and no other, takes."""


class Outgoing(Protocol):
    """Messages to peers. They leave after the next flush, in the order of their posting, or go with the connection."""

    def post(self, peer: str, message: Message) -> None:
        """Let ``message`` leave."""

    def is_up(self, peer: str) -> bool:
        """Is there a connection to ``peer``?"""

    def await_commit(self, peer: str, index: int) -> None:
        """Somebody at ``peer`` waits until it has applied ``index``: it is told of that commit index without delay."""


class Leading(Protocol):
    """Where the engine stands, for those who only ask whether a message is of this time."""

    term: int
    is_leader: bool


class RaftLink(Protocol):
    """Links to the other members. FIFO while they stand; ``send`` never blocks and may lose; nothing arrives twice."""

    def send(self, peer: str, payload: bytes) -> bool:
        """Send, if there is a connection; true says nothing about arrival."""

    def flush(self) -> None:
        """Hand what was sent to the network as soon as the caller returns, rather than when it gets to it."""

    def outstanding_bytes(self, peer: str) -> int:
        """How much was sent and not yet taken by the network."""

    def close_peer(self, peer: str) -> None:
        """Drop the connection; it will be made anew."""


class StatePort(Protocol):
    """Where the applied state lives: one generation of tables at a time, each in a directory of its own."""

    @property
    def tables(self) -> StateTables:
        """The tables of the generation in use."""

    @property
    def directory(self) -> Path:
        """Where they lie."""

    def fresh_directory(self) -> Path:
        """Where the next generation goes."""

    def switch(self, directory: Path) -> None:
        """Take up the generation in ``directory`` and drop the one before."""

    def discard(self, directory: Path) -> None:
        """Drop a generation that is not taken up."""

    def close(self) -> None:
        """End; what was committed is kept."""


class Receiving(Protocol):
    """The body of a snapshot on its way in."""

    def write(self, offset: int, data: bytes) -> None:
        """Take the next piece."""

    def finish(self) -> object:
        """Verify and publish, durably; raises ``SnapshotFailedError``."""

    def abort(self) -> None:
        """Drop what came so far."""


class Snapshots(Protocol):
    """The newest snapshot, and the making, sending, receiving and loading of others. Nothing blocks for long.

    A published snapshot is durable and verified. ``poll_*`` tell whether the background work is done, and raise
    ``SnapshotFailedError`` when it failed.
    """

    @property
    def newest(self) -> Manifest | None:
        """The newest published snapshot."""

    def start_write(self, state_directory: Path) -> None:
        """Begin to write the state as committed now."""

    def poll_write(self) -> WrittenBody | None:
        """The written body, once it is done."""

    def publish(
        self,
        written: WrittenBody,
        *,
        previous_term: int,
        last_command: bytes,
        members: tuple[str, ...],
        configured: tuple[int, Configuration] | None,
    ) -> Manifest:
        """Make a written body the newest snapshot; ``configured`` is who the members were there, once they changed."""

    def read_body(self, manifest: Manifest, offset: int, size: int) -> bytes:
        """A piece of a body, for sending."""

    def keep_open(self, manifests: Collection[Manifest]) -> None:
        """Only these are read on; what others take may be freed."""

    def begin_receive(self, manifest: Manifest) -> Receiving:
        """Begin to receive the body that ``manifest`` describes."""

    def start_load(self, manifest: Manifest, state_directory: Path) -> None:
        """Begin to load the newest snapshot into a fresh generation."""

    def poll_load(self) -> bool:
        """Has the load finished?"""

    def close(self) -> None:
        """End what runs in the background."""
