"""A new cluster out of a backup: the data directories of its nodes, before any of them runs.

Rules: the backup is proved whole first; nothing is written over data; a node's directory gets its name when all of it
is durable, so that one that is there is whole, and what was cut off can be begun again. Every node has a new disk and
remembers no peer. What it has promised is that it holds the backup: it starts as a member, in the backup's term,
without a vote, and its log goes on behind the last entry. So all nodes must be made of the same backup.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from raftkv.backup.raft_data import write_raft
from raftkv.core.config import ClusterConfig
from raftkv.core.errors import StartupError
from raftkv.formats.backups import BackupManifest, RestoredFrom, decode_origin, encode_origin
from raftkv.formats.identity import Identity, Standing, decode_identity, encode_identity
from raftkv.storage.backups.reading import verify
from raftkv.storage.disk import RealDisk, replace_file, translated
from raftkv.storage.identity import NAME, NONCE_BYTES

ORIGIN: Final = "restored.json"
LOCK: Final = "lock"

_ORIGIN_CHARACTERS: Final = 32

ADVANCE: Final = 1_000_000
"""How many revisions are passed over: more than a cluster came to between its last backup and its end, it is hoped, so
that no revision, and no fencing token, is given for a second time."""


class RestoredNodes(msgspec.Struct, frozen=True, kw_only=True):
    """What was done: directories that were made, and those that had been before."""

    manifest: BackupManifest
    made: tuple[Path, ...]
    there: tuple[Path, ...]


def restore(path: Path, config: ClusterConfig, nodes: Sequence[str], *, advance: int = ADVANCE) -> RestoredNodes:
    """Make the data of ``nodes`` of ``config`` out of the backup at ``path``. Raises ``StartupError``."""
    manifest = verify(path)
    if manifest.mode != config.cluster.mode:
        raise StartupError(f'{path} is of mode "{manifest.mode}", and cluster.mode is "{config.cluster.mode}"')
    if manifest.mode == "quorum" and manifest.conflicts != config.quorum.conflicts:
        raise StartupError(
            f'{path} settles conflicts by "{manifest.conflicts}", and quorum.conflicts is "{config.quorum.conflicts}"'
        )
    origin = RestoredFrom(digest=manifest.digest, cluster=manifest.cluster, revision=manifest.revision, advance=advance)
    directory = Path(config.cluster.data_dir)
    homes = {node: directory / node for node in nodes}
    there = {node: home for node, home in homes.items() if _is_made(home, origin)}
    made = []
    for node, home in homes.items():
        if node not in there:
            _make(home, origin, lambda draft, node=node: write_node(draft, path, manifest, config, node, advance))  # type: ignore[misc]
            made.append(home)
    return RestoredNodes(manifest=manifest, made=tuple(made), there=tuple(there.values()))


def write_node(  # noqa: PLR0917  what a node is made of
    draft: Path, path: Path, manifest: BackupManifest, config: ClusterConfig, node: str, advance: int
) -> None:
    """All data of ``node`` into the new directory ``draft``."""
    if manifest.mode == "raft":
        write_raft(draft, path, manifest, config, advance)
        identity = raft_identity(node, manifest.digest, advance, os.urandom)
    else:
        from raftkv.backup.quorum_data import write_quorum  # noqa: PLC0415  RocksDB takes a while to load

        write_quorum(draft, path, manifest, config, node)
        identity = Identity(node=node, disk=os.urandom(NONCE_BYTES).hex(), starts=(), rules={})
    replace_file(draft / NAME, encode_identity(identity))


def check_free(home: Path) -> None:
    """Raise ``StartupError`` where there is any data."""
    if names := _names(home):
        raise StartupError(
            f"{home}: holds data ({', '.join(names)}), and nothing is restored over data: move it away, or name another"
            " cluster.data_dir"
        )


def _names(home: Path) -> list[str]:
    with translated(home):
        return sorted(path.name for path in home.iterdir() if path.name != LOCK) if home.exists() else []


def raft_identity(node: str, digest: str, advance: int, random_bytes: Callable[[int], bytes]) -> Identity:
    """That of ``node`` in a cluster with a leader that is made of the backup with ``digest``.

    What its nodes say they come from is another thing than what those of the cluster before say, or of one that was
    made with another ``advance``: two such would give the same revisions, or lack each other's writes.
    """
    origin = f"{digest[:_ORIGIN_CHARACTERS]}+{advance}"
    disk = random_bytes(NONCE_BYTES).hex()
    return Identity(node=node, disk=disk, starts=(), rules={}, standing=Standing.MEMBER, origin=origin)


def _is_made(home: Path, origin: RestoredFrom) -> bool:
    """Was this done already? Raises ``StartupError`` where there is any other data."""
    if ORIGIN in _names(home):
        with translated(home):
            is_the_same = decode_origin((home / ORIGIN).read_bytes()) == origin
            identity = decode_identity((home / NAME).read_bytes())
        if is_the_same and not identity.starts:
            return True
    check_free(home)
    return False


def _make(home: Path, origin: RestoredFrom, write: Callable[[Path], None]) -> None:
    draft, disk = home.with_name(f".{home.name}.restoring"), RealDisk()
    disk.make_directory(home.parent)
    with translated(draft):
        if draft.exists():
            shutil.rmtree(draft)
        draft.mkdir(mode=0o700)
        try:
            write(draft)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        replace_file(draft / ORIGIN, encode_origin(origin))
        if home.exists():
            (home / LOCK).unlink(missing_ok=True)
            home.rmdir()
    disk.rename(draft, home)
    disk.sync_directory(home.parent)
