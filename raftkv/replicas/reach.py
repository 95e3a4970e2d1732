"""What replicas of both modes are built with: how far they reach, what must be there, how large messages get."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from raftkv.core.config import Address, ClusterConfig, parse_address
from raftkv.core.errors import StartupError
from raftkv.peers.greeting import Greeter
from raftkv.peers.link import PeerLink
from raftkv.process.loggers import get_logger
from raftkv.storage.disk import translated

log_line = get_logger("raftkv.replicas")


def largest_command_bytes(config: ClusterConfig) -> int:
    """How large a command or an entry may be."""
    # A batch may carry several values; an entry this large still travels in one message.
    return max(4 << 20, 2 * config.http.max_value_bytes + (1 << 20))


BESIDE_A_ROW_BYTES: Final = 3 << 20
"""What else is in a frame that carries a row of a leaderless store: a page of others, keys, and who wrote what."""


def frame_limit_bytes(config: ClusterConfig) -> int:
    """How large a frame between nodes may be."""
    return 3 * largest_command_bytes(config) + (1 << 20)


def refuse_without(path: Path) -> None:
    """A member has had this since before it counted; without it nobody knows what it acknowledged, or its votes."""
    with translated(path):
        is_there = path.is_dir() and any(path.iterdir())
    if not is_there:
        raise StartupError(
            f"{path}: missing or empty, though this node was a member; nothing else says what it has promised: put it"
            f" back, or move {path.parent} away and let the node start with an empty one"
        )


class Reach:
    """The link as the replica sees it: addresses are text, as gossip carries them."""

    def __init__(self, link: PeerLink, greeter: Greeter) -> None:
        self._link = link
        self.send = greeter.send
        self.flush = greeter.flush
        self.outstanding_bytes = greeter.outstanding_bytes
        self.close_peer = greeter.close_peer

    def set_members(self, addresses: Mapping[str, str]) -> None:
        """See ``QuorumLink``."""
        members: dict[str, Address] = {}
        for node, address in addresses.items():
            try:
                members[node] = parse_address(address)
            except ValueError as error:
                # It came by gossip, or by the log, and must not keep this node from the others.
                log_line.warning("member without an address", member=node, reason=str(error))
        self._link.set_members(members)
