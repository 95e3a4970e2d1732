"""``identity.json``: whose data a directory holds, and what the node must remember of itself and its peers.

It is replaced whole, atomically and durably, at each start, when a peer is met in a new life, and when an emptied node
has made good what it lost. A directory of the version before, which says only whose it is, is taken over as it stands.
Data beside which it is missing is taken for nobody's: its peers would have to believe what the node itself cannot know.
Imports the standard library, msgspec, ``raftkv.core`` and its neighbours only.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from raftkv.core.errors import StartupError
from raftkv.core.identity import Identity, started, unlike
from raftkv.core.rules import MEMBERS, NAMED, Rules
from raftkv.storage.disk import replace_file, translated

NAME: Final = "identity.json"
_OLD_NAMES: Final = {"cluster": "cluster.name", "mode": "cluster.mode"}
_OLD_KEYS: Final = frozenset({*_OLD_NAMES, "node", "members"})
NONCE_BYTES: Final = 8
_DATA: Final = ("log", "snapshots", "state", "store", "raft.meta")
"""What either mode keeps; its directories are made after the identity."""


class IdentityFile:
    """The identity of one data directory; see ``IdentityStore`` of ``raftkv.peers.greeting``."""

    def __init__(self, path: Path, identity: Identity) -> None:
        self._path = path
        self.identity = identity

    def save(self, identity: Identity) -> None:
        """Remember ``identity`` durably. Raises ``DiskError``."""
        replace_file(self._path, msgspec.json.format(msgspec.json.encode(identity), indent=1) + b"\n")
        self.identity = identity


def begin_life(
    home: Path, node: str, rules: Rules, random_bytes: Callable[[int], bytes], *, is_alone: bool
) -> IdentityFile:
    """Take up the identity in ``home`` for ``node``, or make one, and number this start durably.

    ``is_alone``: it makes a cluster by itself. Any other node has promised nothing before it met a peer, and only by
    then its rules are fixed: a first start with a mistake in them costs no directory.

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
    held = None if text is None else _read(path, text)
    if held is None:
        held = Identity(node=node, disk="", starts=(), rules={})
    if held.starts and not held.others and not is_alone:
        held = msgspec.structs.replace(held, rules={name: held.rules[name] for name in NAMED if name in held.rules})
    differing = unlike(held, node, rules.always)
    if differing:
        raise StartupError(
            f"{home}: holds the data of another node, or of a cluster with other rules: {differing}; go back to those,"
            " or name another cluster.data_dir on every node"
        )
    disk = held.disk or random_bytes(NONCE_BYTES).hex()
    identity = started(msgspec.structs.replace(held, disk=disk), random_bytes(NONCE_BYTES).hex())
    file = IdentityFile(path, identity)
    # Of two nodes with one name the later start is the right one, so it is counted before anybody hears of it.
    file.save(msgspec.structs.replace(identity, rules=dict(rules.always)))
    return file


def _is_kept(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.exists()


def _read(path: Path, text: bytes) -> Identity:
    """The identity in ``text``, whichever version wrote it; raises ``StartupError``."""
    reason = "it is not readable"
    try:
        found: Any = json.loads(text)
        if isinstance(found, dict) and found.keys() <= _OLD_KEYS and "disk" not in found:
            return _of_the_version_before(found)
        return msgspec.convert(found, Identity)
    except msgspec.ValidationError as error:
        reason = str(error)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass  # json's own, text that is no UTF-8, and old identities without what they always had
    raise StartupError(
        f"{path}: damaged: {reason}; nothing else says whose data this is: put the file back, or move the directory"
        " away and let the node start with an empty one"
    )


def _of_the_version_before(found: dict[str, Any]) -> Identity:
    rules = {name: str(found[old]) for old, name in _OLD_NAMES.items()}
    if "members" in found:
        rules[MEMBERS] = "+".join(sorted(found["members"]))
    return Identity(node=str(found["node"]), disk="", starts=(), rules=rules)
