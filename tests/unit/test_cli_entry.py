"""The entry point as processes see it: as a module, and interrupted before it has begun."""

import subprocess
import sys

from raftkv.process.command import module

INTERRUPTED_WHILE_IMPORTING = """
import sys
from raftkv.__main__ import main

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("click"):
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupting())
main()
"""


def test_an_interrupt_while_commands_are_imported_prints_no_traceback():
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_WHILE_IMPORTING], capture_output=True, check=False, text=True, timeout=60
    )

    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_the_package_runs_as_a_module():
    done = subprocess.run(module("raftkv", "--version"), capture_output=True, check=True, text=True, timeout=60)

    assert done.stdout.startswith("raftkv ")
