"""Plain HTTP with JSON, as any program would speak it: to whichever of the nodes answers, until one does.

A write carries an Idempotency-Key, so that it is done once however often it is sent.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec

from raftkv.api import headers as names
from raftkv.api.problems import read_problem
from raftkv.client.channels import Channels
from raftkv.client.http1 import HttpAnswer
from raftkv.client.reach import Host, UnheardError, UnopenedError
from raftkv.instruments.local.nodes import ClusterError

SLACK_S: Final = 2.0
"""How much longer than a request may wait at the server a client waits for the answer."""

ALL_S: Final = 30.0
PAUSE_S: Final = 0.1

Found = TypeVar("Found")


class PlainClient:
    """One client of the nodes at ``addresses`` (``host:port``)."""

    def __init__(self, addresses: Sequence[str]) -> None:
        pairs = [address.rpartition(":") for address in addresses]
        self._hosts = [Host(host, int(port)) for host, _, port in pairs]
        self._channels = Channels()

    def ask(
        self,
        method: str,
        target: str,
        body: bytes | msgspec.Struct = b"",
        *,
        wait_s: float = 0.0,
        once: bool = True,
        headers: Sequence[tuple[str, str]] = (),
    ) -> HttpAnswer:
        """The first answer that is none of 5xx; raises ``ClusterError`` if there is none in ``ALL_S``.

        ``wait_s``: how long the request itself waits at the server; ``once``: it may take effect only once.
        """
        sent = list(headers)
        if not isinstance(body, bytes):
            body = msgspec.json.encode(body)
            sent.append(("Content-Type", names.JSON))
        if once and method != "GET":
            sent.append((names.IDEMPOTENCY_KEY.name, uuid.uuid4().hex))
        end_s, last = time.monotonic() + ALL_S + wait_s, ""
        while time.monotonic() < end_s:
            for host in self._hosts:
                try:
                    answer = self._channels.exchange(
                        host, method, target, headers=sent, body=body, timeout_s=wait_s + SLACK_S
                    )
                except (UnopenedError, UnheardError) as error:
                    last = str(error)
                    continue
                if answer.status < 500 and answer.status != 429:
                    return answer
                last = read_problem(answer.body).detail
            time.sleep(PAUSE_S)
        raise ClusterError(f"{method} {target}: no node has answered in {ALL_S:g} s, the last: {last}")

    def document(
        self,
        kind: type[Found],
        method: str,
        target: str,
        body: bytes | msgspec.Struct = b"",
        *,
        wait_s: float = 0.0,
        once: bool = True,
    ) -> Found:
        """What an answer of 2xx holds; raises ``ClusterError`` for any other."""
        answer = self.ask(method, target, body, wait_s=wait_s, once=once)
        if not 200 <= answer.status < 300:
            problem = read_problem(answer.body)
            raise ClusterError(f"{method} {target}: {answer.status} {problem.code}: {problem.detail}")
        return msgspec.json.decode(answer.body, type=kind)
