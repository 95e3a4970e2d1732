"""What a node shows of itself to whoever looks at the cluster: how it stands, and what has happened to it lately.

A sight is told by names, not by places, so that nodes of different versions understand each other's.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Final

import msgspec


class HappeningKind(enum.StrEnum):
    """What has happened to a node.

    ``stands``: it asks for votes in ``term``, by itself or because the leader before has ``HANDED_OVER``; ``votes``: it
    gave its vote in ``term`` to ``subject``; ``leads``: it was elected in ``term``; ``follows``: it heard of the leader
    ``subject``; ``leaderless``: it knows of none any more. ``reaches`` and ``loses``: its link to ``subject``. ``full``
    and ``roomy``: its disk. ``misfit``: it takes no part, and ``fits`` that it does again. ``members``: who belongs to
    the cluster has changed. ``state``: what it thinks of the member ``subject`` is now ``detail``.
    """

    STANDS = "stands"
    VOTES = "votes"
    LEADS = "leads"
    FOLLOWS = "follows"
    LEADERLESS = "leaderless"
    REACHES = "reaches"
    LOSES = "loses"
    FULL = "full"
    ROOMY = "roomy"
    MISFIT = "misfit"
    FITS = "fits"
    MEMBERS = "members"
    STATE = "state"


HANDED_OVER: Final = "handed over"


class Happening(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of them; ``number`` counts up since the node started, ``at_ms`` is its wall clock (since 1970).

    ``kind`` is a ``HappeningKind``, or a word of a later version.
    """

    number: int
    at_ms: int
    kind: str
    subject: str = ""
    term: int = 0
    detail: str = ""


class Fate(enum.StrEnum):
    """What became of a question to a replica.

    ``holds``: it holds the write, or what the others hold. ``behind``: it held less than others, and is sent that.
    ``answered``: it held less, and is sent nothing, since it only stands in for another. ``declined``, ``lost`` (its
    connection), ``silent``: no answer that counts. ``asked``: none yet.
    """

    HOLDS = "holds"
    BEHIND = "behind"
    ANSWERED = "answered"
    DECLINED = "declined"
    LOST = "lost"
    SILENT = "silent"
    ASKED = "asked"


class ReplicaAsked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A replica that a node asked; ``stands_for`` is whose place it took. ``fate`` is a ``Fate``, or a later word."""

    node: str
    fate: str
    stands_for: str = ""


class SampleKind(enum.StrEnum):
    """Of what a sample is: a write or a read that the node coordinated, hints handed over, an exchange of ranges."""

    WRITE = "write"
    READ = "read"
    HINTS = "hints"
    EXCHANGE = "exchange"


class Sample(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of the things that a node did lately, told once it was over; ``number`` counts up since the node started.

    ``turn`` is where on the ring the key lies, 0 to 1 and rounded, so that it tells of no key; ``count`` is of how many
    keys it was. ``needed`` answers make it ``done``. ``hinted`` are nodes that the asker itself keeps the write for.
    Of an exchange: how many ``ranges``, how many of them were ``differing``, how many versions came in and went out.
    """

    number: int
    at_ms: int
    kind: str
    asked: tuple[ReplicaAsked, ...]
    done: bool
    turn: float = 0.0
    count: int = 1
    needed: int = 0
    hinted: tuple[str, ...] = ()
    ranges: int = 0
    differing: int = 0
    received: int = 0
    sent: int = 0


class WorkCounts(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How much a node of a leaderless cluster has done since it started: exact, and counted whether anybody looks.

    Writes and reads are those that it coordinated, by what their clients were told; hints those that it keeps and has
    handed over; ``repairs`` the replicas that it sent what they lacked when a key was read; the rest is of the
    exchanges that it began.
    """

    writes: int = 0
    writes_failed: int = 0
    reads: int = 0
    reads_failed: int = 0
    hints_kept: int = 0
    hints_given: int = 0
    repairs: int = 0
    exchanges: int = 0
    ranges: int = 0
    differing: int = 0
    received: int = 0
    sent: int = 0


class ExchangeSeen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An exchange of ranges with ``peer`` that is under way: ranges in all and compared, and what was moved so far."""

    peer: str
    ranges: int
    compared: int = 0
    differing: int = 0
    received: int = 0
    sent: int = 0


class WorkSeen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a node of a leaderless cluster does. ``samples`` are in order, few of each kind, those not told yet."""

    tally: WorkCounts
    exchange: ExchangeSeen | None = None
    samples: tuple[Sample, ...] = ()


class PeerSeen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Another node as this one sees it; ``match_index`` is up to where the leader knows it to have the log."""

    id: str
    reachable: bool = False
    match_index: int | None = None
    outstanding_bytes: int = 0
    misfit: str = ""


class MemberSeen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A member as this node knows it (``raftkv.core.status.MemberStatus``)."""

    id: str
    http: str = ""
    state: str = ""
    zone: str = ""
    share: float = 0.0
    heard_ago_ms: int | None = None
    hints: int = 0
    hint_bytes: int = 0


class Sight(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How ``node`` stood at ``at_ms`` of its wall clock; ``life`` is drawn at its start, so that another is known.

    ``happenings`` are in order, those that whoever looks has not heard of yet; ``heard_ago_ms`` is how long ago the
    node that was asked heard of this one, 0 for itself. ``voted_for`` is its vote in ``term``, ``last_index`` the end
    of its log; both 0 or empty where there is none. Sizes are bytes.
    """

    node: str
    life: str
    at_ms: int
    mode: str
    role: str
    heard_ago_ms: int = 0
    leader: str | None = None
    term: int = 0
    voted_for: str = ""
    commit_index: int = 0
    applied_index: int = 0
    last_index: int = 0
    revision: int = 0
    can_read: bool = True
    can_write: bool = True
    has_room: bool = True
    misfit: str = ""
    disk_free_bytes: int | None = None
    log_bytes: int | None = None
    hints_pending: int = 0
    repaired_keys: int = 0
    work: WorkSeen | None = None
    peers: tuple[PeerSeen, ...] = ()
    members: tuple[MemberSeen, ...] = ()
    happenings: tuple[Happening, ...] = ()


class SightsShown(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="sights_shown"):
    """The sights that the asked node has: its own first, then the last that it heard of each other."""

    sights: tuple[Sight, ...]


class View(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is shown at one time to whoever looks; ``silence`` is why the node's replica says nothing, if so."""

    sights: tuple[Sight, ...] = ()
    silence: str = ""


SightsShower = Callable[[Mapping[str, int]], SightsShown]
"""Shows what is seen, given what is known already (``raftkv.core.requests.ShowSights``)."""

WorkShower = Callable[[int], WorkSeen | None]
"""Shows what a node does, given up to which sample is known already; samples are taken for a while from then on."""


def no_work(_after: int) -> WorkSeen | None:
    """What a node shows that has a leader."""
    return None


def nothing_seen(_after: Mapping[str, int]) -> SightsShown:
    """What a node shows that knows of no other."""
    return SightsShown(sights=())
