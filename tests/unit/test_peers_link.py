"""The link over real sockets on loopback: members meet, strangers do not matter, one is live for each peer."""

import asyncio
import contextlib
import random
import secrets
import socket

import pytest
import structlog
import uvloop

from raftkv.core.config import Address
from raftkv.core.errors import StartupError
from raftkv.instruments.local.nodes import free_ports
from raftkv.peers.faults import Direction, Fault, LinkFaults
from raftkv.peers.handshake import Dialer
from raftkv.peers.link import PeerLink
from raftkv.peers.listener import STRANGER_LIMIT
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


@pytest.fixture(params=["asyncio", "uvloop"])
def play(request):
    """Runs a scenario on a stage of its own, on either kind of loop; no exception may have reached the loop."""

    def run(scenario, *, complaints_expected=0):
        async def whole():
            stage = Stage()
            asyncio.get_running_loop().set_exception_handler(lambda _, context: stage.complaints.append(context))
            try:
                async with asyncio.timeout(60):
                    await scenario(stage)
            finally:
                await stage.close()
            assert len(stage.complaints) == complaints_expected, stage.complaints

        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(whole())

    return run


def test_two_nodes_meet_and_talk_in_both_directions(play):
    async def scenario(stage):
        first, second = await stage.pair()
        sent = [secrets.token_bytes(size) for size in (1, 100, 30_000, 3_000_000, 5)]
        for payload in sent:
            assert first.send("n2", payload)
            assert second.send("n1", payload)
        await until(lambda: all(len(recorder.payloads) == 5 for recorder in stage.recorders.values()))

        assert stage.recorders["n1"].payloads == sent
        assert stage.recorders["n2"].payloads == sent
        assert first.outstanding_bytes("n2") == 0

    play(scenario)


