"""What requests carry beside their bodies: keys in paths, query parameters, preconditions. Pure functions.

Every mistake raises ``DefiniteError`` with a sentence that names what is wrong. A parameter that is unknown, or given
twice, is refused: a typo must not silently weaken a guarantee. This module must not import Flask.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, Literal, get_args
from urllib.parse import unquote_to_bytes

import msgspec

from raftkv.api.bodies import AccessWord
from raftkv.api.headers import IDEMPOTENCY_KEY, IF_MATCH, IF_NONE_MATCH, LAST_EVENT_ID
from raftkv.api.values import Value, value_from_json
from raftkv.coordination.names import NAME_BYTES_MAX
from raftkv.core.config import HttpSection
from raftkv.core.errors import Code, DefiniteError
from raftkv.core.keys import END_OF_NAME, SYSTEM
from raftkv.core.requests import ABSENT, ANY, MATCHES_MAX, Consistency, Match
from raftkv.core.rights import NAME_CHARACTERS_MAX, Name
from raftkv.http.messages import HttpRequest
from raftkv.http.problems import refuse

NEVER: Final = 10**18 - 1
"""A revision that no key stands at: at a million writes a second it takes thirty thousand years to come there."""

MAX_TIME_MS: Final = 1 << 48
"""Nine thousand years from now."""

MAX_TIMEOUT_S: Final = 60.0
NUMBER_MAX: Final = 999_999_999
REMEMBERED_BYTES_MAX: Final = 64
"""Only short queries, as most are, are remembered parsed: what strangers make up must not fill the memory."""

MAX_PROGRESS_S: Final = 3600.0
MAX_TTL_S: Final = 10 * 365 * 86_400.0

_OF_BYTES: Final = frozenset({"key", "prefix", "start", "end"})
"""Query parameters that may be any bytes, carried in text as Python carries those of file names (PEP 383)."""

_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ETAG = re.compile(r'(?:W/)?"([0-9]{1,18})"|([0-9]{1,18})')
_STAMP_ETAG = re.compile(r'(?:W/)?"[0-9]{1,18}@[!-~]+"')
_IDEMPOTENCY_KEY = re.compile(rb"[\x21-\x7e]{1,255}")
_BOOLEANS: Final = {"1": True, "true": True, "": True, "0": False, "false": False}


def unescape(raw: bytes, what: str) -> bytes:
    """Percent-decode."""
    if b"%" not in raw:
        return raw
    if _BROKEN_ESCAPE.search(raw) is not None:
        refuse(Code.BAD_REQUEST, f"{what}: broken percent-encoding")
    return unquote_to_bytes(raw)


def checked_key(key: bytes, limits: HttpSection, what: str = "key") -> bytes:
    """``key`` itself, when it may be one; ``what`` is its name in the request."""
    if not key:
        refuse(Code.BAD_REQUEST, f"{what}: must not be empty")
    if len(key) > limits.max_key_bytes:
        refuse(Code.KEY_TOO_LARGE, f"{what}: {len(key)} bytes are more than the limit of {limits.max_key_bytes}")
    if key >= SYSTEM:
        refuse(Code.BAD_REQUEST, f"{what}: none begins with the bytes ff ff")
    return key


def key_from_path(path: bytes, prefix: bytes, limits: HttpSection) -> bytes:
    """The key that is the rest of ``path`` after ``prefix``."""
    assert path.startswith(prefix)
    return checked_key(unescape(path[len(prefix) :], "key"), limits)


def key_within_path(path: bytes, route: str, limits: HttpSection) -> bytes:
    """The key in ``path`` that stands in the place of ``route``, before what comes last."""
    return checked_key(unescape(_within(path, route), "key"), limits)


def name_within_path(path: bytes, route: str, limits: HttpSection) -> bytes:
    """The name of a lock or an election in ``path``, as ``key_within_path``."""
    name = checked_key(unescape(_within(path, route), "name"), limits, "name")
    if len(name) > NAME_BYTES_MAX:
        refuse(Code.KEY_TOO_LARGE, f"name: {len(name)} bytes are more than the limit of {NAME_BYTES_MAX}")
    if END_OF_NAME in name:
        refuse(Code.BAD_REQUEST, "name: has a NUL")
    try:
        name.decode()
    except UnicodeDecodeError:
        refuse(Code.BAD_REQUEST, "name: not valid UTF-8")
    return name


def name_in_path(path: bytes, route: str, place: str) -> str:
    """The name of a user or a role in the segment of ``path`` that stands for ``place`` in ``route``."""
    segment = path.split(b"/")[route.split("/").index(f"{{{place}}}")]
    try:
        return checked_name(unescape(segment, place).decode(), place)
    except UnicodeDecodeError:
        refuse(Code.BAD_REQUEST, f"{place}: not valid UTF-8")


def checked_name(name: str, place: str) -> str:
    """``name``, which stands at ``place``, if a user or a role may have it."""
    try:
        return msgspec.convert(name, Name)
    except msgspec.ValidationError:
        refuse(Code.BAD_REQUEST, f"{place}: must be 1 to {NAME_CHARACTERS_MAX} characters, none of them a control one")


def _within(path: bytes, route: str) -> bytes:
    """What stands in ``path`` in the one place of ``route``."""
    before, after = route.partition("{")[0], route.partition("}")[2]
    return path[len(before) : len(path) - len(after)]


def encoded(text: str, what: str) -> bytes:
    """Text of a JSON body, as UTF-8."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        refuse(Code.BAD_REQUEST, f"{what}: half of a surrogate pair is not text")


