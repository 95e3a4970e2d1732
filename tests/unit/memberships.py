"""What nodes of a leaderless cluster know of its members, without a network: they meet when they are told to."""

import itertools
from random import Random

import pytest

from raftkv.formats.gossip import AgreedSizes, MemberEntry
from raftkv.quorum.membership.gossip import Membership

NAMES = ("n1", "n2", "n3")

SIZES = AgreedSizes(0, "", 3, 2, 2)

SUSPECT_AFTER_S = 8.0

DOWN_AFTER_S = 30.0


def entry_of(name, **changes):
    number = name.removeprefix("n")
    return MemberEntry(name, f"10.0.0.{number}:8001", f"10.0.0.{number}:9001", **changes)


def make_membership(name, known=(), *, generation=1_000, seed=0, sizes=SIZES, now_s=0.0, **changes):
    return Membership(
        entry_of(name, generation=generation, **changes),
        known,
        sizes,
        suspect_after_s=SUSPECT_AFTER_S,
        down_after_s=DOWN_AFTER_S,
        now_s=now_s,
        random=Random(seed),
    )


def make_cluster(names=NAMES):
    return {name: make_membership(name, [entry_of(other) for other in names]) for name in names}


def meet(one, other, now_s=0.0):
    """One whole exchange that ``one`` begins, nothing lost."""
    nodes = {one.own.id: one, other.own.id: other}
    sender, sent = one.own.id, one.tick([other.own.id])
    for _ in range(4):
        if not sent:
            return
        [(receiver, message)] = sent
        sender, sent = receiver, nodes[receiver].heard(sender, message, now_s)
    pytest.fail("an exchange of two nodes goes on for ever")


def all_meet(nodes, now_s=0.0):
    for _ in nodes:
        for one, other in itertools.permutations(nodes, 2):
            meet(one, other, now_s)
