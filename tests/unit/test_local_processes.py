"""Which processes are alive, as the operating system tells it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from raftkv.instruments.local.nodes import wait_until
from raftkv.instruments.local.processes import alive, descendants

LISTENS_BEHIND_ITS_FIRST_THREAD = """
import ctypes, socket, sys, threading
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
threading.Thread(target=sys.stdin.read).start()
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_process_lives_as_long_as_any_of_its_threads():
    command = [sys.executable, "-c", LISTENS_BEHIND_ITS_FIRST_THREAD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        stat = Path(f"/proc/{process.pid}/stat")
        assert process.stdin is not None
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z", "its first thread to end")

            assert alive({process.pid}) == {process.pid}
            assert descendants(process.pid) == {process.pid}
        finally:
            process.stdin.close()
        wait_until(lambda: not alive({process.pid}), "the others to end")
        assert stat.read_text().rpartition(")")[2].split()[0] == "Z"  # nobody has waited for it yet
