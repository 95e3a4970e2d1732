"""Links over real sockets on loopback, on either kind of loop, and a puppet that plays a peer."""

import asyncio
import contextlib
import random
import secrets

from raftkv.core.config import Address
from raftkv.instruments.local.nodes import free_ports
from raftkv.peers.faults import LinkFaults
from raftkv.peers.handshake import Dialer
from raftkv.peers.link import PeerLink
from raftkv.peers.session import PeerSession

SECRET = b"a secret of the cluster, long enough"

LIMIT_BYTES = 16 << 20


class Recorder:
    """LinkEvents that writes everything down."""

    def __init__(self):
        self.events = []
        self.payloads = []
        self.on_received = None

    def link_up(self, peer):
        self.events.append(("up", peer))

    def link_down(self, peer):
        self.events.append(("down", peer))

    def received(self, peer, payload):
        assert self.changes(peer)[-1] == "up"
        self.events.append(("received", peer))
        self.payloads.append(payload)
        if self.on_received is not None:
            self.on_received(peer, payload)

    def changes(self, peer):
        return [event for event, about in self.events if about == peer and event != "received"]


class Stage:
    """Nodes n1, n2, ... of one cluster on loopback, and what the loop's exception handler was told."""

    def __init__(self):
        self.members = {}
        self.links = {}
        self.recorders = {}
        self.faults = {}
        self.complaints = []
        self._writers = []

    async def knock(self):
        """A bare connection to n2's peer port, closed when the scenario is over."""
        address = self.members["n2"]
        reader, writer = await asyncio.open_connection(address.host, address.port)
        self.closing(writer)
        return reader, writer

    def closing(self, writer):
        """Have ``writer`` closed when the scenario is over."""
        self._writers.append(writer)

    async def close(self):
        for writer in self._writers:
            writer.transport.abort()
        for link in self.links.values():
            await link.stop()
        await asyncio.sleep(0.01)

    async def add(self, node_id, *, secret=SECRET, cluster="c", silence_timeout_s=5.0, tls=None, recorder=None):
        self.recorders[node_id] = recorder or Recorder()
        self.faults[node_id] = LinkFaults()
        listen = self.members.get(node_id, Address("127.0.0.1", 0))
        link = PeerLink(
            cluster=cluster,
            node_id=node_id,
            secret=secret,
            listen=listen,
            members=self.members,
            events=self.recorders[node_id],
            silence_timeout_s=silence_timeout_s,
            frame_limit_bytes=LIMIT_BYTES,
            tls=tls,
            random=random.Random(1),
            faults=self.faults[node_id],
        )
        bound = await link.start()
        self.members[node_id] = bound
        self.links[node_id] = link
        return link, self.recorders[node_id]

    async def pair(self, **options):
        """n2 listens, n1 dials; returns once both are up."""
        await self.add("n2", **options)
        self.members["n1"] = Address("127.0.0.1", free_ports(1)[0])
        await self.add("n1", **options)
        await until(lambda: self.links["n1"].is_up("n2") and self.links["n2"].is_up("n1"))
        return self.links["n1"], self.links["n2"]


async def until(condition, timeout_s=5.0):
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  what is waited for is the effect, which sets no event of the test's
            await asyncio.sleep(0.005)


class Puppet:
    """n1 played by hand: a raw socket and a session, to send what a proper node would not."""

    def __init__(self, stage, secret=SECRET):
        self._stage = stage
        dialer = Dialer(cluster="c", node_id="n1", target="n2", secret=secret, nonce=secrets.token_bytes(32))
        self.session = PeerSession(dialer, LIMIT_BYTES)

    async def connect(self):
        self.reader, self.writer = await self._stage.knock()
        self.writer.write(self.session.take_output())
        return self

    async def establish(self):
        await self.connect()
        while not self.session.established:
            await self.step()
        return self

    async def step(self):
        data = await self.reader.read(65536)
        assert data
        self.session.receive(data)
        self.writer.write(self.session.take_output())

    def send(self, *payloads):
        self.writer.write(self.session.encode(payloads))

    async def closed_by_peer(self, timeout_s=5.0):
        async with asyncio.timeout(timeout_s):
            with contextlib.suppress(OSError):
                while await self.reader.read(65536):
                    pass
        return True


# Strangers.
async def still_works(stage):
    """n1 and n2 exchange a message, whatever else is going on."""
    before = len(stage.recorders["n2"].payloads)
    assert stage.links["n1"].send("n2", b"ping")
    await until(lambda: len(stage.recorders["n2"].payloads) == before + 1)
