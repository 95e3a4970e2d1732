"""The section ``[backup]`` of the configuration: the backups that a cluster makes of itself.

This module imports nothing but msgspec and its neighbours in ``core``.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from typing import Annotated, Final

import msgspec
from msgspec import Meta

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ENDPOINT: Final = re.compile(r"https?://[^/?#@\s]+/?")


class BackupSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[backup]``: every ``interval_s`` a backup is made, unless that is 0, by ``node``.

    Where none is named it is the leader who makes it, or without one the first node by name of those that are up.
    ``directory`` is where it is made, and kept unless there is an ``s3_bucket``. At most ``keep`` are kept, and none
    older than ``keep_s`` (0: however old), but always the newest. It reads no faster than ``bytes_per_s`` (0: as fast
    as it can), and is given up after ``timeout_s``.
    """

    interval_s: Annotated[float, Meta(ge=0, le=30 * 86_400)] = 0.0
    directory: str = "backups"
    node: str = ""
    keep: Annotated[int, Meta(ge=1, le=10_000)] = 7
    keep_s: Annotated[float, Meta(ge=0, le=10 * 365 * 86_400)] = 0.0
    bytes_per_s: Annotated[int, Meta(ge=0)] = 0
    timeout_s: Annotated[float, Meta(gt=0, le=7 * 86_400)] = 6 * 3600.0
    s3_bucket: str = ""
    s3_prefix: str = ""
    s3_endpoint: str = ""

    def faults(self, nodes: Container[str]) -> Iterator[str]:
        """The keys that make no sense where ``nodes`` are configured, each with the reason."""
        if self.node and self.node not in nodes:
            yield f"backup.node: there is no [[node]] with the id {self.node!r}"
        if 0 < self.interval_s < 1:
            yield "backup.interval_s: at least 1.0, or 0 for no backups"
        if 0 < self.bytes_per_s < 1 << 16:
            yield "backup.bytes_per_s: at least 65536, or 0 for no limit"
        if self.s3_bucket and not _BUCKET.fullmatch(self.s3_bucket):
            yield f"backup.s3_bucket: {self.s3_bucket!r} is no name of a bucket"
        if (self.s3_prefix or self.s3_endpoint) and not self.s3_bucket:
            yield f"backup.{'s3_prefix' if self.s3_prefix else 's3_endpoint'}: of no use without s3_bucket"
        if self.s3_endpoint and not _ENDPOINT.fullmatch(self.s3_endpoint):
            yield "backup.s3_endpoint: must be http://HOST:PORT or https://HOST:PORT, without a name or password"
