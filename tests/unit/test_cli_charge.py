"""A command that runs while something is held: it has its own status, and never runs for longer, whoever is killed."""

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raftkv.cli.charge import run_charged
from raftkv.process.command import python

PROGRAM = """
import signal, sys, time
from raftkv.cli.charge import run_charged
signal.signal(signal.SIGINT, signal.SIG_DFL)  # a job in the background begins with it ignored
until_s = time.monotonic() + float(sys.argv[1])
status, was_ended = run_charged(sys.argv[2:], {}, left_s=lambda: until_s - time.monotonic(), grace_s=0.5)
print("status", status, was_ended)
"""


@pytest.fixture(autouse=True)
def hangups_are_heard():
    """As by a job of a terminal; whoever runs the tests may have begun with them ignored (nohup)."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def charged(*command, left_s=60.0, grace_s=0.5, more=None):
    until_s = time.monotonic() + left_s
    return run_charged(command, more or {}, left_s=lambda: until_s - time.monotonic(), grace_s=grace_s)


def process_of(*command, left_s, **more):
    """Somebody else who runs ``command`` so."""
    return subprocess.Popen(python("-c", PROGRAM, str(left_s), *command), **more)


def until(condition, limit_s=30.0):
    end_s = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < end_s, "it did not come to pass"
        time.sleep(0.02)
    return found


def is_alive(pid):
    """Is there such a process, and not only because nobody has waited for it?"""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def pid_in(path):
    return until(lambda: path.exists() and path.read_text().endswith("\n") and int(path.read_text()))


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("nosuch", 127)]
)
def test_its_status_is_the_commands(script, status):
    assert charged("sh", "-c", script) == (status, False)


def test_what_cannot_be_started_has_the_status_that_a_shell_gives_it(capfd, tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("no program")

    assert charged(str(tmp_path / "none")) == (127, False)
    assert charged(str(plain)) == (126, False)
    assert capfd.readouterr().err.splitlines() == [
        f"raftkv: {tmp_path / 'none'}: No such file or directory",
        f"raftkv: {plain}: Permission denied",
    ]


def test_it_knows_what_it_is_told(capfd):
    charged("sh", "-c", "echo $RAFTKV_LOCK_TOKEN", more={"RAFTKV_LOCK_TOKEN": "17"})

    assert capfd.readouterr().out == "17\n"


def test_it_is_asked_to_end_when_its_time_is_over_and_then_ended():
    assert charged("sleep", "60", left_s=1.0) == (143, True)
    assert charged("sh", "-c", "trap '' TERM; sleep 60; sleep 60", left_s=1.0) == (137, True)
    assert charged("sh", "-c", "trap 'exit 5' TERM; sleep 60 & wait", left_s=1.0) == (5, True)
    assert charged("sleep", "60", left_s=0.0) == (143, True)


def test_its_whole_group_ends_also_those_that_do_not_listen(tmp_path):
    script = "(trap '' TERM; echo $BASHPID >child; sleep 60; sleep 60) & sleep 60"

    assert charged("bash", "-c", f"cd {tmp_path}; {script}", left_s=2.0) == (143, True)
    assert not is_alive(pid_in(tmp_path / "child"))


def test_one_that_is_stopped_ends_too():
    assert charged("sh", "-c", "kill -STOP $$", left_s=1.0) == (143, True)


def test_what_is_prolonged_goes_on():
    lives = iter([1.0, 1.0])

    assert run_charged(("sleep", "1.5"), {}, left_s=lambda: next(lives, 60.0), grace_s=0.5) == (0, False)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_it_ends_also_when_who_runs_it_is_killed_or_stopped(tmp_path, number):
    pid_path = tmp_path / "pid"
    runner = process_of("bash", "-c", f"echo $BASHPID >{pid_path}; trap '' TERM; sleep 60; sleep 60", left_s=4.0)
    pid = pid_in(pid_path)
    assert is_alive(pid)
    runner.send_signal(number)

    until(lambda: not is_alive(pid))
    runner.kill()
    runner.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_passed_on_to_it(tmp_path, number):
    pid_path = tmp_path / "pid"
    script = f"trap 'exit 9' {number.name[3:]}; echo $BASHPID >{pid_path}; while :; do sleep 0.1; done"
    runner = process_of("bash", "-c", script, left_s=60.0, stdout=subprocess.PIPE)
    pid_in(pid_path)
    runner.send_signal(number)

    assert runner.communicate()[0] == b"status 9 False\n"


def test_what_is_ignored_from_the_beginning_is_ignored_by_the_command(tmp_path):
    pid_path = tmp_path / "pid"
    script = f"echo $$ >{pid_path}; sleep 0.5; exit 4"
    ignoring = "trap '' HUP; exec \"$@\""
    runner = subprocess.Popen(
        ["sh", "-c", ignoring, "sh", *python("-c", PROGRAM, "60", "sh", "-c", script)], stdout=subprocess.PIPE
    )
    pid_in(pid_path)
    runner.send_signal(signal.SIGHUP)

    assert runner.communicate()[0] == b"status 4 False\n"


def processes_of(session):
    """Each with its state, its group and the group that has the terminal."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            _, _, stat = (path / "stat").read_text().rpartition(")")
            state, _parent, group, its_session, _terminal, foreground = stat.split()[:6]
            if int(its_session) == session:
                command = (path / "cmdline").read_bytes().replace(b"\0", b" ")[-60:]
                found.append((path.name, state, group, foreground, command))
    return found


def talk(command, *lines):
    """Run ``command`` in a terminal, and for each of ``lines`` wait for a text and then press keys."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(command[0], command)
    shown = b""
    try:
        for awaited, keys in lines:
            end_s = time.monotonic() + 20.0
            while awaited not in shown and time.monotonic() < end_s:
                if select.select([terminal], [], [], 0.1)[0]:
                    shown += os.read(terminal, 1 << 16)
            assert awaited in shown, (shown, processes_of(pid))
            shown = shown.partition(awaited)[2]
            os.write(terminal, keys)
    finally:
        os.close(terminal)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_it_has_the_terminal():
    script = "trap 'exit 3' INT; echo begun; read line; echo heard $line; while :; do sleep 0.1; done"
    command = [sys.executable, "-c", PROGRAM, "60", "sh", "-c", script]
    talk(command, (b"begun", b"hello\n"), (b"heard hello", b"\x03"), (b"status 3 False", b""))


def test_it_is_stopped_and_goes_on_as_any_job_of_a_shell():
    command = f"{sys.executable} -c \"$PROGRAM\" 60 sh -c 'echo begun; cat'"
    shell = ["env", f"PROGRAM={PROGRAM}", f"COMMAND={command}", "PS1=ready> ", "bash", "--norc", "--noprofile", "-i"]
    talk(
        shell,
        (b"ready> ", b"eval $COMMAND\n"),
        (b"begun", b"before\n"),
        (b"before\r\nbefore", b"\x1a"),
        (b"Stopped", b""),
        (b"ready> ", b"fg\n"),
        (b"echo begun", b"after\n"),
        (b"after\r\nafter", b"\x03"),
        (b"status 130 False", b""),
    )
