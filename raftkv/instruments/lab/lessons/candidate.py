"""Somebody who wants to lead: ``NAME wall|lease ADDRESS...``; the order ``jump SECONDS`` moves its wall clock.

By ``wall`` the leader is a key that says until when, and everybody judges that by a clock on the wall; it is changed by
compare-and-set, so that no two ever write it at once. By ``lease`` it is a key that goes with a lease of raftkv, which
ends by clocks that cannot be set; who holds it trusts it only for a part of its life, by such a clock.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Final

import msgspec

from raftkv.api import headers as names
from raftkv.api import paths
from raftkv.api.answers import LeaseGranted
from raftkv.api.bodies import NewLease
from raftkv.instruments.lab.lessons.actor import say
from raftkv.instruments.lab.lessons.plain_client import PlainClient

TTL_S: Final = 3.0
EVERY_S: Final = 0.3
"""How often a candidate looks, and a leader renews."""

TRUSTED: Final = 0.8
"""Which part of its lease a leader trusts: clocks need not run alike."""

_KEY: Final = "leader-by-{}"


class JumpingClock:
    """A clock on the wall, which anybody may set."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now_s(self) -> float:
        """Seconds since 1970, or so."""
        return time.time() + self.ahead_s

    def obey(self) -> None:
        """Take orders until there are no more."""
        for line in sys.stdin:
            self.ahead_s += float(line.split()[1])


class Led(msgspec.Struct, frozen=True):
    """The value of the key by which leaders are judged by clocks on walls."""

    leader: str
    until_s: float


class Candidate:
    """What both kinds share: since when it believes to lead, and until when it does, by the monotonic clock."""

    def __init__(self, name: str, client: PlainClient) -> None:
        self.name = name
        self.client = client
        self._until_s = 0.0

    def believe(self, until_s: float) -> None:
        """It leads until then, unless that is renewed."""
        now_s = time.monotonic()
        self.look(now_s)
        if not self._until_s and until_s > now_s:
            say("leads", at_s=now_s)
        if until_s > now_s:
            self._until_s = max(self._until_s, until_s)

    def look(self, now_s: float) -> None:
        """Is it over? It was so at the moment that was known before, not only when it is noticed."""
        if 0 < self._until_s <= now_s:
            say("leads no more", at_s=self._until_s)
            self._until_s = 0.0


class ByWall(Candidate):
    """Judges by its clock on the wall."""

    def __init__(self, name: str, client: PlainClient, wall: JumpingClock) -> None:
        super().__init__(name, client)
        self._wall = wall

    def turn(self) -> None:
        """Take the lead, or renew it, if the key says that nobody else has it."""
        path = paths.filled(paths.KEY, _KEY.format("wall"))
        found = self.client.ask("GET", path)
        if found.status == 200:
            led = msgspec.json.decode(found.body, type=Led)
            if led.leader != self.name and led.until_s > self._wall.now_s():
                return
            condition = (names.IF_MATCH.name, found.header(names.ETAG.low))
        else:
            condition = (names.IF_NONE_MATCH.name, names.ANY)
        until_s, until_monotonic_s = self._wall.now_s() + TTL_S, time.monotonic() + TTL_S
        answer = self.client.ask("PUT", path, Led(self.name, until_s), headers=[condition])
        if answer.status < 300:
            self.believe(until_monotonic_s)


class ByLease(Candidate):
    """Judges by a lease of raftkv."""

    def __init__(self, name: str, client: PlainClient) -> None:
        super().__init__(name, client)
        self._lease = 0
        self._leads = False

    def turn(self) -> None:
        """Keep the lease alive, and take the key with it if it is free."""
        asked_s = time.monotonic()
        if self._lease:
            path = paths.filled(paths.KEEPALIVE, str(self._lease))
            if self.client.ask("POST", path, once=False).status != 200:
                self._lease, self._leads = 0, False
                return
        else:
            self._lease = self.client.document(LeaseGranted, "POST", paths.LEASES, NewLease(ttl=TTL_S)).id
        if not self._leads:
            path = f"{paths.filled(paths.KEY, _KEY.format('lease'))}?lease={self._lease}"
            answer = self.client.ask("PUT", path, self.name.encode(), headers=[(names.IF_NONE_MATCH.name, names.ANY)])
            self._leads = answer.status < 300
        if self._leads:
            self.believe(asked_s + TTL_S * TRUSTED)


def main(name: str, kind: str, *addresses: str) -> None:
    """Want to lead until killed."""
    client, wall = PlainClient(addresses), JumpingClock()
    threading.Thread(target=wall.obey, daemon=True).start()
    candidate = ByWall(name, client, wall) if kind == "wall" else ByLease(name, client)
    say("wants to lead")
    while True:
        candidate.turn()
        time.sleep(EVERY_S)
        candidate.look(time.monotonic())


if __name__ == "__main__":
    main(*sys.argv[1:])
