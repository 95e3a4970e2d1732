"""The sink of log lines before readers that are slow, gone, full, paused and back again; all real."""

import fcntl
import os
import re
import signal
import subprocess
import sys
import termios
import time

import pytest

from raftkv.instruments.local.nodes import wait_until
from raftkv.process.command import python
from raftkv.process.sink import ENTRY_BYTES, Sink, _sinks
from raftkv.process.streams import LineStream

PIPE_BYTES = 4096


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    ends = {"reading": reading, "writing": writing}
    yield ends
    if "reading" in ends:
        os.close(reading)  # whoever still waits for room gives up
    for sink in list(_sinks):
        assert sink.drain(10)
    os.close(writing)


def waiting_in(descriptor):
    """How many bytes a read would find."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4), sys.byteorder)


def read_all(descriptor, until):
    """What comes until it ends with ``until``."""
    found = b""
    while not found.endswith(until):
        found += os.read(descriptor, 1 << 16)
    return found


def test_lines_come_out_whole_and_in_order(pipe):
    sink = Sink(pipe["writing"])
    lines = [b"line %d\n" % number for number in range(100)]
    for line in lines:
        sink.write(line)

    assert sink.drain()
    assert os.read(pipe["reading"], 1 << 16) == b"".join(lines)
    assert sink.dropped == 0


def test_a_pipe_that_nobody_reads_holds_nobody_up_and_the_gap_is_told_when_it_is_read_again(pipe):
    sink = Sink(pipe["writing"], queue_bytes=10_000)
    for number in range(1000):
        sink.write(b"%099d\n" % number)

    assert sink.dropped > 800
    assert not sink.drain(0.1)

    found = read_all(pipe["reading"], b" dropped here\n").decode().splitlines()
    kept = [int(line) for line in found[:-1]]
    assert kept == list(range(1000 - sink.dropped))
    assert found[-1] == f"raftkv: {sink.dropped} lines were dropped here"
    sink.write(b"again\n")
    assert read_all(pipe["reading"], b"\n") == b"again\n"


def test_the_queue_is_bounded_in_bytes_and_what_ends_the_process_finds_room_all_the_same(pipe):
    sink = Sink(pipe["writing"], queue_bytes=4 * (1000 + ENTRY_BYTES))
    for _ in range(100):
        sink.write(b"x" * 999 + b"\n")
    dropped = sink.dropped
    sink.write(b"the last words\n", at_any_rate=True)

    assert dropped >= 100 - 2 - (PIPE_BYTES + sink._queue_bytes) // 1000
    assert sink.dropped == dropped
    assert read_all(pipe["reading"], b"the last words\n").endswith(b" dropped here\nthe last words\n")


def test_a_reader_that_is_gone_costs_lines_and_nothing_else(pipe):
    sink = Sink(pipe["writing"])
    os.close(pipe.pop("reading"))
    for _ in range(10_000):
        sink.write(b"line\n")
        if not sink._waiting_bytes < 1 << 17:
            sink.drain()

    assert sink.drain()
    assert sink.dropped == 10_000


def test_a_full_disk_that_heals_is_written_to_again_and_the_gap_is_told_once(tmp_path):
    log = tmp_path / "log"
    full, healthy = os.open("/dev/full", os.O_WRONLY), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    descriptor = os.dup(healthy)
    sink = Sink(descriptor)
    sink.write(b"before\n")
    sink.drain()
    os.dup2(full, descriptor)
    for _ in range(7):
        sink.write(b"lost\n")
    sink.drain()
    os.dup2(healthy, descriptor)
    sink.write(b"after\n")
    sink.write(b"and on\n")

    assert sink.drain()
    assert log.read_text() == "before\nraftkv: 7 lines were dropped here\nafter\nand on\n"
    assert sink.dropped == 7
    for each in (full, healthy, descriptor):
        os.close(each)


LIMITED = """
import resource, sys
from raftkv.process import streams
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
streams.lossy()
for number in range(50):
    print(f"line {number:04}", file=sys.stderr)
