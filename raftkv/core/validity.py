"""When a certificate ends: what operators want to be told before it does. Imports the standard library only.

Python's ``ssl`` tells it of certificates that it has verified in a connection, and of no file.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

KNOWN_S: Final = 60.0
"""How long the end of a certificate is believed: it may be replaced while the process runs."""

_FIRST: Final = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18


class Certificates:
    """The certificates of one process, by what they are for; the files are read again when what is known is old."""

    def __init__(self, paths: Mapping[str, str | Path], *, monotonic_s: Callable[[], float]) -> None:
        self._paths = paths
        self._monotonic_s = monotonic_s
        self._ends: dict[str, float] = {}
        self._read_at_s = float("-inf")

    def ends(self) -> Mapping[str, float]:
        """When they end, in seconds since 1970; what cannot be read is left out: who needs it will say so."""
        if self._monotonic_s() - self._read_at_s > KNOWN_S:
            self._read_at_s = self._monotonic_s()
            self._ends = {}
            for name, path in self._paths.items():
                with suppress(OSError, ValueError):
                    self._ends[name] = ends_at_s(path)
        return self._ends


class _Element(NamedTuple):
    """One element of DER (X.690, section 8.1)."""

    tag: int
    content: bytes
    rest: bytes


def ends_at_s(path: str | Path) -> float:
    """When the first certificate of the PEM file ends, in seconds since 1970; raises ``OSError`` or ``ValueError``."""
    found = _FIRST.search(Path(path).read_text(encoding="latin-1"))
    if found is None:
        raise ValueError(f"{path}: no certificate in PEM")
    try:
        return _end_of(ssl.PEM_cert_to_DER_cert(found[0]))
    except (ValueError, LookupError):
        raise ValueError(f"{path}: no certificate of X.509") from None


def _end_of(certificate: bytes) -> float:
    """By RFC 5280, section 4.1: the end of the validity, which follows the issuer."""
    rest = _element(_element(certificate, _SEQUENCE).content, _SEQUENCE).content
    if rest[0] == _VERSION:
        rest = _element(rest).rest
    for _ in ("serial number", "signature", "issuer"):
        rest = _element(rest).rest
    end = _element(_element(_element(rest, _SEQUENCE).content).rest)
    # Two digits of a year stand for those before 2050 only (section 4.1.2.5), which Python takes as they are meant.
    form = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}[end.tag]
    return datetime.strptime(end.content.decode("ascii"), form).replace(tzinfo=UTC).timestamp()


def _element(data: bytes, tag: int | None = None) -> _Element:
    """The first element of ``data``, which must be ``tag`` if that is given."""
    if tag is not None and data[0] != tag:
        raise ValueError("another element was expected")
    length, start = data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if len(data) < start + length:
        raise ValueError("cut short")
    return _Element(data[0], data[start : start + length], data[start + length :])
