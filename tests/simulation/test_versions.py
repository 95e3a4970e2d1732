"""A cluster is upgraded node by node: what a later version has is used once every member reads it, and no sooner."""

from __future__ import annotations

from contextlib import contextmanager
from unittest import mock

import pytest

from raftkv.core.errors import Code, Refused
from raftkv.core.requests import Configure
from raftkv.core.results import Configured
from raftkv.formats import commands, entries
from tests.simulation.cluster import Cluster

LATER = commands.FORMAT + 1


@contextmanager
def later_version():
    """The installed files are of a version whose format of commands is the next, and which configures by it."""
    with (
        mock.patch.dict(entries._READERS, {LATER: commands.decode_batch}),
        mock.patch.dict(commands.LEAST_FORMATS, {commands.ConfigureCommand: LATER}),
    ):
        yield


def cluster_that_reads(**formats):
    cluster = Cluster(3, begins=False)
    for name, newest in formats.items():
        cluster.machines[name].reads = newest
        cluster.restart(name)
    cluster.elect()
    for name in cluster.members:
        cluster.put_now(name, name.encode())
    return cluster


def configure(cluster, name):
    pending = cluster.submit(name, Configure(r=1, w=3))
    try:
        cluster.await_outcome(pending)
    except entries.UnsupportedCommandError as error:
        pytest.fail(f"a node stopped: {error}")
    return pending.outcome


def test_what_a_member_does_not_read_is_refused_by_its_name_until_it_is_upgraded():
    with later_version():
        cluster = cluster_that_reads(n1=LATER, n2=LATER, n3=commands.FORMAT)
        refusals = [configure(cluster, name) for name in ("n1", "n2")]
        cluster.put_now("n3", b"written all the same")

        for refusal in refusals:
            assert isinstance(refusal, Refused)
            assert refusal.code is Code.NOT_SUPPORTED
            assert refusal.detail.startswith("node n3 reads commands up to format 2, this one has format 3")
        cluster.kill("n3")
        cluster.machines["n3"].reads = LATER
        cluster.restart("n3")
        cluster.run(2.0)

        assert configure(cluster, "n1") == Configured(n=3, r=1, w=3)
        cluster.settle()


def test_what_a_member_read_is_known_while_it_is_away_and_after_a_restart():
    with later_version():
        cluster = cluster_that_reads(n1=LATER, n2=LATER, n3=commands.FORMAT)
        cluster.kill("n3")
        for name in ("n1", "n2"):
            cluster.start_again(name)
        leader = cluster.elect()

        assert isinstance(configure(cluster, leader), Refused)
        cluster.machines["n3"].reads = LATER
        cluster.restart("n3")
        cluster.run(2.0)
        cluster.kill("n3")
        for name in ("n1", "n2"):
            cluster.start_again(name)

        assert isinstance(configure(cluster, cluster.elect()), Configured)
