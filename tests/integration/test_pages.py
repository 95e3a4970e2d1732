"""What the documents show is typed, page by page, in an empty folder, and shows what they say that it shows."""

import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from raftkv.instruments.local.nodes import free_ports, wait_until
from raftkv.launch.config_file import embedded_config
from tests.integration.etcd_oracle import program
from tests.pages import ELSEWHERE, PAGES, ROOT, blocks, name_of

pytestmark = pytest.mark.integration

NODES = 6
"""So many nodes a page may speak of: n1 at ports 8001 and 9001, and so on. 8000 is the proxy's."""

LINE_S = 60.0
LONG_LINE_S = 900.0
LOOK_S = 30.0
LOOKS = re.compile(r"raftkv (?:--server \S+ )?(?:status|get|list|members list)\b|curl (?!.*(?: -X | -d |--json))")
"""What a person types again until it shows what it should."""

STAYS = re.compile(r"(?:\w+=\S+ )*(?:\S*/)?raftkv (?P<what>up|node|proxy)\b(?P<arguments>[^#]*)(?:#.*)?")
"""What has a terminal of its own from then on."""

KILL = re.compile(r"kill (?P<signal>-\w+) PID +# of (?:the )?(?P<node>\w+)")


class Reader:
    """Somebody at a terminal in ``home``, where nothing is but what the repository has in ``conf``."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self.home = home
        self.stack = stack
        ports = free_ports(2 * NODES + 1)
        self.ports = {8001 + number: ports[number] for number in range(NODES)}
        self.ports |= {9001 + number: ports[NODES + number] for number in range(NODES)} | {8000: ports[-1]}
        shutil.copytree(ROOT / "conf", home / "conf")
        embedded_config(home / "raftkv-data")
        for config in (*(home / "conf").glob("*.toml"), home / "raftkv-data" / "cluster.toml"):
            config.write_text(self.here(config.read_text()))
        (home / ".venv").mkdir()
        (home / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
        (home / ".curlrc").write_text("no-progress-meter\n")
        self.environment = os.environ | {
            "PATH": f"{home / '.venv' / 'bin'}:{Path(program('etcdctl')).parent}:{os.environ['PATH']}",
            "CURL_HOME": str(home),
            "RAFTKV_SERVERS": ",".join(f"http://127.0.0.1:{self.ports[8001 + number]}" for number in range(3)),
        }
        self.terminals: list[subprocess.Popen[bytes]] = []
        self.logs: list[Path] = []
        self.serving: set[int] = set()
        self.killed = ""
        self.shell = stack.enter_context(self._shell())
        stack.callback(self.shell.kill)
        stack.callback(self.leave_terminals)

    def _shell(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def here(self, text: str) -> str:
        """What the page says, with the ports of these nodes."""
        return re.sub(
            r"(127\.0\.0\.1|localhost):([89]00\d)", lambda found: f"{found[1]}:{self.ports[int(found[2])]}", text
        )

    def type(self, line: str, limit_s: float) -> tuple[str, int]:
        """What one line shows, and its exit status."""
        end = f"end-of-{time.monotonic_ns()}"
        self.shell.stdin.write(f'{{ {line}\n}} </dev/null\necho " {end} $?"\n'.encode())
        self.shell.stdin.flush()
        end_s, told = time.monotonic() + limit_s, b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.shell.stdout, selectors.EVENT_READ)
            while (found := re.search(rf" {end} (\d+)\n".encode(), told)) is None:
                if not selector.select(end_s - time.monotonic()):
                    pytest.fail(f"$ {line}\nis not done after {limit_s:g} s; so far:\n{told.decode()}")
                piece = os.read(self.shell.stdout.fileno(), 1 << 16)
                assert piece, f"the shell is gone after: {line}"
                told += piece
        return told[: found.start()].decode().strip(), int(found[1])

    def do(self, line: str, shown: str, limit_s: float = LINE_S) -> None:
        """Type the line, and see that it shows what the page shows, where ``...`` is anything."""
        kill, stays = KILL.fullmatch(line), STAYS.fullmatch(line)
        if kill:
            self.kill(kill["node"], kill["signal"])
        elif stays and not shown:
            self.stay(line, stays["what"], stays["arguments"].split())
        else:
            self._look(self.here(line), self.here(shown), limit_s)

    def _look(self, line: str, shown: str, limit_s: float) -> None:
        pattern = re.compile(re.escape(shown).replace(r"\.\.\.", ".*?"), re.DOTALL)
        end_s = time.monotonic() + (LOOK_S if LOOKS.search(line) else 0)
        while True:
            told, status = self.type(line, limit_s)
            told = told.replace("\r", "")
            if pattern.fullmatch(told) if shown else status == 0:
                return
            if time.monotonic() >= end_s:
                pytest.fail(f"$ {line}\nshould show:\n{shown}\nbut shows ({status}):\n{told}")
            time.sleep(0.2)

    def stay(self, line: str, what: str, arguments: list[str]) -> None:
        """Give the line a terminal, and go on when it serves."""
        if what == "up":
            self.leave_terminals()
        if what == "proxy":
            line = f"{line.partition('#')[0]} --listen 127.0.0.1:{self.ports[8000]}"
        line = line.replace("--id NODE", f"--id {self.killed}")
        log = self.home / f"terminal-{len(self.logs)}"
        self.logs.append(log)
        with log.open("wb") as out:
            self.terminals.append(
                subprocess.Popen(
                    ["bash", "-c", f"exec env {self.here(line)}"],
                    cwd=self.home,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                )
            )
        node = re.search(r"--id (\w+)", line)
        named = [word for word in arguments if word.endswith(".toml")]
        config = self.home / (named[0] if named else "raftkv-data/cluster.toml")
        ports = {int(port) for port in re.findall(r'^http = "\S+:(\d+)"', config.read_text(), re.MULTILINE)}
        if what == "proxy":
            ports = {self.ports[8000]}
        elif node:
            ports = {self.ports[8000 + int(node[1].removeprefix("n"))]}
        path = "livez" if what == "proxy" else "readyz"
        for port in sorted(ports):
            wait_until(lambda port=port: answers(port, path), f"{line} to serve at {port}", LINE_S)
        self.serving |= ports

    def kill(self, node: str, how: str) -> None:
        """Do to a node's process what the page says; ``leader``: whichever leads."""
        if node == "leader":
            found = wait_until(
                lambda: next(filter(None, (answers(port, "status") for port in self.serving)), None), "a status"
            )
            node = found.json()["leader"]
        (*_, pid) = re.findall(
            rf"node={node} process=replica event=starting .*?pid=(\d+)", "".join(log.read_text() for log in self.logs)
        )
        os.kill(int(pid), getattr(signal, "SIGKILL" if how == "-9" else f"SIG{how[1:]}"))
        self.killed = node
        self.serving.discard(self.ports[8000 + int(node.removeprefix("n"))])

    def leave_terminals(self) -> None:
        """Press Ctrl-C in all other terminals."""
        for terminal in self.terminals:
            terminal.send_signal(signal.SIGINT)
        for terminal in self.terminals:
            terminal.wait(LINE_S)
        self.terminals.clear()
        self.serving.clear()

    def run(self, text: str) -> None:
        """Run a program of the page."""
        done = subprocess.run(
            [sys.executable, "-P", "-c", text],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LINE_S,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stderr}"


