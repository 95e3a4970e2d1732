"""A small disk for one node: a tmpfs of its own under the node's data directory, which can be filled; needs root.

Unmounted when the ``with`` block is left, even while a process still has files open there.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import Final, Self

BALLAST: Final = "ballast"
COMMAND_S: Final = 20.0


def why_unavailable() -> str | None:
    """Why small disks cannot be had here, ``None`` when they can."""
    return "mounting a small disk needs root" if os.geteuid() != 0 else None


class SmallDisk:
    """``size_bytes`` of room at ``path``."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self._size_bytes = size_bytes

    def __enter__(self) -> Self:
        self.path.mkdir(parents=True, exist_ok=True)
        options = f"size={self._size_bytes},mode=0700"
        command = ("mount", "-t", "tmpfs", "-o", options, "raftkv-lab", str(self.path))
        subprocess.run(command, check=True, timeout=COMMAND_S)  # noqa: S603
        return self

    def __exit__(self, *_error: object) -> None:
        command = ("umount", "--lazy", str(self.path))
        subprocess.run(command, check=True, timeout=COMMAND_S)  # noqa: S603

    def free_bytes(self) -> int:
        """How much room is left."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def fill(self, leave_bytes: int) -> None:
        """Take all room but ``leave_bytes``; what other files take meanwhile is theirs."""
        ballast = os.open(self.path / BALLAST, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            while (room := self.free_bytes() - leave_bytes) > 0:
                with contextlib.suppress(OSError):  # full: somebody else was faster
                    os.write(ballast, bytes(min(room, 1 << 20)))
        finally:
            os.close(ballast)

    def free(self) -> None:
        """Give the room back."""
        (self.path / BALLAST).unlink(missing_ok=True)
