"""An operator's day on three machines, later four: by the documents, with everything that they promise looked at.

Deploy, upgrade from the version before under load, let users in, watch, lose a disk, replace a machine, stop the
leader, renew certificates, back up, do what should not be done, lose everything, and begin anew from the backup. The
day prints how long each step took and how many commands were typed.
"""

from __future__ import annotations

import io
import re
import shutil
import ssl
import subprocess
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec
import pytest
import requests

from raftkv import Client
from raftkv.instruments.lab.namespaces import Namespaces
from raftkv.instruments.local.nodes import wait_until
from tests.day.desk import Load, Logbook, firing
from tests.day.machines import Machine, Service, why_unavailable
from tests.integration.test_upgrade import BEFORE

REASON = why_unavailable()
pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(900),
    pytest.mark.skipif(REASON is not None, reason=REASON or ""),
]

ROOT = Path(__file__).parents[2]
FOUNDERS = ("n1", "n2", "n3")
FILES = "--config /etc/raftkv/cluster.toml"
ROOT_PASSWORD = "correct horse battery"
APP = ("app", "in wonderland")
TOKEN_S = 3
OWNED = "install -o raftkv -g raftkv -m 600"

CLUSTER = """
[cluster]
name = "{name}"
data_dir = "/var/lib/raftkv"
secret_file = "secret"

[http]
tls_cert = "node.pem"
tls_key = "node.key"
tls_ca = "ca.pem"

[peers]
tls_cert = "node.pem"
tls_key = "node.key"
tls_ca = "ca.pem"
"""
OPEN = "\n[auth]\nopen_to_anyone = true\n"
USERS = f"\n[auth]\nenabled = true\ntoken_ttl_s = {TOKEN_S}\n"


class Day:
    """All machines, what runs on them, and the folder on the operator's own."""

    def __init__(self, home: Path, machines: dict[str, Machine], logbook: Logbook) -> None:
        self.home = home
        self.desk = home / "desk"
        self.desk.mkdir()
        self.machines = machines
        self.services: dict[str, Service] = {}
        self.logbook = logbook
        self.name = "shop"

    # --- files

    def version(self, source: Path, name: str) -> None:
        """What ``pip install`` makes of ``source`` in /opt/raftkv, once for all machines, which are alike."""
        folder, first = self.home / name, self.machines["n1"]
        first.bind(folder, "/opt/raftkv")
        if not (folder / "bin").exists():
            first.install("python3 -m venv /opt/raftkv")
        first.install(f"/opt/raftkv/bin/pip install -q {source}")

    def certificates(self, *nodes: str) -> None:
        """By the very lines of docs/tls.rst, but for names and addresses."""
        text = (ROOT / "docs" / "tls.rst").read_text()
        lines = [
            line.strip()[2:] for line in text.splitlines() if line.startswith("   $ openssl req") or "x509 -req" in line
        ]
        authority, request, signing = lines[0], lines[1], lines[-1]
        if not (self.desk / "ca.pem").exists():
            self.at_desk(authority)
        for node in nodes:
            address = self.machines[node].site.http.host
            self.at_desk(request.replace("n1", node).replace("127.0.0.1", f"127.0.0.1,IP:{address}"))
        self.at_desk(signing.replace("n1 n2 n3", " ".join(nodes)))

    def at_desk(self, line: str) -> str:
        """What a line typed at the operator's own machine says."""
        self.logbook.typed()
        command = ["bash", "-c", line]
        return subprocess.run(command, cwd=self.desk, capture_output=True, text=True, check=True, timeout=60).stdout

    def nodes_section(self, *nodes: str) -> str:
        sites = [self.machines[node].site for node in nodes]
        return "".join(f'\n[[node]]\nid = "{site.id}"\nhttp = "{site.http}"\npeer = "{site.peer}"\n' for site in sites)

    def give(self, node: str, *, auth: str, nodes: tuple[str, ...] = FOUNDERS) -> None:
        """Let a machine have its files, as docs/deployment.rst and docs/tls.rst say."""
        machine, desk = self.machines[node], self.desk
        machine.put("cluster.toml", CLUSTER.format(name=self.name) + auth + self.nodes_section(*nodes))
        environment = self.home / "clone" / "packaging" / "systemd" / "environment"
        machine.type(f"{OWNED} {desk}/secret {desk}/ca.pem {environment} /etc/raftkv/")
        for kind in ("pem", "key"):
            machine.type(f"{OWNED} {desk}/{node}.{kind} /etc/raftkv/node.{kind}")

    # --- questions

    def url(self, node: str) -> str:
        return f"https://{self.machines[node].site.http}"

    def answers(self, node: str, path: str) -> bool:
        try:
            return requests.get(self.url(node) + path, verify=str(self.desk / "ca.pem"), timeout=5).ok
        except requests.RequestException:
            return False

    def wait_ready(self, *nodes: str) -> None:
        for node in nodes:
            wait_until(partial(self.answers, node, "/readyz"), f"{node} to be ready", 60)

    def metrics(self) -> dict[str, str | None]:
        """What every node tells, or does not."""
        ca = str(self.desk / "ca.pem")
        return {
            node: requests.get(f"{self.url(node)}/metrics", verify=ca, timeout=5).text if service.runs else None
            for node, service in self.services.items()
        }

    def firing(self) -> set[str] | None:
        return firing(self.metrics(), self.home)

    def status(self, at: str, *, status: int = 0) -> str:
        """What ``raftkv status`` shows on a machine, in eighty columns; sentences on standard error may be longer."""
        said = self.machines[at].type(f"raftkv status {FILES}", status=status)
        table = [line for line in said.splitlines() if re.match(r"node|n\d|\?", line)]
        assert max(map(len, table)) <= 80, said
        return said

    def leader(self, at: str) -> str:
        told = msgspec.json.decode(self.machines[at].type(f"raftkv status --json {FILES} 2>/dev/null"))
        return next(node["leader"] for node in told["nodes"] if node.get("role") == "leader")

    def members(self, at: str) -> list[str]:
        told = msgspec.json.decode(self.machines[at].type(f"raftkv members list --json {FILES}"))
        return [member["id"] for member in told["members"]]

    def load(self, name: str, *nodes: str, auth: tuple[str, str] | None = APP) -> Load:
        return Load([self.url(node) for node in nodes], self.desk / "ca.pem", name, auth)


