"""Header blocks: what a request's say, checked as HTTP/2 wants it (RFC 9113, section 8), and those of answers.

Requests are unpacked by the library hpack, save the two forms that make up nearly all that clients send once they have
said who they are: an index, and a new value for a name that has one. A block that came before says the same as long as
the table is the same, and is not unpacked again; a head that came before is not looked at again.
Answers use no table of their own (``FIRST`` says so to the peer), so a block is the same bytes for every connection and
is packed once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import hpack
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from raftkv.etcd.grpc.frames import ErrorCode, Http2Fault, StreamFault

Fields = Sequence[tuple[bytes, bytes]]

LIST_BYTES_MAX: Final = 16 << 10
"""All fields of a block, unpacked, with 32 bytes for each (SETTINGS_MAX_HEADER_LIST_SIZE)."""

FIRST: Final = b"\x20"
"""Opens the first block of a connection: the table has no room from now on (RFC 7541, section 6.3).

Whatever size the peer allows from then on, this one is within it.
"""

_SIZES_MAX: Final = 2
_FIELD_BYTES: Final = 32
_KNOWN_MAX: Final = 16
_KNOWN_BYTES_MAX: Final = 1 << 10
_KNOWN_FIELDS_MAX: Final = 24
"""Heads and blocks that come again are small. A field takes more memory than its bytes, however short it is."""

_STATIC: Final = HeaderTable.STATIC_TABLE

_PSEUDO: Final = frozenset({b":method", b":scheme", b":path", b":authority"})
_OF_A_CONNECTION: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
_NAMES: Final = re.compile(rb"(?::?[!#$%&'*+.^_`|~0-9a-z-]+\n)*")
_BAD_IN_VALUES: Final = (b"\0", b"\r", b"\n ", b"\n\t", b" \n", b"\t\n")
"""What may not be in values that stand between ends of lines. A pattern takes six times as long for long ones."""

_DIGITS: Final = re.compile(rb"[0-9]{1,15}")

_encoder: Final = hpack.Encoder()


class RequestHead:
    """The fields of a request, save the one that is kept aside. ``meaning`` is for who reads it: heads come again."""

    __slots__ = ("content_bytes", "fields", "meaning", "method", "path")

    def __init__(self, pseudo: dict[bytes, bytes], fields: Fields, content_bytes: int | None) -> None:
        self.method = pseudo[b":method"]
        self.path = pseudo[b":path"]
        self.fields = fields
        self.content_bytes = content_bytes
        self.meaning: Any = None


class _Table(NamedTuple):
    """By what a table is known again: nothing that is in it is ever put there anew."""

    newest: tuple[bytes, bytes] | None
    entries: int
    size_bytes: int


class HeadReader:
    """Reads the blocks of one connection, in their order, since each may say something about the next.

    ``aside`` is the name of a field that differs from request to request: without it a head is one that came before.
    """

    __slots__ = ("_aside", "_blocks", "_decoder", "_known", "_seen", "_table")

    def __init__(self, aside: bytes) -> None:
        self._aside = aside
        self._decoder = hpack.Decoder(max_header_list_size=LIST_BYTES_MAX)
        self._table = self._decoder.header_table
        self._seen = _Table(None, 0, self._table.maxsize)
        self._known: dict[Fields, RequestHead] = {}
        self._blocks: dict[bytes, tuple[RequestHead, bytes | None]] = {}
        """What blocks say by the table as it is: heads that are known."""

    def request(self, block: bytes) -> tuple[RequestHead, bytes | None]:
        """The head of a request, and the value of the field that is kept aside.

        Raises ``StreamFault`` where it is none, ``Http2Fault`` where nothing can be read.
        """
        known = self._blocks.get(block)
        if known is not None:
            return known
        table = self._seen
        fields, aside = self.unpack(block), None
        for place, field in enumerate(fields):
            if field[0] == self._aside:
                aside = fields.pop(place)[1]
                break
        key = tuple(fields)
        head = self._known.get(key)
        if head is None:
            head = _request(fields)
            size_bytes = sum(len(name) + len(value) for name, value in fields)
            if size_bytes > _KNOWN_BYTES_MAX or len(fields) > _KNOWN_FIELDS_MAX:
                return head, aside
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
                self._blocks.clear()
            self._known[key] = head
        if len(block) <= _KNOWN_BYTES_MAX and self._seen is table:
            if len(self._blocks) >= _KNOWN_MAX:
                self._blocks.clear()
            self._blocks[block] = head, aside
        return head, aside

    def trailers(self, block: bytes) -> None:
        """Fields that nobody looks at behind a body; raises as ``request``."""
        fields = self.unpack(block)
        _check(fields)
        if any(name.startswith(b":") for name, _ in fields):
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "a pseudo-header field in trailers")

    def _field(self, index: int) -> tuple[bytes, bytes]:
        """What is known by that index; raises ``IndexError``."""
        return _STATIC[index - 1] if index <= len(_STATIC) else self._table.dynamic_entries[index - len(_STATIC) - 1]

    def _look_at_table(self) -> None:
        """Forget what blocks say once the table is another: the newest entry is, or there are fewer, or more fit in."""
        entries, table = self._table.dynamic_entries, self._seen
        newest = entries[0] if entries else None
        if newest is not table.newest or len(entries) != table.entries or self._table.maxsize != table.size_bytes:
            self._seen = _Table(newest, len(entries), self._table.maxsize)
            self._blocks.clear()

    def unpack(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """All fields of a block; raises ``Http2Fault``."""
        found: list[tuple[bytes, bytes]] = []
        size_bytes: float = 0
        at = 0
        try:
            _check_sizes(block)
            while at < len(block):
                byte = block[at]
                if 0x80 < byte < 0xFF:
                    field = self._field(byte & 0x7F)
                    at += 1
                elif 0x40 < byte < 0x7F and block[at + 1] & 0x7F < 0x7F:
                    value_at = at + 2
                    at = value_at + (block[at + 1] & 0x7F)
                    field = (self._field(byte & 0x3F)[0], _text(block, value_at, at))
                    self._table.add(*field)
                else:
                    found += self._decoder.decode(_rest(block, at), raw=True)
                    break
                size_bytes += len(field[0]) + len(field[1]) + _FIELD_BYTES
                found.append(field)
        except hpack.OversizedHeaderListError:
            size_bytes = math.inf
        except (hpack.HPACKError, IndexError):
            raise Http2Fault(ErrorCode.COMPRESSION_ERROR, "a header block cannot be unpacked") from None
        if size_bytes > LIST_BYTES_MAX:
            raise Http2Fault(ErrorCode.ENHANCE_YOUR_CALM, f"header fields of more than {LIST_BYTES_MAX} bytes")
        self._look_at_table()
        return found


def _text(block: bytes, at: int, end: int) -> bytes:
    """The string of a literal field, whose length stands before ``at`` and says whether it is in Huffman's code."""
    if end > len(block):
        raise hpack.HPACKDecodingError("a string is cut short")
    text = block[at:end]
    return decode_huffman(text) if block[at - 1] & 0x80 else text


