"""The supervisor over processes that stand in for nodes: each obeys, fails or resists as the test says."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from raftkv.core.config import ClusterConfig, ClusterSection, NodeSection
from raftkv.core.errors import StartupError
from raftkv.instruments.local.nodes import free_ports
from raftkv.launch import supervisor
from raftkv.launch.display import PlainDisplay
from tests.unit.statuses import node_status

OBEY = "signal.signal(signal.SIGTERM, lambda *_: os._exit(0)); say('up'); time.sleep(60)"
RESIST = "signal.signal(signal.SIGTERM, signal.SIG_IGN); say('up'); time.sleep(60)"
FAIL = "print('no luck', file=sys.stderr); sys.exit(2)"
CRASH = "sys.exit(1)"
FORK = "child = os.fork()\nif child == 0: time.sleep(60)\nsay(child); os._exit(1)"


class Recorder:
    """A display that remembers, and acts when it hears a word."""

    def __init__(self, **actions):
        self.events, self.lines, self._actions = [], [], actions

    def event(self, sentence):
        self.events.append(sentence)
        self._act(sentence.partition(" ")[0])

    def line(self, node_id, text):
        self.lines.append((node_id, text))
        self._act(text.partition(" ")[0])

    def _act(self, word):
        action = self._actions.get(word)
        if action:
            action()

    def show(self, views):
        pass


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A configuration whose nodes run the given Python instead of raftkv."""

    def make(**scripts):
        lines = ["import os, signal, sys, time", "say = lambda text: print(text, file=sys.stderr, flush=True)"]
        for node_id, script in scripts.items():
            body = "\n".join(f"    {line}" for line in script.split("\n"))
            lines += [f"if sys.argv[sys.argv.index('--id') + 1] == {node_id!r}:", body]
        fake = tmp_path / "python"
        fake.write_text(f"#!{sys.executable}\n" + "\n".join(lines) + "\n")
        fake.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(fake))
        ports = iter(free_ports(2 * len(scripts)))
        nodes = tuple(
            [
                NodeSection(id=node_id, http=f"127.0.0.1:{next(ports)}", peer=f"127.0.0.1:{next(ports)}")
                for node_id in scripts
            ]
        )
        return ClusterConfig(cluster=ClusterSection(data_dir=str(tmp_path / "data")), node=nodes)

    return make


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def interrupt_once(number):
    """Interrupt when as many have said that they are up: before that, a signal finds none to obey it."""
    left = iter(range(number - 1, -1, -1))
    return lambda: interrupt() if next(left) == 0 else None


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def up(config, display):
    before = signal.getsignal(signal.SIGINT)
    status = supervisor.up(config, Path("c.toml"), display)
    assert signal.getsignal(signal.SIGINT) is before
    return status


def test_a_signal_stops_every_node_and_the_exit_status_is_0(cluster):
    display = Recorder(up=interrupt_once(2))

    assert up(cluster(n1=OBEY, n2=OBEY), display) == 0
    assert display.events[0] == "starting 2 nodes of 'raftkv'"
    assert display.events[-2:] == ["stopping", "stopped"]


def test_a_node_that_resists_is_killed_after_a_while(cluster, monkeypatch):
    monkeypatch.setattr(supervisor, "STOP_S", 0.5)
    display = Recorder(up=interrupt)

    assert up(cluster(n1=RESIST), display) == 0
    assert "killed: n1" in display.events


def test_a_second_signal_kills_at_once(cluster):
    display = Recorder(up=interrupt, stopping=interrupt)
    begun_s = time.monotonic()

    assert up(cluster(n1=RESIST), display) == 0
    assert "killed: n1" in display.events
    assert time.monotonic() - begun_s < 5


def test_a_node_that_cannot_start_ends_the_rest_with_status_2(cluster):
    display = Recorder()

    assert up(cluster(n1=OBEY, n2=FAIL), display) == 2
    assert ("n2", "no luck") in display.lines
    assert "n2 could not start; stopping the rest" in display.events
    assert display.events[-1] == "stopped"