def answers(port: int, path: str) -> requests.Response | None:
    try:
        answer = requests.get(f"http://127.0.0.1:{port}/{path}", timeout=2)
    except requests.RequestException:
        return None
    return answer if answer.ok else None


def typed(page: Path, *, long: bool) -> list:
    return [block for block in blocks(page) if block.mark != "Not run" and (long or block.mark != "Long")]


def pages(*, long: bool) -> list:
    here = [page for page in PAGES if name_of(page) not in ELSEWHERE and typed(page, long=long)]
    here = [page for page in here if any(block.mark != "File" for block in typed(page, long=long))]
    if long:
        here = [page for page in here if any(block.mark == "Long" for block in blocks(page))]
    return [pytest.param(page, id=name_of(page)) for page in here]


def follow(page: Path, home: Path, *, long: bool) -> None:
    here = typed(page, long=long)
    with ExitStack() as stack:
        reader = Reader(home, stack)
        lines = [line for block in here if block.kind == "console" for line, _ in block.lines]
        asked = [line for line in lines if not line.startswith("raftkv lab ")]  # that has clusters of its own
        asks = not lines or any(word in line for line in asked for word in ("raftkv", "curl", "etcdctl"))
        if asks and not (lines and "raftkv up" in lines[0]):
            reader.do("raftkv up", "")
        for block in here:
            if block.mark == "File":
                (home / block.said).write_text(reader.here(block.text))
            elif block.kind == "python":
                reader.run(block.text)
            else:
                for line, shown in block.lines:
                    reader.do(line, shown, LONG_LINE_S if block.mark == "Long" else LINE_S)


@pytest.mark.parametrize("page", pages(long=False))
def test_what_a_page_shows_happens(page, tmp_path):
    follow(page, tmp_path, long=False)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", pages(long=True))
def test_what_takes_long_happens_too(page, tmp_path):
    follow(page, tmp_path, long=True)


def test_pages_that_others_type_are_typed_by_them():
    for page, test in ELSEWHERE.items():
        assert Path(page).name in (Path(__file__).parent / test).read_text()


def test_what_is_not_typed_has_a_reason_and_names_tests_that_there_are():
    for block in [block for page in PAGES for block in blocks(page) if block.mark in ("Not run", "Long")]:
        assert len(block.said.split()) > 1
        for named in re.findall(r"(?:tests|docs)/[\w/.]*\w", block.said):
            assert (ROOT / named).exists(), named
