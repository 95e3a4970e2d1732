"""``identity.json``: whose data a directory holds, and what its node remembers of itself and of its peers.

JSON, indented by one, and a line feed. What a later version adds has a default, with which older files are read; what
this version does not know is passed over. Builds before the first release wrote ``Identity1``, which is read for ever.
This module imports the standard library, msgspec, and from ``core`` what a rule's value may be.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from raftkv.core.rules import MEMBERS, NAMED, Rule


class Standing(enum.StrEnum):
    """A raft node's among its peers: new, making good what its disk lost, or a member that counts.

    Or let in by others (``joining``), and waiting for them to send it the list of members.
    Or one whose state differs from others', in a tie (``disputed``) or outnumbered (``diverged``), so that it stopped;
    and that was then told to throw its data away (``discarding``), which its next start does.
    """

    NEW = "new"
    JOINING = "joining"
    RECOVERING = "recovering"
    MEMBER = "member"
    DISPUTED = "disputed"
    DIVERGED = "diverged"
    DISCARDING = "discarding"


class Life(msgspec.Struct, frozen=True, array_like=True):
    """One start of a node: its number on its disk, from 1, and a random nonce that no copy of the disk can repeat."""

    start: int
    nonce: str


class Met(msgspec.Struct, frozen=True, array_like=True):
    """The latest life that was met on one disk of a node, and whether a newer disk of it was met since."""

    life: Life
    is_replaced: bool = False


Lives = Mapping[str, Met]
"""What was met of one node, by disk."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What a data directory says of itself: whose it is, its starts, oldest first, and the lives met of each peer.

    ``standing``, ``voteless_through_term`` and ``difference`` are raft mode's (``raftkv.raft.standing.readmission``).
    ``reads`` is up to which format each peer reads commands, by what it said last; ``configured``: the members have
    changed since the cluster was founded, so that no file says who they are. ``origin``: which backup the cluster was
    restored from, empty for one that never was.
    """

    node: str
    disk: str
    starts: tuple[Life, ...]
    rules: Mapping[str, Rule]
    others: Mapping[str, Lives] = {}
    standing: Standing = Standing.NEW
    voteless_through_term: int = 0
    difference: str = ""
    reads: Mapping[str, int] = {}
    configured: bool = False
    origin: str = ""

    @property
    def life(self) -> Life:
        """The present one."""
        return self.starts[-1]


class Identity1(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose a directory is, and no more; of a leaderless node without ``members``."""

    node: str
    cluster: str
    mode: str
    members: tuple[str, ...] | None = None


_decode = msgspec.json.Decoder(Identity).decode
_decode_1 = msgspec.json.Decoder(Identity1).decode


def encode_identity(identity: Identity) -> bytes:
    """What the file holds."""
    return msgspec.json.format(msgspec.json.encode(identity), indent=1) + b"\n"


def decode_identity(content: bytes) -> Identity:
    """Read it, whichever version wrote it. Raises ``ValueError`` with what is wrong."""
    try:
        return _decode(content)
    except (ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors, and it recurses
        reason = str(error)
    try:
        first: Identity1 = _decode_1(content)
    except (ValueError, RecursionError):
        raise ValueError(reason) from None
    name, mode = NAMED
    rules = {name: first.cluster, mode: first.mode}
    if first.members is not None:
        rules[MEMBERS] = "+".join(sorted(first.members))
    return Identity(node=first.node, disk="", starts=(), rules=rules)
