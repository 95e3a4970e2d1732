"""Backups on their way: the process that writes one to a pipe, and the body that the pipe becomes.

Rules: the pipe is read as fast as the client takes the body, so that nothing piles up; the process ends with whoever
reads, or with this one; a body whose process failed is cut off. At most ``LIMIT`` are made by one worker at a time.
Must not import Flask.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import subprocess
from collections.abc import AsyncGenerator
from typing import Final

from raftkv.http.messages import StreamCutError
from raftkv.process.command import module
from raftkv.process.loggers import get_logger

LIMIT: Final = 2
PIECE_BYTES: Final = 256 << 10
_PIPE_BYTES: Final = 1 << 20
_ENDED_WITHIN_S: Final = 10.0
_LOOK_S: Final = 0.01

log_line = get_logger("raftkv.backup")


class Exports:
    """The backups that one worker makes now."""

    def __init__(self) -> None:
        self.count = 0

    async def body(self, command: tuple[str, ...]) -> AsyncGenerator[bytes]:
        """What the module and arguments ``command`` write to standard output, piece by piece."""
        self.count += 1
        try:
            process = _started(command)
            try:
                async for piece in _pieces(process):
                    yield piece
                await _check_end(process)
            finally:
                _end(process)
        finally:
            self.count -= 1


def _started(command: tuple[str, ...]) -> subprocess.Popen[bytes]:
    try:
        process = subprocess.Popen(  # noqa: S603  our own module
            module(*command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except OSError as error:
        log_line.error("backup not begun", reason=str(error))  # noqa: TRY400  one line
        raise StreamCutError from None
    assert process.stdout is not None
    with contextlib.suppress(OSError):  # it goes on with a smaller pipe
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return process


async def _pieces(process: subprocess.Popen[bytes]) -> AsyncGenerator[bytes]:
    assert process.stdout is not None
    reader = asyncio.StreamReader(limit=PIECE_BYTES)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), process.stdout)
    try:
        while piece := await reader.read(PIECE_BYTES):
            yield piece
    finally:
        transport.close()


async def _check_end(process: subprocess.Popen[bytes]) -> None:
    """All of it was read; raises ``StreamCutError`` unless the process says so as well."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + _ENDED_WITHIN_S
    while process.poll() is None and loop.time() < until_s:  # noqa: ASYNC110  it ends at once, or is ended
        await asyncio.sleep(_LOOK_S)
    if process.poll() == 0:
        return
    reason = ""
    if process.poll() is not None and process.stderr is not None:
        reason = process.stderr.read().decode(errors="replace").strip()
    log_line.error("backup failed", reason=reason or f"its process ended with status {process.returncode}")
    raise StreamCutError


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
