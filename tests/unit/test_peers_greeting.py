"""Nodes greet each other over links on which words may be long on their way."""

import msgspec

from raftkv.formats.greetings import Greeting
from raftkv.formats.identity import Identity
from raftkv.peers.acquaintance import greeting_of, with_met
from raftkv.peers.greeting import Greeter
from raftkv.storage.identity import started

RULES = {"rule": 1}
FITS = msgspec.msgpack.encode("")


class Store:
    def __init__(self, identity):
        self.identity = identity

    def save(self, identity):
        self.identity = identity


class Link:
    """Remembers which connections were closed."""

    def __init__(self):
        self.closed = []

    def send(self, peer, payload):
        return True

    def flush(self):
        pass

    def outstanding_bytes(self, peer):
        return 0

    def close_peer(self, peer):
        self.closed.append(peer)

    dismiss = close_peer


class Listener:
    def __init__(self):
        self.up = []

    def link_up(self, peer):
        self.up.append(peer)

    def link_down(self, peer):
        self.up.remove(peer)

    def received(self, peer, payload):
        pass


def node(name, disk):
    return started(Identity(node=name, disk=disk, starts=(), rules={}), f"{name} {disk}")


def greets(identity) -> Greeting:
    return greeting_of(identity, RULES, is_blank=False)


def made(newcomers=None, **known):
    link, listener, store = Link(), Listener(), Store(msgspec.structs.replace(node("n2", "disk"), **known))
    greeter = Greeter(store, RULES, link=link, clock=lambda: 0.0)
    greeter.attach(listener, newcomers)
    return greeter, link, listener, store


def say(greeter, identity, verdict=FITS):
    greeter.link_up(identity.node)
    greeter.received(identity.node, msgspec.msgpack.encode(greets(identity)))
    if verdict is not None:
        greeter.received(identity.node, verdict)


def test_a_greeting_from_a_life_that_is_over_undoes_nothing_that_was_learnt_since():
    """Found by seed 20152 of quorum mode: the new disk was refused for good."""
    for has_met_both in (True, False):
        greeter, link, listener, _ = made()
        old, new = node("n3", "old"), node("n3", "new")
        told = node("n1", "disk")
        for life in (old, new) if has_met_both else (new,):
            told = with_met(told, greets(life))
        say(greeter, old, verdict=None)
        say(greeter, told)
        greeter.received("n3", FITS)
        before = list(listener.up)
        greeter.link_down("n3")
        say(greeter, new)

        assert before == ["n1"]
        assert link.closed == ["n3"]
        assert listener.up == ["n1", "n3"]
        assert not greeter.misfits


def test_who_hears_of_a_node_from_others_what_it_says_itself_meets_it():
    greeter, link, listener, store = made()
    n3 = node("n3", "disk")
    say(greeter, n3, verdict=None)
    say(greeter, with_met(node("n1", "disk"), greets(n3)))
    greeter.received("n3", FITS)

    assert listener.up == ["n1", "n3"]
    assert not link.closed
    assert store.identity.others["n3"]["disk"].life == n3.life


class Blank:
    is_blank = True

    def met(self, peer, **_said):
        pass


def restored(identity):
    return msgspec.structs.replace(identity, origin="backup")


def test_a_node_of_a_restored_cluster_refuses_one_of_the_cluster_before_and_the_other_way_round():
    for origin, met in (
        ("backup", node("n1", "a")),
        ("", restored(node("n1", "a"))),
        ("another", restored(node("n1", "a"))),
    ):
        greeter, link, listener, store = made(origin=origin)
        say(greeter, met, None)

        assert link.closed == ["n1"]
        assert listener.up == []
        assert "restored from" in greeter.misfits["n1"]
        assert store.identity.others == {}


def test_a_blank_node_becomes_one_of_the_restored_cluster_and_parts_from_whom_it_met_before():
    greeter, link, listener, store = made(Blank())
    say(greeter, node("n1", "a"))
    assert listener.up == ["n1"]

    say(greeter, restored(node("n3", "c")))

    assert store.identity.origin == "backup"
    assert link.closed == ["n1"]
    greeter.link_down("n1")
    say(greeter, node("n1", "a"), None)
    assert listener.up == ["n3"]
    assert "n1 is of the cluster as it was before this one was restored" in greeter.misfits["n1"]
