"""The programs of docs/recipes, run as they are against a real cluster."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from raftkv import Client
from raftkv.instruments.local.nodes import free_ports
from tests.integration.processes import running

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
README, RECIPES = ROOT / "README.rst", ROOT / "docs" / "recipes"
RAFTKV = f"{sys.executable} -m raftkv"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with running(tmp_path_factory.mktemp("raft")) as found:
        yield found


@pytest.fixture
def environment(cluster):
    return {**os.environ, "RAFTKV_SERVERS": ",".join(cluster.url(node, "") for node in cluster.nodes)}


@pytest.fixture
def store(environment):
    with Client(environment["RAFTKV_SERVERS"], timeout_s=20.0) as opened:
        opened.set("begun", b"")
        yield opened


def run(environment, recipe, *arguments):
    command = [sys.executable, str(RECIPES / recipe), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def started(environment, *command):
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=RECIPES) as process:
        try:
            yield process
        finally:
            process.kill()


def begun(environment, recipe, *arguments):
    return started(environment, sys.executable, str(RECIPES / recipe), *arguments)


def test_what_the_readme_shows_is_what_happens(tmp_path):
    """Its section on locks, typed at a new cluster: the three lines of Python, then every command."""
    section = README.read_text().partition("\nLocks, elections, watches\n")[2].partition("\nThe same without")[0]
    python, console = (textwrap.dedent(block) for block in re.findall(r"::? \w+\n\n((?: {3}.*\n|\n)+)", section))
    with running(tmp_path) as cluster:
        urls = {f"http://127.0.0.1:{8000 + int(node[1:])}": cluster.url(node, "") for node in cluster.nodes}
        settings = {**os.environ, "RAFTKV_SERVERS": ",".join(urls.values())}
        typed = re.sub("|".join(urls), lambda found: urls[found[0]], console).replace(".venv/bin/raftkv", RAFTKV)
        script = "".join(f"{line[2:]}\n" for line in typed.splitlines() if line.startswith("$ "))
        script = script.replace("curl ", "curl -s ")
        first = shell(settings, f"{sys.executable} -", f"from raftkv import Client\n{python}")
        then = shell(settings, "sh 2>&1", script)

    assert first == "{'config/theme': b'dark, by token 1'}\n"
    assert then.split("\n") == [line for line in typed.split("\n") if not line.startswith("$ ")]


def shell(settings, command, typed):
    done = subprocess.run(
        command, shell=True, input=typed, env=settings, stdout=subprocess.PIPE, text=True, timeout=60, check=False
    )
    return done.stdout


def test_a_lock_is_held_while_the_command_runs(environment, store):
    with store.lock("l") as held:
        inner = run(environment, "counter.py", "n")
        assert inner.stdout == "1\n"
        token = held.token
    done = run(environment, "lock.py", "l", sys.executable, "-c", "print('here'); raise SystemExit(3)")

    assert done.returncode == 3
    assert done.stdout.splitlines()[1] == "here"
    assert int(done.stdout.split()[2]) > token


def test_another_worker_leads_when_the_leader_dies(environment, store):
    with begun(environment, "worker_fleet.py", "one") as first:
        assert first.stdout.readline().startswith("leads ")
        with begun(environment, "worker_fleet.py", "two") as second:
            assert store.election("fleet").leader().value == b"one"
            first.kill()
            assert second.stdout.readline().startswith("leads ")
            assert store.election("fleet").leader().value == b"two"


def test_a_service_is_found_until_it_ends(environment, store):
    with begun(environment, "registry.py", "serve", "web", "10.0.0.7:80") as service:
        assert service.stdout.readline() == "registered\n"
        assert run(environment, "registry.py", "find", "web").stdout == "10.0.0.7:80\n"
        service.send_signal(signal.SIGTERM)
        assert service.wait(30) == 0
    assert run(environment, "registry.py", "find", "web").stdout == ""


def test_a_job_runs_once_a_day_on_one_machine(environment, store):
    job = ["cron_job.py", "nightly", "2026-11-28", sys.executable, "-c", "print('ran')"]
    with store.lock("cron/nightly"):
        assert run(environment, *job).stdout.startswith("runs elsewhere")
    assert run(environment, *job).stdout == "ran\n"
    assert run(environment, *job).stdout == "done already\n"


def test_a_user_is_stopped_at_the_limit(environment, store):
    store.set("begun", b"")
    now_s = time.time()
    if now_s % 60 > 40:
        time.sleep(61 - now_s % 60)  # all in one minute
    said = [run(environment, "rate_limiter.py", "ada", "3").stdout.strip() for _ in range(5)]

    assert said == ["allowed"] * 3 + ["denied"] * 2


def test_a_configuration_is_shown_whenever_it_changes(environment, store):
    store.set("config/a", "1")
    with begun(environment, "reload.py", "config/") as program:
        assert program.stdout.readline() == "{'config/a': b'1'}\n"
        store.set("config/a", "2")
        assert program.stdout.readline() == "{'config/a': b'2'}\n"


@pytest.mark.parametrize("kind", ["flask", "fastapi"])
def test_a_web_application_has_the_newest_configuration(environment, store, kind):
    (port,) = free_ports(1)
    if kind == "flask":
        command = ["flask", "--app", "flask_configuration", "run", "--port", str(port)]
    else:
        pytest.importorskip("fastapi")
        command = ["uvicorn", "fastapi_configuration:app", "--port", str(port)]
    store.set("config/web/title", "old")
    with started(environment, sys.executable, "-m", *command):
        assert settled(port, {"config/web/title": "old"})
        store.set("config/web/title", "new")
        assert settled(port, {"config/web/title": "new"})


def settled(port, wanted):
    until_s = time.monotonic() + 60
    while time.monotonic() < until_s:
        try:
            if requests.get(f"http://127.0.0.1:{port}/settings", timeout=5).json() == wanted:
                return True
        except requests.ConnectionError:
            pass
        time.sleep(0.02)
    return False
