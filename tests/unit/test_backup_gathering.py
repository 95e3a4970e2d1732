"""What is gathered of a leaderless cluster has each write that enough nodes have acknowledged, wherever it moves."""

import io

import pytest

from raftkv.backup.gathering import AskedNode, gather
from raftkv.core.errors import Code, DefiniteError
from raftkv.formats.rights import ENABLED, StampedRow, decode_document, encode_document, stamp_of
from raftkv.formats.rows import DATA, META, RIGHTS
from raftkv.formats.versions import KeyState, Version, decode_state, encode_state
from raftkv.storage.backups.reading import chunks
from raftkv.storage.backups.writing import blank_manifest, write_backup
from raftkv.storage.engines.memory import MemoryEngine


def held(*versions, rights=None):
    """A node's backup that holds ``versions``, (key, counter, value), and users and roles as of that change."""
    engine = MemoryEngine([DATA, META])
    engine.commit([(DATA, key, encode_state(KeyState((Version(at, "n1", value),)))) for key, at, value in versions])
    head = blank_manifest(cluster="c", mode="quorum", nodes=("n",), revision=0, made_ms=1, version="1", conflicts="lww")
    out = io.BytesIO()
    if rights is not None:
        engine.commit([(META, RIGHTS, encode_document((StampedRow(ENABLED, b"", rights, "n1"),)))])
    write_backup(engine, [DATA, META], lambda: head, out.write)
    return [out.getvalue()]


def node(*answers, is_moving=False):
    """One that gives these backups, one after the other."""
    left = list(answers)
    return AskedNode(is_moving=is_moving, pieces=lambda: left.pop(0))


def rows(path, manifest):
    found = {}
    for table, flat in chunks(path, manifest):
        if table == DATA:
            found.update(zip(flat[::2], flat[1::2], strict=True))
    return {key: decode_state(row).versions[-1].value for key, row in found.items()}


def test_the_newest_of_each_key_is_taken_deletions_too(tmp_path):
    nodes = {
        "n1": node(held((b"a", 1, b"old"), (b"b", 5, None), (b"d", 1, b"only"))),
        "n2": node(held((b"a", 2, b"new"), (b"b", 4, b"deleted"), (b"c", 9, b"c"))),
    }

    manifest = gather(nodes, 2, tmp_path / "all")

    assert rows(tmp_path / "all", manifest) == {b"a": b"new", b"b": None, b"c": b"c", b"d": b"only"}
    assert manifest.revision == 9
    assert [path.name for path in tmp_path.iterdir()] == ["all"]


def test_what_moves_to_a_node_that_was_asked_before_is_found_by_asking_again(tmp_path):
    """A fallback gave its hint to the owner after that one's backup, and before its own."""
    owner = node(held((b"k", 1, b"1")), held((b"k", 1, b"1"), (b"moved", 2, b"2")))
    fallback = node(held((b"k", 1, b"1")), held((b"k", 1, b"1")), is_moving=True)

    manifest = gather({"owner": owner, "fallback": fallback}, 2, tmp_path / "all")

    assert rows(tmp_path / "all", manifest)[b"moved"] == b"2"


@pytest.mark.parametrize(("away", "w", "is_enough"), [(1, 2, True), (2, 2, False), (1, 1, False), (2, 3, True)])
def test_fewer_than_w_may_be_missing(tmp_path, away, w, is_enough):
    nodes = {f"n{number}": node(held((b"k", 1, b"1"))) for number in range(3)}
    nodes |= dict.fromkeys([f"n{number}" for number in range(away)])

    if is_enough:
        gather(nodes, w, tmp_path / "all")
    else:
        with pytest.raises(DefiniteError) as raised:
            gather(nodes, w, tmp_path / "all")
        assert raised.value.code == Code.QUORUM_UNREACHABLE

    assert [path.name for path in tmp_path.iterdir()] == (["all"] if is_enough else [])


def test_users_and_roles_are_those_of_the_last_change_and_a_majority_must_be_asked_for_them(tmp_path):
    nodes = {
        f"n{number}": node(held((b"k", 1, b"1"), rights=rights)) for number, rights in ((1, 7), (2, 12), (3, None))
    }

    manifest = gather(nodes, 3, tmp_path / "all")

    (flat,) = [flat for table, flat in chunks(tmp_path / "all", manifest) if table == META]
    assert flat[0] == RIGHTS
    assert stamp_of(decode_document(flat[1])) == (12, "n1")
    away = {"n1": node(held((b"k", 1, b"1"), rights=7)), "n2": None, "n3": None}
    with pytest.raises(DefiniteError, match="changes of users and roles may be missing"):
        gather(away, 3, tmp_path / "less")
    gather({**away, "n1": node(held((b"k", 1, b"1")))}, 3, tmp_path / "nobody")