@pytest.fixture
def day():
    home = Path(tempfile.mkdtemp(prefix="raftkv-day-"))
    home.chmod(0o711)  # nodes are another user's processes
    logbook, services = Logbook(), {}
    with Namespaces(4) as network, ExitStack() as ends:
        ends.callback(shutil.rmtree, home)
        machines = {}
        for site in network.sites:
            machines[site.id] = Machine(site, home / site.id, logbook)
            ends.callback(machines[site.id].close)
        the_day = Day(home, machines, logbook)
        services = the_day.services
        ends.callback(lambda: [service.lose_power() for service in services.values() if service.runs])
        yield the_day
    print("\n" + logbook.table())  # noqa: T201  it is what the day is for


def test_an_operators_day(day):
    step = day.logbook.step
    with step("install on three machines, deploy"):
        deploy(day)
    with day.load("before", *FOUNDERS, auth=None) as load, step("upgrade node by node", load):
        upgrade(day, load)
    with step("users"):
        let_users_in(day)
    with day.load("day", *FOUNDERS) as load:
        with step("watch", load):
            watch(day)
        with step("lose a disk", load):
            lose_a_disk(day)
        with step("replace a machine, which led", load):
            replace_a_machine(day)
        with step("stop the leader, start it", load):
            stop_the_leader(day, load)
        with step("renew certificates", load):
            renew_certificates(day)
        with step("back up", load):
            kept = back_up(day, load)
    assert not load.failures
    assert len(load.acknowledged) > 100
    with step("bad weather"):
        bad_weather(day)
    with step("destroy everything, restore"):
        restore(day, kept)


def deploy(day):
    git = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT)]
    before = subprocess.run([*git, "archive", BEFORE], capture_output=True, check=False)
    if before.returncode:
        pytest.skip("the history of this checkout does not have the version before")
    with tarfile.open(fileobj=io.BytesIO(before.stdout)) as files:
        files.extractall(day.home / "source", filter="data")
    subprocess.run([*git, "clone", "-q", str(ROOT), str(day.home / "clone")], check=True, timeout=60)
    (day.home / "old").mkdir()
    day.version(day.home / "source", "old")
    shutil.copytree(day.home / "old", day.home / "new", symlinks=True)
    day.certificates(*FOUNDERS, "n4")
    day.at_desk("(umask 077; head -c 32 /dev/urandom | base64 > secret)")
    packaging = day.home / "clone" / "packaging" / "systemd"
    for node, machine in day.machines.items():
        machine.bind(day.home / "old", "/opt/raftkv")
        machine.type(f"install -m 644 {packaging}/raftkv@.service /etc/systemd/system/")
        machine.type(f"install -m 644 {packaging}/raftkv.sysusers /usr/lib/sysusers.d/raftkv.conf && systemd-sysusers")
        machine.type("install -d -o raftkv -g raftkv -m 700 /etc/raftkv")
        if node in FOUNDERS:
            day.give(node, auth="")
            day.services[node] = Service(machine)
            day.services[node].start(notifies=False)
    day.wait_ready(*FOUNDERS)


