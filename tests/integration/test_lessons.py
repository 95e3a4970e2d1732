"""Lessons show what they say that they show."""

import pytest

from raftkv.cli.main import run
from raftkv.instruments.lab.lessons.shelf import LESSONS
from tests.pages import ROOT, quoted

pytestmark = pytest.mark.integration

TOLD = {
    "fencing": ["she writes with token", "and is refused: token", "In the end the file: Bob, Ann"],
    "clocks": ["He takes the lead, while Ann has it.", "Nothing happens: he does not lead.", "Bob leads."],
    "watcher": ["it heard of 10,", "it is behind, not lost", "Both watchers have heard of 30"],
}


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_shows_what_it_is_about(name, tmp_path, capsys):
    assert run(["lab", "lesson", name, "--out", str(tmp_path / "out")]) == 0

    told = capsys.readouterr().out
    assert "NOT SEEN" not in told
    assert [words for words in TOLD[name] if words not in told] == []
    if name == "fencing":
        _, of_lesson, *_ = quoted(ROOT / "docs" / "laboratory.rst")
        assert [line.pattern for line in of_lesson if not line.search(told)] == []
