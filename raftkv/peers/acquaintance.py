"""Whom a node has met, by disk and by start: what it makes of whoever greets it, and of its own data by what it hears.

A data directory is given a random ``disk`` number when it is made, and each start of the node is numbered durably, with
a nonce, before anybody hears of it. Peers remember durably the latest start of each disk that they have met, and say so
when they greet. So an old copy of a directory is found out by both sides: a peer knows a later start of it, or one of
the same number with another nonce, and the directory itself does not remember the start that the peer has met. An
emptied directory is known by its new disk number. What a peer remembers of third nodes is taken over, so that one who
was away does not take an old copy for good.

A cluster that was restored from a backup is another one than that which the backup is of, whatever its name: nodes of
the two do not take part in one. A node that never held anything becomes one of the cluster that it meets.

Pure: what is remembered is a value (``raftkv.formats.identity``), and its owner makes it durable. Imports
``raftkv.core`` and ``raftkv.formats`` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from raftkv.core.rules import MEMBERS, Rule, differences
from raftkv.formats.greetings import COMMANDS_OF_PROTOCOL, PROTOCOLS, Greeting
from raftkv.formats.identity import Identity, Life, Lives, Met, Standing

DISKS_MAX: Final = 16
"""Disks that are remembered of one node; replaced ones are forgotten first, those that were met first before others."""

_EMPTIED: Final = "move its data directory away, and let it start with an empty one"

NODES_MAX: Final = 1_000
"""Nodes that are remembered; more names than that are no cluster's."""


def greeting_of(
    identity: Identity, rules: Mapping[str, Rule], *, is_blank: bool, reads: int = COMMANDS_OF_PROTOCOL
) -> Greeting:
    """How the node greets."""
    return Greeting(
        identity.node,
        identity.disk,
        identity.life,
        rules,
        is_blank,
        identity.others,
        PROTOCOLS,
        reads,
        is_configured(identity),
        identity.origin,
    )


def is_configured(identity: Identity) -> bool:
    """Does the node's log say who the members are, or will, as it was let in by others?"""
    return identity.configured or identity.standing is Standing.JOINING


def disk_of(identity: Identity, peer: str) -> str:
    """The disk by which ``peer`` was met last; empty if it never was."""
    known = identity.others.get(peer, {})
    return next((disk for disk, met in known.items() if not met.is_replaced), "")


def _version_fault(greeting: Greeting) -> str:
    """Is the sender too old or too new to be spoken to?"""
    (their_oldest, their_newest), (oldest, newest) = greeting.protocols, PROTOCOLS
    if max(their_oldest, oldest) <= min(their_newest, newest):
        return ""
    which = "an older" if their_newest < oldest else "a newer"
    spoken = f"protocols {their_oldest} to {their_newest}, this one {oldest} to {newest}"
    return f"{greeting.node} runs {which} version of raftkv: it speaks {spoken}"


def other_origin(identity: Identity, greeting: Greeting, *, is_blank: bool) -> str:
    """Why this node, which is blank or not, and the sender are not of one cluster, though they share all rules."""
    if greeting.origin == identity.origin:
        return ""
    if (is_blank and not identity.origin) or (greeting.is_blank and not greeting.origin):
        return ""
    old, new = (greeting.node, "this one") if identity.origin else ("this node", greeting.node)
    if not (greeting.origin and identity.origin):
        return f"{old} is of the cluster as it was before {new} was restored from a backup: {_EMPTIED}"
    return f"{greeting.node} is of a cluster that was restored from another backup, or with another --advance"


def misfit(identity: Identity, rules: Mapping[str, Rule], greeting: Greeting, *, is_blank: bool = False) -> str:
    """Why the sender of ``greeting`` and this node cannot take part in one cluster; empty if they can.

    ``is_blank``: this node never held anything.
    """
    fault = _version_fault(greeting) or other_origin(identity, greeting, is_blank=is_blank)
    if fault:
        return fault
    theirs, ours = dict(greeting.rules), dict(rules)
    if greeting.configured or is_configured(identity):
        # The logs say who the members are; what the files do is what it was once.
        theirs.pop(MEMBERS, None)
        ours.pop(MEMBERS, None)
    differing = differences(theirs, ours)
    if differing:
        return f"{greeting.node} has other rules: {differing}"
    known = identity.others.get(greeting.node, {})
    reason = _copied(known, greeting.disk, greeting.life)
    return f"{greeting.node}: {reason}" if reason else ""


def own_fault(identity: Identity, greeting: Greeting) -> str:
    """Why this node's own data is an old copy, by what the sender of ``greeting`` has met; empty if it is not."""
    known = greeting.others.get(identity.node, {})
    reason = _copied(known, identity.disk, identity.life)
    if not reason and identity.disk in known:
        life = known[identity.disk].life
        if life.start >= identity.starts[0].start and life not in identity.starts:
            reason = f"its data is a copy from before its start {life.start}"
    return reason


def is_replaced(identity: Identity, greeting: Greeting) -> bool:
    """Did the sender of ``greeting`` know this node by another disk, and not yet by this one?"""
    known = greeting.others.get(identity.node, {})
    return bool(known) and identity.disk not in known


def _copied(known: Lives, disk: str, life: Life) -> str:
    met = known.get(disk)
    if met is None:
        return ""
    if met.is_replaced:
        return "its data was replaced since, and this is what it had before"
    if life.start < met.life.start:
        return f"its data is a copy from before its start {met.life.start}"
    if life.start == met.life.start and life.nonce != met.life.nonce:
        return f"its data is a copy: another process has made start {life.start} of it"
    return ""


def with_met(identity: Identity, greeting: Greeting, *, is_blank: bool = False) -> Identity:
    """``identity`` that remembers the sender, and whom the sender knows; the same object if nothing is new.

    A node that ``is_blank`` becomes one of the sender's cluster.
    """
    others = dict(identity.others)
    for node, known in greeting.others.items():
        if node != identity.node and (node in others or len(others) < NODES_MAX):
            others[node] = _merged(others.get(node, {}), known)
    sender = {disk: Met(met.life, is_replaced=True) for disk, met in others.get(greeting.node, {}).items()}
    others[greeting.node] = _merged({**sender, greeting.disk: Met(greeting.life)}, {})
    reads = {**identity.reads, greeting.node: greeting.reads}
    origin = identity.origin or (greeting.origin if is_blank else "")
    if (others, reads, origin) == (identity.others, identity.reads, identity.origin):
        return identity
    return msgspec.structs.replace(identity, others=others, reads=reads, origin=origin)


def _merged(ours: Lives, theirs: Lives) -> Lives:
    """Of each disk the latest life; what was replaced stays so."""
    merged = dict(ours)
    for disk, met in theirs.items():
        held = merged.get(disk, met)
        life = met.life if met.life.start > held.life.start else held.life
        merged[disk] = Met(life, is_replaced=met.is_replaced or held.is_replaced)
    for disk in [disk for disk, met in merged.items() if met.is_replaced][: max(0, len(merged) - DISKS_MAX)]:
        del merged[disk]
    return merged