def test_three_nodes_all_meet_and_every_link_up_has_its_link_down(play):
    async def scenario(stage):
        for node_id in ("n3", "n2", "n1"):
            stage.members[node_id] = Address("127.0.0.1", free_ports(1)[0])
        for node_id in ("n1", "n2", "n3"):
            await stage.add(node_id)
        names = set(stage.links)
        await until(lambda: all(link.is_up(p) for own, link in stage.links.items() for p in names - {own}))
        for link in stage.links.values():
            await link.stop()

        for own, recorder in stage.recorders.items():
            for peer in names - {own}:
                changes = recorder.changes(peer)
                assert changes[::2] == ["up"] * (len(changes) // 2)
                assert changes[1::2] == ["down"] * (len(changes) // 2)

    play(scenario)


def test_what_was_sent_just_before_stop_still_arrives(play):
    async def scenario(stage):
        first, _ = await stage.pair()
        first.send("n2", b"x" * 300_000)
        first.send("n2", b"farewell")
        await first.stop()
        await until(lambda: b"farewell" in stage.recorders["n2"].payloads)

    play(scenario)


def test_sending_without_a_connection_says_no_and_misuse_raises(play):
    async def scenario(stage):
        first, _ = await stage.pair()

        assert first.send("n9", b"x") is False
        assert first.outstanding_bytes("n9") == 0
        for wrong in (b"", bytes(LIMIT_BYTES + 1)):
            with pytest.raises(ValueError, match="a payload has"):
                first.send("n2", wrong)
        stage.faults["n1"].set("n2", Fault(cut=True))
        assert first.send("n2", b"x") is False

    play(scenario)


def test_messages_of_one_turn_of_the_loop_leave_in_one_write(play):
    async def scenario(stage):
        first, _ = await stage.pair()
        connection = first._live["n2"]
        written = []
        write = connection.session.encode
        connection.session.encode = lambda payloads: written.append(list(payloads)) or write(payloads)
        for number in range(10):
            first.send("n2", b"%d" % number)
        assert first.outstanding_bytes("n2") == 10
        await until(lambda: len(stage.recorders["n2"].payloads) == 10)

        assert [batch for batch in written if batch != [b""]] == [[b"%d" % number for number in range(10)]]

    play(scenario)


def test_small_messages_are_not_held_back_by_nagle(play):
    async def scenario(stage):
        for link, peer in zip(await stage.pair(), ("n2", "n1"), strict=True):
            live = link._live[peer].transport.get_extra_info("socket")
            assert live.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    play(scenario)


def test_a_taken_port_is_refused_in_one_line(play):
    async def scenario(stage):
        _, _ = await stage.add("n2")
        address = stage.members["n2"]
        with pytest.raises(StartupError) as caught:
            await stage.add("n2")

        assert str(address) in str(caught.value)
        assert "\n" not in str(caught.value)

    play(scenario)


@pytest.mark.parametrize("difference", [{"secret": b"wrong"}, {"cluster": "other"}])
def test_a_node_that_does_not_belong_never_comes_up_on_either_side(play, difference):
    async def scenario(stage):
        await stage.add("n2")
        await stage.add("n1", **difference)
        with structlog.testing.capture_logs() as logs:
            await asyncio.sleep(1.0)

        assert all(recorder.events == [] for recorder in stage.recorders.values())
        refusals = [line["reason"] for line in logs if line["event"] == "peer_refused"]
        assert len(refusals) == 1  # several were refused by now, one was logged

    play(scenario)


def test_a_restarted_peer_is_met_again(play):
    async def scenario(stage):
        first, second = await stage.pair()
        await second.stop()
        await until(lambda: not first.is_up("n2"))
        second, recorder = await stage.add("n2")
        await until(lambda: first.is_up("n2") and second.is_up("n1"))
        first.send("n2", b"again")
        await until(lambda: recorder.payloads == [b"again"])

        assert stage.recorders["n1"].changes("n2") == ["up", "down", "up"]

    play(scenario)


def test_a_closed_peer_is_down_at_once_and_dialled_again(play):
    async def scenario(stage):
        _, second = await stage.pair()
        second.close_peer("n1")
        assert stage.recorders["n2"].changes("n1") == ["up", "down"]
        await until(lambda: stage.recorders["n1"].changes("n2") == ["up", "down", "up"])
        await until(lambda: second.is_up("n1"))

    play(scenario)


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


def test_a_new_connection_supersedes_the_old_which_is_closed_unread(play):
    """The hazard: messages of both connections are processed, an old one after newer ones."""

    async def scenario(stage):
        _, recorder = await stage.add("n2")
        stage.members["n1"] = Address("127.0.0.1", 1)
        old = await Puppet(stage).establish()
        old.send(b"entry 2")
        await until(lambda: recorder.payloads == [b"entry 2"])
        new = await Puppet(stage).establish()
        new.send(b"entries 3 to 10")
        await until(lambda: len(recorder.payloads) == 2)
        with contextlib.suppress(OSError):
            old.send(b"entry 2 again")
            await old.writer.drain()
        assert await old.closed_by_peer()
        new.send(b"entry 11")
        await until(lambda: len(recorder.payloads) == 3)

        assert recorder.payloads == [b"entry 2", b"entries 3 to 10", b"entry 11"]
        assert recorder.changes("n1") == ["up", "down", "up"]

    play(scenario)


def test_what_is_buffered_on_the_old_connection_is_never_delivered(play):
    async def scenario(stage):
        _, recorder = await stage.add("n2")
        stage.members["n1"] = Address("127.0.0.1", 1)
        old = await Puppet(stage).establish()
        new = await Puppet(stage).connect()
        challenged = await new.reader.read(65536)
        new.session.receive(challenged)
        half = old.session.encode([b"stale" * 1000])
        old.writer.write(half[:3000])
        await asyncio.sleep(0.05)
        new.writer.write(new.session.take_output() + new.session.encode([b"fresh"]))
        await until(lambda: recorder.payloads)
        with contextlib.suppress(OSError):
            old.writer.write(half[3000:])
            await old.writer.drain()
        await asyncio.sleep(0.05)

        assert recorder.payloads == [b"fresh"]

    play(scenario)


def test_a_proof_that_arrives_late_does_not_bring_an_older_connection_back(play):
    async def scenario(stage):
        link, recorder = await stage.add("n2")
        stage.members["n1"] = Address("127.0.0.1", 1)
        old = await Puppet(stage).connect()
        old.session.receive(await old.reader.read(65536))
        new = await Puppet(stage).establish()
        await until(lambda: link.is_up("n1"))
        old.writer.write(old.session.take_output() + old.session.encode([b"stale"]))
        assert await old.closed_by_peer()
        new.send(b"fresh")
        await until(lambda: recorder.payloads == [b"fresh"])

        assert recorder.changes("n1") == ["up"]

    play(scenario)


def test_a_handler_that_closes_the_peer_gets_nothing_more_of_the_same_read(play):
    async def scenario(stage):
        link, recorder = await stage.add("n2")
        stage.members["n1"] = Address("127.0.0.1", 1)
        recorder.on_received = lambda peer, _: link.close_peer(peer)
        puppet = await Puppet(stage).establish()
        puppet.send(b"one", b"two", b"three")
        assert await puppet.closed_by_peer()

        assert recorder.payloads == [b"one"]
        assert recorder.changes("n1") == ["up", "down"]

    play(scenario)


def test_malformed_input_of_an_authenticated_peer_closes_that_link_with_one_line(play):
    async def scenario(stage):
        _, recorder = await stage.add("n2")
        stage.members["n1"] = Address("127.0.0.1", 1)
        with structlog.testing.capture_logs() as logs:
            for _ in range(3):
                puppet = await Puppet(stage).establish()
                puppet.writer.write(b"\x00\x00\x00\x05" + b"rubbish and no valid tag")
                assert await puppet.closed_by_peer()

        assert recorder.changes("n1") == ["up", "down"] * 3
        assert recorder.payloads == []
        assert [line["event"] for line in logs if line["event"] == "peer_link_closed"] == ["peer_link_closed"]

    play(scenario)


def test_an_exception_in_a_handler_reaches_the_loop_and_stops_the_link(play):
    async def scenario(stage):
        first, second = await stage.pair()

        def fail(peer, payload):
            raise RuntimeError("a broken invariant")

        stage.recorders["n2"].on_received = fail
        first.send("n2", b"one")
        first.send("n2", b"two")
        await until(lambda: stage.complaints)
        await asyncio.sleep(0.3)

        assert str(stage.complaints[0]["exception"]) == "a broken invariant"
        assert stage.recorders["n2"].payloads == [b"one"]
        assert not second.is_up("n1")

    play(scenario, complaints_expected=1)


def test_an_os_error_in_a_handler_is_not_mistaken_for_trouble_with_the_socket(play):
    async def scenario(stage):
        first, _ = await stage.pair()

        def fail(peer, payload):
            raise OSError("the disk is full")

        stage.recorders["n2"].on_received = fail
        first.send("n2", b"one")
        await until(lambda: stage.complaints)

    play(scenario, complaints_expected=1)


def test_a_peer_that_falls_silent_is_closed_and_an_idle_one_is_not(play):
    async def scenario(stage):
        _, recorder = await stage.add("n2", silence_timeout_s=0.4)
        stage.members["n1"] = Address("127.0.0.1", 1)
        began_s = asyncio.get_running_loop().time()
        silent = await Puppet(stage).establish()
        await until(lambda: recorder.changes("n1") == ["up", "down"])
        took_s = asyncio.get_running_loop().time() - began_s
        assert await silent.closed_by_peer()

        assert 0.39 < took_s < 10  # an end, not a hang: a busy machine may take its time

    async def idle(stage):
        await stage.pair(silence_timeout_s=0.3)
        await asyncio.sleep(1.2)

        assert stage.recorders["n1"].changes("n2") == ["up"]
        assert stage.recorders["n2"].changes("n1") == ["up"]

    play(scenario)
    play(idle)


def test_a_frame_that_never_ends_does_not_pass_for_life(play):
    async def scenario(stage):
        _, recorder = await stage.add("n2", silence_timeout_s=0.1)
        stage.members["n1"] = Address("127.0.0.1", 1)
        puppet = await Puppet(stage).establish()
        puppet.writer.write((LIMIT_BYTES).to_bytes(4, "big"))
        with contextlib.suppress(OSError):
            for _ in range(100):
                puppet.writer.write(b"x")
                await asyncio.sleep(0.03)
                if "down" in recorder.changes("n1"):
                    break

        assert recorder.changes("n1") == ["up", "down"]

    play(scenario)


def test_a_stalled_reader_shows_in_outstanding_bytes_and_never_blocks_the_sender(play):
    async def scenario(stage):
        link, _ = await stage.add("n2")
        stage.members["n1"] = Address("127.0.0.1", 1)
        puppet = await Puppet(stage).establish()
        puppet.writer.transport.pause_reading()
        await until(lambda: link.is_up("n1"))
        for _ in range(20):
            assert link.send("n1", bytes(1 << 20))
        await asyncio.sleep(0.2)
        stalled_bytes = link.outstanding_bytes("n1")
        puppet.writer.transport.resume_reading()

        async def read():
            while True:
                puppet.session.receive(await puppet.reader.read(1 << 20))

        reading = asyncio.get_running_loop().create_task(read())
        await until(lambda: link.outstanding_bytes("n1") == 0)
        reading.cancel()

        assert stalled_bytes > 1 << 20

    play(scenario)


def test_a_peer_that_leaves_too_much_unread_is_dropped(play):
    async def scenario(stage):
        link, recorder = await stage.add("n2", silence_timeout_s=2.0)
        link._unread_limit_bytes = 4 << 20
        stage.members["n1"] = Address("127.0.0.1", 1)
        puppet = await Puppet(stage).establish()
        puppet.writer.transport.pause_reading()
        await until(lambda: link.is_up("n1"))
        for _ in range(30):
            link.send("n1", bytes(1 << 20))
        await until(lambda: recorder.changes("n1") == ["up", "down"], timeout_s=1.5)

    play(scenario)


@pytest.mark.parametrize("at", [("n1", "n2", Direction.TO_PEER), ("n2", "n1", Direction.FROM_PEER)])
def test_dropped_messages_vanish_and_none_follows_them_on_the_same_connection(play, at):
    node_id, peer, direction = at

    async def scenario(stage):
        first, _ = await stage.pair(silence_timeout_s=0.3)
        stage.faults[node_id].set(peer, Fault(drop=True), direction)
        assert first.send("n2", b"lost")
        await asyncio.sleep(0.8)

        assert stage.recorders["n2"].changes("n1") == ["up"]
        assert not stage.recorders["n2"].payloads

        stage.faults[node_id].clear()
        await until(lambda: stage.recorders["n2"].changes("n1") == ["up", "down", "up"] and first.is_up("n2"))
        assert first.send("n2", b"kept")
        await until(lambda: stage.recorders["n2"].payloads)

        assert stage.recorders["n2"].payloads == [b"kept"]

    play(scenario)


def test_a_drop_that_met_no_message_leaves_the_connection_alone(play):
    async def scenario(stage):
        first, _ = await stage.pair()
        stage.faults["n1"].set("n2", Fault(drop=True))
        stage.faults["n1"].clear()
        assert first.send("n2", b"kept")
        await until(lambda: stage.recorders["n2"].payloads)

        assert stage.recorders["n2"].changes("n1") == ["up"]

    play(scenario)


@pytest.mark.parametrize("at", [("n1", "n2", Direction.TO_PEER), ("n2", "n1", Direction.FROM_PEER)])
def test_delayed_messages_arrive_late_and_in_order(play, at):
    node_id, peer, direction = at

    async def scenario(stage):
        first, _ = await stage.pair()
        loop = asyncio.get_running_loop()
        recorder, began_s, first_at_s = stage.recorders["n2"], loop.time(), []
        recorder.on_received = lambda *_: first_at_s.append(loop.time())
        stage.faults[node_id].set(peer, Fault(delay_s=0.3), direction)
        for number in range(5):
            first.send("n2", b"%d" % number)
            await asyncio.sleep(0.02)
        stage.faults[node_id].clear()
        first.send("n2", b"5")
        await until(lambda: len(recorder.payloads) == 6)

        assert recorder.payloads == [b"%d" % number for number in range(6)]
        assert first_at_s[0] - began_s > 0.29  # the loop's clock counts milliseconds

    play(scenario)


@pytest.mark.parametrize(("cutter", "other"), [("n1", "n2"), ("n2", "n1")])
def test_a_cut_closes_the_connection_and_refuses_new_ones_until_it_is_taken_back(play, cutter, other):
    async def scenario(stage):
        first, second = await stage.pair()
        stage.faults[cutter].set(other, Fault(cut=True))
        await until(lambda: not first.is_up("n2") and not second.is_up("n1"))
        before = {node_id: list(recorder.events) for node_id, recorder in stage.recorders.items()}
        await asyncio.sleep(0.5)

        assert {node_id: recorder.events for node_id, recorder in stage.recorders.items()} == before
        stage.faults[cutter].clear()
        await until(lambda: first.is_up("n2") and second.is_up("n1"))

    play(scenario)


# Strangers.


async def still_works(stage):
    """n1 and n2 exchange a message, whatever else is going on."""
    before = len(stage.recorders["n2"].payloads)
    assert stage.links["n1"].send("n2", b"ping")
    await until(lambda: len(stage.recorders["n2"].payloads) == before + 1)


@pytest.mark.parametrize(
    "opening",
    [b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff\xff\xff\xff", b"\x00\x00\x10\x01", b"\x00\x00\x00\x00", bytes(1 << 20)],
)
def test_a_stranger_with_garbage_is_closed_in_time_and_hears_nothing(play, opening):
    async def scenario(stage):
        await stage.pair()
        reader, writer = await stage.knock()
        heard = b"?"
        with contextlib.suppress(OSError):
            writer.write(opening)
            heard = b""
            async with asyncio.timeout(3.0):
                heard = await reader.read()
        assert heard == b""
        await still_works(stage)
        assert stage.recorders["n2"].changes("n1") == ["up"]

    play(scenario)


def test_random_bytes_from_many_strangers_change_nothing(play):
    async def scenario(stage):
        await stage.pair()
        source = random.Random(7)
        for _ in range(200):
            _, writer = await stage.knock()
            with contextlib.suppress(OSError):
                writer.write(source.randbytes(source.randrange(200)))
                await writer.drain()
            if source.random() < 0.5:
                writer.transport.abort()
            else:
                writer.close()
        await still_works(stage)

        assert stage.recorders["n2"].changes("n1") == ["up"]
        assert all(payload == b"ping" for payload in stage.recorders["n2"].payloads)

    play(scenario)


def test_a_puppet_with_the_wrong_secret_hears_nothing(play):
    async def scenario(stage):
        await stage.add("n2")
        stage.members["n1"] = Address("127.0.0.1", 1)
        puppet = await Puppet(stage, secret=b"a guess").connect()
        heard = b""
        with contextlib.suppress(OSError):
            heard = await puppet.reader.read()

        assert heard == b""
        assert stage.recorders["n2"].events == []

    play(scenario)


def test_a_slow_stranger_is_closed_at_the_deadline(play):
    async def scenario(stage):
        await stage.add("n2")
        loop = asyncio.get_running_loop()
        puppet = Puppet(stage)
        reader, writer = await stage.knock()
        began_s = loop.time()
        closed = loop.create_task(reader.read())
        for byte in puppet.session.take_output():
            writer.write(bytes([byte]))
            await asyncio.wait([closed], timeout=0.1)
            if closed.done():
                break
        assert closed.done()
        closed.exception()
        took_s = loop.time() - began_s

        assert 1.8 < took_s < 2.6

    play(scenario)


def test_two_hundred_silent_connections_neither_pile_up_nor_keep_a_member_out(play):
    async def scenario(stage):
        link, _ = await stage.add("n2")
        strangers = [await stage.knock() for _ in range(200)]
        await until(lambda: link._listener.stranger_count() == STRANGER_LIMIT)
        await asyncio.sleep(0.1)
        gone = sum(reader.at_eof() or reader.exception() is not None for reader, _ in strangers)
        assert gone == 200 - STRANGER_LIMIT
        stage.members["n1"] = Address("127.0.0.1", free_ports(1)[0])
        first, _ = await stage.add("n1")
        await until(lambda: first.is_up("n2"), timeout_s=1.0)
        await still_works(stage)
        await until(lambda: link._listener.stranger_count() == 0)
        assert len(link._connections) == 1

    play(scenario)


def test_stopping_leaves_no_task_and_no_socket_behind(play):
    async def scenario(stage):
        first, second = await stage.pair()
        before = asyncio.all_tasks()
        await stage.knock()
        await asyncio.sleep(0.05)
        assert second._listener.stranger_count() == 1
        await first.stop()
        await second.stop()
        await asyncio.sleep(0.05)

        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert before > asyncio.all_tasks()
        assert not first._connections
        assert not second._connections
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", stage.members["n2"].port)) != 0

    play(scenario)


def test_strangers_drive_out_nobody_from_where_a_member_has_proven_itself(play):
    """Over a slow network a member's handshake takes longer than a flood needs to fill every place."""

    async def scenario(stage):
        link, _ = await stage.pair()
        at = stage.members["n1"] if link is stage.links["n1"] else stage.members["n2"]
        reader, writer = await asyncio.open_connection(at.host, at.port)
        await until(lambda: link._listener.stranger_count() == 1)
        flood = [
            await asyncio.open_connection(at.host, at.port, local_addr=("127.0.0.2", 0))
            for _ in range(2 * STRANGER_LIMIT)
        ]
        await until(lambda: sum(one.at_eof() or one.exception() is not None for one, _ in flood) > STRANGER_LIMIT)

        assert not reader.at_eof()
        assert reader.exception() is None
        for _, one in [*flood, (reader, writer)]:
            one.close()

    play(scenario)
