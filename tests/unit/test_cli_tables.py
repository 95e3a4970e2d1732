"""What a terminal of any width gets to read, and what a pipe."""

import re

import pytest

from raftkv.cli import status
from raftkv.cli.survey import Surveyed
from raftkv.cli.tables import print_figures, print_table, print_text
from tests.unit.statuses import node_status

SENTENCE = "     The linearizable read was refused: the old leader cannot ask a majority."


@pytest.fixture
def terminal(monkeypatch):
    def of_width(columns):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)

    return of_width


def test_a_terminal_gets_sentences_broken_between_words_and_indented_as_they_began(terminal, capsys):
    terminal(40)
    print_text(f"Read:\n\n{SENTENCE}")

    assert capsys.readouterr().out.split("\n") == [
        *("Read:", ""),
        *("     The linearizable read was refused:", "     the old leader cannot ask a", "     majority.", ""),
    ]


def test_a_pipe_gets_every_line_whole(capsys):
    print_text(SENTENCE)

    assert capsys.readouterr().out == f"{SENTENCE}\n"


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_figures_fit_the_terminal_and_lose_no_word(columns, terminal, capsys):
    terminal(columns)
    header = ("", "raft, linearizable reads", "no leader, siblings", "raft, local reads")
    row = ("answered during faults", "not linearizable", "1,010.3 ms / 22.2 ms", "0 of 12,345")
    print_figures(header, [row])
    out = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out)

    assert max(map(len, out.splitlines())) <= columns
    assert sorted(out.split()) == sorted(" ".join((*header, *row)).split())


def test_figures_in_a_pipe_are_aligned_to_the_right(capsys):
    print_figures(("kind", "p50"), [("read", "1.25"), ("write", "10.5")])

    assert capsys.readouterr().out == "kind    p50\nread   1.25\nwrite  10.5\n"


NODE = Surveyed(
    server="http://127.0.0.1:8001",
    node="n1",
    status=node_status(
        role="candidate",
        term=12,
        commit_index=1234567,
        applied_index=1234567,
        revision=123456,
        peers=[{"id": "n2", "http": "h:1", "reachable": True}, {"id": "n3", "http": "h:2", "reachable": False}],
        staleness_ms=331_636,
    ),
)


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_of_status_fits_the_terminal_and_loses_nothing(columns, terminal, capsys):
    terminal(columns)
    print_table(status.COLUMNS, [(status.row(NODE), "red")])
    out = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    lines = [line.rstrip() for line in out.splitlines()]

    assert max(map(len, lines)) <= columns
    assert lines[0].split() == list(status.COLUMNS)
    assert lines[1].split() == " ".join(status.row(NODE)).split()
    assert len(lines) == 2