def bytes_of(value: Value, what: str) -> bytes:
    """A value of a JSON body, or a key, or what keys begin with."""
    try:
        return value_from_json(value)
    except ValueError as error:
        refuse(Code.BAD_REQUEST, f"{what}: {error}")


def key_from_json(value: Value, limits: HttpSection, what: str = "key") -> bytes:
    """The key in a JSON body."""
    return checked_key(bytes_of(value, what), limits, what)


def key_from_query(key: bytes | None, limits: HttpSection) -> bytes:
    """The key in a query parameter."""
    if key is None:
        refuse(Code.BAD_REQUEST, "key: missing")
    return checked_key(key, limits)


def checked_value(value: bytes, limits: HttpSection) -> bytes:
    """``value`` itself, when it may be stored."""
    if len(value) > limits.max_value_bytes:
        refuse(Code.VALUE_TOO_LARGE, f"value: {len(value)} bytes are more than the limit of {limits.max_value_bytes}")
    return value


def _pairs(query: bytes) -> Iterator[tuple[str, str]]:
    for field in query.split(b"&"):
        if not field:
            continue
        raw_name, _, raw_value = field.partition(b"=")
        try:
            name = unescape(raw_name.replace(b"+", b" "), "query").decode()
            value = unescape(raw_value.replace(b"+", b" "), f"query parameter {name!r}")
            yield name, value.decode(errors="surrogateescape" if name in _OF_BYTES else "strict")
        except UnicodeDecodeError:
            refuse(Code.BAD_REQUEST, "query: not valid UTF-8")


def arguments(query: bytes, allowed: frozenset[str]) -> dict[str, str]:
    """The query parameters, each one of ``allowed`` and given once."""
    found: dict[str, str] = {}
    for name, value in _pairs(query):
        if name not in allowed:
            known = ", ".join(sorted(allowed)) or "none"
            refuse(Code.BAD_REQUEST, f"query parameter {name[:100]!r} is not known here (known: {known})")
        if name in found:
            refuse(Code.BAD_REQUEST, f"query parameter {name!r} is given twice")
        found[name] = value
    return found


def timeout_of(query: bytes) -> float | None:
    """``timeout`` beside whatever else; ``None`` where none is given, or a mistake that whoever serves it refuses."""
    return _remembered_timeout(query) if len(query) <= REMEMBERED_BYTES_MAX else _timeout_in(query)


