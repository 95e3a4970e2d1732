"""What a type checker and an interactive shell see of the package."""

import subprocess
import sys

import pytest

import raftkv

PROGRAM = """
import raftkv
from raftkv import AsyncClient, Client, DefiniteError, Page, Record

store: Client = Client("h:8001", timeout_s=2.0)
with store as opened:
    found: bytes | None = opened.get("k")
    other: bytes | int = opened.get(b"k", 7, consistency="local")
    record: Record | None = opened.get_record("k", consistency="lease")
    page: Page = opened.page("prefix", limit=10)
    revision: int = opened.set("k", "v", ttl=60, acks="all")
    keys: list[str] = [one.key for one in opened.list(limit=3)]
    leader: str | None = opened.status()["leader"]
    for told in opened.follow():
        line: str | None = told["detail"] if "code" in told else told["leader"]
    statuses: list[int] = [one["status"] for one in opened.batch([{"op": "put", "key": "a", "value": b"1"}])]
    members: list[str] = [one["http"] for one in opened.members()["members"]]


async def awaiting(store: AsyncClient) -> None:
    async with store as opened:
        found: bytes | None = await opened.get("k")
        other: bytes | int = await opened.get(b"k", 7, consistency="local")
        record: Record | None = await opened.get_record("k", consistency="lease")
        page: Page = await opened.page("prefix", limit=10)
        revision: int = await opened.set("k", "v", ttl=60, acks="all")
        keys: list[str] = [one.key async for one in opened.list(limit=3)]


try:
    del store["k"]
except DefiniteError as error:
    text: str = error.detail
version: str = raftkv.__version__
"""

MISTAKES = {
    "raftkv.Clinet()": 'Module has no attribute "Clinet"',
    "from raftkv import Recrod": 'has no attribute "Recrod"',
    'store.get_record("k", consistancy="local")': 'Unexpected keyword argument "consistancy"',
    'store.get_record("k", consistency="strong")': "incompatible type \"Literal['strong']\"",
    "store.set(7, b'')": 'incompatible type "int"',
    "store.set('k', b'', acks='most')": "incompatible type \"Literal['most']\"",
    "length: int = store.get('k')": "Incompatible types in assignment",
    "store.status()['laeder']": 'has no key "laeder"',
    "store.gte('k')": '"Client" has no attribute "gte"',
}


def check(program, folder):
    """What ``mypy --strict`` says to a program that somebody wrote elsewhere, who installed raftkv."""
    path = folder / "program.py"
    path.write_text(program)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--follow-imports", "silent"]
    command += ["--cache-dir", str(folder / "cache"), "--no-error-summary", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder).stdout.splitlines()


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """The lines about each mistake, in order, all checked in one program; and about the program without them."""
    folder = tmp_path_factory.mktemp("user")
    first = PROGRAM.count("\n") + 1
    lines = check(PROGRAM + "\n".join(MISTAKES) + "\n", folder)
    said = {mistake: [] for mistake in MISTAKES}
    rest = []
    for line in lines:
        number = int(line.split(":")[1]) - first
        (said[list(MISTAKES)[number]] if 0 <= number < len(MISTAKES) else rest).append(line)
    return said, rest


def test_a_program_without_mistakes_is_accepted(verdicts):
    assert verdicts[1] == []


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found_before_the_program_runs(verdicts, mistake):
    assert any(MISTAKES[mistake] in line for line in verdicts[0][mistake]), verdicts[0][mistake]


def test_completions_are_the_names_that_are_exported():
    assert dir(raftkv) == sorted(raftkv.__all__)


def test_a_mistyped_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Clinet"):
        _ = raftkv.Clinet
    with pytest.raises(ImportError):
        exec("from raftkv import Clinet")


def test_the_client_is_light():
    heavy = "flask werkzeug gunicorn lmdb rocksdict uvloop greenlet pysyncobj rich click requests prometheus_client"
    code = f"import sys; from raftkv import Client; print(*(set({heavy.split()!r}) & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (found.stdout.strip(), found.stderr) == ("", "")


UNIX_ONLY = (
    "fcntl",
    "grp",
    "pwd",
    "resource",
    "termios",
    "uvloop",
    "gunicorn",
    "lmdb",
    "pysyncobj",
    "rocksdict",
    "flask",
)

UNIX_CALLS = ("fork", "register_at_fork", "getuid", "setsid", "killpg", "pipe2", "sched_getaffinity", "mkfifo")
UNIX_SIGNALS = ("SIGKILL", "SIGHUP", "SIGCHLD", "SIGUSR1", "pthread_sigmask")

IMPORT = """
import sys
for name in {absent!r}:
    sys.modules[name] = None  # importing it fails
import os, signal, socket
for module, names in ((os, {calls!r}), (signal, {signals!r}), (socket, ("AF_UNIX", "SO_REUSEPORT"))):
    for name in names:
        vars(module).pop(name, None)
import raftkv
print("raftkv.client" in sys.modules)
from raftkv import AsyncClient, Client
import importlib, pkgutil, raftkv.client
for found in pkgutil.iter_modules(raftkv.client.__path__):
    importlib.import_module(f"raftkv.client.{{found.name}}")
with Client("127.0.0.1:1", retry=False) as store:
    try:
        store.get("k")
    except raftkv.DefiniteError:
        print("asked")
print(*sorted({{name.split(".")[1] for name in sys.modules if name.startswith("raftkv.")}}))
"""


def test_the_clients_need_nothing_of_a_server_nor_of_one_operating_system_and_the_package_alone_not_even_them():
    program = IMPORT.format(absent=UNIX_ONLY, calls=UNIX_CALLS, signals=UNIX_SIGNALS)
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert found.stderr == ""
    assert found.stdout.splitlines() == ["False", "asked", "api client core"]
