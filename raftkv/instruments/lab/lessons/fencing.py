"""A lock whose holder was away: without a fencing token it corrupts what it guards, with one it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from raftkv.instruments.lab.lessons.actor import Actor
from raftkv.instruments.lab.lessons.holder import TTL_S
from raftkv.instruments.lab.lessons.ledger import LedgerRequest, ask_ledger
from raftkv.instruments.lab.lessons.lesson import Lesson, Tell, ToBeSeen
from raftkv.instruments.lab.run import started
from raftkv.instruments.lab.scenario import Variant
from raftkv.instruments.local.nodes import loopback_sites

CLUSTER: Final = Variant(name="cluster", about="Three nodes with one leader.")


def perform(folder: Path, tell: Tell) -> list[ToBeSeen]:
    """The same twice: with a store that takes what it is given, and with one that looks at the token."""
    tell("Three nodes start on this machine, and a store of its own: a file with one line for each who wrote.")
    tell("Ann and Bob each add a line: read the file, add to it, write it back. A lock keeps them apart.")
    tell(f"Whoever holds it has a lease of {TTL_S:g} s, and none of them asks again.")
    with started(CLUSTER, loopback_sites(3), folder) as cluster:
        addresses = [str(site.http) for site in cluster.sites.values()]
        tell("\n1. The store takes whatever it is given.")
        unchecked = _play(folder / "ledger-unchecked.txt", addresses, tell)
        tell("\n2. The store looks at the token: the number that came with the lock, which grows with every grant.")
        checked = _play(folder / "ledger-checked.txt", addresses, tell, "--checks-tokens")
    return [
        ToBeSeen(
            "without a look at the token, a line was wiped out by whoever was away",
            "Bob" not in unchecked,
            is_elsewhere=True,
        ),
        ToBeSeen("with it, both lines are there", sorted(checked) == ["Ann", "Bob"]),
    ]


def _play(path: Path, addresses: list[str], tell: Tell, *options: str) -> list[str]:
    path.unlink(missing_ok=True)
    with Actor("the store", "ledger", str(path), *options) as store:
        ledger = store.wait_for("serves").text
        with Actor("Ann", "holder", "Ann", ledger, *addresses) as ann:
            first = ann.wait_for("holds").number
            ann.wait_for("read")
            ann.pause()
            tell(f"   Ann holds the lock with token {first}, has read the file, and is suspended (SIGSTOP).")
            with Actor("Bob", "holder", "Bob", ledger, *addresses) as bob:
                second = bob.wait_for("holds").number
                tell(f"   Her lease has ended, so Bob gets the lock, with token {second}.")
                bob.order("go on")
                bob.wait_for("wrote")
            tell("   Bob has written, and let the lock go. The file: " + _told(ledger))
            ann.resume()
            ann.order("go on")
            tell("   Ann goes on where she was. To her no time has passed, and the lock is hers:")
            _finish(ann, tell)
        lines = ask_ledger(ledger, LedgerRequest()).lines
        tell("   In the end the file: " + _told(ledger))
        return lines


def _finish(ann: Actor, tell: Tell) -> None:
    """Let her write, anew if she is refused."""
    while True:
        said = ann.wait_for("wrote", "refused")
        if said.what == "wrote":
            tell(f"   she writes with token {said.number}, and the store takes it.")
            return
        tell(f"   she writes with token {said.number}, and is refused: {said.text}.")
        token = ann.wait_for("holds").number
        tell(f"   She takes the lock again, with token {token}, and reads the file again: {ann.wait_for('read').text}.")
        ann.order("go on")


def _told(ledger: str) -> str:
    return ", ".join(ask_ledger(ledger, LedgerRequest()).lines) or "empty"


LESSON: Final = Lesson("A lock without a fencing token corrupts, and with it does not", perform)
