"""Sends a request on, to one node after the other as long as that does no harm, and says what became of it.

A read is asked of the next node whenever one does not answer or fails. A write is given to the next node only when the
one before has definitely not applied it: no connection came about, or it said so (503, ``applied`` "no"). When a write
was sent and no answer came, the outcome is unknown, and nobody else is asked. What a node has answered is passed on as
it is; of several failures, the first that a node has put into words.
"""

from __future__ import annotations

from typing import Final

from raftkv.api.problems import read_problem
from raftkv.client.http1 import Headers, HttpAnswer
from raftkv.client.reach import UnheardError, UnopenedError
from raftkv.client.servers import attempt_s
from raftkv.core.config import Address
from raftkv.core.errors import Code
from raftkv.http.door.browsers import ADDED_BY_BROWSERS
from raftkv.http.messages import HttpRequest, HttpResponse
from raftkv.http.parameters import MAX_TIMEOUT_S
from raftkv.http.problems import problem
from raftkv.proxy.cluster import Cluster
from raftkv.proxy.routing import is_read, key_of, usual_s

VIA: Final = "1.1 raftkv-proxy"
GRACE_S: Final = 0.5
"""The node gives up this much earlier than the proxy, so that it is the one to say what became of a write."""

_READ_ELSEWHERE: Final = frozenset({500, 502, 503, 504})
# Of one connection only, and never passed on (RFC 9110, section 7.6.1).
_OF_ONE_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
    }
)
_OURS_TO_REQUEST: Final = _OF_ONE_HOP | ADDED_BY_BROWSERS | {"host", "content-length", "via"}
_OURS_TO_RESPONSE: Final = frozenset({name.encode() for name in _OF_ONE_HOP | {"server", "date", "via"}})


class Forwarder:
    """Passes requests to the nodes of ``cluster``; a request that does not say may take ``timeout_s`` seconds."""

    def __init__(self, cluster: Cluster, *, timeout_s: float) -> None:
        self._cluster = cluster
        self._timeout_s = timeout_s

    async def forward(self, request: HttpRequest, now_s: float) -> HttpResponse:
        """The response to ``request``, which came in at ``now_s`` (monotonic, seconds)."""
        cluster, reads = self._cluster, is_read(request)
        deadline_s = now_s + _limit_s(request.query, usual_s(request) or self._timeout_s) + GRACE_S
        nodes = cluster.candidates(key_of(request), is_read=reads)
        told: HttpAnswer | None = None
        for place, node in enumerate(nodes):
            remaining_s = deadline_s - cluster.now_s()
            if remaining_s <= 0:
                break
            limit_s = attempt_s(remaining_s, servers=len(nodes) - place, repeatable=reads)
            try:
                answer = await self._ask(node.http, request, limit_s)
            except UnopenedError:
                cluster.failed(node)
                continue
            except UnheardError:
                cluster.failed(node)
                if reads:
                    continue
                detail = f"node {node.id} was sent the write and did not answer; it may have been applied"
                return problem(Code.OUTCOME_UNKNOWN, detail)
            cluster.answered(node)
            if not _may_ask_another(answer, is_read=reads):
                return _response(answer)
            told = told or answer
        if told is not None and (read_problem(told.body).is_definite or not reads):
            return _response(told)
        detail = f"none of the {len(nodes)} nodes behind this proxy answers"
        return problem(Code.QUORUM_UNREACHABLE, detail)

    async def _ask(self, address: Address, request: HttpRequest, limit_s: float) -> HttpAnswer:
        target = request.path + (b"?" + request.query if request.query else b"")
        return await self._cluster.channels(address).exchange(
            request.method,
            target.decode("latin-1") or "/",
            headers=_request_headers(request),
            body=request.body,
            timeout_s=limit_s,
        )


def _may_ask_another(answer: HttpAnswer, *, is_read: bool) -> bool:
    if is_read:
        return answer.status in _READ_ELSEWHERE
    return answer.status == 503 and read_problem(answer.body).is_definite


def _limit_s(query: bytes, default_s: float) -> float:
    """How long a request may take; what makes no sense is for a node to refuse."""
    for field in query.split(b"&"):
        if field.startswith(b"timeout="):
            try:
                return min(MAX_TIMEOUT_S, max(0.0, float(field[8:])))
            except ValueError:
                return default_s
    return default_s


def _request_headers(request: HttpRequest) -> Headers:
    named = request.headers.get(b"connection", b"").decode("latin-1").lower()
    dropped = _OURS_TO_REQUEST | {name.strip() for name in named.split(",")}
    headers = []
    for raw_name, value in request.headers.items():
        name = raw_name.decode("latin-1").lower()
        if name not in dropped:
            headers.append((name, value.decode("latin-1")))
    before = request.headers.get(b"via")
    headers.append(("via", f"{before.decode('latin-1')}, {VIA}" if before else VIA))
    return headers


def _response(answer: HttpAnswer) -> HttpResponse:
    pairs = [(name, value) for name, value in answer.headers if name not in _OURS_TO_RESPONSE]
    return HttpResponse(status=answer.status, headers=(*pairs, (b"via", VIA.encode())), body=answer.body)