def upgrade(day, load):
    """The leader last; the file changes with each node, as the version before knows no users."""
    machines, leader = day.machines, day.leader("n1")
    day.version(day.home / "clone", "new")
    for node in [*(name for name in FOUNDERS if name != leader), leader]:
        day.services[node].stop()
        machines[node].bind(day.home / "new", "/opt/raftkv")
        day.give(node, auth=OPEN)
        checked = machines[node].type(f"raftkv config check /etc/raftkv/cluster.toml --id {node}")
        day.services[node].start()
        day.wait_ready(node)

        assert "error" not in checked
        assert node in day.status(node)
    assert not load.failures
    assert "healthy: one failure can be borne" in day.status("n1")
    wait_until(lambda: day.services["n1"].watchdog_count, "the watchdog to be told that the loop goes round", 60)
    assert "term" in day.services["n1"].statuses[-1]


def let_users_in(day):
    n1 = day.machines["n1"]
    n1.type(f"echo '{ROOT_PASSWORD}' | raftkv user add root - --role root {FILES}")
    n1.type(f"raftkv role add shop {FILES} && raftkv role grant shop both --prefix shop/ {FILES}")
    n1.type(f"echo '{APP[1]}' | raftkv user add {APP[0]} - --role shop {FILES}")
    n1.type(f"raftkv auth enable {FILES}")
    for node in FOUNDERS:
        day.give(node, auth=USERS)
        day.services[node].stop()
        day.services[node].start()
        day.wait_ready(node)
    refused = n1.type(f"raftkv get shop/before/000000 {FILES}", status=2)

    assert "this needs a user" in refused
    assert "authentication: on" in n1.type(f"raftkv auth status {FILES}")


def watch(day):
    told = {node: text for node, text in day.metrics().items() if text is not None}
    led = [node for node, text in told.items() if re.search(r"^raftkv_is_leader 1", text, re.MULTILINE)]

    assert len(told) == 3
    assert led == [day.leader("n2")]
    assert day.firing() in (set(), None)


def lose_a_disk(day):
    day.services["n2"].lose_power()
    day.machines["n2"].type("rm -rf /var/lib/raftkv/n2")
    wait_until(lambda: "degraded: 2 of 3 nodes answer; no further failure can be borne" in day.status("n1"), "the loss")
    alerts = day.firing()
    day.services["n2"].start()
    day.wait_ready("n2")

    assert alerts is None or {"RaftkvNodeDown", "RaftkvQuorumAtRisk"} <= alerts
    assert "healthy" in day.status("n1")
    assert "emptied" in day.services["n2"].journal()


def replace_a_machine(day):
    """n3 is taken off while it leads; n4 has a small disk, for later."""
    n1, n4 = day.machines["n1"], day.machines["n4"]
    n1.type(f"raftkv transfer n3 {FILES}")
    n4.type(
        "install -d -o raftkv -g raftkv -m 700 /var/lib/raftkv && mount -t tmpfs -o size=320m tmpfs /var/lib/raftkv"
    )
    n4.bind(day.home / "new", "/opt/raftkv")
    day.give("n4", auth=USERS, nodes=("n4",))
    n4.type(f"echo 'RAFTKV_RAFT__SEEDS=[\"{day.machines['n1'].site.http}\"]' > /etc/raftkv/environment.n4")
    day.services["n4"] = Service(n4)
    day.services["n4"].start()
    said = n1.type(f"raftkv members replace n3 n4 --http {n4.site.http} --peer {n4.site.peer} {FILES}")
    gone = day.services.pop("n3")

    assert "n3 was removed" in said
    assert gone.ended() == 2
    assert "this node was removed from the cluster" in gone.journal()
    assert day.members("n1") == ["n1", "n2", "n4"]
    day.wait_ready("n1", "n2", "n4")
    assert "n3    no member" in day.status("n1")


