"""All that a survivor of a lost quorum holds goes into the new cluster, and the survivor stays as it is."""

import fcntl
import subprocess
from pathlib import Path

import msgspec
import pytest

from raftkv.backup import recovering, restoring
from raftkv.cli import exits
from raftkv.cli.main import run
from raftkv.core.config import parse_config
from raftkv.core.errors import StartupError
from raftkv.core.requests import Put, Write
from raftkv.formats import entries, layout
from raftkv.formats.identity import Identity, Standing, encode_identity
from raftkv.formats.seals import part_of
from raftkv.machine.conversion import command_of
from raftkv.machine.machine import Machine
from raftkv.machine.repeats import RepeatLimits
from raftkv.raft.snapshots.recovery import AppliedGeneration, recover_log, recover_state
from raftkv.storage.backups.reading import chunks
from raftkv.storage.disk import RealDisk
from raftkv.storage.engines.memory import MemoryEngine
from raftkv.storage.log.log import Log
from raftkv.storage.snapshots.bodies import write_body
from raftkv.storage.snapshots.files import SnapshotFiles, WrittenBody
from raftkv.storage.state.tables import StateTables
from raftkv.storage.state.trust import open_state

SEGMENT_BYTES, STAMP_MS = 1 << 16, 1_700_000_000_000
RULES = {"cluster.name": "lost", "cluster.mode": "raft", "raft.idempotency_window_s": 60.0, "raft.idempotency_keys": 9}


def put(number, **more):
    write = Write(operations=(Put(key=b"k%d" % number, value=b"v%d" % number),), **more)
    return entries.REGULAR + entries.encode(STAMP_MS + number, 7, number, command_of(write))


def entry_at(index):
    """A no-op at the beginning of each of two terms, writes behind them."""
    return (entries.NO_OP if index in (1, 6) else put(index)), index, 1 if index < 6 else 3


class Node:
    """The data directory of n1, as a node leaves it that was killed: ten entries, six of them known to be committed."""

    def __init__(self, home: Path, *, commit=6, last=10, standing=Standing.MEMBER, rules=RULES, **more):
        self.home = home
        home.mkdir(parents=True)
        (home / "lock").touch()
        identity = Identity(node="n1", disk="d", starts=(), rules=rules, standing=standing, **more)
        (home / "identity.json").write_bytes(encode_identity(identity))
        self.log = Log.open(RealDisk(), home / "log", segment_bytes=SEGMENT_BYTES)
        for index in range(1, last + 1):
            command, index, term = entry_at(index)  # noqa: PLW2901
            if term > self.log.term:
                self.log.set_vote(term, None)
            self.log.append(command, index, term)
            self.log.set_commit(min(commit, index))
            self.log.flush()
        self.log.close()

    def snapshot(self, index):
        """One of what the first entries did, behind which the log goes on."""
        tables = StateTables(MemoryEngine(layout.TABLES), layout.TABLES, self.home)
        recovering.apply_all(Machine(tables, RepeatLimits()), tables, [entry_at(at) for at in range(1, index + 1)])
        snapshots = SnapshotFiles(self.home / "snapshots")
        path = snapshots.directory / "write.body.tmp"
        summary = write_body(tables, layout.TABLES, path)
        written = {name: getattr(summary, name) for name in ("index", "term", "rows", "body_bytes", "body_crc")}
        command, _, _ = entry_at(index)
        previous_term = entry_at(index - 1)[2]
        snapshots.publish(
            WrittenBody(path=path, **written), previous_term=previous_term, last_command=command, members=("n1",)
        )
        snapshots.close()

    def tree(self):
        return {path: path.is_file() and (path.read_bytes(), path.stat().st_mtime_ns) for path in self.home.rglob("*")}

    def segment(self):
        return max((self.home / "log").glob("*.log"))


def target(home, name="new", size=1, mode="raft"):
    text = f'[cluster]\nname = "{name}"\nmode = "{mode}"\ndata_dir = "{home}"\n'
    for number in range(1, size + 1):
        text += (
            f'[[node]]\nid = "m{number}"\nhttp = "127.0.0.1:{23300 + number}"\npeer = "127.0.0.1:{23400 + number}"\n'
        )
    return text


def keys_of(node, scratch):
    """The keys in what is made of ``node``, and its manifest."""
    before = node.tree()
    with recovering.survivor(node.home) as found, recovering.rebuilt(found, scratch, "1") as (path, manifest):
        keys = [key for table, flat in chunks(path, manifest) if table == layout.KEYS for key in flat[::2]]
    assert node.tree() == before
    assert not any(scratch.iterdir())
    return keys, manifest


ALL = sorted(b"k%d" % number for number in (2, 3, 4, 5, 7, 8, 9, 10))


