"""The image and the compose file, judged by tools; and its cluster, played in namespaces in place of containers."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import requests
import yaml
from compose_spec import PyCompose

from raftkv.core.environment import read_config
from raftkv.instruments.lab.namespaces import Namespaces, why_unavailable
from raftkv.instruments.local.nodes import wait_until
from raftkv.process.command import module

HOME = Path(__file__).parents[2] / "packaging"
COMPOSE = HOME / "compose.yaml"
NODES = ("n1", "n2", "n3")
TOOLS = ("ip", "unshare")


def services():
    return yaml.safe_load(COMPOSE.read_text())["services"]


def told(name):
    return {key: str(value) for key, value in services()[name]["environment"].items()}


def test_a_linter_has_no_complaint_of_the_image(tmp_path):
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"

    def complaints(dockerfile):
        command = [hadolint, dockerfile]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout

    assert hadolint.exists()
    assert complaints(HOME / "Dockerfile") == ""
    (tmp_path / "Dockerfile").write_text((HOME / "Dockerfile").read_text().replace('CMD ["node"]', "CMD node"))
    assert "DL3025" in complaints(tmp_path / "Dockerfile")


def test_what_the_image_is_built_from_is_let_in():
    allowed = {line[1:] for line in (HOME / "Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"}
    copied = [
        line.split()[1:-1]
        for line in (HOME / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY") and "--from" not in line
    ]

    assert {name for names in copied for name in names} == allowed
    assert all((HOME.parent / name).exists() for name in allowed)


def as_json(text):
    """For a reader that knows no merge keys, and no count of restarts, which the specification has both."""
    return json.dumps(yaml.safe_load(text.replace("on-failure:5", "on-failure")))


def test_the_compose_file_is_one():
    text = COMPOSE.read_text()
    compose = PyCompose.from_json(as_json(text))
    compose.validate_volumes()

    assert sorted(compose.service_names()) == ["n1", "n2", "n3", "secret"]
    with pytest.raises(ValueError, match=r"duration|time|invalid"):
        PyCompose.from_json(as_json(text.replace("stop_grace_period: 30s", "stop_grace_period: soon")))


def test_the_three_services_are_the_three_nodes_and_nobody_else_can_reach_them():
    published = []
    for name in NODES:
        config = read_config(None, told(name))
        published += services()[name]["ports"]

        assert told(name)["RAFTKV_ID"] == name
        assert [node.id for node in config.node] == list(NODES)
        assert {node.peer_address.host for node in config.node} == set(NODES) == set(config.http.hosts)
        assert config.node == read_config(None, told("n1")).node
    assert published[::2] == ["127.0.0.1:8001:8001", "127.0.0.1:8002:8001", "127.0.0.1:8003:8001"]
    assert published[1::2] == ["127.0.0.1:2379:2379", "127.0.0.1:22379:2379", "127.0.0.1:32379:2379"]
    assert [node.http for node in config.node] == ["localhost:8001", "localhost:8002", "localhost:8003"]
    assert [node.etcd for node in config.node] == ["localhost:2379", "localhost:22379", "localhost:32379"]
    assert {node.etcd_bind for node in config.node} == {"*:2379"}


@pytest.mark.skipif(why_unavailable(TOOLS) is not None, reason=why_unavailable(TOOLS) or "")
def test_the_cluster_of_the_compose_file_in_namespaces(tmp_path):
    """Each node alone in its process and network namespaces, as the first process there; names by a file of hosts.

    Nothing but the two paths inside the image is another.
    """
    (tmp_path / "etc").mkdir()
    (make,) = services()["secret"]["command"]
    making = ["sh", "-c", make.replace("/etc/raftkv", str(tmp_path / "etc"))]
    for _ in range(2):  # as on every start
        subprocess.run(making, check=True)
    with Namespaces(3) as net, contextlib.ExitStack() as ends:
        (tmp_path / "hosts").write_text("".join(f"{site.http.host} {site.id}\n" for site in net.sites))
        urls, nodes = {}, {}
        for site in net.sites:
            urls[site.id] = f"http://{site.http}"
            nodes[site.id] = ends.enter_context(contained(site, tmp_path))
        for node, url in urls.items():
            wait_until(lambda url=url: ready(url), f"{node} to be ready", 90)
        for number, node in enumerate(NODES):
            # As the published port has it, and as a container beside it would ask.
            for host in (f"localhost:{8001 + number}", f"{node}:8001"):
                put = requests.put(f"{urls[node]}/kv/{node}", data=host, headers={"Host": host}, timeout=10)
                assert put.ok, put.text
        for node, site in zip(NODES, net.sites, strict=True):
            assert requests.get(f"{urls['n3']}/kv/{node}", timeout=10).text == f"{node}:8001"
            assert requests.get(f"http://{site.http.host}:2379/kv/{node}", timeout=10).text == f"{node}:8001"

        stopped = first_process(nodes["n1"])
        os.kill(stopped, signal.SIGTERM)
        assert nodes["n1"].wait(30) == 0
        wait_until(lambda: requests.put(f"{urls['n2']}/kv/after", data=b"v", timeout=10).ok, "the other two to go on")


@contextlib.contextmanager
def contained(site, home):
    """A service of the compose file, without an engine."""
    paths = {
        "RAFTKV_CLUSTER__DATA_DIR": str(home / site.id),
        "RAFTKV_CLUSTER__SECRET_FILE": str(home / "etc" / "secret"),
    }
    hosts = f'mount --bind {home}/hosts /etc/hosts && exec unshare --pid --fork --kill-child --mount-proc "$@"'
    command = [*site.under, "unshare", "--mount", "sh", "-c", hosts, "-", *module("raftkv", "node")]
    with (home / f"{site.id}.log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | told(site.id) | paths, cwd=home, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


def first_process(unshare):
    (child,) = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text().split()
    return int(child)


def ready(url):
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(f"{url}/readyz", timeout=5).status_code == 200
    return False


def test_the_image_asks_after_the_health_of_its_node_by_what_it_has():
    """The very command of HEALTHCHECK, against a port where nobody listens."""
    text = (HOME / "Dockerfile").read_text()
    program = text.split("HEALTHCHECK")[1].split('"-c", \\\n')[1].split('"]')[0].strip().removeprefix('"')
    ended = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env=os.environ | {"RAFTKV_SERVERS": "http://127.0.0.1:1"},
        capture_output=True,
        check=False,
        timeout=30,
    )

    assert b"Connection refused" in ended.stderr
    assert ended.returncode == 1
