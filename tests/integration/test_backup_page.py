"""What ``docs/backup.rst`` shows is typed, and what it prints is what the page says, but for numbers and places."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raftkv.client import Client
from raftkv.core.config import parse_config
from raftkv.instruments.local.cluster import LocalCluster
from raftkv.instruments.local.nodes import loopback_sites, wait_until
from tests.integration.processes import running

pytestmark = pytest.mark.integration

PAGE = (Path(__file__).parents[2] / "docs" / "backup.rst").read_text()
NODE = '[[node]]\nid = "n1"\nhttp = "127.0.0.1:8001"\npeer = "127.0.0.1:9001"\n'


ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def run(line: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-ec", line], cwd=home, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )


def blocks(kind: str) -> list[str]:
    return re.findall(rf"code-block:: {kind}\n\n((?:   .*\n|\n(?=   ))+)", PAGE)


def typed() -> list[tuple[str, str]]:
    """The lines that a reader of the page types, each with the lines that it shows for an answer."""
    return [
        (line, shown)
        for block in blocks("console")
        for line, shown in re.findall(r"^   \$ (.*)\n((?:   (?!\$ ).*\n)*)", block, re.MULTILINE)
    ]


def plain(text: str, home: Path) -> list[str]:
    """Without what is another in each run: where, when, how much."""
    text = text.replace(f"{home}/data", "/var/lib/raftkv").replace("(raft)", "").replace("demo", "test")
    text = re.sub(r"blake2b \w+\.\.\.", "blake2b", text)
    return [re.sub(r"\b\d+\b", "N", line).strip() for line in text.strip().splitlines()]


def test_what_is_typed_prints_what_the_page_shows(tmp_path):
    lines = typed()
    assert [line.split()[1] for line, _ in lines] == ["backup", "backup", "restore", "up"]
    *commands, (starting, _) = lines
    with running(tmp_path) as cluster:
        with Client([f"http://127.0.0.1:{port}" for port in cluster.http.values()], timeout_s=30) as client:
            for number in range(3):
                client.set(f"k{number}", "v")
        for line, shown in commands:
            if "restore" in line:
                break
            done = run(line, tmp_path)
            assert done.returncode == 0, done.stderr
            assert plain(done.stdout, tmp_path) == plain(shown, tmp_path), line
    home = tmp_path / "anew"
    home.mkdir()
    new = LocalCluster(home, loopback_sites(3), obedient=False)
    new.config.rename(home / "new.toml")
    (tmp_path / "monday.backup").rename(home / "monday.backup")
    line, shown = commands[-1]
    done = run(line, home)
    assert done.returncode == 0, done.stderr
    assert plain(done.stdout, home) == plain(shown, home)
    up = subprocess.Popen(
        starting.split(), cwd=home, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: all(new.is_ready(node) for node in new.nodes), "the new cluster", 60)
        with Client([f"http://{site.http}" for site in new.sites.values()], timeout_s=30) as client:
            assert client.get("k2") == b"v"
    finally:
        up.send_signal(signal.SIGTERM)
        assert up.wait(60) == 0


def test_the_sections_that_it_shows_are_ones_that_a_node_takes():
    sections = [block.replace("\n   ", "\n").strip() for block in blocks("toml")]

    assert len(sections) == 2
    for section in sections:
        assert parse_config(f"{section}\n{NODE}").backup.interval_s == 86_400
