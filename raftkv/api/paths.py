"""Every path of the HTTP API, how one is filled in, and how a raw one is taken apart.

A path is written as in OpenAPI; ``{key*}`` takes the whole rest. What is filled in is percent-encoded whole, so that
``a/b`` is one key. This module imports the standard library only.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

KEYS: Final = "/kv"
KEY: Final = "/kv/{key*}"
BATCH: Final = "/batch"

STATUS: Final = "/status"
LIVE: Final = "/cluster/live"
RING: Final = "/cluster/ring"
RING_KEY: Final = "/cluster/ring/{key*}"
MEMBERS: Final = "/cluster/members"
MEMBER: Final = "/cluster/members/{id}"
PROMOTE: Final = "/cluster/members/{id}/promote"
TRANSFER: Final = "/cluster/transfer"
REPAIR: Final = "/cluster/repair"

LIVEZ: Final = "/livez"
READYZ: Final = "/readyz"
METRICS: Final = "/metrics"
OPENAPI: Final = "/openapi.json"
DOCS: Final = "/docs"

# Of the reference systems.
PUT: Final = "/put"
GET: Final = "/get"
GET_KEY: Final = "/get/{key*}"
DELETE: Final = "/delete"
SET: Final = "/set"
SET_KEY: Final = "/set/{key}/{value*}"
LOCAL_READ: Final = "/local_read"
HEALTH: Final = "/health"
CONFIG: Final = "/config"
INTERNAL_WRITE: Final = "/internal/write"
INTERNAL_KEY: Final = "/internal/kv"
INTERNAL_READ: Final = "/internal/read"

INCREMENT: Final = "/kv/{key*}/increment"
TOUCH: Final = "/kv/{key*}/touch"
TRANSACTION: Final = "/txn"
COMPACT: Final = "/compact"
LEASES: Final = "/leases"
LEASE: Final = "/leases/{id}"
KEEPALIVE: Final = "/leases/{id}/keepalive"
KEEPALIVES: Final = "/leases/keepalive"
LOCKS: Final = "/locks"
LOCK: Final = "/locks/{name*}"
ELECTIONS: Final = "/elections"
ELECTION: Final = "/elections/{name*}"
CAMPAIGN: Final = "/elections/{name*}/campaign"
PROCLAIM: Final = "/elections/{name*}/proclaim"
RESIGN: Final = "/elections/{name*}/resign"
OBSERVE: Final = "/elections/{name*}/observe"

AUTH: Final = "/auth"
LOGIN: Final = "/auth/login"
ENABLE: Final = "/auth/enable"
DISABLE: Final = "/auth/disable"
USERS: Final = "/auth/users"
USER: Final = "/auth/users/{name}"
USER_ROLE: Final = "/auth/users/{name}/roles/{role}"
USER_SETS: Final = "/auth/users/{name}/password"
ROLES: Final = "/auth/roles"
ROLE: Final = "/auth/roles/{name}"
ROLE_PERMISSIONS: Final = "/auth/roles/{name}/permissions"

WATCH: Final = "/watch"
BACKUP: Final = "/backup"
RESTORE: Final = "/restore"

CONSOLE: Final = "/ui"
"""Where the pages for people begin."""

INTERNAL: Final = b"/internal/"
"""Where everything begins that is asked of one replica past the others."""

READ_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that have no effect (RFC 9110, section 9.2.1)."""

_PLACE: Final = re.compile(r"{(\w+)\*?}")


def names_in(path: str) -> list[str]:
    """What is to be filled in, in order."""
    return _PLACE.findall(path)


def filled(path: str, *values: str | bytes) -> str:
    """``path`` with ``values``, percent-encoded; raises ``UnicodeEncodeError`` for text that UTF-8 cannot hold."""
    escaped = iter([quote(value, safe="") for value in values])
    return _PLACE.sub(lambda _: next(escaped), path)


def stem(path: str) -> bytes:
    """What raw paths begin with that are of ``path``: all that stands before the first place to fill in."""
    return path.partition("{")[0].encode()


def raw(*paths: str) -> frozenset[bytes]:
    """Paths without places, as they stand in requests."""
    return frozenset(path.encode() for path in paths)
