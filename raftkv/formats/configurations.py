"""Configurations: who belongs to a raft cluster, as an entry of the log and in the manifest of a snapshot.

A configuration is msgpack ``[[member, ...], [former id, ...]]``, a member ``[id, http, peer, zone, votes, disk]``: the
whole list, never a change of one, so that whoever has the newest needs no other (Raft thesis, section 4.1).
``disk`` is the disk by which a member that was let in later came to vote, and empty of those that founded the cluster.
An entry that holds one is of kind ``MEMBERS`` (``raftkv.formats.entries``). This module imports msgspec and ``core``.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from raftkv.core.voters import Voters

MEMBERS_MAX: Final = 63
"""Members of one cluster; each answers for every write, so that far fewer make sense."""

FORMER_MAX: Final = 10_000
"""Names that are remembered of members that were removed; the oldest are forgotten first."""

MemberName = Annotated[str, Meta(min_length=1, max_length=63)]
MemberText = Annotated[str, Meta(max_length=300)]


class ConfiguredMember(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One member: where it is reached by clients and by peers, and whether it ``votes`` or only learns."""

    id: MemberName
    http: MemberText = ""
    peer: MemberText = ""
    zone: MemberText = ""
    votes: bool = True
    disk: MemberText = ""


class Configuration(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """All members, by id, and those that were removed once."""

    members: Annotated[tuple[ConfiguredMember, ...], Meta(max_length=MEMBERS_MAX)] = ()
    former: Annotated[tuple[MemberName, ...], Meta(max_length=FORMER_MAX)] = ()

    @property
    def voters(self) -> Voters:
        """Who decides."""
        return Voters.of([member.id for member in self.members if member.votes])

    @property
    def learners(self) -> tuple[str, ...]:
        """Who holds everything, or will, and decides nothing."""
        return tuple([member.id for member in self.members if not member.votes])

    def find(self, name: str) -> ConfiguredMember | None:
        """The member ``name``."""
        return next((member for member in self.members if member.id == name), None)


encode_configuration = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Configuration).decode


def decode_configuration(body: bytes | memoryview) -> Configuration:
    """Read it. Raises ``ValueError`` for what is none."""
    found: Configuration = _decode(body)
    names = [member.id for member in found.members]
    if not any(member.votes for member in found.members) or len(set(names)) < len(names):
        raise ValueError("a configuration without voters, or with a member twice")
    return found
