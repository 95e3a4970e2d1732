"""What a schedule's backups are called, when the next is due, and which are kept. Pure: time enters as a value.

A name says of which cluster a backup is, when it was made and by which node, so that whoever is to make the next one
finds in the place itself when that is due, also after a restart or where another node made the last.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

import msgspec

_MADE: Final = "%Y%m%dT%H%M%SZ"
_REST: Final = re.compile(r"-(\d{8}T\d{6}Z)-[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\.backup")

RETRY_S: Final = 60.0
"""How soon a backup that failed is begun anew, at first; twice as late after each further failure."""

RETRY_MAX_S: Final = 3600.0


class KeptBackup(msgspec.Struct, frozen=True):
    """A backup in the place where a schedule keeps them."""

    name: str
    made_s: int
    size_bytes: int


def stem_of(cluster: str) -> str:
    """What the names of a cluster's backups begin with; a cluster may have any name."""
    return f"raftkv-{quote(cluster, safe='')}"


def name_of(cluster: str, node: str, made_s: int) -> str:
    """The name of a backup of ``cluster`` that ``node`` made then (seconds since 1970)."""
    return f"{stem_of(cluster)}-{time.strftime(_MADE, time.gmtime(made_s))}-{node}.backup"


def made_s_in(name: str, cluster: str) -> int | None:
    """When the backup of ``cluster`` with this name was made; ``None`` if it is none."""
    stem = stem_of(cluster)
    found = _REST.fullmatch(name, len(stem)) if name.startswith(stem) else None
    if found is None:
        return None
    try:
        return int(datetime.strptime(found[1], _MADE).replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


def newest_of(held: Iterable[KeptBackup], now_s: float) -> KeptBackup | None:
    """The last one made; one from the future says nothing, as the clock that it was made by was wrong."""
    return max((one for one in held if one.made_s <= now_s), key=lambda one: one.made_s, default=None)


def due_s(newest: KeptBackup | None, interval_s: float, now_s: float) -> float:
    """When the next one is to be made."""
    return now_s if newest is None else newest.made_s + interval_s


def retry_after_s(failures: int, interval_s: float) -> float:
    """How long after the last of so many failures on end it is tried again: never later than the next was due."""
    return min(RETRY_S * (1 << min(failures - 1, 10)), RETRY_MAX_S, interval_s)


def superseded(
    held: Iterable[KeptBackup], made: KeptBackup, *, keep: int, keep_s: float, now_s: float
) -> list[KeptBackup]:
    """What is to be removed now that ``made`` was proved and is kept: all but ``keep``, and what is too old.

    ``made`` itself is never among them.
    """
    others = sorted((one for one in held if one.name != made.name), key=lambda one: (one.made_s, one.name))[::-1]
    kept = [one for one in others[: keep - 1] if not keep_s or now_s - one.made_s <= keep_s]
    return [one for one in others if one not in kept]
