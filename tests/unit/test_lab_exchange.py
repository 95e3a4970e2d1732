"""A step of the laboratory is sent at most once, and its sender learns whether it may have arrived."""

import asyncio

import pytest

from raftkv.client.reach import host_of
from raftkv.core.config import Address
from raftkv.instruments.lab.dialect import ClientStep
from raftkv.instruments.lab.exchange import SLACK_S, channel, observe
from raftkv.instruments.lab.history import LAST_LOOK, GetAction, Outcome, PutAction
from tests.unit.fake_server import CUT, HANG, FakeServer, Told, unused_url

PUT, GET = (ClientStep(key=b"k", action=action) for action in (PutAction(b"v"), GetAction()))


def taken(url, step, note=""):
    host = host_of(url)

    async def once():
        asked = channel(Address(host.name, host.port))
        try:
            return await observe(asked, step, client=3, node="n1", timeout_s=0.2 - SLACK_S, query="r=1", note=note)
        finally:
            asked.close()

    return asyncio.run(once())


def test_what_came_of_a_step_stands_in_the_history_with_its_note():
    with FakeServer(Told(200, b"v", {"ETag": '"7"'})) as server:
        found, operation = taken(server.url, GET, LAST_LOOK)

    assert (found.outcome, found.result, found.revision) == (Outcome.OK, b"v", 7)
    assert (operation.client, operation.node, operation.result, operation.note) == (3, "n1", b"v", LAST_LOOK)
    assert operation.invoked_ns < operation.returned_ns
    assert "&r=1" in server.asked[0].target


@pytest.mark.parametrize("step", [PUT, GET])
def test_a_step_to_nobody_was_not_sent(step):
    found, operation = taken(unused_url(), step)

    assert found.outcome is Outcome.FAILED
    assert operation.note.startswith("not sent")


@pytest.mark.parametrize("answer", [CUT, HANG])
@pytest.mark.parametrize(("step", "outcome"), [(PUT, Outcome.UNKNOWN), (GET, Outcome.FAILED)])
def test_a_step_without_an_answer_may_have_been_done_but_for_a_read_which_told_nothing(step, outcome, answer):
    with FakeServer(answer) as server:
        found, operation = taken(server.url, step)

    assert found.outcome is operation.outcome is outcome
    assert operation.note.startswith("no answer")
    assert len(server.asked) == 1
