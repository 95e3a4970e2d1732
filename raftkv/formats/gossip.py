"""Gossip, on the wire and as it is remembered: what nodes of a leaderless cluster tell each other of the members.

A digest is msgpack ``[0, [[id, generation, heartbeat, phase version, check], ...], counter of the sizes]``, a delta
``[1, [entry, ...], sizes, [id, ...]]``; what a node keeps over a restart is ``[[entry, ...], sizes]``. Every number and
text has a bound, which is checked where it is decoded; what comes of it is told in
``raftkv.quorum.membership.gossip``. This module imports the standard library, msgspec, and from ``core`` what names and
addresses look like.
"""

from __future__ import annotations

import enum
from typing import Annotated, Final
from zlib import crc32

import msgspec
from msgspec import Meta

from raftkv.core.config import NODE_ID_PATTERN, AddressText, Zone

MEMBERS_LIMIT: Final = 1024
"""No more members are taken in, so that a digest of all stays far below the limit of a frame."""

NUMBER_MAX: Final = 1 << 53
"""Where numbers end. What counts on from what others say stays there: who says so much has made the number useless,
but must not stop anybody."""

NodeId = Annotated[str, Meta(pattern=NODE_ID_PATTERN)]
Number = Annotated[int, Meta(ge=0, le=NUMBER_MAX)]
View = Annotated[str, Meta(max_length=64)]


class Phase(enum.StrEnum):
    """Where a member stands between joining and having left.

    Each change of the ring takes two steps, so that nodes that are one step apart still place keys on replicas in
    common.
    """

    JOINING = "joining"
    SETTLING = "settling"
    UP = "up"
    LEAVING = "leaving"
    DEPARTING = "departing"
    LEFT = "left"


class MemberEntry(msgspec.Struct, frozen=True, array_like=True):
    """What is known of one member.

    ``generation`` is when its process started (ms since the epoch), ``heartbeat`` counts its gossip periods. ``view``
    names the rings that it places keys by, ``synced`` the view for which it has all the data that it is to hold.
    """

    id: NodeId
    http: AddressText
    peer: AddressText
    zone: Zone = ""
    generation: Number = 0
    heartbeat: Number = 0
    view: View = ""
    synced: View = ""
    phase: Phase = Phase.UP
    phase_version: Number = 0

    @property
    def age(self) -> tuple[int, int]:
        """Higher is newer, of what the member says itself."""
        return self.generation, self.heartbeat

    @property
    def check(self) -> int:
        """Tells places of one version apart: those of two nodes that moved one member at once."""
        return crc32(f"{self.phase}\0{self.zone}".encode())


class AgreedSizes(msgspec.Struct, frozen=True, array_like=True, order=True):
    """N, R and W of the whole cluster; the highest (``counter``, ``node``) holds."""

    counter: Number
    node: Annotated[str, Meta(max_length=63)]
    n: Annotated[int, Meta(ge=1, le=MEMBERS_LIMIT)]
    r: Annotated[int, Meta(ge=1, le=MEMBERS_LIMIT)]
    w: Annotated[int, Meta(ge=1, le=MEMBERS_LIMIT)]


Mark = tuple[NodeId, Number, Number, Number, Number]
"""Id, generation, heartbeat, phase version and check of an entry."""


class Digest(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """How far I know each member."""

    marks: Annotated[tuple[Mark, ...], Meta(max_length=MEMBERS_LIMIT)]
    sizes: Number


class Delta(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """What I know better, and of ``wanted`` you know better: tell me."""

    entries: Annotated[tuple[MemberEntry, ...], Meta(max_length=MEMBERS_LIMIT)]
    sizes: AgreedSizes
    wanted: Annotated[tuple[NodeId, ...], Meta(max_length=MEMBERS_LIMIT)] = ()


GossipMessage = Digest | Delta


class Remembered(msgspec.Struct, frozen=True, array_like=True):
    """What a node keeps of the members over a restart."""

    entries: tuple[MemberEntry, ...]
    sizes: AgreedSizes


encode_remembered = msgspec.msgpack.Encoder().encode
_decode_remembered = msgspec.msgpack.Decoder(Remembered).decode


def decode_remembered(data: bytes) -> Remembered:
    """Read it. Raises ``ValueError`` with what is wrong."""
    try:
        remembered: Remembered = _decode_remembered(data)
    except RecursionError as error:
        raise ValueError(str(error)) from None
    return remembered
