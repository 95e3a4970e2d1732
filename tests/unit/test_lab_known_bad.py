"""The histories in ``tests/known_bad``: each is wrong in the way it says, and must be found so.

``witness_size`` counts the operations that the witness shows.
"""

import json
from pathlib import Path

import msgspec
import pytest

from raftkv.instruments.lab.checker import NotLinearizable, check
from raftkv.instruments.lab.history import History, Outcome
from raftkv.instruments.lab.witness import render

from .lab_oracle import is_explained

BAD = sorted((Path(__file__).parent.parent / "known_bad").glob("*.json"))


def load(path):
    story = json.loads(path.read_bytes())
    return story, History.from_lines(msgspec.json.encode(operation) for operation in story["operations"])


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_history_is_found_out_and_the_witness_names_the_flaw(path):
    story, history = load(path)

    verdict = check(history)

    assert isinstance(verdict, NotLinearizable)
    assert verdict.witness.kind == story["kind"]
    assert len(verdict.witness.operations) == story["witness_size"]
    assert verdict.witness.sentence in " ".join(render(verdict.witness).split())


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_the_witness_of_a_bad_history_is_a_contradiction_without_the_rest(path):
    _, history = load(path)

    witness = check(history).witness

    assert not is_explained([operation for operation in witness.operations if operation.outcome is not Outcome.FAILED])


def test_every_named_flaw_has_a_bad_history():
    from raftkv.instruments.lab.flaw import FlawKind

    assert {load(path)[0]["kind"] for path in BAD} == set(FlawKind)
