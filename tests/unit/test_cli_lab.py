"""The laboratory's commands: what they list, and how they refuse."""

import time

import msgspec
import pytest

from raftkv.cli.main import run
from raftkv.instruments.lab.lessons.actor import ActorLine
from raftkv.instruments.lab.lessons.candidate import Candidate
from raftkv.instruments.lab.lessons.clocks import overlap_s
from raftkv.instruments.lab.lessons.ledger import LedgerRequest, SharedFile
from raftkv.instruments.lab.lessons.plain_client import PlainClient
from raftkv.instruments.lab.lessons.shelf import LESSONS
from raftkv.instruments.lab.scenario import shipped


def test_every_shipped_scenario_is_listed_with_its_title(capsys):
    assert run(["lab", "list"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(shipped())
    assert all(scenario.title in line for line, scenario in zip(lines, shipped().values(), strict=True))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "nosuch"], "nosuch: there is no such file, and no such scenario"),
        (["run", "comparison", "--duration", "2"], "fault[0].for_s: it would last longer than duration_s"),
        (["run", "comparison", "--variant", "rafd"], "there is no variant 'rafd'"),
        (["run", "comparison", "--duration", "0"], "--duration"),
        (["report", "nosuch"], "nosuch"),
        (["lesson", "nosuch"], "there is no lesson 'nosuch' (there are: fencing,"),
        (["playground", "--r", "1"], "--n, --r, --w and --siblings are of quorum mode"),
        (["playground", "--mode", "quorum", "--n", "5"], "there are 3 nodes"),
        (["playground", "--mode", "quorum", "--w", "4"], "--r and --w are 3 at most"),
        (["playground", "--nodes", "4"], "'4' is not one of"),
        (["check", "nosuch"], "nosuch: No such file or directory"),
        (["check", "."], ".: Is a directory"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line_before_anything_is_created(
    arguments, words, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)

    assert run(["lab", *arguments]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_every_lesson_is_listed_with_its_title(capsys):
    assert run(["lab", "lesson"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1) for line in lines] == [[name, each.title] for name, each in LESSONS.items()]


@pytest.mark.parametrize(
    ("some", "others", "both_s"),
    [
        ([(1.0, 3.0)], [(2.0, 5.0)], 1.0),
        ([(1.0, 9.0)], [(2.0, 3.0), (4.0, 6.0)], 3.0),
        ([(1.0, 2.0), (7.0, 8.0)], [(2.0, 7.0)], 0.0),
        ([], [(2.0, 7.0)], 0.0),
    ],
)
def test_how_long_two_led_at_once_is_counted(some, others, both_s):
    assert overlap_s(some, others) == both_s


def test_a_leader_is_told_to_have_led_until_its_time_was_over_and_not_until_it_noticed(capsys):
    candidate = Candidate("Ann", PlainClient(["127.0.0.1:1"]))
    candidate.believe(time.monotonic() + 60)
    candidate.believe(time.monotonic() + 90)
    candidate.look(time.monotonic() + 1_000)

    leads, no_more = (msgspec.json.decode(line, type=ActorLine) for line in capsys.readouterr().out.splitlines())
    assert (leads.what, no_more.what) == ("leads", "leads no more")
    assert 89 < no_more.at_s - leads.at_s < 91


def test_a_ledger_that_checks_tokens_refuses_old_ones_only(tmp_path):
    ledger = SharedFile(tmp_path / "ledger", checks_tokens=True)
    refused = [bool(ledger.take(LedgerRequest(lines=[str(token)], token=token)).refused) for token in (5, 5, 7, 5, 7)]

    assert refused == [False, False, False, True, False]
    assert ledger.take(LedgerRequest()).lines == ["7"]


def test_a_folder_without_a_run_is_refused(capsys, tmp_path):
    assert run(["lab", "report", str(tmp_path)]) == 2

    assert "run.json" in capsys.readouterr().err


LOSSY = """
title = "t"
expect = "e"
duration_s = 5
[[variant]]
name = "raft"
about = "a"
[[fault]]
at_s = 1
for_s = 1
fault = { kind = "loss", nodes = ["n1"], share = 0.5 }
"""


def test_a_fault_that_would_do_nothing_without_namespaces_is_refused(capsys, tmp_path):
    (tmp_path / "lossy.toml").write_text(LOSSY)

    assert run(["lab", "run", str(tmp_path / "lossy.toml"), "--out", str(tmp_path / "out")]) == 2
    assert "--namespaces" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_namespaces_are_refused_where_they_cannot_be_had(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("raftkv.instruments.lab.run.why_unavailable", lambda: "network namespaces need root")

    assert run(["lab", "run", "comparison", "--namespaces", "--out", str(tmp_path / "out")]) == 2
    assert "need root" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


HONEST = """
{"client":1,"key":"k","action":"put","value":"a","invoked_ns":0,"returned_ns":10,"outcome":"ok"}
{"client":2,"key":"k","action":"get","invoked_ns":20,"returned_ns":30,"outcome":"ok","result":"a"}
"""
LYING = HONEST.replace('"result":"a"', '"result":null')
DOUBLE = HONEST.replace('"result":"a"', '"result":"a","siblings":["b"]')


@pytest.mark.parametrize(
    ("lines", "status", "words"),
    [
        (HONEST, 0, "2 operations on 1 keys: linearizable ("),
        (LYING, 1, "lost write"),
        (DOUBLE, 1, "client 2 was given 'b' and 'a' at once"),
    ],
)
def test_a_history_is_checked_and_the_exit_status_tells(lines, status, words, capsys, tmp_path):
    (tmp_path / "history.jsonl").write_text(lines)

    assert run(["lab", "check", str(tmp_path / "history.jsonl")]) == status
    assert words in capsys.readouterr().out


def test_one_contradiction_among_several_histories_decides(capsys, tmp_path):
    for name, lines in (("a", LYING), ("b", HONEST)):
        (tmp_path / name).write_text(lines)

    assert run(["lab", "check", "--steps", "1", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    assert "gave up" in capsys.readouterr().out


def test_a_history_that_the_steps_do_not_suffice_for_is_undecided(capsys, tmp_path):
    (tmp_path / "history.jsonl").write_text(HONEST)

    assert run(["lab", "check", "--steps", "1", str(tmp_path / "history.jsonl")]) == 4
    assert "gave up on k after" in capsys.readouterr().out


def test_what_is_no_history_is_refused_in_one_line(capsys, tmp_path):
    (tmp_path / "other.jsonl").write_text('{"client": 1}')

    assert run(["lab", "check", str(tmp_path / "other.jsonl")]) == 2
    assert "other.jsonl" in capsys.readouterr().err
