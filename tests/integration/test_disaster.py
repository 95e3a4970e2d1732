"""``docs/disaster.rst`` on real nodes: each thing is broken as the page says, and what the page has typed is typed."""

import re
import shlex
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import trustme

from raftkv.experiment import Orders
from raftkv.instruments.local.nodes import wait_until
from raftkv.process.command import module
from tests.integration.processes import RealCluster

PAGE = Path(__file__).parents[2] / "docs" / "disaster.rst"
SECTIONS = dict(re.findall(r"^(.+)\n-{5,}\n\n((?:.*\n)*?)(?=^.+\n-{5,}\n|\Z)", PAGE.read_text(), re.MULTILINE))
SECTIONS[""] = PAGE.read_text().partition("----")[0]
LOOKS = ("raftkv status", "raftkv members list", "raftkv get", "raftkv set")
"""What a person types again until it shows what it should."""

LOOK_S = 40.0
MIB = 1 << 20


def blocks(section, kind):
    found = re.findall(rf"code-block:: {kind}\n\n((?:   .*\n|\n)+)", SECTIONS[section])
    return [re.sub(r"^   ", "", block, flags=re.MULTILINE) for block in found]


def typed(section):
    """The lines that a reader of the section types, each with the lines that it shows for an answer."""
    return [
        (line, shown.strip())
        for block in blocks(section, "console")
        for line, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    ]