streams.drain()
print(streams.lines_dropped())
"""


def test_a_line_that_broke_off_at_a_limit_of_the_file_ends_nobody(tmp_path):
    with (tmp_path / "log").open("wb") as log:
        done = subprocess.run(python("-c", LIMITED), stdout=subprocess.PIPE, stderr=log, check=False)

    assert done.returncode == 0
    assert done.stdout == b"40\n"
    assert (tmp_path / "log").read_bytes()[:100] == b"".join(b"line %04d\n" % number for number in range(10))


def test_a_descriptor_that_another_process_made_non_blocking_loses_nothing(pipe):
    os.set_blocking(pipe["writing"], False)
    sink = Sink(pipe["writing"])
    for number in range(500):
        sink.write(b"%099d\n" % number)

    found = read_all(pipe["reading"], b"%099d\n" % 499)
    assert [int(line) for line in found.splitlines()] == list(range(500))
    assert sink.dropped == 0
    assert not os.get_blocking(pipe["writing"])


def test_a_descriptor_shared_with_others_stays_blocking_for_them(pipe):
    sink = Sink(pipe["writing"])
    for _ in range(500):
        sink.write(b"x" * 100)

    assert os.get_blocking(pipe["writing"])


def test_a_child_writes_its_own_lines_and_not_those_that_wait_in_its_parent(pipe):
    sink = Sink(pipe["writing"], queue_bytes=1 << 14)
    for number in range(200):
        sink.write(b"parent %091d\n" % number)
    wait_until(lambda: waiting_in(pipe["reading"]) > PIPE_BYTES - 99, "the parent's own lines to leave no room")
    child = os.fork()
    if child == 0:
        sink.write(b"child %092d\n" % 0)
        os._exit(0 if sink.dropped == 0 and not sink.drain(0.05) else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    found = read_all(pipe["reading"], b" dropped here\n")
    numbers = [int(number) for number in re.findall(rb"^parent (\d+)$", found, re.MULTILINE)]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) == 200 - sink.dropped


def test_a_stream_hands_over_whole_lines_and_says_what_its_encoding_lacks(pipe):
    stream = LineStream(Sink(pipe["writing"]), encoding="ascii")
    stream.write("one ")
    stream.write("line\nand a ")
    stream.write("b\u00fccher\n")
    print("said with print", file=stream, flush=True)
    stream.write("no end")
    stream.flush()

    assert stream.sink.drain()
    assert os.read(pipe["reading"], 4096) == b"one line\nand a b\\xfccher\nsaid with print\nno end"


def test_a_line_without_an_end_is_handed_over_in_pieces(pipe):
    sink = Sink(pipe["writing"])
    stream = LineStream(sink)
    for _ in range(100):
        stream.write("x" * 1000)

    assert len(stream._partial) < 20_000


ENDS = """
import sys
from raftkv.process import streams
streams.lossy()
for number in range(100_000):
    print("x" * 100, file=sys.stderr)
streams.last_words("the end\\n")
sys.exit(7)
"""


def test_an_unread_pipe_delays_the_end_by_a_moment_and_its_exit_status_stays():
    reading, writing = os.pipe()
    began_s = time.monotonic()
    ended = subprocess.Popen(python("-c", ENDS), stderr=writing)

    assert ended.wait(20) == 7
    assert time.monotonic() - began_s < 15
    os.close(reading)
    os.close(writing)


def test_what_a_process_says_before_it_ends_comes_out():
    done = subprocess.run(python("-c", ENDS.replace("100_000", "10")), capture_output=True, check=False)

    assert done.returncode == 7
    assert done.stderr == (b"x" * 100 + b"\n") * 10 + b"the end\n"


CRASHES = """
import sys
from raftkv.process import streams
streams.lossy()
raise RuntimeError("of ours")
"""


def test_the_traceback_of_a_process_that_crashes_comes_out():
    done = subprocess.run(python("-c", CRASHES), capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr.endswith("RuntimeError: of ours\n")


def test_a_reader_that_is_stopped_and_goes_on_hears_of_what_it_missed(tmp_path):
    """A process that is stopped in its tracks, as a log shipper under a debugger or on a suspended machine."""
    heard = tmp_path / "heard"
    with heard.open("wb") as file:
        reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file)
    fcntl.fcntl(reader.stdin, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    sink = Sink(reader.stdin.fileno(), queue_bytes=10_000)
    os.kill(reader.pid, signal.SIGSTOP)
    for _ in range(500):
        sink.write(b"x" * 99 + b"\n")
    assert sink.dropped > 0
    os.kill(reader.pid, signal.SIGCONT)

    assert sink.drain(10)
    reader.stdin.close()
    assert reader.wait(10) == 0
    lines = heard.read_bytes().splitlines()
    assert lines[-1] == b"raftkv: %d lines were dropped here" % sink.dropped
    assert len(lines) - 1 == 500 - sink.dropped
