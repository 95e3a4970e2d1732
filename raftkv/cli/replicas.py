"""``raftkv get --replicas``: what each node of a leaderless cluster holds of a key, as a table of 80 columns. Pure."""

from __future__ import annotations

from typing import Final

from raftkv.api.cluster_answers import HeldVersion, KeyOnRing, ReplicaOfKey
from raftkv.api.values import value_from_json
from raftkv.cli.output import escaped
from raftkv.cli.tables import Row

COLUMNS: Final = ("node", "holds", "state", "stamp", "keeps")
"""``stamp``: when it was written, in microseconds, and through which node; ``keeps``: for whom it keeps the write."""

HELD_CHARACTERS: Final = 24
_FATES: Final = {"silent": "no answer", "lost": "not reached"}


def table(told: KeyOnRing) -> list[Row]:
    """A row for each version of each node that is to hold the key, or holds something of it all the same."""
    return [row for one in told.nodes if one.part != "other" or one.versions or one.hints for row in _rows(one)]


def is_found(told: KeyOnRing) -> bool:
    """Does any node show a value?"""
    return any(version.value is not None for one in told.nodes for version in one.versions)


def _rows(one: ReplicaOfKey) -> list[Row]:
    state, style = _state(one)
    keeps = ", ".join(f"for {hint.target}" for hint in one.hints or ()) or "-"
    if not one.versions:
        return [((one.id, "nothing" if one.fate == "holds" else "-", state, "-", keeps), style)]
    first, *others = [(_held(version), f"{version.revision}@{version.node.split('~')[0]}") for version in one.versions]
    rows: list[Row] = [((one.id, first[0], state, first[1], keeps), style)]
    return rows + [(("", held, "", stamp, ""), style) for held, stamp in others]


def _state(one: ReplicaOfKey) -> tuple[str, str]:
    if one.fate != "holds":
        return _FATES.get(one.fate) or one.reason or one.fate, "red"
    moving = ", moving" if one.part == "moving" else ""
    if one.part == "other":
        return "stands in", ""
    if one.behind:
        return f"{'behind' if one.versions else 'lacks it'}{moving}", "yellow"
    if one.versions_count > 1:
        return f"{one.versions_count} values{moving}", ""
    return f"{'newest' if one.versions else '-'}{moving}", "green" if one.versions else ""


def _held(version: HeldVersion) -> str:
    if version.value is None:
        return "(deleted)"
    text = escaped(value_from_json(version.value)).decode()
    if len(text) <= HELD_CHARACTERS:  # of a longer one the head is longer, too
        return text or "(empty)"
    size = f"... {version.bytes} bytes"
    return text[: max(1, HELD_CHARACTERS - len(size))] + size
