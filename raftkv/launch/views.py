"""What is known of each node while a cluster runs, and what of it is worth a line. Pure: no process, no clock."""

from __future__ import annotations

import signal

import msgspec

from raftkv.api.cluster_answers import Member, NodeStatus


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """One node as the supervisor sees it.

    ``status`` is the last answer of its ``GET /status``, ``None`` while there is none; a node that has never answered
    ``is_new``. ``exit_status`` is that of its process, as ``subprocess`` gives it, ``None`` while it runs; a node that
    ended and has a status all the same was started again by somebody else.
    """

    id: str
    url: str
    pid: int
    status: NodeStatus | None = None
    exit_status: int | None = None
    is_new: bool = False

    @property
    def is_gone(self) -> bool:
        """Has its process ended, and did nobody start it again?"""
        return self.exit_status is not None and self.status is None

    @property
    def is_ready(self) -> bool:
        """Does it run, and can it serve writes and linearizable reads?"""
        return self.status is not None and self.status.ready

    @property
    def role(self) -> str:
        """The word for the table."""
        if self.exit_status is not None and self.status is None:
            return "killed" if self.exit_status < 0 else f"ended ({self.exit_status})"
        if self.status is None:
            return "starting" if self.is_new else "no answer"
        return self.status.role

    @property
    def membership(self) -> Member | None:
        """What the node says of itself as a member of a ring; ``None`` where there is none, or no answer."""
        members = self.status.members if self.status is not None else None
        return next((member for member in members or () if member.id == self.id), None)

    @property
    def moving(self) -> str:
        """How far the data is that moves to it after the ring changed, for the table."""
        transfer = self.status.transfer if self.status is not None else None
        return f"{transfer.ranges_done} of {transfer.ranges} ranges" if transfer else "-"


def ended(exit_status: int) -> str:
    """How a process ended, in words."""
    if exit_status >= 0:
        return f"ended with exit status {exit_status}"
    try:
        return f"killed by {signal.Signals(-exit_status).name}"
    except ValueError:
        return f"killed by signal {-exit_status}"


class Chronicle:
    """Tells what happened from one look at the cluster to the next, each thing once."""

    def __init__(self) -> None:
        self._leader: tuple[str, int] | None = None
        self._answered: set[str] = set()
        self._silent: set[str] = set()
        self._ended: set[str] = set()
        self._revived: set[str] = set()
        self._was_ready = False

    def observe(self, views: tuple[NodeView, ...]) -> tuple[str, ...]:
        """Sentences for what is new."""
        return tuple(
            [sentence for view in views for sentence in self._of_node(view)]
            + self._of_leader(views)
            + self._of_all(views)
        )

    def _of_node(self, view: NodeView) -> list[str]:
        if view.exit_status is not None:
            return self._of_ended(view, view.exit_status)
        if view.status is None:
            if view.id in self._answered and view.id not in self._silent:
                self._silent.add(view.id)
                return [f"{view.id} does not answer"]
            return []
        self._answered.add(view.id)
        if view.id in self._silent:
            self._silent.remove(view.id)
            return [f"{view.id} answers again"]
        return []

    def _of_ended(self, view: NodeView, exit_status: int) -> list[str]:
        if view.id not in self._ended:
            self._ended.add(view.id)
            return [f"{view.id} (pid {view.pid}) {_with_verb(exit_status)}"]
        if view.is_gone is (view.id not in self._revived):
            return []
        self._revived ^= {view.id}
        return [f"{view.id} is gone again" if view.is_gone else f"{view.id} answers again, started by somebody else"]

    def _of_leader(self, views: tuple[NodeView, ...]) -> list[str]:
        """The leader of the highest term is the one: an older one may not know yet that it is none."""
        claims = [
            (view.status.term, view.id) for view in views if view.status is not None and view.status.role == "leader"
        ]
        if not claims:
            return []
        term, leader = max(claims)
        if self._leader is not None and (self._leader == (leader, term) or term < self._leader[1]):
            return []
        self._leader = (leader, term)
        return [f"{leader} is leader in term {term}"]

    def _of_all(self, views: tuple[NodeView, ...]) -> list[str]:
        running = [view for view in views if not view.is_gone]
        is_ready = bool(running) and all(view.is_ready for view in running)
        became_ready, self._was_ready = is_ready and not self._was_ready, is_ready or self._was_ready
        if became_ready:
            return ["ready: " + " ".join(view.url for view in running)]
        served = any(view.is_ready for view in running)
        if self._was_ready and not served:
            self._was_ready = False
            reasons = [view.status.reason for view in running if view.status is not None and view.status.reason]
            return [f"not ready: {reasons[0]}"] if reasons else ["not ready"]
        return []


def _with_verb(exit_status: int) -> str:
    text = ended(exit_status)
    return text if exit_status >= 0 else f"was {text}"
