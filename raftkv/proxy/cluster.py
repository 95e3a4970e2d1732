"""The cluster behind the proxy: the view, asked of its nodes again and again, and the connections to them.

The seeds are asked first, always: who they are was said by whoever started the proxy, and no answer can take it away.
Only when none of them answers, the members that are up are asked, so that a cluster whose every node was replaced since
the proxy started is still found. A node that failed lately is avoided for a while, and why is kept and logged. Where
the nodes want to know who asks, the proxy shows a proof of the secret or logs in as a user of its own, for this alone:
requests that it passes on speak for whoever sent them. One event loop owns all of this.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import ssl
import textwrap
from collections.abc import Callable, Sequence
from typing import Final

from raftkv.api import headers, paths
from raftkv.api.problems import read_problem
from raftkv.client.async_channels import AsyncChannels
from raftkv.client.async_exchange import AsyncExchange
from raftkv.client.credentials import Credentials
from raftkv.client.http1 import HttpAnswer
from raftkv.client.reach import Host, UnheardError, UnopenedError
from raftkv.client.servers import told_together
from raftkv.core.config import Address, HttpSection
from raftkv.core.proof import Prover
from raftkv.proxy.view import BELIEVED, ClusterView, Node, order, read_view, unknown

REFRESH_S: Final = 2.0
"""How often the nodes are asked: as often as they gossip."""

ASK_S: Final = 1.0
AVOID_S: Final = 5.0
"""How long a node that failed comes last; within it, a ring has noticed by itself."""

STALE_S: Final = 10.0
"""A view that old says little: nobody has answered for several rounds."""

LOG_S: Final = 60.0
"""That a node fails is logged once in this time."""

REASON_CHARACTERS_MAX: Final = 500
"""Of why the nodes do not answer; whoever has more of them hardly fails for one reason each."""

CONNECTIONS_MAX: Final = 256
"""To one node: more at a time would only wait there."""


STREAMS_MAX: Final = HttpSection().max_connections // 2
"""Streams have connections of their own, which no request waits for; the proxy passes on no more."""

log = logging.getLogger("raftkv.proxy")


class Cluster:
    """What is known of the nodes, and the way to them. ``seeds`` are where to begin; ``tls`` is set for https."""

    def __init__(
        self,
        seeds: Sequence[Address],
        *,
        tls: ssl.SSLContext | None,
        monotonic_s: Callable[[], float],
        credentials: Credentials | None = None,
        prover: Prover | None = None,
    ) -> None:
        self._seeds = tuple(seeds)
        self._tls = tls
        self._credentials = credentials or Credentials()
        self._prover = prover
        self._logins = AsyncExchange(tls=tls)
        self._monotonic_s = monotonic_s
        self._channels: dict[tuple[Address, bool], AsyncChannels] = {}
        self._avoided: dict[str, float] = {}
        self._reasons: dict[Address, str] = {}
        self._logged_at_s: dict[Address, float] = {}
        self._turn = 0
        self._learned_at_s: float | None = None
        self.view: ClusterView = unknown(seeds)

    def now_s(self) -> float:
        """The clock of deadlines."""
        return self._monotonic_s()

    @property
    def learned_ago_s(self) -> float | None:
        """How old the view is; ``None`` when no node has ever answered."""
        return None if self._learned_at_s is None else self._monotonic_s() - self._learned_at_s

    @property
    def is_fresh(self) -> bool:
        """Has a node answered lately?"""
        age_s = self.learned_ago_s
        return age_s is not None and age_s < STALE_S

    def candidates(self, key: bytes | None, *, is_read: bool) -> tuple[Node, ...]:
        """Whom to ask, in this order."""
        self._turn += 1
        return order(self.view, key, is_read=is_read, turn=self._turn, avoided=self.avoided())

    def avoided(self) -> frozenset[str]:
        """The nodes that failed lately."""
        now_s = self._monotonic_s()
        self._avoided = {node: until_s for node, until_s in self._avoided.items() if until_s > now_s}
        return frozenset(self._avoided)

    def failed(self, node: Node, reason: Exception) -> None:
        """``node`` did not answer."""
        self._avoided[node.id] = self._monotonic_s() + AVOID_S
        self._note(node.http, reason)

    def answered(self, node: Node) -> None:
        """``node`` answered."""
        self._avoided.pop(node.id, None)
        self._reasons.pop(node.http, None)

    @property
    def silence(self) -> str:
        """Why nodes did not answer when they were last asked, those with the same reason together."""
        names = {node.http: node.id for node in self.view.nodes}
        told = told_together({names.get(address, str(address)): reason for address, reason in self._reasons.items()})
        return textwrap.shorten(told, REASON_CHARACTERS_MAX, placeholder=" ...")

    def _note(self, address: Address, reason: Exception) -> None:
        told = {UnheardError: "took a request and gave no answer ({})", ValueError: "answers as no node does ({})"}
        self._reasons[address] = told.get(type(reason), "{}").format(reason)
        now_s = self._monotonic_s()
        if now_s >= self._logged_at_s.get(address, -math.inf) + LOG_S:
            self._logged_at_s[address] = now_s
            log.warning("%s %s", address, self._reasons[address])

    def channels(self, address: Address, *, for_streams: bool = False) -> AsyncChannels:
        """The connections to ``address``."""
        channels = self._channels.get((address, for_streams))
        if channels is None:
            limit = STREAMS_MAX if for_streams else CONNECTIONS_MAX
            channels = AsyncChannels(self._host(address), tls=self._tls, limit=limit)
            self._channels[address, for_streams] = channels
        return channels

    def _host(self, address: Address) -> Host:
        return Host(address.host, address.port, is_tls=self._tls is not None)

    async def keep_fresh(self) -> None:
        """Ask for the view every ``REFRESH_S``, until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(REFRESH_S)

    async def refresh(self) -> bool:
        """Ask one node after the other until one tells the view; did one?"""
        members = [node.http for node in self.candidates(None, is_read=True) if node.state in BELIEVED]
        for address in dict.fromkeys((*self._seeds, *members)):
            try:
                self.view = await self._ask(address)
            except (UnopenedError, UnheardError, ValueError) as error:
                self._note(address, error)
                continue
            self._learned_at_s = self._monotonic_s()
            self._reasons.pop(address, None)
            self._drop_unused()
            if address in self._seeds:  # the one that answers is asked first the next time
                self._seeds = (address, *[seed for seed in self._seeds if seed != address])
            return True
        return False

    def close(self) -> None:
        """Close the idle connections."""
        for channels in self._channels.values():
            channels.close()
        self._logins.close()

    async def _ask(self, address: Address) -> ClusterView:
        if self._credentials.is_due(self._monotonic_s()):
            with contextlib.suppress(UnopenedError, UnheardError, ValueError):  # what there is may still do
                await self._log_in(address)
        answer = await self._members(address)
        if answer.status == 401 and await self._log_in(address):
            answer = await self._members(address)
        if answer.status != 200:
            raise ValueError(read_problem(answer.body).detail or f"status {answer.status}")
        return read_view(answer.body)

    async def _members(self, address: Address) -> HttpAnswer:
        asked = [("accept", headers.JSON)]
        if self._prover is not None:
            asked.append(("authorization", self._prover.authorization("GET", paths.MEMBERS, b"")))
        elif self._credentials.token:
            asked.append(("authorization", f"Bearer {self._credentials.token}"))
        return await self.channels(address).exchange("GET", paths.MEMBERS, headers=asked, timeout_s=ASK_S)

    async def _log_in(self, address: Address) -> bool:
        """Have another token: is there one? Raises what ``refresh`` notes."""
        if self._prover is not None or not self._credentials.can_log_in:
            return False
        host, until_s = self._host(address), self._monotonic_s() + ASK_S
        refused = self._credentials.token
        failed = await self._logins.perform(self._credentials.renew(host, refused, until_s, self._monotonic_s))
        if isinstance(failed, HttpAnswer):
            raise ValueError(read_problem(failed.body).detail or f"status {failed.status}")  # noqa: TRY004  no type is wrong
        if failed is not None:
            raise failed
        return True

    def _drop_unused(self) -> None:
        used = {node.http for node in self.view.nodes} | set(self._seeds)
        for one in [one for one in self._channels if one[0] not in used]:
            self._channels.pop(one).close()
        for noted in (self._reasons, self._logged_at_s):
            for address in noted.keys() - used:
                del noted[address]
