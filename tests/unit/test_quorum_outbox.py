"""The outbox: one frame for each peer and turn, handed to the network at once."""

from raftkv.formats.quorum_messages import StoreRows, Unsettled, decode
from raftkv.quorum.outbox import Outbox


class Link:
    """Remembers what it was told to do."""

    def __init__(self):
        self.done = []

    def send(self, peer, payload):
        self.done.append((peer, [message.id for message in decode(payload)]))
        return True

    def flush(self):
        self.done.append("flush")


def test_what_a_turn_has_for_a_peer_leaves_in_one_frame_before_the_disk_is_waited_for():
    link = Link()
    outbox = Outbox("n1", link)
    for peer, number in (("n2", 1), ("n3", 2), ("n2", 3)):
        outbox.post(peer, Unsettled(number))

    assert link.done == []
    assert outbox.flush()
    assert link.done == [("n2", [1, 3]), ("n3", [2]), "flush"]


def test_what_a_node_tells_itself_is_not_sent():
    link = Link()
    outbox = Outbox("n1", link)
    outbox.post("n1", Unsettled(1))

    assert not outbox.flush()
    assert link.done == []
    assert list(outbox.own) == [Unsettled(1)]


def test_a_message_longer_than_a_frame_takes_no_other_with_it():
    class Short(Link):
        def send(self, peer, payload):
            if len(payload) > 1000:
                raise ValueError("longer than a frame")
            return super().send(peer, payload)

    link = Short()
    outbox = Outbox("n1", link)
    for message in (Unsettled(1), StoreRows(2, ((b"k", bytes(2000)),)), Unsettled(3)):
        outbox.post("n2", message)
    outbox.flush()

    assert link.done == [("n2", [1]), ("n2", [3]), "flush"]
