"""Permissions as JSON and query parameters say them, and back. Pure functions."""

from __future__ import annotations

from typing import Final

from raftkv.api.bodies import AccessWord, PermissionBody
from raftkv.api.values import Value, value_to_json
from raftkv.core.errors import Code
from raftkv.core.keys import prefix_end
from raftkv.core.rights import Access, Permission
from raftkv.http import parameters
from raftkv.http.choices import PermissionNaming
from raftkv.http.handlers.handler import Context
from raftkv.http.problems import refuse

_ACCESS: Final[dict[AccessWord, Access]] = {"read": Access.READ, "write": Access.WRITE, "both": Access.BOTH}
_WORDS: Final = {access: word for word, access in _ACCESS.items()}


def permission_of(body: PermissionBody, context: Context, where: str = "") -> Permission:
    """The permission that ``body`` says, which stands at ``where``; raises ``DefiniteError``."""
    named = [name for name in ("key", "prefix", "start") if getattr(body, name) is not None]
    if len(named) != 1:
        refuse(Code.BAD_REQUEST, f"{where or 'permission'}: it takes one of key, prefix, and start with end or without")
    if body.end is not None and body.start is None:
        refuse(Code.BAD_REQUEST, f"{where}end: only start takes it")
    if body.key is not None:
        key = parameters.key_from_json(body.key, context.limits, f"{where}key")
        start, end = key, key + b"\x00"
    elif body.prefix is not None:
        start = _bound(body.prefix, context, f"{where}prefix")
        return Permission(access=_ACCESS[body.access], start=start, end=prefix_end(start))
    else:
        start = _bound(body.start or "", context, f"{where}start")
        if body.end is None:
            return Permission(access=_ACCESS[body.access], start=start, end=None)
        end = _bound(body.end, context, f"{where}end")
        if end <= start:
            refuse(Code.BAD_REQUEST, f"{where}end: it must come after start")
    return Permission(access=_ACCESS[body.access], start=start, end=end)


def _bound(value: Value, context: Context, what: str) -> bytes:
    bound = parameters.bytes_of(value, what)
    limit = context.limits.max_key_bytes
    if len(bound) > limit:
        refuse(Code.KEY_TOO_LARGE, f"{what}: {len(bound)} bytes are more than the limit of {limit}")
    return bound


def permission_named(chosen: PermissionNaming, context: Context) -> Permission:
    """The permission that query parameters say; raises ``DefiniteError``."""
    if chosen.access is None:
        refuse(Code.BAD_REQUEST, "access: missing; it is read, write or both")
    named = [
        None if one is None else value_to_json(one) for one in (chosen.key, chosen.prefix, chosen.start, chosen.end)
    ]
    return permission_of(PermissionBody(chosen.access, *named), context)


def permission_shown(permission: Permission) -> PermissionBody:
    """A permission as it could have been said."""
    start, end = value_to_json(permission.start), permission.end
    word = _WORDS[permission.access]
    if end == permission.start + b"\x00":
        return PermissionBody(word, key=start)
    if end == prefix_end(permission.start):
        return PermissionBody(word, prefix=start)
    return PermissionBody(word, start=start, end=None if end is None else value_to_json(end))
