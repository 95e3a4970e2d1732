"""What a process gives back is gone from what the kernel counts as its own, and comes back when it is read again."""

import mmap
import subprocess
import sys
from pathlib import Path

import pytest

from raftkv.process.memory import forget_pages, give_back

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and asks glibc")

FILE_BYTES = 64 << 20


def held_kib(kind):
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind)]
    return int(line.split()[1])


@pytest.fixture
def mapped(tmp_path):
    path = tmp_path / "state" / "data"
    path.parent.mkdir()
    path.write_bytes(b"a" * FILE_BYTES)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        assert memory[:: mmap.PAGESIZE].count(b"a") == FILE_BYTES // mmap.PAGESIZE
        yield path, memory


def test_pages_below_a_directory_are_let_go_and_come_back(mapped):
    path, memory = mapped
    memory[5000] = ord("b")
    before_kib = held_kib("RssFile")

    give_back(str(path.parent))

    assert before_kib - held_kib("RssFile") > FILE_BYTES * 0.9 / 1024
    assert memory[4999:5002] == b"aba"


def test_other_files_keep_their_pages(mapped):
    path, _ = mapped
    before_kib = held_kib("RssFile")

    for elsewhere in ("", str(path.parent.with_name("other")), str(path.parent.with_name("stat"))):
        give_back(elsewhere)
    forget_pages(path.with_name("dat"))

    assert before_kib - held_kib("RssFile") < FILE_BYTES * 0.1 / 1024

    forget_pages(path)

    assert before_kib - held_kib("RssFile") > FILE_BYTES * 0.9 / 1024


def test_what_is_free_between_what_is_used_is_given_back():
    program = """
import ctypes
from pathlib import Path
from raftkv.process.memory import give_back

def own_kib():
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1])

if not hasattr(ctypes.CDLL(None), "malloc_trim"):
    print("none")
    raise SystemExit
blocks = [b"x" * 65_000 for _ in range(1000)]
blocks = blocks[::50]
before_kib = own_kib()
give_back("")
print(before_kib - own_kib())
"""
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()
    if found == "none":
        pytest.skip("this C library returns nothing on request")

    assert int(found) > 50_000