def stop_the_leader(day, load):
    leader = day.leader("n1")
    began_s = time.monotonic()
    took_s = day.services[leader].stop()
    day.logbook.rows.append(("  the stop itself", f"{took_s:.1f}", "", f"{1000 * load.worst_s(began_s):.0f}"))
    day.services[leader].start()
    day.wait_ready(leader)

    assert "handing over" in day.services[leader].journal()


def renew_certificates(day):
    shown = {node: shown_by(day, node) for node in day.services}
    day.certificates(*day.services)
    for node, service in day.services.items():
        for kind in ("pem", "key"):
            name = f"/etc/raftkv/node.{kind}"
            day.machines[node].type(f"{OWNED} {day.desk}/{node}.{kind} {name}.next && mv {name}.next {name}")
        service.reload()
        wait_until(lambda node=node: shown_by(day, node) != shown[node], f"{node} to show its new certificate")

        assert ssl.PEM_cert_to_DER_cert((day.desk / f"{node}.pem").read_text()) == shown_by(day, node)


def shown_by(day, node):
    site = day.machines[node].site.http
    shown = ssl.get_server_certificate((site.host, site.port), ca_certs=str(day.desk / "ca.pem"))
    return ssl.PEM_cert_to_DER_cert(shown)


def back_up(day, load):
    """What was acknowledged before it was asked for; all later is not expected of it."""
    kept = dict(load.acknowledged)
    said = day.machines["n1"].type(f"raftkv backup {day.home}/n1/kept.backup {FILES}")
    proved = day.machines["n2"].type(f"raftkv backup verify {day.home}/n1/kept.backup")

    assert kept
    assert said
    assert "revision" in proved
    return kept


def bad_weather(day):
    for scene in (strangers, newcomers_that_do_not_answer, two_operators, too_few, a_full_disk, backups_that_are_none):
        with day.logbook.step(f"  {scene.__name__.replace('_', ' ')}"):
            scene(day)
        assert day.members("n1") == ["n1", "n2", "n4"], scene
        day.wait_ready("n1", "n2", "n4")
    assert "healthy: one failure can be borne" in day.status("n1")


def strangers(day):
    n1 = day.machines["n1"]
    as_app = {"RAFTKV_USER": APP[0], "RAFTKV_PASSWORD": APP[1]}
    wrong = n1.type(f"raftkv set shop/1 x {FILES}", status=2, RAFTKV_USER="app", RAFTKV_PASSWORD="a guess of mine")
    token = n1.type(f"raftkv login {FILES}", **as_app).strip()
    known = n1.type(f"raftkv set shop/1 open {FILES}", RAFTKV_TOKEN=token)
    time.sleep(TOKEN_S + 1)
    ended = n1.type(f"raftkv set shop/1 x {FILES}", status=2, RAFTKV_TOKEN=token)
    # Two roles that overlap allow what either allows, and one that is taken away takes nothing of the other.
    n1.type(f"raftkv role add reader {FILES} && raftkv role grant reader read --prefix '' {FILES}")
    n1.type(f"raftkv user grant app reader {FILES}")
    n1.type(f"raftkv set shop/1 closed {FILES} && raftkv get motd {FILES} || test $? = 1", **as_app)
    n1.type(f"raftkv set motd x {FILES}", status=2, **as_app)
    n1.type(f"raftkv user revoke app shop {FILES}")
    readable = n1.type(f"raftkv get shop/1 {FILES}", **as_app)
    forbidden = n1.type(f"raftkv set shop/1 x {FILES}", status=2, **as_app)
    n1.type(f"raftkv user grant app shop {FILES} && raftkv user revoke app reader {FILES}")

    assert wrong == "raftkv: there is no such user, or the password is another\n"
    assert "a guess of mine" not in "".join(service.journal() for service in day.services.values())
    assert known == "OK\n"
    assert ended.startswith("raftkv: ")
    assert "token" in ended
    assert readable == "closed\n"
    assert forbidden == "raftkv: app may not write the key 'shop/1'\n"


def newcomers_that_do_not_answer(day):
    n1, site = day.machines["n1"], day.machines["n3"].site
    where = f"--http {site.http} --peer {site.peer}"
    late = n1.type(f"raftkv members replace n2 n3 {where} --within 2s {FILES}", status=3)
    promoted = n1.type(f"raftkv members promote n3 {FILES}", status=2)
    taken = n1.type(f"raftkv members add n5 {where} {FILES}", status=2)
    n1.type(f"raftkv members remove n3 {FILES}")
    unknown = n1.type(f"raftkv members remove n9 {FILES}", status=1)

    assert "n3 has not caught up in time; n2 is still a member" in late
    assert "n3 has not caught up: it does not answer the leader" in promoted
    assert f"{site.http} is the address of n3" in taken
    assert "no member n9" in unknown


