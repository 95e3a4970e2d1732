"""The secret that the nodes of a cluster share: what a file may hold, and the key that is made of it.

Whoever records a handshake may try secrets at leisure, so what is tried must not be guessable. 32 random bytes, written
as hexadecimal or base64, are a key as they stand. Anything else is taken for a phrase: it must be long and not all of a
kind, and is stretched by scrypt (RFC 7914), so that each guess costs the guesser what it cost us. Imports the standard
library and ``raftkv.core`` only.
"""

from __future__ import annotations

import hashlib
import re
from itertools import pairwise
from pathlib import Path
from typing import Final

from raftkv.core.errors import StartupError

PHRASE_BYTES_MIN: Final = 32
DISTINCT_BYTES_MIN: Final = 8
"""32 random hexadecimal digits have fewer distinct ones once in millions of draws."""

HOW_TO: Final = "make one with: openssl rand -hex 32"

_RANDOM_KEY: Final = re.compile(rb"[0-9a-fA-F]{64,}|[A-Za-z0-9+/_-]{43,}={0,2}")
_SCRYPT: Final = {"n": 1 << 15, "r": 8, "p": 1, "maxmem": 64 << 20, "dklen": 32}
"""About 32 MiB and a tenth of a second for each guess."""


def weakness(text: bytes) -> str | None:
    """Why ``text`` is no secret, as the end of a sentence that begins with where it stands; ``None`` if it is one."""
    if len(text) < PHRASE_BYTES_MIN:
        return f"holds {len(text)} bytes; at least {PHRASE_BYTES_MIN} are needed ({HOW_TO})"
    distinct = len(set(text))
    if distinct < DISTINCT_BYTES_MIN:
        return f"holds only {distinct} different characters and could be guessed ({HOW_TO})"
    if any(text.startswith(text[length:]) for length in range(1, PHRASE_BYTES_MIN)):
        return f"says the same again and again and could be guessed ({HOW_TO})"
    steps = {(after - before) % 256 for before, after in pairwise(text)}
    if len(steps) < DISTINCT_BYTES_MIN:
        return f"goes on as it begins, like an alphabet, and could be guessed ({HOW_TO})"
    return None


def key_from(text: bytes, cluster: str) -> bytes:
    """The key that the secret ``text`` of the cluster named ``cluster`` stands for, on every node the same."""
    if _RANDOM_KEY.fullmatch(text):
        return text
    return hashlib.scrypt(text, salt=b"raftkv secret " + cluster.encode(), **_SCRYPT)


def read_key(path: Path, cluster: str) -> bytes:
    """The key of the secret in the file at ``path``. Raises ``StartupError``, one line naming the file."""
    try:
        text = path.read_bytes().strip()
    except OSError as error:
        raise StartupError(f"{path}: {error.strerror}") from None
    reason = weakness(text)
    if reason is not None:
        raise StartupError(f"{path} {reason}")
    return key_from(text, cluster)