@pytest.mark.parametrize("snapshot", [None, 4, 6, 10])
def test_every_entry_it_holds_is_in_it_whatever_is_known_to_be_committed(tmp_path, snapshot):
    node = Node(tmp_path / "n1")
    if snapshot:
        node.snapshot(snapshot)

    keys, manifest = keys_of(node, tmp_path / "scratch")

    assert keys == ALL
    assert (manifest.cluster, manifest.nodes, manifest.mode) == ("lost", ("n1",), "raft")
    assert (manifest.index, manifest.term, manifest.revision) == (10, 3, 8)


def test_it_says_what_there_is_to_choose_by(tmp_path):
    node = Node(tmp_path / "n1")
    node.snapshot(4)

    with recovering.survivor(node.home) as found:
        summary = found.summary

    assert (summary.cluster, summary.node, summary.doubt) == ("lost", "n1", "")
    assert (summary.last_index, summary.last_term, summary.commit_index, summary.snapshot_index) == (10, 3, 6, 4)
    assert (summary.stamped_ms, summary.revision) == (STAMP_MS + 10, None)


def test_the_longest_log_is_that_of_the_latest_term_and_only_then_the_longest(tmp_path):
    with recovering.survivor(Node(tmp_path / "n1").home) as found:
        one = found.summary
    of = {
        (index, term): msgspec.structs.replace(one, last_index=index, last_term=term)
        for index, term in [(9, 3), (10, 3), (40, 2)]
    }

    assert recovering.longest(list(of.values())) is of[10, 3]


def test_a_new_node_begins_where_the_survivor_ended(tmp_path):
    node, config = Node(tmp_path / "n1"), parse_config(target(tmp_path / "data"))
    with (
        recovering.survivor(node.home) as found,
        recovering.rebuilt(found, tmp_path / "data", "1") as (path, _),
    ):
        (home,) = restoring.restore(path, config, ["m1"], advance=100).made

    snapshots = SnapshotFiles(home / "snapshots")
    log = Log.open(RealDisk(), home / "log", segment_bytes=SEGMENT_BYTES)
    recover_log(log, snapshots.newest)
    state = recover_state(home / "state", log, snapshots)
    assert (log.last_index, log.term, log.voted_for) == (10, 3, None)
    assert snapshots.newest.configuration is msgspec.UNSET
    assert layout.unpack_number(state.tables.get(layout.META, layout.REVISION)) == 108
    state.close()
    log.close()


def test_a_torn_tail_is_what_a_crash_leaves_and_is_no_damage(tmp_path):
    node = Node(tmp_path / "n1")
    content = node.segment().read_bytes()
    end = len(content.rstrip(b"\0"))
    node.segment().write_bytes(content[: end - 3] + bytes(3) + content[end:])

    keys, manifest = keys_of(node, tmp_path / "scratch")

    assert keys == sorted(set(ALL) - {b"k10"})
    assert manifest.index == 9


def test_a_log_that_its_snapshot_has_replaced_does_not_count(tmp_path):
    """The crash came between installing the one and cutting the other."""
    node = Node(tmp_path / "n1", last=5, commit=5)
    node.snapshot(10)

    assert keys_of(node, tmp_path / "scratch")[0] == ALL


