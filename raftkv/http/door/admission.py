"""Who may change the cluster, or ask one replica past the others: who proves that they hold the cluster's secret.

Where the configuration names no secret, all peers are on this machine, and whoever asks from it may as well, so that
the references' endpoints stay open as they are typed. A request that somebody carried is not from this machine,
whatever its address looks like: it needs the proof too. This module must not import Flask.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final

from raftkv.core.errors import Code
from raftkv.core.proof import Verdict, Verifier
from raftkv.http.messages import Headers, HttpRequest, HttpResponse
from raftkv.http.problems import problem

HOW_TO: Final = "the raftkv command gives it when it is told --config FILE, Client when it is given secret_file"

_CARRIED: Final = (b"forwarded", b"via", b"x-real-ip")
_CARRIED_PREFIX: Final = b"x-forwarded-"

_REASONS: Final = {
    Verdict.OUT_OF_TIME: (Code.UNAUTHENTICATED, "the proof is of another time than this node's"),
    Verdict.USED: (Code.UNAUTHENTICATED, "the proof was used before; each is good for one request"),
    Verdict.WRONG: (
        Code.FORBIDDEN,
        "the proof is of another request or cluster, or made with another secret than this cluster's",
    ),
}


class Admission:
    """The guard of one front-end process. ``is_open``: no secret is configured, and this machine is trusted."""

    def __init__(self, verifier: Verifier, *, is_open: bool) -> None:
        self._verifier = verifier
        self._is_open = is_open

    def refusal(self, request: HttpRequest, headers: Headers) -> HttpResponse | None:
        """Why ``request`` may not do what it asks for; ``None`` when it may."""
        verdict = self._verdict(request)
        if verdict is Verdict.GOOD:
            return None
        if verdict is Verdict.MISSING:
            if self._is_open and _is_loopback(request.client) and not _is_carried(request):
                return None
            code, detail = Code.UNAUTHENTICATED, self._wanted(request)
        else:
            code, detail = _REASONS[verdict]
        return problem(code, detail, headers=(*headers, (b"www-authenticate", self._verifier.challenge)))

    def unproven(self, request: HttpRequest, headers: Headers) -> HttpResponse | None:
        """Why ``request``, which is to prove that the cluster itself asks, does not; ``None`` when it does."""
        verdict = self._verdict(request)
        if verdict is Verdict.GOOD:
            return None
        code, detail = _REASONS.get(verdict, (Code.UNAUTHENTICATED, "Authorization: this is no proof"))
        return problem(code, detail, headers=(*headers, (b"www-authenticate", self._verifier.challenge)))

    def _verdict(self, request: HttpRequest) -> Verdict:
        target = request.path + (b"?" + request.query if request.query else b"")
        shown = request.headers.get(b"authorization", b"")
        return self._verifier.judge(shown, request.method, target, request.body)

    def _wanted(self, request: HttpRequest) -> str:
        if self._is_open and _is_loopback(request.client):
            return f"a request that was forwarded needs a proof of the cluster's secret ({HOW_TO})"
        return f"this needs a proof of the cluster's secret ({HOW_TO})"


def is_proof(headers: Mapping[bytes, bytes]) -> bool:
    """Does a request with these headers claim to prove that its sender holds the secret?"""
    return headers.get(b"authorization", b"")[:7].lower() == b"raftkv "


def _is_carried(request: HttpRequest) -> bool:
    return any(name in _CARRIED or name.startswith(_CARRIED_PREFIX) for name in request.headers)


def _is_loopback(client: str) -> bool:
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