def _timeout_in(query: bytes) -> float | None:
    try:
        found = dict(_pairs(query))
        return timeout(found) if "timeout" in found else None
    except DefiniteError:
        return None


_remembered_timeout = lru_cache(maxsize=1024)(_timeout_in)


def flag(found: dict[str, str], name: str) -> bool:
    """A yes or no; the bare name means yes."""
    text = found[name]
    if text not in _BOOLEANS:
        refuse(Code.BAD_REQUEST, f"{name}: {text[:100]!r} is neither 1 nor 0")
    return _BOOLEANS[text]


def seconds(found: dict[str, str], name: str, limit_s: float) -> float:
    """A positive number of seconds."""
    text = found[name]
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= limit_s or not text.isascii() or "_" in text:
        refuse(Code.BAD_REQUEST, f"{name}: {text[:100]!r} is not a number of seconds above 0 and up to {limit_s:.0f}")
    return number


def timeout(found: dict[str, str]) -> float:
    """How many seconds the request may take."""
    return seconds(found, "timeout", MAX_TIMEOUT_S)


def whole_number(found: dict[str, str], name: str, limit: int) -> int:
    """A number from 1 to ``limit``."""
    text = found[name]
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= limit):
        refuse(Code.BAD_REQUEST, f"{name}: {text[:100]!r} is not a number from 1 to {limit}")
    return int(text)


def lease_of(found: dict[str, str]) -> int:
    """The number of a lease."""
    if "ttl" in found:
        refuse(Code.BAD_REQUEST, "ttl and lease exclude each other")
    return _large_number(found, "lease", (1 << 53) - 1)


def start_lease_of(found: dict[str, str]) -> int:
    """The number from which on leases are listed."""
    return _large_number(found, "start_lease", (1 << 53) - 1)


def lease_in_path(path: bytes, route: str) -> int:
    """The number of a lease in ``path``, as ``route`` has it."""
    return _large_number({"id": _within(path, route).decode("latin-1")}, "id", (1 << 53) - 1)


def token_of(found: dict[str, str]) -> int:
    """The token of a grant."""
    return _large_number(found, "token", (1 << 53) - 1)


def revision_of(found: dict[str, str]) -> int:
    """A revision of the store."""
    return _large_number(found, "revision", NEVER)


def at_ms_of(found: dict[str, str]) -> int:
    """A time by the log's clock, in milliseconds since 1970, where no revision says which moment is meant."""
    if "revision" in found:
        refuse(Code.BAD_REQUEST, "at_ms: a revision is named too, and one of the two is enough")
    return _large_number(found, "at_ms", MAX_TIME_MS)


def from_revision_of(found: dict[str, str]) -> int:
    """The first revision of which a watcher is told."""
    return _large_number(found, "from_revision", NEVER)


def only_of(text: str) -> Literal["put", "delete"]:
    """The one kind of changes that a watcher wants."""
    if text not in ("put", "delete"):
        refuse(Code.BAD_REQUEST, f"only: {text[:100]!r} is neither put nor delete")
    return "put" if text == "put" else "delete"


def access_of(text: str) -> AccessWord:
    """What a permission allows."""
    words: dict[str, AccessWord] = {word: word for word in get_args(AccessWord)}
    if text not in words:
        refuse(Code.BAD_REQUEST, f"access: {text[:100]!r} is none of {', '.join(words)}")
    return words[text]


def last_event_id(headers: dict[bytes, bytes]) -> int | None:
    """The ``Last-Event-ID``: the revision up to which a watcher has been told; ``None`` where it says nothing."""
    text = headers.get(LAST_EVENT_ID.raw, b"").strip()
    if not text:
        return None
    if not (text.isdigit() and len(text) <= 18):
        refuse(Code.BAD_REQUEST, "Last-Event-ID: must be the id of a message of this stream, a revision")
    return int(text)


