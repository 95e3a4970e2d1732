"""What is handed out: the source has the files for deployment, what is installed has none of them."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = "import sys; from setuptools import build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """What a clone holds, without what a build would leave in it."""
    place = tmp_path_factory.mktemp("checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    for name in filter(None, map(bytes.decode, listed)):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes((ROOT / name).read_bytes())
    return place


def built(kind, checkout, target):
    done = subprocess.run(
        [sys.executable, "-c", BUILD, kind, str(target)], cwd=checkout, capture_output=True, text=True, check=True
    )
    return target / done.stdout.splitlines()[-1]


def test_the_source_distribution_has_what_deploys_it(checkout, tmp_path):
    with tarfile.open(built("build_sdist", checkout, tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {path.relative_to(checkout).as_posix() for path in (checkout / "packaging").rglob("*") if path.is_file()}

    assert "packaging/systemd/raftkv@.service" in wanted
    assert wanted <= names


def test_what_is_installed_is_the_package_alone(checkout, tmp_path):
    with zipfile.ZipFile(built("build_wheel", checkout, tmp_path)) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}

    assert {top for top in tops if not top.endswith(".dist-info")} == {"raftkv"}
