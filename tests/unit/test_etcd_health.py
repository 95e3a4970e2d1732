"""Whether a node serves, told to who watches that."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from raftkv.etcd.health import HealthWatch, serving_status
from raftkv.etcd.messages import ServingStatus


class Clock:
    """What is to be called, when it is told to."""

    def __init__(self) -> None:
        self.next = None

    def schedule(self, _seconds, look):
        self.next = look
        return self

    def cancel(self):
        self.next = None


@pytest.fixture
def context():
    """Of a node that knows who leads."""
    found = SimpleNamespace(known=SimpleNamespace(leader="n1"))
    found.status = lambda: found.known
    return found


def test_who_watches_is_told_at_once_and_when_it_has_changed(context):
    clock, told = Clock(), []
    watch = HealthWatch("", context, clock.schedule, lambda response: told.append(response.status))
    for known in (SimpleNamespace(leader="n2"), SimpleNamespace(leader=None), None, SimpleNamespace(leader="n2")):
        context.known = known
        clock.next()
    watch.close()

    assert told == [ServingStatus.SERVING, ServingStatus.NOT_SERVING, ServingStatus.SERVING]
    assert clock.next is None


def test_there_is_no_service_but_the_whole(context):
    assert serving_status("etcdserverpb.KV", context) is ServingStatus.SERVICE_UNKNOWN
