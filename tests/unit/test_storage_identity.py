"""The identity on a real disk: numbered at each start, taken over from the version before, refused where it lies."""

import json
from os import urandom

import msgspec
import pytest

from raftkv.core.errors import StartupError
from raftkv.core.rules import Rules
from raftkv.formats.identity import Life, Met, Standing
from raftkv.storage.identity import NAME, begin_life

RULES = Rules(
    always={"cluster.name": "c", "cluster.mode": "raft", "members": "n1+n2", "raft.idempotency_keys": 9}, together={}
)


def begin(home, node="n1", *, is_alone=False, **changes):
    return begin_life(home, node, Rules(always={**RULES.always, **changes}, together={}), urandom, is_alone=is_alone)


def has_met(file):
    file.save(msgspec.structs.replace(file.identity, others={"n2": {"disk": Met(Life(1, "nonce"))}}))


def test_each_start_has_the_next_number_and_the_disk_stays(tmp_path):
    first, second = begin(tmp_path).identity, begin(tmp_path).identity

    assert [life.start for life in second.starts] == [1, 2]
    assert second.starts[0] == first.life != second.life
    assert first.disk == second.disk
    assert len(first.disk) == 16


def test_a_start_is_numbered_on_the_disk_before_anybody_can_hear_of_it(tmp_path):
    begin(tmp_path)

    assert json.loads((tmp_path / NAME).read_text())["starts"][0][0] == 1


def test_what_is_saved_is_there_at_the_next_start(tmp_path):
    file = begin(tmp_path)
    file.save(msgspec.structs.replace(file.identity, standing=Standing.RECOVERING))

    assert begin(tmp_path).identity.standing is Standing.RECOVERING


@pytest.mark.parametrize(
    ("node", "changes", "told"),
    [
        ("n2", {}, "node n1 (configured: n2)"),
        ("n1", {"cluster.name": "d"}, "cluster.name c (configured: d)"),
        ("n1", {"members": "n1+n2+n3"}, "members n1+n2 (configured: n1+n2+n3)"),
        ("n1", {"raft.idempotency_keys": 1}, "raft.idempotency_keys 9 (configured: 1)"),
    ],
)
def test_the_data_of_another_node_or_of_other_rules_is_refused_with_both_values(tmp_path, node, changes, told):
    has_met(begin(tmp_path))
    before = (tmp_path / NAME).read_bytes()

    with pytest.raises(StartupError) as refused:
        begin(tmp_path, node, **changes)
    assert told in str(refused.value)
    assert str(tmp_path) in str(refused.value)
    assert (tmp_path / NAME).read_bytes() == before


def test_a_mistake_in_the_rules_of_a_first_start_is_put_right_by_the_next(tmp_path):
    begin(tmp_path, **{"raft.idempotency_keys": 1})
    second = begin(tmp_path)

    assert second.identity.rules["raft.idempotency_keys"] == 9


def test_the_rules_of_a_cluster_of_one_are_fixed_at_once(tmp_path):
    begin(tmp_path, is_alone=True)

    with pytest.raises(StartupError, match="idempotency_keys"):
        begin(tmp_path, is_alone=True, **{"raft.idempotency_keys": 1})


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"\xff\xfe", b"null", b'{"node": 1}', b'{"node": "n1", "disk": "a"}', b"[" * 99_999]
)
def test_a_damaged_identity_is_named_with_what_to_do(tmp_path, text):
    (tmp_path / NAME).write_bytes(text)

    with pytest.raises(StartupError, match=rf"{NAME}: damaged: .*let the node start with an empty one"):
        begin(tmp_path)


def test_a_directory_of_the_version_before_is_taken_over(tmp_path):
    old = {"cluster": "c", "mode": "raft", "node": "n1", "members": ["n2", "n1"]}
    (tmp_path / NAME).write_text(json.dumps(old))

    assert begin(tmp_path).identity.life.start == 1
    assert begin(tmp_path).identity.life.start == 2
    (tmp_path / NAME).write_text(json.dumps({**old, "cluster": "d"}))
    with pytest.raises(StartupError, match=r"cluster.name d \(configured: c\)"):
        begin(tmp_path)


@pytest.mark.parametrize("kept", ["log/00000001", "snapshots/1", "state/00000001/data.mdb", "store/CURRENT"])
def test_data_without_its_identity_is_refused_and_left_alone(tmp_path, kept):
    path = tmp_path / kept
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")

    with pytest.raises(StartupError, match=rf"{NAME}: missing, though .* \({kept.split('/')[0]}\); .*an empty one"):
        begin(tmp_path)
    assert not (tmp_path / NAME).exists()


def test_directories_that_hold_nothing_are_no_data(tmp_path):
    for name in ("log", "snapshots"):
        (tmp_path / name).mkdir()

    assert begin(tmp_path).identity.life.start == 1
