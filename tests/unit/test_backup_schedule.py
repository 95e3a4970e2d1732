"""When a schedule makes a backup, who makes it, and what is removed: never the last good one, nor what is another's."""

import contextlib
import io
from pathlib import Path

import pytest

from raftkv.backup.directory import BackupDirectory
from raftkv.backup.fetching import store, workspace
from raftkv.backup.keeping import KeptBackup, made_s_in, name_of, newest_of, retry_after_s, superseded
from raftkv.backup.schedule import BackupSchedule, Overdue, is_on_duty
from raftkv.core.backups import BackupSection
from raftkv.core.errors import Code, DefiniteError, StartupError
from raftkv.formats import layout
from raftkv.storage.backups.writing import blank_manifest, write_backup
from raftkv.storage.engines.memory import MemoryEngine
from tests.unit.statuses import node_status

DAY_S = 86_400
NOON_S = 1_800_000_000


def backup_of(made_s: int, cluster: str = "c") -> bytes:
    engine = MemoryEngine(layout.TABLES)
    known = {"cluster": cluster, "mode": "raft", "nodes": ("n1",), "revision": 1, "version": "1"}
    out = io.BytesIO()
    write_backup(engine, layout.TABLES, lambda: blank_manifest(**known, made_ms=1000 * made_s), out.write)
    return out.getvalue()


def put(directory: Path, made_s: int, node: str = "n1", cluster: str = "c") -> str:
    name = name_of(cluster, node, made_s)
    (directory / name).write_bytes(backup_of(made_s, cluster))
    return name


