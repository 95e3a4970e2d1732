"""Whoever starts Python for raftkv does it by ``raftkv.process.command``: else the files of its caller are executed."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ALLOWED = {
    ROOT / "raftkv/process/command.py",
    ROOT / "tests/integration/test_streams.py",  # which tries what happens otherwise
}


def sources(*folders):
    return {path for folder in folders for path in (ROOT / folder).rglob("*.py")} - ALLOWED - {Path(__file__)}


def test_python_is_started_by_the_one_function_that_leaves_out_the_current_directory():
    assert [path for path in sources("raftkv", "bench") if "sys.executable" in path.read_text()] == []


def test_tests_start_modules_of_raftkv_as_raftkv_does():
    assert [path for path in sources("tests") if re.search(r'sys.executable, "-m", "raftkv', path.read_text())] == []
