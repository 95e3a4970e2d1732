"""A store of its own, a list of lines in a file, that knows nothing of raftkv: ``FILE [--checks-tokens]``.

Whoever writes brings the whole list, and a token; a store that checks tokens refuses one that is lower than the highest
that it has seen (Kleppmann, "How to do distributed locking", 2016). Requests and answers are lines of JSON over TCP.
"""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
from pathlib import Path
from typing import Final

import msgspec

from raftkv.instruments.lab.lessons.actor import say

ANSWER_S: Final = 10.0


class LedgerRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Write ``lines``, or tell what stands there (``None``)."""

    lines: list[str] | None = None
    token: int = 0


class LedgerAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What stands there, or why it was not written."""

    lines: list[str] = []
    refused: str = ""


class SharedFile:
    """The list in ``path``."""

    def __init__(self, path: Path, *, checks_tokens: bool) -> None:
        self._path = path
        self._checks_tokens = checks_tokens
        self._highest_token = 0
        self._one_at_a_time = threading.Lock()

    def take(self, request: LedgerRequest) -> LedgerAnswer:
        """Do what is asked."""
        with self._one_at_a_time:
            if request.lines is None:
                return LedgerAnswer(lines=self._path.read_text().splitlines() if self._path.exists() else [])
            if self._checks_tokens and request.token < self._highest_token:
                return LedgerAnswer(refused=f"token {request.token} is older than {self._highest_token}")
            self._highest_token = max(self._highest_token, request.token)
            self._path.write_text("".join(f"{line}\n" for line in request.lines))
            return LedgerAnswer(lines=request.lines)


def ask_ledger(address: str, request: LedgerRequest) -> LedgerAnswer:
    """Ask the store at ``host:port`` one thing."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=ANSWER_S) as asked, asked.makefile("rwb") as file:
        file.write(msgspec.json.encode(request) + b"\n")
        file.flush()
        return msgspec.json.decode(file.readline(), type=LedgerAnswer)


def main(path: str, *options: str) -> None:
    """Serve until it is killed; says its address."""
    ledger = SharedFile(Path(path), checks_tokens="--checks-tokens" in options)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                self.wfile.write(
                    msgspec.json.encode(ledger.take(msgspec.json.decode(line, type=LedgerRequest))) + b"\n"
                )

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        host, port = server.server_address[:2]
        say("serves", text=f"{host!s}:{port}")
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
