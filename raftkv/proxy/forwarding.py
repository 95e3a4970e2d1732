"""Sends a request on, to one node after the other as long as that does no harm, and says what became of it.

A read is asked of the next node whenever one does not answer or fails. A write is given to the next node only when the
one before has definitely not applied it: no connection came about, or it said so (503, ``applied`` "no"). When a write
was sent and no answer came, the outcome is unknown, and nobody else is asked. What a node has answered is passed on as
it is; of several failures, the first that a node has put into words.

A stream is passed on piece by piece, and no more is read of it than its reader takes. It ends when either side does;
what breaks off on its way from the node breaks off for the reader.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from raftkv.api.problems import read_problem
from raftkv.client.async_channels import ANSWER_BYTES_MAX
from raftkv.client.http1 import Headers, HttpAnswer
from raftkv.client.plans import BACKUP_SILENCE_S
from raftkv.client.reach import UnheardError, UnopenedError
from raftkv.client.servers import attempt_s
from raftkv.core.errors import Code
from raftkv.http import parameters
from raftkv.http.door.browsers import ADDED_BY_BROWSERS
from raftkv.http.door.streaming import IDLE_S
from raftkv.http.events import FORMS, stream
from raftkv.http.messages import BodyStream, HttpRequest, HttpResponse, StreamCutError
from raftkv.http.problems import problem
from raftkv.proxy.cluster import Cluster
from raftkv.proxy.routing import is_backup, is_read, is_stream, key_of, usual_s, waits_s
from raftkv.proxy.view import Node

VIA: Final = "1.1 raftkv-proxy"
SILENCE_S: Final = 3 * IDLE_S
"""A node that says nothing for this long in a stream of events, not even that nothing happened, is gone."""

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
        timeout_s = parameters.timeout_of(request.query) or usual_s(request) or self._timeout_s
        wait_s = waits_s(request)
        # Whoever has waited in vain takes back what it began: once more the time that a request may take.
        deadline_s = now_s + (wait_s + 2 * timeout_s if wait_s else timeout_s) + GRACE_S
        nodes = cluster.candidates(key_of(request), is_read=reads)
        told: HttpAnswer | None = None
        for place, node in enumerate(nodes):
            remaining_s = deadline_s - cluster.now_s()
            if remaining_s <= 0:
                break
            limit_s = attempt_s(remaining_s, servers=len(nodes) - place, repeatable=reads)
            try:
                ask = self._follow if is_stream(request) else self._ask
                answer = await ask(node, request, limit_s)
            except UnopenedError as error:
                cluster.failed(node, error)
                continue
            except UnheardError as error:
                cluster.failed(node, error)
                if reads:
                    continue
                detail = f"node {node.id} was sent the write and did not answer; it may have been applied"
                return problem(Code.OUTCOME_UNKNOWN, detail)
            cluster.answered(node)
            if isinstance(answer, _Passage):
                return _response(answer.head, answer.body)
            if not _may_ask_another(answer, is_read=reads):
                return _response(answer)
            told = told or answer
        if told is not None and (read_problem(told.body).is_definite or not reads):
            return _response(told)
        detail = f"none of the {len(nodes)} nodes behind this proxy answers"
        return problem(Code.QUORUM_UNREACHABLE, f"{detail}: {cluster.silence}" if cluster.silence else detail)

    async def _ask(self, node: Node, request: HttpRequest, limit_s: float) -> HttpAnswer:
        return await self._cluster.channels(node.http).exchange(
            request.method, _target(request), headers=_request_headers(request), body=request.body, timeout_s=limit_s
        )

    async def _follow(self, node: Node, request: HttpRequest, limit_s: float) -> HttpAnswer | _Passage:
        """A stream, or the answer where there is none."""
        passage = _Passage(self._cluster, node)
        await passage.begin(request, limit_s)
        return passage if passage.is_endless else await passage.whole()


class _Passage:
    """An answer on its way from ``node`` to the reader; ``head`` is there once it has begun."""

    head: HttpAnswer

    def __init__(self, cluster: Cluster, node: Node) -> None:
        self._cluster = cluster
        self._node = node

    async def begin(self, request: HttpRequest, limit_s: float) -> None:
        """Ask, and wait for the head; raises ``UnopenedError`` or ``UnheardError``."""
        self._pieces = self._read(request, limit_s)
        await anext(self._pieces)

    @property
    def is_endless(self) -> bool:
        """Does nobody know how long it is?"""
        return self.head.status == 200 and not self.head.header("content-length")

    @property
    def body(self) -> BodyStream:
        """The stream to the reader."""
        form = FORMS.get(self.head.header("content-type").encode("latin-1"))
        return BodyStream(chunks=self._pieces) if form is None else stream(form, self._pieces)

    async def whole(self) -> HttpAnswer:
        """The answer with its body; raises ``UnheardError``."""
        parts, left_bytes = [], ANSWER_BYTES_MAX
        async with aclosing(self._pieces) as pieces:
            try:
                async for piece in pieces:
                    parts.append(piece)
                    left_bytes -= len(piece)
                    if left_bytes < 0:
                        raise UnheardError("a longer answer than is taken")
            except StreamCutError as error:
                raise UnheardError(str(error)) from None
        return HttpAnswer(status=self.head.status, fields=self.head.fields, body=b"".join(parts))

    async def _read(self, request: HttpRequest, limit_s: float) -> AsyncGenerator[bytes]:
        """Nothing when the head is there, then the pieces; who closes it gives the connection back."""
        address, method = self._node.http, request.method
        channels = self._cluster.channels(address, for_streams=True)
        sent = channels.host.form(method, _request_headers(request)).request(_target(request), request.body)
        answer = await channels.begin(method, sent, limit_s)
        silence_s = BACKUP_SILENCE_S if is_backup(request) else SILENCE_S
        try:
            self.head = answer.head
            yield b""
            while piece := await answer.piece(silence_s):
                yield piece
        except UnheardError as error:
            self._cluster.failed(self._node, error)
            raise StreamCutError(f"the node {error}") from None
        finally:
            answer.end()


def _target(request: HttpRequest) -> str:
    target = request.path + (b"?" + request.query if request.query else b"")
    return target.decode("latin-1") or "/"


def _may_ask_another(answer: HttpAnswer, *, is_read: bool) -> bool:
    if is_read:
        return answer.status in _READ_ELSEWHERE
    return answer.status == 503 and read_problem(answer.body).is_definite


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


def _response(answer: HttpAnswer, stream: BodyStream | None = None) -> HttpResponse:
    pairs = [(name, value) for name, value in answer.headers if name not in _OURS_TO_RESPONSE]
    return HttpResponse(status=answer.status, headers=(*pairs, (b"via", VIA.encode())), body=stream or answer.body)
