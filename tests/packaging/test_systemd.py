"""The systemd unit, as systemd's own tools judge it. What a node tells systemd is in ``test_service_manager.py``."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from raftkv import node
from raftkv.frontend import child

HOME = Path(__file__).parents[2] / "packaging" / "systemd"
UNIT = HOME / "raftkv@.service"
EXPOSURE_MAX = 1.5

has_tools = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


def analyzed(*arguments):
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60)


@has_tools
def test_systemd_reads_the_unit_without_a_complaint(tmp_path):
    text = UNIT.read_text().replace("/opt/raftkv/bin/raftkv", shutil.which("true"))
    (tmp_path / UNIT.name).write_text(text)
    ended = analyzed("verify", str(tmp_path / UNIT.name))

    assert (ended.returncode, ended.stderr) == (0, "")
    (tmp_path / UNIT.name).write_text(text.replace("LockPersonality", "LockPersonalty"))
    assert "LockPersonalty" in analyzed("verify", str(tmp_path / UNIT.name)).stderr


@has_tools
def test_a_node_under_systemd_may_do_little(tmp_path):
    named = shutil.copy(UNIT, tmp_path / "raftkv@n1.service")
    told = analyzed("security", "--offline=true", named).stdout
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", told)

    assert found is not None
    assert float(found[1]) <= EXPOSURE_MAX


def test_the_end_is_waited_for_longer_than_a_node_takes():
    limit_s = int(re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), flags=re.MULTILINE)[1])

    assert limit_s >= 2 * (node.MAKE_WAY_S + child.GRACE_S)
