"""The link over real sockets on loopback: members meet, misfits do not come up, one is live for each peer."""

import asyncio
import contextlib
import secrets
import socket

import pytest
import structlog

from raftkv.core.config import Address
from raftkv.core.errors import StartupError
from raftkv.instruments.local.nodes import free_ports
from raftkv.peers.faults import Fault
from tests.unit.peers_stage import LIMIT_BYTES, Puppet, until


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
