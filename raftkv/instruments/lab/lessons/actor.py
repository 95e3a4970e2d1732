"""A process that plays a part: it says what it does, a line each, takes orders as lines, and ends with the play.

Every wait has a deadline and raises ``ClusterError``.
"""

from __future__ import annotations

import queue
import subprocess
import threading
import time
from typing import Final, Self

import msgspec

from raftkv.instruments.local.nodes import ClusterError
from raftkv.instruments.local.processes import Paused
from raftkv.process.command import module

SAYS_S: Final = 40.0
"""How long an actor may take until it says what it is waited for."""

END_S: Final = 5.0


class ActorLine(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that an actor says: a word for what happened, and what belongs to it. ``at_s`` is monotonic."""

    what: str
    number: int = 0
    text: str = ""
    at_s: float = 0.0


def say(what: str, *, number: int = 0, text: str = "", at_s: float | None = None) -> None:
    """Say a line to whoever started this process."""
    line = ActorLine(what=what, number=number, text=text, at_s=time.monotonic() if at_s is None else at_s)
    print(msgspec.json.encode(line).decode(), flush=True)  # noqa: T201  it is the actor's voice


class Actor:
    """The module ``part`` beside this one, run with ``arguments``; ``name`` is for people."""

    def __init__(self, name: str, part: str, *arguments: str) -> None:
        self.name = name
        self.said: list[ActorLine] = []
        """All that was heard of it, in order."""

        self._heard: queue.SimpleQueue[ActorLine | None] = queue.SimpleQueue()
        self._paused: Paused | None = None
        self._process = subprocess.Popen(  # noqa: S603  our own modules
            module(f"{__package__}.{part}", *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,  # Ctrl-C is for the play, which then ends its actors
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.kill()
        self.resume()
        self._process.wait(END_S)
        self._listener.join(END_S)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def wait_for(self, *words: str, limit_s: float = SAYS_S) -> ActorLine:
        """The next line that says one of ``words``; what it says before is only remembered."""
        what = " or ".join(words)
        end_s = time.monotonic() + limit_s
        while True:
            try:
                line = self._heard.get(timeout=max(0.0, end_s - time.monotonic()))
            except queue.Empty:
                raise ClusterError(f"{self.name} did not say {what} in {limit_s:g} s") from None
            if line is None:
                raise ClusterError(f"{self.name} ended before it said {what}")
            self.said.append(line)
            if line.what in words:
                return line

    def hear_all(self) -> list[ActorLine]:
        """Everything that it has said up to now."""
        while not self._heard.empty():
            line = self._heard.get()
            if line is not None:
                self.said.append(line)
        return self.said

    def order(self, word: str) -> None:
        """Let it do ``word``."""
        assert self._process.stdin is not None
        self._process.stdin.write(word.encode() + b"\n")
        self._process.stdin.flush()

    def pause(self) -> None:
        """Stop it in its tracks (SIGSTOP): to itself no time passes."""
        self._paused = Paused({self._process.pid})

    def resume(self) -> None:
        """Let it go on, if it was paused."""
        paused, self._paused = self._paused, None
        if paused is not None:
            paused.resume()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._heard.put(msgspec.json.decode(line, type=ActorLine))
        self._heard.put(None)
