"""What a leaderless cluster promises, looked for in what clients were told and in what replicas hold at the end. Pure.

The promises are those of ``docs/quorum.rst``. A stamp is (counter, node), a dot of a sibling as well.

1. Once everything is healed, all owners of a key hold the same state, nobody else holds it, no hint is left, all nodes
   place keys alike, know the same rights, and answer reads.
2. Nothing acknowledged is lost. Last writer wins: what is held at the end has a stamp as high as that of every
   acknowledged write of the key. Siblings: every acknowledged version is held, or was covered by the context of some
   later write, or may have been read by a delete without one. Of writes that were acknowledged by no more replicas than
   disks were lost, nothing is promised.
3. What was refused never happens, and what is read was written by somebody. No two writes have one stamp, unless a disk
   was lost while clocks were set back: with it a node forgets the counters it gave. Replicas agree even then.
4. A strict read that begins after a strict write was acknowledged sees it or a newer one, if R + W > N.
5. Last writer wins: of two strict writes the later one, if it began after the other was acknowledged, has the higher
   stamp, if W + W > N.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from raftkv.formats.versions import KeyState, decode_context
from raftkv.instruments.sim.notes import Asked


class Promises(msgspec.Struct, frozen=True, kw_only=True):
    """What holds in a run: ``losses`` disks were lost, perhaps; ``reads_meet_writes`` unless R and W differed then."""

    keeps_siblings: bool
    losses: int
    reads_meet_writes: bool


class Replica(Protocol):
    """A replica, as this module looks at it."""

    name: str

    @property
    def view(self) -> str: ...
    @property
    def sizes(self) -> tuple[int, int, int]: ...
    @property
    def rights(self) -> bytes: ...
    @property
    def store(self) -> Any: ...
    @property
    def entries(self) -> Mapping[str, Any]: ...
    def owners(self, key: bytes) -> tuple[str, ...]: ...
    def contents(self) -> dict[bytes, KeyState]: ...


def check_replicas(replicas: Sequence[Replica]) -> str:
    """Promise 1: the first thing that is not as it is to be, in words; empty when the replicas are level."""
    unlike = _agreement(replicas)
    if unlike:
        return unlike
    contents = {replica.name: replica.contents() for replica in replicas}
    for key in sorted(set().union(*contents.values())):
        owners = replicas[0].owners(key)
        held = {name: content.get(key) for name, content in contents.items()}
        for name, state in held.items():
            if name not in owners and state is not None:
                return f"{name} holds {key!r}, which belongs to {owners}"
            if name in owners and state != held.get(owners[0]):
                return f"{name} and {owners[0]} differ in {key!r}: {state} and {held.get(owners[0])}"
    return ""


def _agreement(replicas: Sequence[Replica]) -> str:  # noqa: PLR0911  one line for each thing
    if not replicas:
        return "nobody runs"
    first = replicas[0]
    for replica in replicas:
        changing = [entry.id for entry in replica.entries.values() if entry.phase not in ("up", "left")]
        if changing:
            return f"{replica.name} sees members on their way: {changing}"
        if replica.rights != first.rights:
            return f"{replica.name} and {first.name} know other rights"
        if replica.view != first.view or replica.sizes != first.sizes:
            return f"{replica.name} places keys by {replica.view} and {replica.sizes}, {first.name} by {first.view}"
        if replica.store.is_unproven:
            return f"{replica.name} answers no reads"
        if replica.store.hints_pending:
            return f"{replica.name} keeps hints for {replica.store.hinted_nodes()}"
    return ""


def check_history(asked: Sequence[Asked], final: Mapping[bytes, KeyState], promises: Promises) -> None:
    """Promises 2 to 5; raises ``AssertionError``."""
    writes = [one for one in asked if one.is_write]
    _check_values(asked, writes, final)
    for key in sorted({one.key for one in writes}):
        of_key = [one for one in writes if one.key == key]
        if not promises.losses:
            _check_stamps(of_key)
        safe = [one for one in of_key if one.outcome == "ok" and min(one.n, len(one.replicas)) > promises.losses]
        if promises.keeps_siblings:
            _check_siblings_kept(of_key, safe, final.get(key))
        else:
            _check_last_kept(safe, final.get(key))
        if promises.reads_meet_writes:
            reads = [one for one in asked if one.kind == "get" and one.key == key and one.outcome == "ok"]
            _check_reads(reads, safe, keeps_siblings=promises.keeps_siblings)
            if not promises.keeps_siblings:
                _check_later_wins(safe)


def _check_values(asked: Iterable[Asked], writes: Iterable[Asked], final: Mapping[bytes, KeyState]) -> None:
    fates = {one.value: one for one in writes if one.value is not None}
    seen = [(value, one.story()) for one in asked for value in one.found]
    for key, state in final.items():
        if key.startswith(b"k"):
            seen += [(version.value, "the end") for version in state.versions if version.value is not None]
    for value, where in seen:
        assert value in fates, f"{value[:12]!r} was never written, and was found by {where}"
        assert fates[value].outcome != "failed", f"refused, but found by {where}: {fates[value].story()}"


def _check_stamps(writes: Iterable[Asked]) -> None:
    told: dict[tuple[int, str], Asked] = {}
    for one in writes:
        if one.outcome == "ok" and one.stamp[1]:
            assert one.stamp not in told, f"one stamp: {one.story()}\nand {told[one.stamp].story()}"
            told[one.stamp] = one


def _check_last_kept(safe: Iterable[Asked], final: KeyState | None) -> None:
    newest = (0, "") if final is None else tuple(final.newest)
    for one in safe:
        assert newest >= one.stamp, f"acknowledged and lost, {newest} is newest: {one.story()}"


def _check_siblings_kept(writes: Sequence[Asked], safe: Iterable[Asked], final: KeyState | None) -> None:
    held = set() if final is None else {tuple(version.stamp) for version in final.versions}
    seen = {} if final is None else dict(final.seen)
    done = [one for one in writes if one.outcome != "failed"]
    covering = [dict(decode_context(one.context)) for one in done]
    reading = [one for one in done if one.kind == "delete" and not one.context]
    for one in safe:
        counter, actor = one.stamp
        if not actor:
            continue  # a deletion of nothing: nobody was told its dot
        assert seen.get(actor, 0) >= counter, f"acknowledged and never heard of: {one.story()}"
        is_covered = any(context.get(actor, 0) >= counter for context in covering)
        is_covered |= any(_may_have_read(delete, one) for delete in reading)
        assert one.stamp in held or is_covered, f"acknowledged and replaced by nobody: {one.story()}"


def _may_have_read(delete: Asked, write: Asked) -> bool:
    """Can ``delete``, which has no context, have read what ``write`` wrote and replaced it?

    One without an answer may do so later; one that nobody acknowledged found nothing, and replaced nothing.
    """
    assert delete.returned_s is not None
    return delete.outcome == "unknown" or (bool(delete.replicas) and write.invoked_s < delete.returned_s)


def meet(read: Asked, write: Asked) -> bool:
    """Has every quorum of ``read`` a replica in common with every quorum of ``write``?"""
    return read.is_strict and write.is_strict and read.r + write.w > max(read.n, write.n)


def _check_reads(reads: Iterable[Asked], safe: Sequence[Asked], *, keeps_siblings: bool) -> None:
    for read in reads:
        seen = dict(decode_context(read.context)) if keeps_siblings else {}
        for one in safe:
            assert one.returned_s is not None
            if one.returned_s < read.invoked_s and one.stamp[1] and meet(read, one):
                is_seen = seen.get(one.stamp[1], 0) >= one.stamp[0] if keeps_siblings else read.stamp >= one.stamp
                assert is_seen, f"stale: {read.story()}\nmisses: {one.story()}"


def _check_later_wins(safe: Sequence[Asked]) -> None:
    strict = [one for one in safe if one.is_strict]
    for later in strict:
        for one in strict:
            assert one.returned_s is not None
            if one.returned_s < later.invoked_s and one.w + later.w > max(one.n, later.n):
                assert later.stamp > one.stamp, f"began later and lost: {later.story()}\nagainst: {one.story()}"
