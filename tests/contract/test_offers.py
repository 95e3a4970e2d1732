"""A level that is not offered is refused, never approximated."""

from __future__ import annotations

from typing import Any

import pytest

from raftkv.core.errors import Code, Refused
from raftkv.core.requests import Barrier, Consistency, Get, Read
from raftkv.core.results import Answer
from tests.contract.conftest import Harness, SoloSubject
from tests.contract.remote import RemoteSubject


@pytest.mark.parametrize("kind", ["solo", "remote", "remote with shared state"])
def test_a_level_that_is_not_offered_is_refused(kind: str, tmp_path: Any) -> None:
    subject: Any
    if kind == "solo":
        subject = SoloSubject(10)
        solo = subject.replicator
    else:
        subject = RemoteSubject(10, tmp_path, shared_state="shared" in kind)
        solo = subject.replica.solo
    solo.offers = (Consistency.LINEARIZABLE,)
    harness = Harness(subject)
    try:
        for _ in range(20):
            subject.turn()  # the next pulse tells a front-end

        for request in (
            Read(query=Get(key=b"a"), consistency=Consistency.LEASE),
            Barrier(consistency=Consistency.LOCAL),
        ):
            outcome = harness.ask(request)
            assert isinstance(outcome, Refused)
            assert outcome.code is Code.NOT_SUPPORTED
        assert isinstance(harness.ask(Read(query=Get(key=b"a"))), Answer)
    finally:
        subject.stop()
