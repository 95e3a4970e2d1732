"""A backup of a leaderless cluster: what its nodes hold, gathered beside the draft and joined by stamps.

A write that W nodes have acknowledged is on one of those that are asked, as long as fewer than W are not. While
fallbacks give back what they keep for others, or data moves to other nodes, it may leave a node that has not been asked
yet for one that has; so then all are asked once more, and what is found twice is one. It holds one file of each node on
the disk beside the draft until it is done, and no more in memory than a chunk of each.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from raftkv.backup.fetching import store
from raftkv.core.errors import Code, DefiniteError, RaftkvError
from raftkv.core.voters import majority
from raftkv.formats.backups import BackupManifest
from raftkv.formats.rows import DATA, META, RIGHTS
from raftkv.formats.versions import KeyState, decode_state
from raftkv.quorum.data.export import JoinedStates
from raftkv.quorum.data.versions import CONFLICTS
from raftkv.storage.backups.reading import chunks, verify
from raftkv.storage.backups.writing import blank_manifest, write_backup
from raftkv.storage.disk import translated


class AskedNode(msgspec.Struct, frozen=True, kw_only=True):
    """A member that can be asked. ``is_moving``: data may leave it, or come to it, while it is backed up."""

    is_moving: bool
    pieces: Callable[[], Iterable[bytes]]


def gather(nodes: Mapping[str, AskedNode | None], w: int, draft: Path) -> BackupManifest:
    """Back up ``nodes``, of which ``None`` cannot be asked, to ``draft``. Raises ``RaftkvError``, ``StartupError``."""
    with translated(draft), tempfile.TemporaryDirectory(dir=draft.parent) as scratch:
        rounds = 1 + any(node is not None and node.is_moving for node in nodes.values())
        away: dict[str, str] = {name: "is not reached" for name, node in nodes.items() if node is None}
        found: list[tuple[Path, BackupManifest]] = []
        rights: list[bytes] = []
        for number in range(rounds):
            for name, node in nodes.items():
                if node is None or name in away:
                    continue
                path = Path(scratch, f"{name}.{number}")
                try:
                    found.append((path, store(node.pieces(), path)))
                except RaftkvError as error:
                    away[name] = error.detail
                else:
                    rights += _rights(*found[-1])
            _check_enough(away, len(nodes), w, has_rights=bool(rights))
        _join(found, rights, draft)
    return verify(draft)


def _check_enough(away: Mapping[str, str], size: int, w: int, *, has_rights: bool) -> None:
    """Raise ``DefiniteError`` unless every write that w nodes have acknowledged is on one that was asked.

    Where there are users and roles, every change of them, too: a majority of the members has it.
    """
    missing = "writes" if len(away) >= min(w, size) else ""
    if not missing and has_rights and size - len(away) <= size - majority(size):
        missing = "changes of users and roles"
    if missing:
        told = "; ".join([f"{name} {reason}" for name, reason in away.items()])
        detail = f"{len(away)} of {size} nodes cannot be backed up, and w is {w}, so {missing} may be missing: {told}"
        raise DefiniteError(Code.QUORUM_UNREACHABLE, detail)


def _join(found: Sequence[tuple[Path, BackupManifest]], rights: Sequence[bytes], draft: Path) -> None:
    manifests = [manifest for _, manifest in found]
    first = manifests[0]
    joined = JoinedStates([_states(*one) for one in found], CONFLICTS[first.conflicts], rights)

    def head() -> BackupManifest:
        return blank_manifest(
            cluster=first.cluster,
            mode=first.mode,
            nodes=sorted({node for manifest in manifests for node in manifest.nodes}),
            revision=joined.newest,
            made_ms=time.time_ns() // 1_000_000,
            version=first.version,
            conflicts=first.conflicts,
        )

    with translated(draft), draft.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        write_backup(joined, joined.tables, head, file.write)
        file.flush()
        os.fsync(file.fileno())


def _states(path: Path, manifest: BackupManifest) -> Iterator[tuple[bytes, KeyState]]:
    for table, flat in chunks(path, manifest):
        if table == DATA:
            for key, encoded in _pairs(flat):
                yield key, decode_state(encoded)


def _rights(path: Path, manifest: BackupManifest) -> list[bytes]:
    """Users and roles as the node knew them, if there are any. They stand behind all keys, which are read for that."""
    if not manifest.tables.get(META.decode()):
        return []
    return [
        row for table, flat in chunks(path, manifest) if table == META for key, row in _pairs(flat) if key == RIGHTS
    ]


def _pairs(flat: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)
