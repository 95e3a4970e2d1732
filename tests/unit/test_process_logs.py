"""Lines of a log in one shape, whoever says them; in a process of its own, whose standard error they are."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

HEAD = """
import logging, logging.config, os, sys, warnings
import structlog
from raftkv.core.config import LogSection
from raftkv.process import logs, streams
streams.lossy("stderr")
early = structlog.get_logger("early")
logs.configure(LogSection(level={level!r}, format={form!r}), node="n1", process="frontend")
"""


def said(program: str, *, form: str = "json", level: str = "info") -> list[str]:
    head = HEAD.format(form=form, level=level)
    done = subprocess.run([sys.executable, "-P", "-c", head + program], capture_output=True, text=True, check=True)
    return done.stderr.splitlines()


def lines(program: str, **options: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said(program, **options)]


def test_a_line_says_first_when_how_bad_who_and_what() -> None:
    (line,) = said('early.warning("disk full", free_bytes=7, node_of="ümlaut")')

    assert list(json.loads(line)) == ["timestamp", "level", "node", "process", "event", "free_bytes", "node_of"]
    assert json.loads(line)["timestamp"].endswith("Z")
    assert "ümlaut" in line


def test_both_formats_say_the_same_in_the_same_order() -> None:
    (line,) = said('early.info("leader", term=3, leader="n2")', form="logfmt")

    assert line.partition(" ")[2] == "level=info node=n1 process=frontend event=leader term=3 leader=n2"


def test_what_a_line_holds_stays_in_it() -> None:
    for form in ("json", "logfmt"):
        assert len(said(r'early.error("two\nlines", reason="a\nb=c \"d\"")', form=form)) == 1


def test_an_exception_with_its_traceback_is_one_line() -> None:
    program = """
try:
    1 / 0
except ZeroDivisionError:
    {}
"""
    (ours,) = lines(program.format('early.exception("defect")'))
    (foreign,) = lines(program.format('logging.getLogger("gunicorn.error").exception("defect")'))

    for line in (ours, foreign):
        assert line["event"] == "defect"
        assert line["exception"].startswith("Traceback")
        assert line["exception"].endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize("again", ["", "logging.config.dictConfig(logs.foreign())\n"])
def test_libraries_speak_in_the_same_shape_and_only_of_what_is_wrong(again: str) -> None:
    program = """
logging.getLogger("gunicorn.error").info("booting")
logging.getLogger("gunicorn.error").error("Worker (pid:%d) was sent SIGKILL!", 7)
logging.getLogger("asyncio").warning("slow")
logging.getLogger("raftkv.http").error("defect in %s", "GET")
"""
    found = lines(again + program)

    assert [(line["level"], line["event"], line["logger"]) for line in found] == [
        ("error", "Worker (pid:7) was sent SIGKILL!", "gunicorn.error"),
        ("warning", "slow", "asyncio"),
        ("error", "defect in GET", "raftkv.http"),
    ]
    assert {(line["node"], line["process"]) for line in found} == {("n1", "frontend")}


def test_what_is_less_than_the_level_is_not_said() -> None:
    program = 'early.debug("a"); early.info("b"); early.warning("c"); early.error("d")'

    assert [line["event"] for line in lines(program, level="debug")] == ["a", "b", "c", "d"]
    assert [line["event"] for line in lines(program, level="warning")] == ["c", "d"]


def test_lines_that_are_missing_are_told_of_in_the_same_shape() -> None:
    (line,) = lines("os.write(2, sys.stderr.sink.missing(3))")

    assert (line["event"], line["count"], line["level"]) == ("lines of the log were dropped here", 3, "warning")
    assert list(line)[:5] == ["timestamp", "level", "node", "process", "event"]
