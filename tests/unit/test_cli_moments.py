"""Times of the past: as people type them, and as the client sends them."""

import re
from datetime import UTC, datetime, timedelta, timezone

import click
import pytest

from raftkv.cli import main
from raftkv.cli.kinds import MOMENT
from raftkv.client.arguments import milliseconds_of, time_of
from raftkv.core.errors import UsageError
from tests.unit.fake_server import FakeServer, json


@pytest.mark.parametrize(("text", "seconds"), [("1h", 3600), ("90", 90), ("5m", 300), ("0s", 0)])
def test_a_duration_is_so_long_ago(text, seconds):
    before = datetime.now(UTC)
    found = MOMENT.convert(text, None, None)

    assert before - timedelta(seconds=seconds) <= found <= datetime.now(UTC) - timedelta(seconds=seconds)


def test_the_time_of_a_clock_is_the_last_one():
    here = datetime.now().astimezone()
    last = MOMENT.convert(here.strftime("%H:%M"), None, None)
    next_one = MOMENT.convert((here + timedelta(minutes=5)).strftime("%H:%M"), None, None)

    assert timedelta(0) <= datetime.now(UTC) - last < timedelta(minutes=2)
    assert timedelta(hours=22) < datetime.now(UTC) - next_one < timedelta(hours=26)


def test_a_date_has_the_zone_that_it_names_or_that_of_here():
    assert MOMENT.convert("2026-07-01T15:00+02:00", None, None) == datetime(2026, 7, 1, 13, 0, tzinfo=UTC)
    assert MOMENT.convert("2026-07-01 15:00", None, None) == datetime(2026, 7, 1, 15, 0).astimezone()


@pytest.mark.parametrize("text", ["", "yesterday", "25:00", "1y", "-1h", "9999-13-01"])
def test_what_is_no_time_is_said_to_be_none(text):
    with pytest.raises(click.BadParameter, match=re.escape("1h (ago)")):
        MOMENT.convert(text, None, None)


def test_a_time_is_sent_in_milliseconds_and_names_its_zone():
    at = datetime(2026, 1, 1, 1, 0, 0, 123_999, tzinfo=timezone(timedelta(hours=1)))

    assert milliseconds_of(at) == 1_767_225_600_123
    assert time_of(1_767_225_600_123) == at.replace(microsecond=123_000)
    with pytest.raises(UsageError, match="zone"):
        milliseconds_of(datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(TypeError, match="datetime"):
        milliseconds_of(1_767_225_600)


@pytest.mark.parametrize("command", [("get", "k", "--json"), ("list", "k")])
def test_commands_ask_for_that_time(command, capfd):
    record = {"key": "k", "value": "v", "version": 1, "revision": 1, "create_revision": 1}
    body = record if command[0] == "get" else {"items": [record], "next": None, "revision": 1}
    with FakeServer(json(body, 200, {"Raftkv-Node": "n1", "Raftkv-Revision": "1"})) as server:
        main.run(["--server", server.url, *command, "--at", "2026-01-01T00:00Z"])

    assert "at_ms=1767225600000" in server.asked[0].target
    capfd.readouterr()


def test_a_revision_and_a_time_exclude_each_other(capfd):
    assert main.run(["get", "k", "--at", "1h", "--revision", "3"]) == 2
    assert "exclude" in capfd.readouterr().err
