"""Machines for a play: each has a network, /etc, /opt and /var/lib of its own, and runs the unit as systemd would.

A machine is a network namespace on a common bridge, and a mount namespace in which those folders are overlays: so
commands of the documents are typed as they stand, as root, and change nothing outside. When its first process has
ended nothing of it is left.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from raftkv.instruments.lab import namespaces
from raftkv.instruments.local.nodes import Site, wait_until
from raftkv.instruments.local.processes import alive, descendants
from tests.day.desk import Logbook

OWN: Final = ("/etc", "/opt", "/var/lib", "/usr/lib/sysusers.d")
PATH: Final = "/opt/raftkv/bin:/usr/bin:/bin:/usr/sbin:/sbin"
TOOLS: Final = ("nsenter", "unshare", "setpriv", "prlimit", "systemd-sysusers", "openssl", "git")
COMMAND_S: Final = 180.0
START_S: Final = 60.0


def why_unavailable() -> str | None:
    """Why machines cannot be had here, ``None`` when they can."""
    missing = [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    modern = ["/usr/bin/python3", "-c", "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"]
    with contextlib.suppress(OSError):
        if subprocess.run(modern, capture_output=True, check=False).returncode == 0:
            return namespaces.why_unavailable(["ip"])
    return "the machines need the system's own python3, 3.11 or newer, with venv"


class Machine:
    """The machine of one node; ``name`` is that node's id."""

    def __init__(self, site: Site, home: Path, logbook: Logbook) -> None:
        self.name = site.id
        self.site = site
        self.home = home
        self._logbook = logbook
        layers = []
        for number, folder in enumerate(OWN):
            upper, work = home / f"{number}.upper", home / f"{number}.work"
            upper.mkdir(parents=True)
            work.mkdir()
            layers.append(f"mount -t overlay overlay -o lowerdir={folder},upperdir={upper},workdir={work} {folder}")
        script = " && ".join([*layers, "echo up", "exec sleep infinity"])
        self._first = subprocess.Popen(
            [*site.under, "unshare", "--mount", "--propagation", "private", "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            process_group=0,
        )
        assert self._first.stdout is not None
        assert self._first.stdout.readline() == b"up\n"

    def within(
        self, command: list[str], environment: Mapping[str, str] = {}, *, namespaces: tuple[str, ...] = ("mount", "net")
    ) -> list[str]:
        """``command`` as the machine runs it, with this environment and no other."""
        told = [f"{name}={value}" for name, value in {"PATH": PATH, **environment}.items()]
        enter = ["nsenter", "-t", str(self._first.pid), *[f"--{kind}" for kind in namespaces]]
        return [*enter, "env", "-i", "-C", "/", *told, *command]

    def type(self, line: str, *, status: int = 0, **environment: str) -> str:
        """What ``line``, typed into a shell as root, says; ``status`` is how it is to end."""
        return self._typed(line, status, self.within(["bash", "-c", line], environment))

    def install(self, line: str) -> str:
        """The same with the network of this very machine, where package indexes are, and what it says of them."""
        told = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "https_proxy"))}
        return self._typed(line, 0, self.within(["bash", "-c", line], told, namespaces=("mount",)))

    def _typed(self, line: str, status: int, command: list[str]) -> str:
        self._logbook.typed()
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == status, f"{self.name}# {line}\nended with {done.returncode}:\n{said}"
        return said

    def put(self, name: str, text: str, *, mode: int = 600) -> None:
        """Let there be a file in /etc/raftkv, for the node alone."""
        self.type(f"install -o raftkv -g raftkv -m {mode} /dev/stdin /etc/raftkv/{name} <<'END'\n{text}\nEND")

    def bind(self, outside: Path, inside: str) -> None:
        """Let a folder of this machine be one from outside from now on."""
        command = self.within(["sh", "-c", f"mkdir -p {inside} && mount --bind {outside} {inside}"])
        subprocess.run(command, check=True, timeout=COMMAND_S)

    def close(self) -> None:
        """Let nothing be left of it; its services have ended."""
        self._first.kill()
        self._first.wait()