def _check_sizes(block: bytes) -> None:
    """A block begins with two sizes of the table at most (RFC 7541, section 4.2): each takes as long as a field."""
    at = sizes = 0
    while at < len(block) and block[at] & 0xE0 == FIRST[0]:
        sizes += 1
        if sizes > _SIZES_MAX:
            raise hpack.HPACKDecodingError("the size of the table changes again and again")
        is_long = block[at] & 0x1F == 0x1F
        at += 1
        while is_long:
            is_long = block[at] > 0x7F
            at += 1


def _rest(block: bytes, at: int) -> bytes:
    """What hpack is to see of a block. At its beginning, and only there, the size of the table may change."""
    if at and block[at] & 0xE0 == FIRST[0]:
        raise hpack.HPACKDecodingError("the size of the table changes within a block")
    return block[at:]


def _check(fields: Fields) -> None:
    """Names and values have the form of HTTP/2's (RFC 9113, section 8.2)."""
    names = b"\n".join([name for name, _ in fields]) + b"\n"
    values = b"\n%s\n" % b"\n".join([value for _, value in fields])
    if fields and (
        _NAMES.fullmatch(names) is None
        or any(one in values for one in _BAD_IN_VALUES)
        or names.count(b"\n") != len(fields)
        or values.count(b"\n") != len(fields) + 1
    ):
        raise StreamFault(ErrorCode.PROTOCOL_ERROR, "a header field is malformed")


def _request(fields: list[tuple[bytes, bytes]]) -> RequestHead:
    _check(fields)
    pseudo: dict[bytes, bytes] = {}
    for name, value in fields:
        if not name.startswith(b":"):
            break
        if name not in _PSEUDO or name in pseudo:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "a pseudo-header field that is unknown, or there twice")
        pseudo[name] = value
    regular = fields[len(pseudo) :]
    lengths = set()
    for name, value in regular:
        if name in _OF_A_CONNECTION or (name == b"te" and value.lower() != b"trailers") or name.startswith(b":"):
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "a header field that has no place in HTTP/2, or not there")
        if name == b"content-length":
            lengths.add(value)
    if not (pseudo.get(b":method") and pseudo.get(b":scheme") and pseudo.get(b":path")):
        raise StreamFault(ErrorCode.PROTOCOL_ERROR, "a request without a method, a scheme or a path")
    if len(lengths) > 1 or not all(_DIGITS.fullmatch(one) for one in lengths):
        raise StreamFault(ErrorCode.PROTOCOL_ERROR, "content-length is no number")
    return RequestHead(pseudo, regular, int(lengths.pop()) if lengths else None)


@lru_cache(512)
def packed(fields: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """The header block of an answer: names in lower case, no table needed."""
    return _encoder.encode([(name, value, True) for name, value in fields])
