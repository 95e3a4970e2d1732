"""What every node of a playground shows of itself, heard from each of them: also what those see who are cut off.

A node that is asked by a page of its own tells what it has heard of others; here each is asked itself, so that two who
take themselves for the leader are both to be seen. Owned by one asyncio loop; each node is asked by one request that
does not end, and again when it did.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final

import msgspec

from raftkv.api import headers, paths
from raftkv.client.async_channels import AsyncChannelBody
from raftkv.client.reach import UnheardError, UnopenedError
from raftkv.core.config import Address
from raftkv.core.sights import Happening, Sight, View
from raftkv.instruments.lab.exchange import channel

AGAIN_S: Final = 0.3
SILENCE_S: Final = 3.0
"""A node says something four times a second; one that says nothing for so long is asked anew."""

LINE_BYTES_MAX: Final = 1 << 20
HAPPENINGS_MAX: Final = 200


class NodeSights:
    """The newest sight of each node, and what has happened since it was ``taken`` last."""

    def __init__(self, servers: Mapping[str, Address]) -> None:
        self._servers = dict(servers)
        self._newest: dict[str, tuple[float, Sight]] = {}
        self._happenings: dict[str, list[Happening]] = {node: [] for node in servers}
        self._known: dict[str, int] = {}

    async def run(self) -> None:
        """Listen until cancelled."""
        async with asyncio.TaskGroup() as group:
            for node, address in self._servers.items():
                group.create_task(self._listen(node, address))

    def newest(self, node: str) -> Sight | None:
        """How ``node`` stood when it was heard last."""
        return self._newest[node][1] if node in self._newest else None

    def leaders(self) -> list[str]:
        """Those who take themselves for the leader, as far as they were heard lately."""
        since_s = time.monotonic() - SILENCE_S
        return [node for node, (heard_s, sight) in self._newest.items() if sight.role == "leader" and heard_s > since_s]

    def take(self) -> View:
        """All nodes that were ever heard, and what has happened to them since this was asked last."""
        now_s = time.monotonic()
        sights = []
        for node, (heard_s, sight) in self._newest.items():
            happenings, self._happenings[node] = tuple(self._happenings[node]), []
            ago_ms = round((now_s - heard_s) * 1000)
            sights.append(msgspec.structs.replace(sight, happenings=happenings, heard_ago_ms=ago_ms))
        return View(sights=tuple(sights))

    async def _listen(self, node: str, address: Address) -> None:
        channels = channel(address)
        request = channels.host.form("GET", {"Accept": headers.LINES}.items()).request(paths.LIVE, b"")
        while True:
            try:
                answer = await channels.begin("GET", request, SILENCE_S)
                try:
                    await self._hear(node, answer)
                finally:
                    answer.cut()
                    answer.end()
            except (UnopenedError, UnheardError, msgspec.DecodeError):
                pass
            await asyncio.sleep(AGAIN_S)

    async def _hear(self, node: str, answer: AsyncChannelBody) -> None:
        if answer.head.status != 200:
            return
        rest = b""
        while piece := await answer.piece(SILENCE_S):
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) > LINE_BYTES_MAX:
                return
            for line in lines:
                if line.strip():
                    self._take(node, msgspec.json.decode(line, type=View))

    def _take(self, node: str, view: View) -> None:
        for sight in view.sights:
            if sight.node == node and not view.silence:
                known = f"{node}/{sight.life}"
                new = [each for each in sight.happenings if each.number > self._known.get(known, 0)]
                if new:
                    self._known[known] = new[-1].number
                self._happenings[node] = [*self._happenings[node], *new][-HAPPENINGS_MAX:]
                self._newest[node] = (time.monotonic(), sight)