class Service:
    """The unit of ``packaging/systemd`` on a machine: what it says is done, by hand, and what the node says is heard.

    What a service manager does by the kernel's means (file systems, system calls) is for ``systemd-analyze`` to judge.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.statuses: list[str] = []
        self.watchdog_count = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = threading.Event()

    def _all(self, key: str) -> list[str]:
        unit = "cat /etc/systemd/system/raftkv@.service"
        done = subprocess.run(self.machine.within(["sh", "-c", unit]), capture_output=True, text=True, check=True)
        lines = done.stdout.replace("%i", self.machine.name).splitlines()
        return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]

    def _one(self, key: str) -> str:
        (value,) = self._all(key)
        return value

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """Its main process."""
        assert self._process is not None
        return self._process

    def start(self, *, notifies: bool = True) -> None:
        """``systemctl start``: returns once the node has said that it is ready, if it is of a version that does."""
        assert self._process is None
        assert self._one("Type") == "notify"
        self._is_ready.clear()
        user, group = self._one("User"), self._one("Group")
        state = f"/var/lib/{self._one('StateDirectory')}"
        self.machine.type(f"install -d -o {user} -g {group} -m {self._one('StateDirectoryMode')} {state}")
        nofile = min(int(self._one("LimitNOFILE")), resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        command = [
            *("prlimit", f"--nofile={nofile}", f"--core={self._one('LimitCORE')}", "--"),
            *("setpriv", "--reuid", user, "--regid", group, "--clear-groups", "--no-new-privs"),
            *("--bounding-set=-all", "--inh-caps=-all"),
            *("sh", "-c", f'umask {self._one("UMask")}; exec "$@"', "-"),
            *shlex.split(self._one("ExecStart")),
        ]
        listener, where = self._listener()
        watchdog_us = str(int(self._one("WatchdogSec")) * 1_000_000)
        told = {**self._environment(), "NOTIFY_SOCKET": where, "WATCHDOG_USEC": watchdog_us}
        with (self.machine.home / "journal").open("ab") as journal:
            process = self._process = subprocess.Popen(
                self.machine.within(command, told),
                stdin=subprocess.DEVNULL,
                stdout=journal,
                stderr=journal,
                process_group=0,
            )
        threading.Thread(target=self._listen, args=(listener, process), daemon=True).start()
        if notifies:
            wait_until(lambda: self._is_ready.is_set() or process.poll() is not None, self.machine.name, START_S)
            assert self._is_ready.is_set(), self.journal()[-2000:]

    def _environment(self) -> dict[str, str]:
        told = dict(entry.split("=", 1) for entry in self._all("Environment"))
        for name in self._all("EnvironmentFile"):
            text = self.machine.type(f"cat {name.removeprefix('-')} 2>/dev/null || true")
            told |= dict(line.split("=", 1) for line in text.splitlines() if line.strip() and line[0] not in "#;")
        return told

    def _listener(self) -> tuple[socket.socket, str]:
        where = self.machine.home / "notify"
        where.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.bind(str(where))
        where.chmod(0o777)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        listener.settimeout(0.2)
        return listener, str(where)

    def _listen(self, listener: socket.socket, process: subprocess.Popen[bytes]) -> None:
        with listener:
            while process.poll() is None:
                with contextlib.suppress(TimeoutError):
                    data, control, _, _ = listener.recvmsg(4096, socket.CMSG_SPACE(struct.calcsize("3i")))
                    if struct.unpack("3i", control[0][2])[0] == process.pid:  # NotifyAccess=main
                        self._heed(dict(line.split("=", 1) for line in data.decode().splitlines()))

    def _heed(self, told: Mapping[str, str]) -> None:
        self.statuses += [told["STATUS"]] if "STATUS" in told else []
        self.watchdog_count += "WATCHDOG" in told
        if "READY" in told:
            self._is_ready.set()

    def reload(self) -> None:
        """``systemctl reload``."""
        assert self._one("ExecReload") == "/bin/kill -HUP $MAINPID"
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> float:
        """``systemctl stop``: the node itself is told; returns how many seconds it took to end in good order."""
        assert self._one("KillMode") == "mixed"
        process, family, began_s = self.process, descendants(self.process.pid), time.monotonic()
        self._process = None
        process.terminate()
        assert process.wait(float(self._one("TimeoutStopSec"))) == 0, self.journal()[-2000:]
        assert not alive(family)
        return time.monotonic() - began_s

    def lose_power(self) -> None:
        """All that runs here is gone at once."""
        process, family = self.process, descendants(self.process.pid)
        self._process = None
        for pid in {process.pid, *family}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        wait_until(lambda: not alive(family), "its processes to end")

    def ended(self) -> int:
        """Wait until it has ended by itself; returns the exit status."""
        process, self._process = self.process, None
        return process.wait(START_S)

    @property
    def runs(self) -> bool:
        """Was it started, and not ended since?"""
        return self._process is not None

    def journal(self) -> str:
        """What it has said, over all its lives."""
        return (self.machine.home / "journal").read_text()