def two_operators(day):
    """Both want something else at once: one after the other, neither is lost."""
    with ThreadPoolExecutor() as operators:
        asked = [
            operators.submit(
                day.machines[at].type,
                f"raftkv members add {node} --http 198.18.255.1:{port} --peer 198.18.255.1:{port + 1} {FILES}",
            )
            for at, node, port in (("n1", "n7", 8001), ("n2", "n8", 8003))
        ]
        said = [one.result() for one in asked]
    members = day.members("n1")
    with ThreadPoolExecutor() as operators:
        for at, node in (("n1", "n7"), ("n2", "n8")):
            operators.submit(day.machines[at].type, f"raftkv members remove {node} {FILES}")

    assert all("learner" in one for one in said)
    assert members == ["n1", "n2", "n4", "n7", "n8"]


def too_few(day):
    """With n2 gone, n4 must not go: that would be two of three."""
    day.machines["n1"].type(f"raftkv transfer n1 {FILES}")
    day.services["n2"].lose_power()
    wait_until(lambda: "degraded" in day.status("n1"), "n2 to be missed")
    refused = day.machines["n1"].type(f"raftkv members remove n4 {FILES}", status=3)
    day.services["n2"].start()

    assert "only 1 of the 2 members that would vote answer: no majority, and so no writes" in refused


def a_full_disk(day):
    """n4 answers and can write nothing: n1 and n4 would be no cluster."""
    n1, n4 = day.machines["n1"], day.machines["n4"]
    n1.type(f"raftkv transfer n1 {FILES}")
    n4.type("dd if=/dev/zero of=/var/lib/raftkv/full bs=1M 2>/dev/null || true")
    wait_until(lambda: "n4 is not ready: the disk is full" in day.status("n1"), "n4 to notice")
    n1.type(f"raftkv set shop/full x {FILES}", RAFTKV_USER=APP[0], RAFTKV_PASSWORD=APP[1])
    refused = n1.type(f"raftkv members remove n2 {FILES}", status=3)
    alerts = day.firing()
    n4.type("rm /var/lib/raftkv/full")
    day.wait_ready("n4")

    assert "only 1 of the 2 members that would vote take entries: no majority, and so no writes" in refused
    assert alerts is None or "RaftkvDiskFull" in alerts


def backups_that_are_none(day):
    n1, kept = day.machines["n1"], f"{day.home}/n1/kept.backup"
    n1.type(f"head -c -100 {kept} > /etc/raftkv/short && chown raftkv: /etc/raftkv/short")
    short = n1.type("raftkv backup verify /etc/raftkv/short", status=2)
    n1.type(f"install -o raftkv -m 600 {kept} /etc/raftkv/kept")
    over = n1.type(f"runuser -u raftkv -- raftkv restore /etc/raftkv/kept {FILES} --id n1", status=2)

    assert len(short.splitlines()) == len(over.splitlines()) == 1


def restore(day, kept):
    """Every machine loses everything but what pip installed; the new cluster has another name and another secret."""
    backup = day.home / "monday.backup"
    shutil.copy(day.home / "n1" / "kept.backup", backup)
    backup.chmod(0o644)
    for service in day.services.values():
        service.lose_power()
    day.name = "shop-again"
    day.at_desk("(umask 077; head -c 32 /dev/urandom | base64 > secret)")
    for node in FOUNDERS:
        machine = day.machines[node]
        machine.type("rm -rf /var/lib/raftkv/* /etc/raftkv/*")
        day.give(node, auth=USERS)
        machine.type("install -d -o raftkv -g raftkv -m 700 /var/lib/raftkv")
        machine.type(f"runuser -u raftkv -- raftkv restore {backup} {FILES} --id {node}")
    for node in FOUNDERS:
        day.services[node] = Service(day.machines[node])
        day.services[node].start()
    day.services.pop("n4", None)
    day.wait_ready(*FOUNDERS)
    with Client([day.url(node) for node in FOUNDERS], auth=APP, tls_ca=str(day.desk / "ca.pem")) as store:
        held = {record.key: record.value for record in store.list("shop/")}

    assert {key: held.get(key, b"").decode() for key in kept} == kept
    assert "healthy: one failure can be borne" in day.status("n1")
