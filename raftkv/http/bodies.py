"""How a body of JSON, or a form, is read, and how a wrong one is told to the client.

Pure functions, no Flask, no ASGI.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final, TypeVar
from urllib.parse import parse_qsl

import msgspec

from raftkv.api import headers
from raftkv.api.bodies import (
    BackupForm,
    Batch,
    CampaignBody,
    CompactBody,
    IncrementBody,
    InternalWrite,
    KeyAndValue,
    LeaseIds,
    LockBody,
    Login,
    NewAddresses,
    NewLeader,
    NewLease,
    NewMember,
    NewPassword,
    NewSizes,
    PermissionBody,
    ProclaimBody,
    ResignBody,
    RoleBody,
    TouchBody,
    TransactionBody,
    UserBody,
)
from raftkv.core.errors import Code
from raftkv.http.messages import JSON, HttpRequest
from raftkv.http.problems import refuse

SHOWN_CHARACTERS_MAX: Final = 200
"""What is repeated of a mistake."""

FORM_BYTES_MAX: Final = 4096
"""A token, the longest thing in a form, has a quarter of it at most."""

_FIELDS_MAX: Final = 16
_FORM: Final = headers.FORM.encode()
_SPACE: Final = b" \t\r\n"
_encode: Final = msgspec.json.Encoder().encode
_LOCATED: Final = re.compile(r"(.*) - at `\$\.?(.*?)`", re.DOTALL)


Body = TypeVar("Body")

decode_key_and_value: Final = msgspec.json.Decoder(KeyAndValue)
decode_batch: Final = msgspec.json.Decoder(Batch)
decode_increment: Final = msgspec.json.Decoder(IncrementBody)
decode_touch: Final = msgspec.json.Decoder(TouchBody)
decode_transaction: Final = msgspec.json.Decoder(TransactionBody)
decode_new_lease: Final = msgspec.json.Decoder(NewLease)
decode_lease_ids: Final = msgspec.json.Decoder(LeaseIds)
decode_lock: Final = msgspec.json.Decoder(LockBody)
decode_campaign: Final = msgspec.json.Decoder(CampaignBody)
decode_proclaim: Final = msgspec.json.Decoder(ProclaimBody)
decode_resign: Final = msgspec.json.Decoder(ResignBody)
decode_compact: Final = msgspec.json.Decoder(CompactBody)
decode_new_sizes: Final = msgspec.json.Decoder(NewSizes)
decode_new_member: Final = msgspec.json.Decoder(NewMember)
decode_login: Final = msgspec.json.Decoder(Login)
decode_user: Final = msgspec.json.Decoder(UserBody)
decode_new_password: Final = msgspec.json.Decoder(NewPassword)
decode_role: Final = msgspec.json.Decoder(RoleBody)
decode_permission: Final = msgspec.json.Decoder(PermissionBody)
decode_new_addresses: Final = msgspec.json.Decoder(NewAddresses)
decode_new_leader: Final = msgspec.json.Decoder(NewLeader)
decode_internal_write: Final = msgspec.json.Decoder(InternalWrite)


def body_of(request: HttpRequest, decoder: msgspec.json.Decoder[Body], *, allow_form_type: bool = False) -> Body:
    """The body, decoded.

    ``allow_form_type``: what ``curl -d '{...}'`` says without ``-H`` is let pass, because people type that.
    """
    content_type = _content_type(request.headers)
    is_form = content_type == _FORM and allow_form_type
    if content_type and content_type != JSON[1] and not content_type.endswith(b"+json") and not is_form:
        refuse(Code.UNSUPPORTED_MEDIA_TYPE, f"the body must be application/json, not {_shown(content_type)}")
    try:
        decoded = decoder.decode(request.body)
        _check_each_name_once(request.body, decoded)
    except msgspec.ValidationError as error:
        refuse(Code.BAD_REQUEST, f"body: {_readable(str(error))}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if is_form and not request.body.lstrip().startswith(b"{"):
            refuse(Code.UNSUPPORTED_MEDIA_TYPE, "the body must be application/json, not a form")
        refuse(Code.BAD_REQUEST, f"body: not valid JSON: {_cut(str(error))}")
    return decoded


def backup_form(headers: Mapping[bytes, bytes], body: bytes) -> BackupForm:
    """The form of ``POST /backup``, as browsers send one (URL standard, section 5.1); raises ``DefiniteError``.

    No body is an empty form.
    """
    content_type = _content_type(headers)
    if body and content_type and content_type != _FORM:
        refuse(Code.UNSUPPORTED_MEDIA_TYPE, f"the body must be {_FORM.decode()}, not {_shown(content_type)}")
    try:
        fields = _fields(body.decode()) if body else []
        return msgspec.convert(_once(fields), BackupForm)
    except msgspec.ValidationError as error:
        refuse(Code.BAD_REQUEST, f"body: {_readable(str(error))}")
    except ValueError as error:
        refuse(Code.BAD_REQUEST, f"body: not a valid form: {_cut(str(error))}")


def _fields(text: str) -> list[tuple[str, object]]:
    found = parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=_FIELDS_MAX)
    return [*found]


def _content_type(headers: Mapping[bytes, bytes]) -> bytes:
    return headers.get(b"content-type", b"").partition(b";")[0].strip().lower()


def _shown(content_type: bytes) -> str:
    return content_type[:100].decode("latin-1")


def _check_each_name_once(body: bytes, decoded: object) -> None:
    """Refuse an object with a name given twice, of which only the last would count; raises ``DefiniteError``.

    The decoder does not tell. A body names at least what is not as by default in what was decoded; where it has no more
    names, none is there twice. They are counted as quotes before colons, so nothing may be escaped; a text that begins
    with a colon counts on both sides.
    """
    names = _names_in(body)
    if b"\\" in body or (names > 1 and names != _names_in(_encode(decoded))):
        json.loads(body, object_pairs_hook=_once)


def _names_in(text: bytes) -> int:
    return text.translate(None, _SPACE).count(b'":')


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for place, (name, _) in enumerate(pairs) if name in {other for other, _ in pairs[:place]})
        refuse(Code.BAD_REQUEST, f"body: {twice[:100]!r} is given twice")
    return found


def _cut(text: str) -> str:
    """A sentence about what a stranger sent, and not all of that."""
    return text if len(text) <= SHOWN_CHARACTERS_MAX else f"{text[:SHOWN_CHARACTERS_MAX]}..."


def _readable(message: str) -> str:
    """Turn msgspec's ``reason - at `$.field` `` into ``field: reason``."""
    found = _LOCATED.fullmatch(message)
    if found is None or not found[2]:
        return _cut(message)
    return f"{_cut(found[2])}: {_cut(found[1])}"
