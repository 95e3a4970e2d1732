"""Reads that name a number of replicas are the replica's, even where a front-end could read the state itself."""

from __future__ import annotations

from typing import Any

import pytest

from raftkv.core.requests import Consistency, Get, Read
from raftkv.core.results import Answer
from tests.contract.conftest import Harness
from tests.contract.remote import RemoteSubject


@pytest.mark.parametrize("consistency", [Consistency.EVENTUAL, Consistency.LOCAL, Consistency.LINEARIZABLE])
def test_a_read_that_names_replicas_is_handed_to_the_replica(consistency: Consistency, tmp_path: Any) -> None:
    subject: Any = RemoteSubject(10, tmp_path, shared_state=True)
    solo = subject.replica.solo
    solo.offers = tuple(Consistency)
    harness = Harness(subject)
    try:
        for _ in range(20):
            subject.turn()  # the next pulse tells the front-end
        read = Read(query=Get(key=b"a"), consistency=consistency, r=2)
        outcome = harness.ask(read)

        assert isinstance(outcome, Answer)
        assert read in solo.submitted
    finally:
        subject.stop()
