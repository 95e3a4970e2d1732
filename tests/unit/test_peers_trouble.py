"""Links in trouble: peers that are silent, slow or full, and faults that are injected."""

import asyncio
import contextlib

import pytest

from raftkv.core.config import Address
from raftkv.peers.faults import Direction, Fault
from tests.unit.peers_stage import LIMIT_BYTES, Puppet, until


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
