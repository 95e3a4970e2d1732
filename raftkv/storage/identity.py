"""The life of a data directory: its identity is taken up, checked and numbered at each start, and kept durably.

``identity.json`` (``raftkv.formats.identity``) is replaced whole, atomically and durably, at each start, when a peer is
met in a new life, and when an emptied node has made good what it lost. A directory of the version before, which says
only whose it is, is taken over as it stands. Data beside which it is missing is taken for nobody's: its peers would
have to believe what the node itself cannot know.

Imports the standard library, msgspec, ``raftkv.core``, ``raftkv.formats`` and its neighbours only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from raftkv.core.errors import StartupError
from raftkv.core.rules import MEMBERS, NAMED, Rule, Rules, differences
from raftkv.formats.identity import Identity, Life, Standing, decode_identity, encode_identity
from raftkv.storage.disk import replace_file, translated

NAME: Final = "identity.json"
NONCE_BYTES: Final = 8
STARTS_MAX: Final = 1_000
"""Own starts that are remembered; a peer that was away for more than so many is believed."""

_DATA: Final = ("log", "snapshots", "state", "store", "raft.meta")
"""What either mode keeps; its directories are made after the identity."""


def exists(home: Path) -> bool:
    """Has a node begun in ``home`` before?"""
    with translated(home):
        return (home / NAME).exists()


class IdentityFile:
    """The identity of one data directory; see ``IdentityStore`` of ``raftkv.peers.greeting``."""

    def __init__(self, path: Path, identity: Identity) -> None:
        self._path = path
        self.identity = identity

    def save(self, identity: Identity) -> None:
        """Remember ``identity`` durably. Raises ``DiskError``."""
        replace_file(self._path, encode_identity(identity))
        self.identity = identity


def begin_life(
    home: Path,
    node: str,
    rules: Rules,
    random_bytes: Callable[[int], bytes],
    *,
    is_alone: bool,
    is_joining: bool = False,
) -> IdentityFile:
    """Take up the identity in ``home`` for ``node``, or make one, and number this start durably.

    ``is_alone``: it makes a cluster by itself. ``is_joining``: it was let in by the members of a running cluster with a
    leader, and founds none. Raises as ``held_identity``.
    """
    held = held_identity(home, node, rules, is_alone=is_alone)
    if is_joining and held.standing is Standing.NEW and not held.starts:
        held = msgspec.structs.replace(held, standing=Standing.JOINING)
    disk = held.disk or random_bytes(NONCE_BYTES).hex()
    identity = started(msgspec.structs.replace(held, disk=disk), random_bytes(NONCE_BYTES).hex())
    file = IdentityFile(home / NAME, identity)
    # Of two nodes with one name the later start is the right one, so it is counted before anybody hears of it.
    founders = {MEMBERS: held.rules[MEMBERS]} if MEMBERS in held.rules else {}
    file.save(msgspec.structs.replace(identity, rules=founders | _always(identity, rules)))
    return file


def _always(identity: Identity, rules: Rules) -> dict[str, Rule]:
    """Its rules for the life of the cluster; once members have changed the log says who they are, and no file."""
    is_by_log = identity.configured or identity.standing is Standing.JOINING
    return {name: value for name, value in rules.always.items() if not (is_by_log and name == MEMBERS)}


def held_identity(home: Path, node: str, rules: Rules, *, is_alone: bool) -> Identity:
    """The identity that ``node`` would take up in ``home``; creates nothing.

    A node that does not make a cluster by itself has promised nothing before it met a peer, and only by then its rules
    are fixed: a first start with a mistake in them costs no directory.

    Raises ``StartupError`` when the directory holds the data of another node, of a cluster with other rules, or data
    and no identity, which every version has written before anything else.
    """
    path = home / NAME
    with translated(path):
        text = path.read_bytes() if path.exists() else None
        found = [name for name in _DATA if text is None and _is_kept(home / name)]
    if found:
        raise StartupError(
            f"{path}: missing, though there is data beside it ({', '.join(found)}); nothing else says whose it is and"
            " what it has promised: put the file back, or move the directory away and let the node start"
            " with an empty one"
        )
    held = Identity(node=node, disk="", starts=(), rules={}) if text is None else _read(path, text)
    if held.starts and not held.others and not is_alone:
        held = msgspec.structs.replace(held, rules={name: held.rules[name] for name in NAMED if name in held.rules})
    differing = unlike(held, node, _always(held, rules))
    if differing:
        raise StartupError(
            f"{home}: holds the data of another node, or of a cluster with other rules: {differing}; go back to those,"
            " or name another cluster.data_dir on every node"
        )
    return held


def founders_in(identity: Identity) -> tuple[str, ...]:
    """Who founded the cluster of a raft node; nobody, as far as it knows, where it was let in later."""
    names = identity.rules.get(MEMBERS)
    return tuple(str(names).split("+")) if names else ()


def _read(path: Path, text: bytes) -> Identity:
    try:
        return decode_identity(text)
    except ValueError as error:
        raise StartupError(
            f"{path}: damaged: {error}; nothing else says whose data this is: put the file back, or move the directory"
            " away and let the node start with an empty one"
        ) from None


def _is_kept(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.exists()


def started(identity: Identity, nonce: str) -> Identity:
    """``identity`` at its next start."""
    start = identity.starts[-1].start + 1 if identity.starts else 1
    return msgspec.structs.replace(identity, starts=(*identity.starts, Life(start, nonce))[-STARTS_MAX:])


def unlike(identity: Identity, node: str, always: Mapping[str, Rule]) -> str:
    """What ``identity`` says otherwise than the configuration; a rule it does not know yet is no difference."""
    known = {name: value for name, value in always.items() if name in identity.rules}
    theirs = {name: value for name, value in identity.rules.items() if name in always}
    found = differences({"node": identity.node, **theirs}, {"node": node, **known})
    return found.replace("(here ", "(configured: ")
