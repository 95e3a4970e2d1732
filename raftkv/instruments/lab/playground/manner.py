"""How a playground's clients use its cluster, and what they are promised, by its mode. Pure."""

from __future__ import annotations

from typing import Literal, Self

import msgspec

from raftkv.core.config import QuorumSection
from raftkv.instruments.lab.scenario import Variant


class Manner(msgspec.Struct, frozen=True, kw_only=True):
    """The queries of the reads, and what they are called. ``look_query`` is the strongest read that the mode has.

    ``merges``: values of writers who did not know of each other are kept side by side, and who writes says what it
    replaces. ``promise`` says in one sentence what fresh reads are promised.
    """

    mode: Literal["raft", "quorum"]
    local_name: str
    fresh_name: str
    local_query: str
    fresh_query: str
    look_query: str
    promise: str
    merges: bool = False

    @property
    def is_linearizable(self) -> bool:
        """Do fresh reads and writes promise to be linearizable?"""
        return self.mode == "raft"

    @classmethod
    def raft(cls) -> Self:
        """Local reads beside linearizable ones."""
        return cls(
            mode="raft",
            local_name="local",
            fresh_name="linearizable",
            local_query="consistency=local",
            fresh_query="consistency=linearizable",
            look_query="consistency=linearizable",
            promise="A linearizable read shows every write that was acknowledged before it began, or is refused.",
        )

    @classmethod
    def quorum(cls, quorum: QuorumSection) -> Self:
        """The smallest read that may be stale beside the smallest that meets every acknowledged write."""
        n, r, w = quorum.n, quorum.r, quorum.w
        local_r = 1 if r + w > n else r
        fresh_r = max(r, n + 1 - w)
        sentence = f"R = {fresh_r} and W = {w} of N = {n} overlap: such a read meets every acknowledged write."
        return cls(
            mode="quorum",
            local_name=f"R={local_r}",
            fresh_name=f"R={fresh_r}",
            local_query=f"r={local_r}",
            fresh_query=f"r={fresh_r}",
            look_query=f"r={n}",
            promise=sentence,
            merges=quorum.conflicts == "siblings",
        )


def variant_of(manner: Manner, quorum: QuorumSection, kind: Literal["local", "fresh"], *, promises: bool) -> Variant:
    """What a report calls the reads of one ``kind``; ``promises``: writes waited for as many nodes as it takes."""
    is_local = kind == "local"
    name = manner.local_name if is_local else manner.fresh_name
    config = {} if manner.mode == "raft" else {"quorum": {"n": quorum.n, "r": quorum.r, "w": quorum.w}}
    return Variant(
        name=f"{manner.mode}, {name} reads",
        about="Reads that promise nothing, answered at once." if is_local else manner.promise,
        mode=manner.mode,
        read=manner.local_query if is_local else manner.fresh_query,
        promises_linearizable=manner.is_linearizable and promises and not is_local,
        config=config,
    )
