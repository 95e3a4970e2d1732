"""Somebody who needs a lock to add a line to a ledger: ``NAME LEDGER ADDRESS...``.

It takes the lock, reads the ledger, works until it is told to go on, and writes the ledger back with a line more. It
never asks whether the lock is still its own: to ask, and then to write, would leave the same gap, only shorter.
"""

from __future__ import annotations

import sys
from typing import Final

from raftkv.api import paths
from raftkv.api.answers import LockGranted
from raftkv.api.bodies import LockBody
from raftkv.instruments.lab.lessons.actor import say
from raftkv.instruments.lab.lessons.ledger import LedgerRequest, ask_ledger
from raftkv.instruments.lab.lessons.plain_client import PlainClient

LOCK: Final = "ledger"
TTL_S: Final = 2.0
WAIT_S: Final = 20.0


def main(name: str, ledger: str, *addresses: str) -> None:
    """Until its line was written; says ``holds``, ``read``, ``wrote`` or ``refused``."""
    client = PlainClient(addresses)
    while True:
        body = LockBody(ttl=TTL_S, wait=WAIT_S, holder=name)
        lock = client.document(LockGranted, "POST", paths.filled(paths.LOCK, LOCK), body, wait_s=WAIT_S, once=False)
        say("holds", number=lock.token)
        lines = ask_ledger(ledger, LedgerRequest()).lines
        say("read", text=", ".join(lines))
        sys.stdin.readline()
        answer = ask_ledger(ledger, LedgerRequest(lines=[*lines, name], token=lock.token))
        say("refused" if answer.refused else "wrote", number=lock.token, text=answer.refused)
        client.ask("DELETE", f"{paths.filled(paths.LOCK, LOCK)}?token={lock.token}", once=False)
        if not answer.refused:
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