def flipped(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_damage_is_named_and_nothing_is_made(tmp_path):
    log = Node(tmp_path / "log" / "n1")
    flipped(log.segment(), 400)
    with pytest.raises(StartupError, match=f"{log.segment()}: offset"), recovering.survivor(log.home):
        pass

    lost = Node(tmp_path / "lost" / "n1")
    lost.segment().unlink()
    with pytest.raises(StartupError, match="the last segment of the log is missing"), recovering.survivor(lost.home):
        pass

    gap = Node(tmp_path / "gap" / "n1")
    gap.snapshot(4)
    (body,) = (gap.home / "snapshots").glob("*.body")
    flipped(body, 300)
    with pytest.raises(StartupError, match=r"body: the checksum is wrong"), recovering.survivor(gap.home):
        pass

    identity = Node(tmp_path / "identity" / "n1")
    (identity.home / "identity.json").write_text("{")
    with pytest.raises(StartupError, match=r"identity.json: damaged"), recovering.survivor(identity.home):
        pass


def test_a_log_whose_end_is_lost_is_refused_as_a_start_refuses_it(tmp_path):
    node = Node(tmp_path / "n1")
    engine = open_state(node.home / "state" / "00000001", layout.TABLES)
    tables = StateTables(engine, layout.TABLES, engine.directory)
    for name, number in {layout.APPLIED_INDEX: 11, layout.APPLIED_TERM: 3, layout.REVISION: 9}.items():
        tables.put(layout.META, name, layout.pack_number(number))
    tables.commit()
    AppliedGeneration(engine).close()
    before = node.tree()

    with pytest.raises(StartupError, match="the log ends at entry 10, but entry 11 was applied"):
        recovering.survivor(node.home).__enter__()

    assert node.tree() == before


def test_a_state_that_does_not_add_up_becomes_no_backup(tmp_path):
    node = Node(tmp_path / "n1")

    def skewed(machine, tables, tail):
        recovering_apply(machine, tables, tail)
        tables.put(layout.KEYS, b"stray", b"row", part_of(layout.KEYS, b"stray", b"row"))
        tables.commit()

    recovering_apply = recovering.apply_all
    with pytest.MonkeyPatch.context() as patch, recovering.survivor(node.home) as found:
        patch.setattr(recovering, "apply_all", skewed)
        with pytest.raises(StartupError, match="do not add up"), recovering.rebuilt(found, tmp_path / "scratch", "1"):
            pass

    assert not any((tmp_path / "scratch").iterdir())


def test_a_log_of_a_later_version_is_left_to_that(tmp_path):
    node = Node(tmp_path / "n1")
    node.log = Log.open(RealDisk(), node.home / "log", segment_bytes=SEGMENT_BYTES)
    node.log.append(entries.REGULAR + entries.stamp(entries.NEWEST + 1, STAMP_MS), 11, 3)
    node.log.close()

    with pytest.raises(StartupError, match="written by a later version"), recovering.survivor(node.home):
        pass


def test_a_directory_on_which_a_node_runs_is_left_alone(tmp_path):
    node = Node(tmp_path / "n1")
    with (node.home / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StartupError, match="in use by a running node"), recovering.survivor(node.home):
            pass

    with recovering.survivor(node.home), (node.home / "lock").open("r+") as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_leaderless_node_is_told_what_to_do_instead(tmp_path):
    node = Node(tmp_path / "n1", rules={"cluster.name": "ring", "cluster.mode": "quorum"})

    with pytest.raises(StartupError, match=r"has no quorum to lose: start what is left.*members remove"):
        recovering.survivor(node.home).__enter__()


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"standing": Standing.RECOVERING}, "its disk was lost before"),
        ({"standing": Standing.DIVERGED, "difference": "differs from n2 and n3"}, "differs from n2 and n3"),
    ],
)
def test_what_it_may_lack_is_said(tmp_path, known, said):
    with recovering.survivor(Node(tmp_path / "n1", **known).home) as found:
        assert said in found.summary.doubt


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"size": 3}, "lists 3 nodes: leave one"),
        ({"name": "lost"}, "give the new one another"),
        ({"mode": "quorum"}, 'cluster.mode is "quorum"'),
    ],
)
def test_what_it_is_made_into_is_a_new_cluster_of_one(tmp_path, choices, said):
    config = parse_config(target(tmp_path / "data", **choices))

    with recovering.survivor(Node(tmp_path / "n1").home) as found, pytest.raises(StartupError, match=said):
        recovering.check_target(found, config)


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def typed(tmp_path, capfd, monkeypatch):
    """``recover`` with what is given; its status, output and complaints."""
    monkeypatch.chdir(tmp_path)
    subprocess.run("openssl rand -hex 32 > secret; chmod 600 secret", shell=True, check=True)
    Path("new.toml").write_text(target("data").replace("[[node]]", 'secret_file = "secret"\n[[node]]', 1))

    def typed(*arguments):
        status = run(["recover", *arguments])
        said = capfd.readouterr()
        return status, said.out, said.err

    return typed


def test_without_a_configuration_it_compares_and_does_nothing(typed, tmp_path):
    Node(tmp_path / "a" / "n1", last=9)
    Node(tmp_path / "b" / "n1")

    status, said, _ = typed("--from", "a/n1", "--from", "b/n1")

    assert status == exits.DONE
    assert "a/n1: node n1 of cluster lost\n  last entry  9 of term 3, 6 known to be committed\n" in said
    assert "2023-11-14 22:13:20 UTC" in said
    assert "choose b/n1: it has every acknowledged write" in said
    assert not (tmp_path / "data").exists()
    listed = msgspec.json.decode(typed("--from", "a/n1", "--from", "b/n1", "--json")[1])
    assert [one["last_index"] for one in listed] == [9, 10]


def test_it_asks_first_and_warns_in_any_case(typed, tmp_path, monkeypatch):
    Node(tmp_path / "n1")
    status, _, said = typed("--from", "n1", "--config", "new.toml")
    assert (status, "give --yes" in said) == (exits.USAGE, True)

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    status, _, said = typed("--from", "n1", "--config", "new.toml")
    assert (status, said.splitlines()[-1]) == (exits.INTERRUPTED, "raftkv: nothing was done")
    assert not any((tmp_path / "data").iterdir())

    status, said, warned = typed("--from", "n1", "--config", "new.toml", "--yes", "--advance", "500")
    assert status == exits.DONE
    assert 'WARNING: a new cluster is made of one survivor of "lost", n1.' in warned
    assert "It ends at entry 10 of term 3, revision 8, 2023-11-14 22:13:20 UTC." in warned
    assert "the last 4 entries, not known here to be committed" in warned
    assert "made of revision 8; the next one is above 508" in said
    assert max(map(len, warned.splitlines())) <= 80

    status, _, said = typed("--from", "n1", "--config", "new.toml", "--yes")
    assert (status, "nothing is restored over data" in said) == (exits.USAGE, True)
