"""Parts bring the messages that they take: every kind once, or no replica starts."""

from __future__ import annotations

from typing import get_args

import pytest

from raftkv.formats import raft_messages as messages
from raftkv.raft.conversation import merged


class Taking:
    def __init__(self, *kinds):
        self._kinds = kinds

    def handlers(self):
        return {kind: lambda *_: None for kind in self._kinds}


ALL = get_args(messages.Message)


def test_every_message_is_taken_by_the_part_that_brings_it():
    first, second = Taking(*ALL[:5]), Taking(*ALL[5:])

    assert set(merged([first, second])) == set(ALL)


def test_a_message_that_no_part_takes_is_a_mistake_in_the_assembly():
    with pytest.raises(AssertionError, match=f"no part takes {ALL[-1].__name__}"):
        merged([Taking(*ALL[:-1])])


def test_a_message_that_two_parts_take_is_a_mistake_in_the_assembly():
    with pytest.raises(AssertionError, match="two parts take Vote"):
        merged([Taking(*ALL), Taking(messages.Vote)])