class World:
    """A schedule of n1 in a directory, with a clock that only waiting moves."""

    def __init__(self, directory: Path, **section: object) -> None:
        self.now_s = float(NOON_S)
        self.directory = directory
        self.status = node_status(leader="n1", ready=True)
        self.fault: BaseException | None = None
        self.reports: list = []
        self.slept_s: list[float] = []
        self.section = BackupSection(**{"interval_s": DAY_S, "directory": str(directory), "keep": 3} | section)
        self.schedule = self.started()

    def started(self, node: str = "n1") -> BackupSchedule:
        return BackupSchedule(
            self.section,
            "c",
            node,
            place=BackupDirectory(self.directory, "c"),
            status=self.asked,
            take=self.take,
            report=self.reports.append,
            deadline=lambda _: contextlib.nullcontext(),
            wall_s=lambda: self.now_s,
            monotonic_s=lambda: self.now_s,
            sleep=self.sleep,
        )

    def asked(self):
        if isinstance(self.status, Exception):
            raise self.status
        return self.status

    def sleep(self, span_s: float) -> None:
        self.slept_s.append(span_s)
        self.now_s += span_s

    def take(self, draft: Path, passing):
        content = backup_of(int(self.now_s))
        if self.fault is not None:
            draft.write_bytes(content[: len(content) // 2])
            raise self.fault
        return store(passing([content[:100], content[100:]]), draft)

    def run(self, span_s: float) -> None:
        until_s = self.now_s + span_s
        while self.now_s < until_s:
            self.now_s += max(self.schedule.turn(), 1.0)

    @property
    def names(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir())


@pytest.mark.parametrize("cluster", ["c", "c-20250101T000000Z-n1.backup", "a/b ü", "-", "%41"])
@pytest.mark.parametrize("node", ["n1", "n.1-20250101T000000Z-x"])
def test_a_name_says_of_which_cluster_a_backup_is_and_when_it_was_made(cluster, node):
    name = name_of(cluster, node, NOON_S)

    assert made_s_in(name, cluster) == NOON_S
    assert "/" not in name
    assert made_s_in(name, cluster + "x") is None
    assert made_s_in("x" + name, cluster) is None
    assert made_s_in(name + ".tmp", cluster) is None


def test_names_that_only_look_like_one_are_none():
    assert made_s_in("raftkv-c-20251399T000000Z-n1.backup", "c") is None
    assert made_s_in("raftkv-c-monday.backup", "c") is None
    assert made_s_in("raftkv-c.backup", "c") is None


def test_one_is_made_at_once_where_there_is_none_and_then_at_intervals(tmp_path):
    world = World(tmp_path, keep=100)

    world.run(2.5 * DAY_S)

    made = [made_s_in(name, "c") for name in world.names]
    assert [one - NOON_S for one in made] == [0, DAY_S, 2 * DAY_S]
    assert world.reports[-1].made_s == made[-1]
    assert world.reports[-1].failures == 0


def test_a_node_that_starts_finds_in_the_directory_when_the_next_is_due_whoever_made_the_last(tmp_path):
    last = put(tmp_path, NOON_S - DAY_S // 2, "n2")
    world = World(tmp_path)

    world.run(DAY_S // 2 - 100)
    assert world.names == [last]
    assert world.reports[0].made_s == NOON_S - DAY_S // 2
    world.run(200)
    assert len(world.names) == 2


def test_so_many_are_kept_and_what_no_schedule_of_this_cluster_has_written_stays(tmp_path):
    others = {
        "monday.backup": backup_of(NOON_S - 40 * DAY_S),
        name_of("c", "n1", NOON_S - 41 * DAY_S): b"what somebody put there under such a name",
        name_of("c", "n1", NOON_S - 42 * DAY_S): backup_of(NOON_S - 43 * DAY_S),  # made by hand, and renamed
        name_of("other", "n1", NOON_S - 44 * DAY_S): backup_of(NOON_S - 44 * DAY_S, "other"),
        name_of("c", "n1", NOON_S - 45 * DAY_S): backup_of(NOON_S - 45 * DAY_S, "other"),
    }
    for name, content in others.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / name_of("c", "n1", NOON_S - 46 * DAY_S)).symlink_to("monday.backup")
    world = World(tmp_path, keep=3)
    strangers = world.names

    world.run(6.5 * DAY_S)

    assert set(strangers) <= set(world.names)
    ours = [one for one in world.names if one not in strangers]
    assert [made_s_in(name, "c") - NOON_S for name in ours] == [4 * DAY_S, 5 * DAY_S, 6 * DAY_S]


def test_what_is_too_old_goes_but_never_the_newest_nor_before_a_newer_one_is_proved(tmp_path):
    old = [put(tmp_path, NOON_S - days * DAY_S) for days in (10, 9, 8)]
    world = World(tmp_path, keep=100, keep_s=2 * DAY_S)
    world.fault = DefiniteError(Code.NO_LEADER, "nobody leads")

    world.run(5 * DAY_S)
    assert world.names == sorted(old)

    world.fault = None
    world.run(DAY_S)
    assert [one for one in world.names if one in old] == []
    assert len(world.names) >= 1


def test_the_one_that_was_just_made_is_kept_though_others_come_from_the_future():
    made = KeptBackup("made", NOON_S, 1)
    ahead = KeptBackup("ahead", NOON_S + 400 * DAY_S, 1)
    before = KeptBackup("before", NOON_S - 1, 1)
    held = [before, made, ahead]

    assert superseded(held, made, keep=1, keep_s=0, now_s=NOON_S) == [ahead, before]
    assert superseded(held, made, keep=2, keep_s=0, now_s=NOON_S) == [before]
    assert newest_of([ahead, before], NOON_S) == before
    assert newest_of([ahead], NOON_S) is None


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (DefiniteError(Code.NO_LEADER, "nobody leads"), "nobody leads"),
        (StartupError("disk: no space left on the device"), "no space left"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (Overdue(), "it was not done after 7 s (backup.timeout_s)"),
    ],
)
def test_what_fails_is_told_counted_tried_again_later_and_leaves_nothing(tmp_path, capsys, fault, told):
    world = World(tmp_path, timeout_s=7)
    world.fault = fault

    waits = [world.schedule.turn() for _ in range(3)]

    assert waits == [60, 120, 240]
    assert world.names == []
    assert world.reports[-1].failures == 3
    assert told in capsys.readouterr().out
    world.fault = None
    world.schedule.turn()
    assert len(world.names) == 1
    assert world.reports[-1].failures == 3
    assert (retry_after_s(20, DAY_S), retry_after_s(20, 30)) == (3600, 30)


def test_a_follower_makes_none_and_a_leader_that_loses_its_turn_gives_it_up(tmp_path):
    world = World(tmp_path)
    world.status = node_status(leader="n2", ready=True)
    world.run(DAY_S)
    assert world.names == []

    world.status = node_status(leader="n1", ready=True)

    def loses(draft, passing):
        pieces = passing([b"x"] * 3)
        next(pieces)
        world.status = node_status(leader="n2", ready=True)
        world.now_s += 10
        return store(pieces, draft)

    world.take = loses
    world.schedule = world.started()
    world.schedule.turn()

    assert world.names == []
    assert all(report.failures == 0 for report in world.reports)


def test_who_is_on_duty():
    def ring(**states):
        members = [
            {"id": name, "http": "h", "peer": "p", "reachable": True, "state": state} for name, state in states.items()
        ]
        return node_status(node="n2", mode="quorum", leader=None, members=members)

    assert is_on_duty(node_status(), "")
    assert not is_on_duty(node_status(leader="n2"), "")
    assert not is_on_duty(node_status(leader=None), "")
    assert not is_on_duty(node_status(ready=False), "")
    assert is_on_duty(node_status(leader="n2"), "n1")
    assert not is_on_duty(node_status(), "n2")
    assert is_on_duty(ring(n1="down", n2="up", n3="up"), "")
    assert not is_on_duty(ring(n1="up", n2="up"), "")
    assert is_on_duty(ring(n1="up", n2="up"), "n2")


def test_a_node_that_does_not_answer_yet_is_waited_for_and_then_told_of(tmp_path):
    world = World(tmp_path)
    world.status = DefiniteError(Code.NO_LEADER, "refuses connections")

    world.run(50)
    assert world.reports[-1].failures == 0
    world.run(60)
    assert world.reports[-1].failures == 1


def test_it_reads_no_faster_than_it_may(tmp_path):
    world = World(tmp_path, bytes_per_s=1 << 16)
    pieces = [b"x" * (1 << 16)] * 4

    assert list(world.schedule._passing(pieces)) == pieces
    assert world.now_s - NOON_S == pytest.approx(4)


def test_the_workspace_of_a_process_that_was_killed_is_removed_and_no_other(tmp_path):
    left = tmp_path / ".name.abc.tmp"
    left.mkdir()
    (left / "draft").write_bytes(b"half")
    kept = [".name.abc", ".other.abc.tmp", "name.abc.tmp"]
    for one in kept:
        (tmp_path / one).mkdir()

    with workspace(tmp_path, "name") as first, workspace(tmp_path, "name") as second:
        assert first.is_dir()
        assert second.is_dir()
        assert not left.exists()

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
