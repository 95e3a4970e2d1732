"""Who may do what, as of the newest view of the state that this front-end has read. Everything happens on its loop.

Whoever listens is told before anything of that view is given to anybody: so nobody is told of a change by a right that
was gone when it was made. Must not import ``raft`` or ``http``.
"""

from __future__ import annotations

from collections.abc import Callable

from raftkv.core.rights import Rights


class KnownRights:
    """The rights that are known here; ``None`` until a state was read."""

    def __init__(self, current: Rights | None = None) -> None:
        self.current = current
        self._listeners: dict[RightsListener, None] = {}

    def learn(self, rights: Rights) -> None:
        """A view said so."""
        if rights is self.current:
            return
        self.current = rights
        for listener in tuple(self._listeners):
            listener.hear()

    def listen(self, hear: Callable[[], None]) -> RightsListener:
        """Call ``hear``, which must not raise, whenever rights have changed."""
        listener = RightsListener(self._listeners, hear)
        self._listeners[listener] = None
        return listener


class RightsListener:
    """One that listens, until ``end``."""

    __slots__ = ("_all", "hear")

    def __init__(self, everybody: dict[RightsListener, None], hear: Callable[[], None]) -> None:
        self._all = everybody
        self.hear = hear

    def end(self) -> None:
        """Hear nothing more; any number of times."""
        self._all.pop(self, None)
