"""The programs of docs/recipes, run as they are against a real cluster."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests

from raftkv import Client
from raftkv.instruments.local.nodes import free_ports, wait_until
from tests.integration.processes import running

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "docs" / "recipes"


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


@contextmanager
def without(cluster, lost):
    """What is done meanwhile, the other two nodes do."""
    cluster.kill(lost)
    try:
        yield
    finally:
        cluster.start(lost)
        cluster.wait_ready()


def said(process, first):
    """The next line that begins so."""
    return next(line for line in process.stdout if line.startswith(first))


def token_of(process, first):
    return int(said(process, first).split()[-1])


def test_a_new_users_lines_do_what_they_say(store):
    (block,) = re.findall(r"code-block:: python\n\n((?: {3}.*\n)+)", (ROOT / "docs" / "recipes.rst").read_text())
    seen, tokens = [], []

    def reload(settings):
        seen.append(settings)
        raise InterruptedError

    store.set("config/theme", "dark")
    names = {"store": store, "reload": reload, "tokens": tokens}
    for line in textwrap.dedent(block).splitlines():
        with suppress(InterruptedError):
            exec(re.sub(r"as (\w+): \.\.\.", r"as \1: tokens.append(\1.token)", line), names)

    assert 0 < tokens[0] < tokens[1]
    assert seen == [{"config/theme": b"dark"}]
    assert store["hits"] == b"1"
    assert "services/web/1" not in store


def test_commands_under_a_lock_never_overlap_while_the_leader_dies(cluster, environment, tmp_path):
    place = tmp_path / "one at a time"
    inside = f"import os, time; os.mkdir({str(place)!r}); time.sleep(3); os.rmdir({str(place)!r})"
    job = ["lock.py", "place", sys.executable, "-c", inside]
    with begun(environment, *job) as first:
        token = token_of(first, "fencing token ")
        with begun(environment, *job) as second, without(cluster, cluster.leader()):
            assert token < token_of(second, "fencing token ")
            assert [first.wait(60), second.wait(60)] == [0, 0]


def test_a_lock_ends_with_its_holder(environment):
    with begun(environment, "lock.py", "l", "sleep", "30") as first:
        token = token_of(first, "fencing token ")
        with begun(environment, "lock.py", "l", sys.executable, "-c", "raise SystemExit(3)") as second:
            first.kill()
            assert token < token_of(second, "fencing token ")
            assert second.wait(60) == 3


def test_another_worker_leads_when_the_leader_dies_and_a_node_with_it(cluster, environment, store):
    with begun(environment, "worker_fleet.py", "one") as first:
        token = token_of(first, "leads ")
        with begun(environment, "worker_fleet.py", "two") as second:
            assert store.election("fleet").leader().value == b"one"
            first.kill()
            with without(cluster, cluster.leader()):
                assert token < token_of(second, "leads ")
                assert store.election("fleet").leader().value == b"two"


def test_a_service_is_found_until_it_ends(environment, store):
    with begun(environment, "registry.py", "serve", "web", "10.0.0.7:80") as service:
        assert said(service, "registered")
        assert run(environment, "registry.py", "find", "web").stdout == "10.0.0.7:80\n"
        service.send_signal(signal.SIGTERM)
        assert service.wait(30) == 0
    assert run(environment, "registry.py", "find", "web").stdout == ""


def test_a_service_outlives_a_node_and_is_gone_when_it_dies(cluster, environment, store):
    with begun(environment, "registry.py", "serve", "api", "10.0.0.8:80") as service:
        assert said(service, "registered")
        with without(cluster, cluster.leader()):
            assert [found.value for found in store.list("services/api/")] == [b"10.0.0.8:80"]
            service.kill()
            wait_until(lambda: not list(store.list("services/api/")), "the dead service to be forgotten")


def test_a_job_runs_once_a_day_on_one_machine(cluster, environment, store):
    job = ["cron_job.py", "nightly", "2026-11-28", sys.executable, "-c"]
    with store.lock("cron/nightly"):
        assert run(environment, *job, "print('ran')").stdout.startswith("runs elsewhere")
    assert run(environment, *job, "raise SystemExit(1)").returncode != 0  # not done, so the next start does it
    with without(cluster, cluster.leader()):
        assert run(environment, *job, "print('ran')").stdout == "ran\n"
        assert run(environment, *job, "print('ran')").stdout == "done already\n"


def test_a_counter_counts_once_what_it_showed_though_the_leader_dies(cluster, environment, store):
    with ThreadPoolExecutor(4) as pool:
        running_now = [pool.submit(run, environment, "counter.py", "visits") for _ in range(8)]
        with without(cluster, cluster.leader()):
            shown = [int(one.result().stdout) for one in running_now if one.result().returncode == 0]

    assert len(set(shown)) == len(shown) > 0
    assert max(shown) <= int(store["visits"]) <= len(running_now)


def test_a_user_is_stopped_at_the_limit(cluster, environment, store):
    now_s = time.time()
    if now_s % 60 > 25:
        time.sleep(61 - now_s % 60)  # all in one minute
    asked = [run(environment, "rate_limiter.py", "ada", "3").stdout for _ in range(3)]
    with without(cluster, cluster.leader()):
        asked += [run(environment, "rate_limiter.py", "ada", "3").stdout for _ in range(2)]

    assert asked == ["allowed\n"] * 3 + ["denied\n"] * 2


def test_a_configuration_is_shown_whenever_it_changes(cluster, environment, store):
    store.set("shown/a", "1")
    with begun(environment, "reload.py", "shown/") as program:
        assert program.stdout.readline() == "{'shown/a': b'1'}\n"
        with without(cluster, cluster.nodes[0]):  # the one that it asks
            store.set("shown/a", "2")
            assert program.stdout.readline() == "{'shown/a': b'2'}\n"


@pytest.mark.parametrize("kind", ["flask", "fastapi"])
def test_a_web_application_has_the_newest_configuration(cluster, environment, store, kind):
    (port,) = free_ports(1)
    if kind == "flask":
        command = ["flask", "--app", "flask_configuration", "run", "--port", str(port)]
    else:
        pytest.importorskip("fastapi")
        command = ["uvicorn", "fastapi_configuration:app", "--port", str(port)]
    store.set("config/web/title", "old")
    with started(environment, sys.executable, "-m", *command):
        assert settled(port, {"config/web/title": "old"})
        with without(cluster, cluster.nodes[0]):  # the one that it asks
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
