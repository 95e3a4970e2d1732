"""An application in process over a solo replicator, asked by either of the two ways that it has."""

from __future__ import annotations

import asyncio
import json
import time
from functools import partial
from typing import Any

import msgspec

from raftkv.core.config import AuthSection, HttpSection, NodeSection
from raftkv.core.proof import Verifier
from raftkv.core.rights import Rights
from raftkv.formats.tokens import Tokens
from raftkv.frontend.remote import NOT_RUNNING
from raftkv.frontend.rights import KnownRights
from raftkv.http.door.admission import Admission
from raftkv.http.door.asgi import Application, feed_on_loop, onlookers_on_loop
from raftkv.http.door.callers import Callers
from raftkv.http.door.passwords import Passwords
from raftkv.http.door.plain import PlainRequest, read, written
from raftkv.http.door.streaming import CERTIFICATE_KEY
from raftkv.http.futures import settle
from raftkv.http.handlers.handler import Context
from raftkv.http.messages import HttpResponse
from tests.contract.solo import SoloReplicator

LIMITS = HttpSection(max_value_bytes=1000, max_key_bytes=64, max_batch_operations=5, max_list_limit=3)

MEMBERS = tuple(
    NodeSection(id=f"n{number}", http=f"127.0.0.1:800{number}", peer=f"127.0.0.1:900{number}") for number in (1, 2, 3)
)


class Answer:
    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status = status
        self.headers = {name.decode(): value.decode() for name, value in headers}
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Node:
    """An application over a solo replicator that works a turn of the loop after each request.

    What is asked goes the general way, over ASGI. ``asks_plainly``: what the plain way takes goes that instead.
    """

    asks_plainly = False

    def __init__(self, limits: HttpSection = LIMITS, **solo: Any) -> None:
        self.solo = SoloReplicator(**solo)
        self.solo.cluster_size = 3
        self.replica_is_up = True
        self.now_s: float | None = None
        self.solo.level_at_s = time.monotonic()
        self.known = KnownRights(Rights())
        self.callers = Callers(
            self.known,
            Tokens(b"key", "test", wall_ms=lambda: time.time_ns() // 1_000_000, ttl_ms=60_000),
            Passwords(AuthSection(), monotonic_s=time.monotonic),
            freshen=self.freshen,
        )
        context = Context(
            node="n1",
            version="1",
            scheme="http",
            limits=limits,
            members=MEMBERS,
            status=self.status,
            silence=lambda: NOT_RUNNING.detail,
            subscribe=self.solo.subscribe,
            feed=feed_on_loop(self),
            onlookers=onlookers_on_loop(self),
            last_status=self.solo.status,
            monotonic_s=lambda: time.monotonic() if self.now_s is None else self.now_s,
            wall_s=lambda: 0.0,
            node_header=((b"raftkv-node", b"n1"),),
            admission=Admission(Verifier(b"key", "test", wall_ms=lambda: 0), is_open=True),
            callers=self.callers,
        )
        self.reachable_peers = 2
        self.client = "127.0.0.1"
        self.certificate = ""
        self.plainly_answered = 0
        self.application = Application(self, context)

    def status(self) -> Any:
        if not self.replica_is_up:
            return None
        status = self.solo.status()
        from raftkv.core.status import PeerStatus

        peers = tuple(
            PeerStatus(id=f"n{2 + position}", reachable=position < self.reachable_peers) for position in range(2)
        )
        return msgspec.structs.replace(status, peers=peers)

    async def freshen(self) -> None:
        """What is known of users is what the solo's machine says, as of each request."""
        self.known.learn(self.solo.machine.rights)

    def submit(self, request: Any, deadline_s: float) -> Any:
        pending = self.solo.submit(request, deadline_s)
        self._work()
        return pending

    def subscribe(self, hear: Any) -> Any:
        return self.solo.subscribe(hear)

    def _work(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: self.solo.work(time.monotonic()))
        loop.call_later(0.06, lambda: self.solo.work(time.monotonic()))

    def work(self, now_s: float) -> float:
        return self.solo.work(now_s)

    def close(self) -> None:
        self.solo.close()

    async def ask(
        self, method: str, target: str, body: bytes | list[bytes] = b"", *, length: bool = True, **headers: str
    ) -> Answer:
        await self.freshen()
        path, _, query = target.partition("?")
        coding = headers.pop("transfer_encoding", "chunked")
        pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
        chunks = [body] if isinstance(body, bytes) else list(body)
        if body and length:
            pairs.append((b"content-length", str(sum(map(len, chunks))).encode()))
        elif body:
            pairs.append((b"transfer-encoding", coding.encode()))
        if "host" not in headers:
            pairs.append((b"host", b"127.0.0.1:8001"))
        if self.asks_plainly and HALF not in chunks:
            answer = await self._asked_plainly(method, target, pairs, b"".join(chunks))
            if answer is not None:
                return answer
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": pairs,
            "client": (self.client, 50_000),
            "extensions": {CERTIFICATE_KEY: self.certificate} if self.certificate else {},
        }
        sent: list[Any] = []

        async def receive() -> Any:
            if chunks:
                chunk = chunks.pop(0)
                if chunk is HALF:
                    return {"type": "http.disconnect"}
                return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.application({**scope}, receive, send)
        assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
        return Answer(sent[0]["status"], sent[0]["headers"], sent[1]["body"])

    async def _asked_plainly(
        self, method: str, target: str, pairs: list[tuple[bytes, bytes]], body: bytes
    ) -> Answer | None:
        """The answer to what is plain, is written as it is written to the wire, and is taken."""
        lines = [f"{method} {target} HTTP/1.1".encode(), *[b"%b: %b" % pair for pair in pairs]]
        request = read(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        answered: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()
        if not isinstance(request, PlainRequest) or not self.application.answer(
            request, self.client, self.certificate, partial(settle, answered)
        ):
            return None
        self.plainly_answered += 1
        head, found = written(await answered, method, b"\r\n")
        fields = [line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2]]
        return Answer(int(head.split()[1]), [(name, value) for name, value in fields], found)

    def __call__(self, method: str, target: str, body: Any = b"", **more: Any) -> Answer:
        if not isinstance(body, bytes | list):
            body = json.dumps(body).encode()
        return asyncio.run(self.ask(method, target, body, **more))


HALF = b"<the client went away>"


def is_problem(answer: Answer, status: int, code: str, *words: str) -> bool:
    body = answer.json
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status, body["code"], body["status"]) == (status, code, status), body
    if code != "internal_error":  # which is in doubt where the method is not that of a read
        assert body["applied"] == ("unknown" if code == "outcome_unknown" else "no")
    assert body["title"]
    for word in words:
        assert word in body["detail"], body["detail"]
    return True
