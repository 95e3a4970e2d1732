"""Do the replicas hold the same? What this node's hashes, and those that its peers tell, say about who is wrong.

Every node tells its peers, at most once a heartbeat, the index it has applied and the hash of its state there
(``Machine.state_hash``). Each remembers its own hashes of the last ``KEPT`` indexes, so it can compare what it is told
at that very index; what it is told of an index that it has still to reach waits. A difference is judged once every
member has been heard, or after ``PATIENCE_HEARTBEATS``: unless those who hold the same as this node, itself included,
are more than those who differ, it stops serving. So the one of three that is wrong stops, and in a tie all do.

Who is outnumbered stays out until it is repaired. A tie is judged again: it ends for this node when the others have
been repaired, or when more turn out to hold the same. Who agrees says something only about indexes from the first
difference on. One peer's word alone therefore stops a node only where nobody else can be heard.

Pure: time enters as a value, monotonic seconds.
"""

from __future__ import annotations

from typing import Final

import msgspec

from raftkv.raft.electorate import Electorate

KEPT: Final = 4096
"""Indexes whose hashes are remembered: what a peer tells is behind by a heartbeat, not by more than these."""

PATIENCE_HEARTBEATS: Final = 10
"""So long after a difference was found, whoever was not heard is not waited for."""

NO_SAY: Final = (0, 0)
"""Told instead of an index and a hash while the state is being fetched. No state has the hash 0, as good as surely."""


class StateJudgement(msgspec.Struct, frozen=True):
    """Must this node stop serving, why, and is it a tie, which may end? No ``reason``: it may serve."""

    reason: str = ""
    is_tie: bool = False


class _Voice(msgspec.Struct, frozen=True):
    """Since which index a peer differs, or up to which it was seen to agree; ``None``: it has no say."""

    index: int
    agrees: bool | None


class Divergence:
    """One node's own hashes and its peers' words."""

    def __init__(self, electorate: Electorate, *, heartbeat_s: float) -> None:
        self._electorate = electorate
        self._heartbeat_s = heartbeat_s
        self._own: list[tuple[int, int]] = [(0, 0)] * KEPT
        self._newest = (0, 0)
        self._awaited: dict[str, tuple[int, int]] = {}
        self._voices: dict[str, _Voice] = {}
        self._said: set[str] = set()
        """Those that said something since they were connected, and not that they fetch their state themselves."""
        self._since_s: float | None = None
        self._told: dict[str, tuple[int, int]] = {}
        self.due_s = float("-inf")
        """When it is time to tell and to judge again."""

    def applied(self, index: int, state_hash: int) -> None:
        """Everything up to ``index`` is applied here."""
        self._newest = self._own[index % KEPT] = (index, state_hash)
        if self._awaited:
            for peer, (theirs, peer_hash) in list(self._awaited.items()):
                if theirs <= index:
                    del self._awaited[peer]
                    self.told(peer, theirs, peer_hash)

    def news_for(self, peer: str, *, has_say: bool) -> tuple[int, int] | None:
        """The index and hash to tell ``peer``, which then counts as told; ``None`` if it was told before."""
        news = self._newest if has_say else NO_SAY
        if self._told.get(peer) == news:
            return None
        self._told[peer] = news
        return news

    def lost(self, peer: str) -> None:
        """The connection is gone: what was told may not have arrived, what waits may come from an earlier life.

        So may a difference: a state that was rebuilt since differs no more, and one that still does is told again.
        """
        self._told.pop(peer, None)
        self._awaited.pop(peer, None)
        self._said.discard(peer)
        voice = self._voices.get(peer)
        if voice is not None and not voice.agrees:
            del self._voices[peer]

    def without_say(self) -> list[str]:
        """Peers that have told nothing since they were connected, or that fetch their state themselves."""
        return sorted(set(self._electorate.others) - self._said)

    def told(self, peer: str, index: int, state_hash: int) -> None:
        """``peer`` says what its state was at ``index``, which may be 0, or that it has no say."""
        self._said.add(peer)
        if not index:
            if (index, state_hash) == NO_SAY:
                self._said.discard(peer)
            self._awaited.pop(peer, None)
            self._voices[peer] = _Voice(0, None)
            return
        known, own_hash = self._own[index % KEPT]
        if known == index:
            agrees = own_hash == state_hash
            before = self._voices.get(peer)
            if agrees or before is None or before.agrees is not False:
                self._voices[peer] = _Voice(index, agrees)  # else the first index that differs is what counts
        elif index > self._newest[0]:
            self._awaited.setdefault(peer, (index, state_hash))

    def contradicted(self, peer: str, index: int) -> None:
        """``peer`` has another entry at ``index``, which this node has applied."""
        self._voices[peer] = _Voice(index, agrees=False)

    def judge(self, now_s: float) -> StateJudgement | None:
        """What follows from what was heard; ``None``: nothing yet. The next time is a heartbeat later."""
        self.due_s = now_s + self._heartbeat_s
        for gone in self._voices.keys() - set(self._electorate.others):
            del self._voices[gone]
        differ = sorted(peer for peer, voice in self._voices.items() if voice.agrees is False)
        if not differ:
            self._since_s = None
            return StateJudgement() if self._electorate.agree(self._voices) else None
        self._since_s = now_s if self._since_s is None else self._since_s
        first = min(self._voices[peer].index for peer in differ)
        agree = [peer for peer, voice in self._voices.items() if voice.agrees and voice.index >= first]
        mute = [peer for peer, voice in self._voices.items() if voice.agrees is None]
        is_heard = len(differ) + len(agree) + len(mute) == len(self._electorate.others)
        if not is_heard and now_s - self._since_s < PATIENCE_HEARTBEATS * self._heartbeat_s:
            return None
        if len(differ) < 1 + len(agree):
            return StateJudgement()
        reason = f"its state differs from that of {' and '.join(differ)}, seen first at entry {first}"
        is_tie = len(differ) == 1 + len(agree)
        return StateJudgement(reason + (", and none is in the majority" if is_tie else ""), is_tie)
