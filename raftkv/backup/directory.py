"""A directory in which a schedule keeps its backups.

Rules: a backup gets its name once all of it is durable; only what a schedule of the same cluster has written is counted
or removed, which is known by the name and by what the file says of itself.
"""

from __future__ import annotations

from pathlib import Path

from raftkv.backup.fetching import publish
from raftkv.backup.keeping import KeptBackup, made_s_in
from raftkv.core.errors import StartupError
from raftkv.storage.backups.reading import read_manifest
from raftkv.storage.disk import RealDisk, translated


class BackupDirectory:
    """The backups of ``cluster`` in ``path``."""

    def __init__(self, path: Path, cluster: str) -> None:
        self._path = path
        self._cluster = cluster

    def held(self) -> list[KeptBackup]:
        """Those that are there. Raises ``DiskError``."""
        with translated(self._path):
            found = [self._seen(file) for file in self._path.iterdir()] if self._path.exists() else []
        return [one for one in found if one is not None]

    def _seen(self, file: Path) -> KeptBackup | None:
        made_s = made_s_in(file.name, self._cluster)
        if made_s is None or file.is_symlink() or not file.is_file():
            return None
        try:
            manifest = read_manifest(file)
            size_bytes = file.stat().st_size
        except (StartupError, OSError):
            return None
        if manifest.cluster != self._cluster or manifest.made_ms // 1000 != made_s:
            return None
        return KeptBackup(file.name, made_s, size_bytes)

    def put(self, draft: Path, name: str) -> None:
        """Keep ``draft``, which lies below this directory and is durable, as ``name``. Raises ``DiskError``."""
        publish(draft, self._path / name)

    def remove(self, name: str) -> None:
        """Remove one of those that are held. Raises ``DiskError``."""
        RealDisk().remove(self._path / name)