class Operated(RealCluster):
    """Nodes as on the page, under other ports; ``under`` is what all that is typed runs under."""

    def __init__(self, home, size=3, sections="", *, under=(), newcomers=1, **more):
        (home / "data").mkdir(exist_ok=True)
        self.under = under
        self.files = {}
        super().__init__(home, size, sections, name="demo", newcomers=newcomers, **more)
        self.sites = {name: msgspec.structs.replace(site, under=under) for name, site in self.sites.items()}
        self.ports = {}
        for number, node in enumerate(self.sites):
            self.ports[f"127.0.0.1:{8001 + number}"] = f"127.0.0.1:{self.http[node]}"
            self.ports[f"127.0.0.1:{9001 + number}"] = f"127.0.0.1:{self.peer[node]}"

    def command(self, node):
        return self.files.get(node) or super().command(node)

    def here(self, text):
        """What the page says, with the addresses of these nodes."""
        return re.sub(r"127\.0\.0\.1:[89]00\d", lambda found: self.ports[found[0]], text)

    def write(self, name, text):
        (self.home / name).write_text(self.here(text))

    def type(self, line):
        """What one line shows, and its exit status."""
        words = f'raftkv() {{ {shlex.join(module("raftkv"))} "$@"; }}; cd {shlex.quote(str(self.home))}; '
        done = subprocess.run(
            [*self.under, "bash", "-c", words + self.here(line)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout, done.returncode

    def run_node(self, line):
        """Start a node as the line says, and wait until it is ready."""
        words = shlex.split(self.here(line))[1:]
        node = words[words.index("--id") + 1]
        words[1] = str(self.home / words[1])
        self.files[node] = module("raftkv", *words)
        if node in self.processes:
            self.kill(node)
        self.start(node)
        self.wait_ready(node)

    def follow(self, section, *, before=lambda _: None, pid=0):
        """Do what the section says, line by line, and see that it shows what the section shows."""
        for line, shown in typed(section):
            before(line)
            if line.startswith("raftkv node") and not shown:
                self.run_node(line)
                continue
            self.look(line.replace("PID", str(pid)), shown)

    def look(self, line, shown):
        pattern = re.compile(re.escape(self.here(shown)).replace(r"\.\.\.", ".*?"), re.DOTALL)
        end_s = time.monotonic() + (LOOK_S if line.startswith(LOOKS) else 0)
        while True:
            told, status = self.type(line)
            fits = pattern.fullmatch(told.strip()) if shown else status == 0
            if line.startswith("raftkv node"):
                assert status == 2
            if fits:
                return
            if time.monotonic() >= end_s:
                pytest.fail(f"$ {line}\nshould show:\n{shown}\nbut shows ({status}):\n{told}")
            time.sleep(0.2)

    def says(self, section, words, *nodes):
        """The page has these words, and so has the log of these nodes."""
        assert f"``{words}``" in re.sub(r"\n", " ", SECTIONS[section])
        for node in nodes:
            wait_until(lambda node=node: words in self.log(node), f"{node} to say: {words}")


def begun(cluster):
    cluster.start()
    cluster.wait_ready()
    assert cluster.put("n1", "greeting", "hello").status_code == 201
    return cluster


def test_the_alerts_that_it_names_are_there():
    alerts = (PAGE.parents[1] / "packaging" / "prometheus" / "alerts.yml").read_text()
    named = set(re.findall(r"``(Raftkv[A-Za-z]+)``", PAGE.read_text()))

    assert len(named) > 5
    assert named <= set(re.findall(r"alert: (\w+)", alerts))


def test_the_first_look_and_a_clock_that_is_wrong(tmp_path):
    with Operated(tmp_path) as cluster:
        begun(cluster).follow("")
        assert cluster.request("PUT", "n1", "/kv/lives?ttl=600", data="v").status_code == 201
        cluster.order("n2", Orders(wall_offset_s=3600.0))
        cluster.follow("A clock is wrong")
        assert cluster.put("n1", "k").status_code == 201
        assert cluster.get("n2", "lives").status_code == 200
        cluster.order("n2", Orders())
        cluster.look("raftkv status --config cluster.toml", "node  role...\nhealthy: one failure can be borne")


def test_the_quorum_is_lost_for_good(tmp_path):
    section = "The quorum is lost for good"
    with Operated(tmp_path) as cluster:
        begun(cluster).wait_level()
        cluster.kill("n2", "n3")
        cluster.says(section, "no leader is known", "n1")
        (new,) = blocks(section, "toml")
        cluster.write("new.toml", new)
        for number in (2, 3):
            text = new.replace('"n1"', f'"n{number}"').replace("8001", f"800{number}").replace("9001", f"900{number}")
            cluster.write(f"n{number}.toml", text)

        def stop_what_is_left(line):
            if line.startswith("raftkv recover --from data/n1") and "n1" in cluster.processes:
                cluster.stop("n1")

        cluster.follow(section, before=stop_what_is_left)

        assert cluster.put("n3", "later").status_code == 201


def test_a_node_is_corrupted_and_one_disk_is_lost(tmp_path):
    with Operated(tmp_path) as cluster:
        begun(cluster)
        for number in range(10):
            cluster.put("n1", f"k{number}")
        cluster.wait_level()
        cluster.kill("n2")
        (segment,) = (cluster.data_dir("n2") / "log").glob("*.log")
        content = bytearray(segment.read_bytes())
        content[content.index(b"greeting")] ^= 1
        segment.write_bytes(content)
        cluster.follow("A node is corrupted")

        cluster.kill("n3")
        told, _ = cluster.type("raftkv status --config cluster.toml")
        assert "2 of 3 nodes answer; no further failure can be borne" in told

        def lose_it_again(line):
            if "--id n4" in line:
                cluster.kill("n3")

        cluster.follow("One disk is lost", before=lose_it_again)

        assert cluster.get("n4", "greeting").content == b"hello"


def test_a_founders_disk_is_lost(tmp_path):
    with Operated(tmp_path, 1, newcomers=2) as cluster:
        begun(cluster)
        for node in ("n2", "n3"):
            cluster.start(node)
            cluster.wait_ready(node)
        cluster.look("raftkv members list --config cluster.toml", "node...n1    ...n2    voter...n3    voter...")
        cluster.kill("n1")
        cluster.follow("A founder's disk is lost")
        cluster.look("raftkv status --config cluster.toml", "...healthy: one failure can be borne")


@pytest.fixture
def small_disk(tmp_path):
    """What is typed with this before it sees a file system of 64 MiB at ``data``, which nobody else sees."""
    (tmp_path / "data").mkdir()
    mount = f"mount -t tmpfs -o size=64m tmpfs {shlex.quote(str(tmp_path / 'data'))} && echo mounted && read"
    command = ["unshare", "--mount", "bash", "-c", mount]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as holder:
        if holder.stdout.readline() != b"mounted\n":
            pytest.skip("mount namespaces are not permitted here")
        yield ("nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", "--")
        holder.stdin.close()


def test_a_disk_fills(tmp_path, small_disk):
    section = "A disk fills"
    sections = f"[raft]\nsegment_bytes = {MIB}\ndisk_reserve_bytes = {8 * MIB}\n"
    with Operated(tmp_path, 1, sections, under=small_disk) as cluster:
        begun(cluster)
        fill = f"fallocate -l $(($(df --output=avail -B1 data | tail -1) - {6 * MIB})) data/ballast"
        assert cluster.type(fill) == ("", 0)
        cluster.says(section, "disk full: as a leader, this node hands over or refuses writes", "n1")
        cluster.kill("n1")
        cluster.type("head -c 64M /dev/zero > data/rest")
        said, status = cluster.type("raftkv node cluster.toml --id n1")
        assert (status, "``no space left on the device``" in SECTIONS[section]) == (2, True)
        assert said.endswith("no space left on the device\n")
        cluster.type("rm data/rest")
        cluster.start("n1")
        wait_until(lambda: cluster.ask("n1", "/livez"), "n1 to answer")
        cluster.follow(section)
        cluster.says(section, "disk has room again", "n1")


def test_keys_were_deleted_by_accident(tmp_path):
    with Operated(tmp_path, 1, newcomers=3) as cluster:
        begun(cluster)
        assert cluster.type("raftkv backup monday.backup --config cluster.toml")[1] == 0
        assert cluster.type("raftkv delete greeting --config cluster.toml")[1] == 0
        cluster.write("beside.toml", BESIDE)
        cluster.follow("Keys were deleted by accident")
        assert cluster.get("n1", "greeting").content == b"hello"


BESIDE = """[cluster]
name = "beside"
data_dir = "beside"

[[node]]
id = "n4"
http = "127.0.0.1:8004"
peer = "127.0.0.1:9004"
"""


def test_roots_password_is_lost(tmp_path):
    (tmp_path / "root.password").write_text("forgotten by everybody")
    (tmp_path / "root.password").chmod(0o600)
    sections = "[auth]\nenabled = true\nroot_password_file = 'root.password'\n"
    with Operated(tmp_path, 1, sections) as cluster:
        cluster.start()
        cluster.wait_ready()
        cluster.follow("Root's password is lost")


def test_certificates_have_ended(tmp_path):
    authority, ended = trustme.CA(), datetime.now(UTC) - timedelta(days=1)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.private_key_pem.write_to_path(str(tmp_path / "ca.key"))

    def install(**until):
        shown = authority.issue_cert("n1", "localhost", "127.0.0.1", **until)
        shown.cert_chain_pems[0].write_to_path(str(tmp_path / "node.pem"))
        shown.private_key_pem.write_to_path(str(tmp_path / "node.key"))
        (tmp_path / "node.key").chmod(0o600)

    sections = "[http]\ntls_cert = 'node.pem'\ntls_key = 'node.key'\ntls_ca = 'ca.pem'\n"
    with Operated(tmp_path, 1, sections, scheme="https") as cluster:
        cluster.verify = str(tmp_path / "ca.pem")
        install()
        begun(cluster)
        install(not_before=ended - timedelta(days=9), not_after=ended)
        cluster.processes["n1"].send_signal(signal.SIGHUP)
        cluster.follow("Certificates have ended", pid=cluster.processes["n1"].pid)
