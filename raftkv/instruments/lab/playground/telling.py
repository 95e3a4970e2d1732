"""Operations in sentences that a person can read out: who did what, where, when, and what came of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from raftkv.instruments.lab.history import GetAction, ObservedOperation, Outcome, PutAction

KEY_PREFIX = b"playground/"
"""Keys of the playground's own clients begin so, apart from what was copied from elsewhere."""


class Teller:
    """Tells in seconds since ``origin_ns``; ``names`` are those of the clients, which may become more."""

    def __init__(self, origin_ns: int, names: Mapping[int, str]) -> None:
        self._origin_ns = origin_ns
        self._names = names

    def end_s(self, operation: ObservedOperation) -> float:
        """When it was over, or began where it never was."""
        moment_ns = operation.invoked_ns if operation.returned_ns is None else operation.returned_ns
        return (moment_ns - self._origin_ns) / 1e9

    def line(self, operation: ObservedOperation) -> str:
        """The operation in one sentence."""
        who = self._names.get(operation.client, f"client {operation.client}")
        what = f"{self.end_s(operation):.2f} s: {who}"
        key = operation.key.removeprefix(KEY_PREFIX).decode(errors="backslashreplace")
        at = f" at {operation.node}" if operation.node else ""
        if isinstance(operation.action, PutAction):
            became = {
                Outcome.OK: "acknowledged",
                Outcome.FAILED: "refused",
                Outcome.UNKNOWN: "and never heard what became of it",
            }
            return f"{what} wrote {key} = {value(operation.action.value)}{at}, {became[operation.outcome]}."
        assert isinstance(operation.action, GetAction)
        if operation.outcome is not Outcome.OK:
            return f"{what} read {key}{at}, and was refused."
        assert not isinstance(operation.result, bool)
        found = " and ".join(value(each) for each in (operation.result, *operation.siblings))
        return f"{what} read {key}{at}, and was told {found}."

    @staticmethod
    def age(behind: int, stale_ms: float) -> str:
        """How old an answer was."""
        since = f"{stale_ms:.0f} ms" if stale_ms < 1000 else f"{stale_ms / 1000:.1f} s"
        return f"{behind} {'version' if behind == 1 else 'versions'} behind; overwritten {since} before."


def value(found: bytes | None) -> str:
    """A value as people read it."""
    return "nothing" if found is None else found.decode(errors="backslashreplace")
