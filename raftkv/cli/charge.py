"""Runs a command for as long as something is held: a lock, or a leadership.

The command has a process group of its own, which has the terminal, as a shell's job has; signals that come to us are
passed on to it. It ends in time before what is held can be another's, whatever becomes of us: see
``raftkv.process.guard``. POSIX only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from raftkv.cli import exits
from raftkv.core.clocks import lease_now_s
from raftkv.process.guard import Guard

TELL_S: Final = 0.1
"""How often the guard is told until when the command may run."""

STOP_S: Final = 0.5
"""How long it may take until we are stopped, as we want; where no shell could let us go on, we are not."""

FORWARDED: Final = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)

NOT_EXECUTABLE: Final = 126
NO_SUCH_COMMAND: Final = 127
SIGNALLED: Final = 128
"""And the signal's number: these three are a shell's."""


def run_charged(
    command: Sequence[str], more: Mapping[str, str], *, left_s: Callable[[], float], grace_s: float
) -> tuple[int, bool]:
    """Run ``command``, with ``more`` in its environment: its exit status, and whether it had to be ended.

    ``left_s`` tells how long it may still run at most; ``grace_s`` before that it gets SIGTERM, and SIGKILL then.
    """

    def until_s() -> float:
        return lease_now_s() + left_s() - grace_s

    with Guard(grace_s) as guard, _signals() as forward_to:
        guard.may_run(until_s())
        try:
            process = subprocess.Popen(command, env={**os.environ, **more}, process_group=guard.group)  # noqa: S603  as asked
        except OSError as error:
            exits.complain(f"{command[0]}: {error.strerror}")
            return (NO_SUCH_COMMAND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE), False
        forward_to(guard.group)
        with _telling(lambda: guard.may_run(until_s()), guard.group), _terminal(guard.group) as resume:
            process.returncode = _awaited(process.pid, resume)
        was_ended = guard.end()
    return (process.returncode if process.returncode >= 0 else SIGNALLED - process.returncode), was_ended


def _awaited(pid: int, resume: Callable[[], None]) -> int:
    """Wait until the command has ended; stopped from the terminal, it takes us with it, and goes on with us."""
    while True:
        _, status = os.waitpid(pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            return os.waitstatus_to_exitcode(status)
        resume()


@contextmanager
def _telling(tell: Callable[[], None], group: int) -> Iterator[None]:
    over = threading.Event()

    def go_on() -> None:
        try:
            while not over.wait(TELL_S):
                tell()
        except OSError:  # the guard is gone, who was told to end the group, or has done so
            _send(group, signal.SIGTERM)

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _signals() -> Iterator[Callable[[int], None]]:
    """Pass signals on to the group that is named later; those that come before that wait for it."""
    groups: list[int] = []
    waiting: list[int] = []

    def handle(number: int, _: object) -> None:
        if groups:
            _send(groups[0], number)
        else:
            waiting.append(number)

    def forward_to(group: int) -> None:
        groups.append(group)
        for number in waiting:
            _send(group, number)

    # What was ignored when we began (nohup, a job in the background) is to be ignored by the command as well.
    heard = [number for number in FORWARDED if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heard}
    try:
        yield forward_to
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _send(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended
        os.killpg(group, number)


@contextmanager
def _terminal(group: int) -> Iterator[Callable[[], None]]:
    """Let ``group`` have the terminal if it is ours; what is given is to be called when it was stopped."""
    if not os.isatty(0) or os.tcgetpgrp(0) != os.getpgrp():
        yield lambda: None
        return
    continued = threading.Event()
    before = {
        signal.SIGTTOU: signal.signal(signal.SIGTTOU, signal.SIG_IGN),  # or to take the terminal back would stop us
        signal.SIGCONT: signal.signal(signal.SIGCONT, lambda *_: continued.set()),
    }

    def give() -> None:
        os.tcsetpgrp(0, group)
        _send(group, signal.SIGCONT)  # it may have wanted to read already

    def stop_too() -> None:
        os.tcsetpgrp(0, os.getpgrp())
        continued.clear()
        os.killpg(os.getpgrp(), signal.SIGTSTP)
        continued.wait(STOP_S)
        give()

    give()
    try:
        yield stop_too
    finally:
        os.tcsetpgrp(0, os.getpgrp())
        for number, handler in before.items():
            signal.signal(number, handler)