def test_a_node_that_dies_is_told_and_the_others_go_on_until_all_are_gone(cluster):
    display = Recorder()

    assert up(cluster(n1=CRASH, n2=f"time.sleep(1); {CRASH}"), display) == 1
    deaths = [event.rpartition(")")[2] for event in display.events if "exit status" in event]
    assert deaths == [" ended with exit status 1"] * 2
    assert display.events.index("all nodes have ended") > 1


def test_what_a_dead_node_leaves_behind_is_killed(cluster):
    display = Recorder()

    assert up(cluster(n1=FORK), display) == 1
    child = int(display.lines[0][1])
    deadline_s = time.monotonic() + 5
    while is_alive(child) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert not is_alive(child)


def test_a_display_that_breaks_leaves_no_node_behind(cluster):
    def fail():
        raise BrokenPipeError

    display = Recorder(up=fail)
    with pytest.raises(BrokenPipeError):
        up(cluster(n1="say(f'pid {os.getpid()}'); time.sleep(0.1); " + OBEY), display)
    assert not is_alive(int(display.lines[0][1].split()[1]))


def test_nodes_see_the_end_of_a_supervisor_that_was_killed(cluster, tmp_path):
    pid_file = tmp_path / "pid"
    script = (
        f"open({str(pid_file)!r}, 'w').write(str(os.getpid())); say('up')\n"
        "os.read(int(sys.argv[sys.argv.index('--parent-fd') + 1]), 1)"
    )
    config = cluster(n1=script)
    code = (
        "import sys, pathlib, msgspec; from raftkv.launch import supervisor;"
        "from raftkv.launch.display import PlainDisplay;"
        "from raftkv.core.config import ClusterConfig; sys.executable, config = sys.argv[1], "
        "msgspec.msgpack.decode(bytes.fromhex(sys.argv[2]), type=ClusterConfig);"
        "supervisor.up(config, pathlib.Path('c.toml'), PlainDisplay())"
    )
    import msgspec

    encoded = msgspec.msgpack.encode(config).hex()
    command = [os.path.realpath(f"/proc/{os.getpid()}/exe"), "-c", code, sys.executable, encoded]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    assert process.stderr.readline() == b"n1 | up\n"
    process.kill()
    process.wait()
    process.stderr.close()
    pid, deadline_s = int(pid_file.read_text()), time.monotonic() + 5
    while is_alive(pid) and time.monotonic() < deadline_s:
        time.sleep(0.02)

    assert not is_alive(pid)


def test_a_taken_port_is_named_before_anything_is_created(cluster, tmp_path):
    config = cluster(n1=OBEY)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", config.node[0].http_listen.port))
        taken.listen()
        with pytest.raises(StartupError, match=rf"n1: http: cannot listen on {config.node[0].http}: Address"):
            up(config, Recorder())

    assert not (tmp_path / "data").exists()


def test_clients_of_etcd_are_told_where_to_ask(cluster):
    config = cluster(n1=OBEY, n2=OBEY)
    ports = free_ports(2)
    nodes = tuple(
        [msgspec.structs.replace(node, etcd=f"127.0.0.1:{port}") for node, port in zip(config.node, ports, strict=True)]
    )
    display = Recorder(up=interrupt_once(2))

    assert up(msgspec.structs.replace(config, node=nodes), display) == 0
    assert display.events[1] == f"clients of etcd: --endpoints=127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}"


def test_the_plain_display_keeps_events_and_logs_apart(capsys):
    display = PlainDisplay()
    display.event("ready")
    display.line("n1", "hello")
    display.show(())

    assert capsys.readouterr() == ("ready\n", "n1 | hello\n")


def test_the_table_shows_each_node():
    from rich.console import Console

    from raftkv.launch.display import table
    from raftkv.launch.views import NodeView

    status = node_status()
    views = (
        NodeView(id="n1", url="http://127.0.0.1:8001", pid=77, status=status),
        NodeView(id="n2", url="http://127.0.0.1:8002", pid=78, exit_status=-9),
    )
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    console.print(table("raftkv: demo", views, has_ring=False))
    text = console.export_text()
    for word in ("leader", " 3 ", " 12 ", " 11 ", "http://127.0.0.1:8001", "77", "killed"):
        assert word in text
