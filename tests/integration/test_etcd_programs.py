"""Random programs for etcd, given to real etcd and to a node of ours, over JSON and over gRPC, watches among them.

By default a few, the same every time. With ``RAFTKV_ETCD_S`` as many as there is time for, in seconds, chosen anew, or
as ``RAFTKV_ETCD_SEED`` says: what is found to differ is shrunk to the least that does.
"""

from __future__ import annotations

import base64
import json
import os
import random
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from raftkv.etcd import gateway_json, messages
from tests.integration.etcd_oracle import encoded, etcd
from tests.integration.etcd_programs import (
    CANCEL,
    EVERYTHING,
    GIVEN_LEASES,
    PROGRAMS,
    PROGRESS,
    Program,
    Step,
    counted_from,
    span,
)
from tests.integration.etcd_served import Served, Watcher

pytestmark = pytest.mark.integration

BUDGET_S = float(os.environ.get("RAFTKV_ETCD_S", "0"))
SEED = int(os.environ.get("RAFTKV_ETCD_SEED", "0")) or (random.randrange(1, 1 << 32) if BUDGET_S else 1)
ROUND = 40
"""Programs for one seed."""


class Trial:
    """Both servers, which have been asked the same from their beginning; new ones where they have not."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._served: Served | None = None
        self.counts: Counter[str] = Counter()

    def run(self, program: Program) -> None:
        """Raises ``AssertionError`` where the two differ."""
        served = self._served or self._begin()
        self._served = None  # until it is known that they agree
        base = _forget_all(served)
        self.counts["programs"] += 1
        with ExitStack() as stack:
            pair = [Watcher(channel, is_theirs=not number) for number, channel in enumerate(served.channels)]
            for watcher in pair:
                stack.callback(watcher.close)
            watching = [counted_from(base - 1, one) for one in program.watching]
            begun = _watch(pair, watching)
            compacted = 0
            for step in program.steps:
                if step.path in (CANCEL, PROGRESS):
                    self.counts[step.path] += 1
                    _speak(pair, step, begun)
                    continue
                self.counts["calls" if step.is_call else "posts"] += 1
                body = counted_from(base - 1, step.body)
                said = _same(served, step.path, body, is_call=step.is_call)
                if step.path == "/v3/kv/compaction" and said[0] in (200, "OK"):
                    compacted = body["revision"]
            late = [counted_from(base - 1, one) for one in program.watching_late]
            # Of the revision that was compacted to, etcd tells what it keeps, and here all is told.
            late = [one for one in late if one["start_revision"] != compacted]
            begun |= _watch(pair, late)
            self.counts["watches"] += len(begun)
            self.counts["events"] += _compare_told(served, pair, begun)
        self._served = served

    def _begin(self) -> Served:
        self._stack.close()
        directory = self._stack.enter_context(tempfile.TemporaryDirectory())
        served = Served(self._stack.enter_context(etcd(Path(directory) / "data")))
        self._stack.callback(served.close)
        self.counts["servers"] += 1
        return served


def _forget_all(served: Served) -> int:
    """No keys, no leases; the revision then."""
    for lease in GIVEN_LEASES:
        served.same("/v3/lease/revoke", {"ID": lease})
    served.same("/v3/kv/deleterange", span("\0", EVERYTHING))
    told = served.same("/v3/kv/range", {"key": encoded("a")})
    return int(told["header"]["revision"])


def _same(served: Served, path: str, body: Any, *, is_call: bool) -> Any:
    theirs, ours = served.called(path, served.message(path, body)) if is_call else served.ask(path, body)
    assert _timeless(path, ours) == _timeless(path, theirs), (path, body, "gRPC" if is_call else "JSON")
    return ours


def _timeless(path: str, said: Any) -> Any:
    """Without what depends on the clock, and on an order that etcd leaves open."""
    told = said[1]
    if path == "/v3/lease/timetolive" and isinstance(told, dict) and "grantedTTL" in told:
        return said[0], {**told, "TTL": None, "keys": sorted(told.get("keys", ()))}
    if path == "/v3/lease/leases" and isinstance(told, dict):
        return said[0], {**told, "leases": sorted(one["ID"] for one in told.get("leases", ()))}
    return said


def _watch(pair: list[Watcher], asked: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Begin watches; those that came to be, by their ids."""
    begun = {}
    for one in asked:
        request = gateway_json.decode(messages.WatchRequest, json.dumps({"create_request": one}).encode())
        for watcher in pair:
            watcher.ask(request)
        theirs, ours = (watcher.hear_created() for watcher in pair)
        assert ours == theirs, (one, ours, theirs)
        if "canceled" not in ours:
            begun[int(ours.get("watch_id", 0))] = one
    return begun


