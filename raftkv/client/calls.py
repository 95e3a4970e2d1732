"""One call as an HTTP request. Pure: no socket, no clock."""

from __future__ import annotations

import msgspec

from raftkv.client.http1 import HttpAnswer, RequestForm
from raftkv.client.reach import Host
from raftkv.core.errors import UsageError
from raftkv.core.proof import Prover


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request; ``path`` is percent-encoded, ``query`` too. ``repeatable``: sending it twice does no harm.

    ``needs_proof``: it is for who holds the cluster's secret. ``wait_s``: so long the server may hold back its answer
    on purpose.
    """

    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = {}
    body: bytes = b""
    is_read: bool
    repeatable: bool
    needs_proof: bool = False
    wait_s: float = 0.0


def request_of(call: Call, host: Host, timeout_s: float, prover: Prover | None, token: str = "") -> bytes:
    """The request; raises ``UsageError`` when it cannot be one. ``token`` says who asks, unless a proof says more.

    The server is told to give up a little earlier than we do, so that it is the one to say what became of a write.
    """
    told = f"timeout={min(60.0, max(0.05, (timeout_s - call.wait_s) * 0.9)):.2f}"
    target = f"{call.path}?{call.query}&{told}" if call.query else f"{call.path}?{told}"
    headers = [("Host", host.authority), ("User-Agent", "raftkv-client"), ("Accept-Encoding", "identity")]
    for name, value in call.headers.items():
        if not value.isascii():
            raise UsageError(f"{name}: must be visible ASCII characters")
        headers.append((name, value))
    if prover is not None and call.needs_proof:
        headers.append(("Authorization", prover.authorization(call.method, target, call.body)))
    elif token:
        headers.append(("Authorization", f"Bearer {token}"))
    return RequestForm(call.method, headers).request(target, call.body)


def learns(call: Call, answer: HttpAnswer, prover: Prover | None) -> bool:
    """Does ``answer`` teach ``prover`` what the same call is to be sent again with?"""
    if prover is None or not call.needs_proof or answer.status != 401:
        return False
    return prover.learn(answer.header("www-authenticate"))
