"""Containers without an engine: the first process of namespaces of its own, with names by a file of hosts."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import requests

from raftkv.instruments.local.nodes import Site
from raftkv.process.command import module

_BEGIN = 'mount --bind {hosts} /etc/hosts && exec unshare --pid --fork --kill-child --mount-proc "$@"'


@contextlib.contextmanager
def contained(site: Site, told: Mapping[str, str], hosts: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``raftkv node`` at ``site``, told everything by variables; what is yielded ends when it does, with its status."""
    begin = _BEGIN.format(hosts=hosts)
    command = [*site.under, "unshare", "--mount", "sh", "-c", begin, "-", *module("raftkv", "node")]
    with log.open("ab") as file:
        process = subprocess.Popen(command, env=os.environ | told, cwd=log.parent, stderr=file)
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


def first_process(container: subprocess.Popen[bytes]) -> int:
    """The process that is 1 inside."""
    (child,) = Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text().split()
    return int(child)


def ready(url: str) -> bool:
    """Can the node at ``url`` serve?"""
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(f"{url}/readyz", timeout=5).status_code == 200
    return False