def _speak(pair: list[Watcher], step: Step, begun: dict[int, dict[str, Any]]) -> None:
    """A word on the stream of watches: one ends, or is unknown; or it is told how far they are."""
    if step.path == PROGRESS:
        for watcher in pair:
            watcher.ask(messages.WatchRequest(progress_request=messages.WatchProgressRequest()))
            watcher.hear_progress(begun)
        return
    for watcher in pair:
        watcher.ask(messages.WatchRequest(cancel_request=messages.WatchCancelRequest(watch_id=step.body)))
    if begun.pop(step.body, None) is None:
        return
    theirs, ours = ({**watcher.hear_canceled(step.body), "header": None} for watcher in pair)
    assert ours == theirs
    # Of what had happened, either may have told a part: etcd draws by lot which of what waits is sent next.
    theirs, ours = (watcher.told[step.body][:-1] for watcher in pair)
    assert all(one == other for one, other in zip(ours, theirs, strict=False)), (ours, theirs)


def _compare_told(served: Served, pair: list[Watcher], watches: dict[int, dict[str, Any]]) -> int:
    """Let something happen that each watch hears of, read until it is told, and compare; how many events there were."""
    last: dict[str, tuple[int, int]] = {}
    for first in sorted({one["key"] for one in watches.values()}):
        put = served.same("/v3/kv/put", {"key": first, "value": encoded("last")})
        removed = served.same("/v3/kv/deleterange", {"key": first})
        last[first] = int(put["header"]["revision"]), int(removed["header"]["revision"])
    theirs, ours = (
        watcher.told_until({number: _last_of(one, last) for number, one in watches.items()}) for watcher in pair
    )
    for number, one in watches.items():
        assert ours[number] == theirs[number], (one, ours[number], theirs[number])
    return sum(map(len, ours.values()))


def _last_of(watch: dict[str, Any], last: dict[str, tuple[int, int]]) -> int:
    """The revision of the last change that the watch is told of, 0 for none: it begins later."""
    start, end = base64.b64decode(watch["key"]), base64.b64decode(watch["range_end"])
    found = 0
    for first, (put, removed) in last.items():
        name = base64.b64decode(first)
        if name == start or (start < name and (end == b"\0" or name < end)):
            found = max(found, put if "NODELETE" in watch["filters"] else removed)
    return found if found >= watch["start_revision"] else 0


def _trial_of(number: int, count: int, trial: Trial, phases: tuple[Phase, ...]) -> None:
    @seed(number)
    @settings(max_examples=count, deadline=None, database=None, phases=phases, suppress_health_check=list(HealthCheck))
    @given(program=PROGRAMS)
    def run(program: Program) -> None:
        trial.run(program)

    run()


@pytest.mark.timeout(max(120, 2 * BUDGET_S))
def test_random_programs_have_the_same_answers(capsys: pytest.CaptureFixture[str]) -> None:
    until_s, number = time.monotonic() + BUDGET_S, SEED
    with ExitStack() as stack:
        trial = Trial(stack)
        if not BUDGET_S:
            _trial_of(number, 15, trial, (Phase.generate,))
            return
        while time.monotonic() < until_s:
            try:
                _trial_of(number, ROUND, trial, (Phase.generate, Phase.shrink))
            finally:
                with capsys.disabled():
                    print(f"\nseed {number}: {dict(trial.counts)}")  # noqa: T201  what a long run came to
            number += 1