def _large_number(found: dict[str, str], name: str, limit: int) -> int:
    text = found[name]
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and 1 <= int(text) <= limit):
        refuse(Code.BAD_REQUEST, f"{name}: {text[:100]!r} is not a number from 1 to {limit}")
    return int(text)


def consistency(text: str) -> Consistency:
    """The level of a read by its name."""
    try:
        return Consistency(text)
    except ValueError:
        known = ", ".join(level.value for level in Consistency)
        refuse(Code.BAD_REQUEST, f"consistency: {text[:100]!r} is none of {known}")


def end_of(end: bytes) -> bytes:
    """The first key that a list leaves out."""
    if not end:
        refuse(Code.BAD_REQUEST, "end: must not be empty; leave it out for everything up to the last key")
    return end


def bytes_in(text: str) -> bytes:
    """What a query parameter that may be any bytes says."""
    return text.encode(errors="surrogateescape")


def precondition(headers: dict[bytes, bytes]) -> Match | None:
    """``match`` of a write, from ``If-Match`` and ``If-None-Match``.

    Of several tags any may match, and a weak one (``W/"7"``) matches no write (RFC 9110, section 13.1.1).
    ``If-Match: "0"`` says that the key must not exist, as ``If-None-Match: *`` does.
    """
    if_match, if_none_match = headers.get(IF_MATCH.raw), headers.get(IF_NONE_MATCH.raw)
    if if_match is None and if_none_match is None:
        return None
    if if_match is not None and if_none_match is not None:
        refuse(Code.BAD_REQUEST, "If-Match and If-None-Match: only one of them can be given")
    if if_none_match is not None:
        if if_none_match.strip() != b"*":
            refuse(Code.BAD_REQUEST, "If-None-Match: a write takes only * (the key must not exist)")
        return ABSENT
    assert if_match is not None
    text = if_match.decode("latin-1").strip()
    if text == "*":
        return ANY
    tags = _tags(text)
    if any(_STAMP_ETAG.fullmatch(tag) for tag in tags):
        refuse(Code.NOT_SUPPORTED, "If-Match: the tag is of a leaderless cluster, which cannot compare and set")
    found = [_ETAG.fullmatch(tag) for tag in tags]
    if None in found:
        refuse(Code.BAD_REQUEST, 'If-Match: must be * or revisions in quotes, as in "7" or "7", "9"')
    strong = sorted({int(tag[1] or tag[2]) for tag in found if tag is not None and not tag[0].startswith("W/")})
    if len(strong) > MATCHES_MAX:
        refuse(Code.BAD_REQUEST, f"If-Match: at most {MATCHES_MAX} revisions can be named")
    if len(strong) > 1:
        return tuple(strong)
    return strong[0] if strong else NEVER


def _tags(header: str) -> list[str]:
    return [tag.strip() for tag in header.split(",") if tag.strip()] or [""]


def is_unmodified(request: HttpRequest, tag: bytes) -> bool:
    """Does ``If-None-Match`` of a read name ``tag``, so that the client has the value already?"""
    header = request.headers.get(IF_NONE_MATCH.raw)
    if header is None:
        return False
    tags = [tag.removeprefix("W/") for tag in _tags(header.decode("latin-1"))]
    return "*" in tags or tag.decode() in tags


def is_other(request: HttpRequest, tag: bytes) -> bool:
    """Does ``If-Match`` of a read name other tags than ``tag`` only? A weak one is never the same."""
    header = request.headers.get(IF_MATCH.raw)
    if header is None:
        return False
    tags = _tags(header.decode("latin-1"))
    return "*" not in tags and tag.decode() not in tags


def idempotency_key(headers: dict[bytes, bytes]) -> str | None:
    """The ``Idempotency-Key``."""
    header = headers.get(IDEMPOTENCY_KEY.raw)
    if header is None:
        return None
    if _IDEMPOTENCY_KEY.fullmatch(header) is None:
        refuse(Code.BAD_REQUEST, "Idempotency-Key: must be 1 to 255 visible ASCII characters")
    return header.decode()
