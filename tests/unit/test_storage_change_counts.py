"""Counts in shared memory: another process sees each change at once, and no change where there was none."""

import subprocess
import sys

import pytest

from raftkv.storage.change_counts import PLACES, ChangeCounts, ChangeCountsReader

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memfd_create(2)")

READER = """
import sys
from raftkv.storage.change_counts import ChangeCountsReader
reader = ChangeCountsReader(sys.argv[1])
for line in sys.stdin:
    print(reader.count(line.strip().encode()), flush=True)
"""


@pytest.fixture
def counts():
    counts = ChangeCounts()
    yield counts
    counts.close()


def test_another_process_sees_what_was_counted_just_before(counts):
    with subprocess.Popen(
        [sys.executable, "-c", READER, counts.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:

        def seen(key):
            reader.stdin.write(f"{key}\n")
            reader.stdin.flush()
            return int(reader.stdout.readline())

        assert seen("a") == 0
        counts.changed([b"a"])
        assert (seen("a"), seen("b")) == (1, 0)
        counts.changed([b"b", b"a", b"a"])
        assert (seen("a"), seen("b")) == (3, 1)
        reader.stdin.close()


def test_keys_of_one_place_count_together(counts):
    reader, keys = ChangeCountsReader(counts.path), [b"%d" % number for number in range(2 * PLACES)]
    counts.changed(keys[:1])
    changed = {key for key in keys if reader.count(key)}

    assert keys[0] in changed
    assert 1 < len(changed) < 20

    reader.close()


def test_nobody_else_can_change_them(counts):
    reader = ChangeCountsReader(counts.path)

    with pytest.raises(TypeError):
        reader._counts[0] = 1

    reader.close()


def test_counts_that_are_gone_cannot_be_opened():
    counts = ChangeCounts()
    path = counts.path
    counts.close()

    with pytest.raises(OSError):  # noqa: PT011  whatever the kernel says
        ChangeCountsReader(path)


def test_a_file_that_is_too_short_is_none_of_them(tmp_path):
    (tmp_path / "short").write_bytes(b"")

    with pytest.raises(OSError, match="mmap"):
        ChangeCountsReader(str(tmp_path / "short"))
