"""What a terminal of any width gets to read, and what a pipe."""

import re

import pytest

from raftkv.cli.tables import print_figures, print_text

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
