"""Large files are let go of by another process; names, descriptors and processes are gone all the same."""

import os
import time
from pathlib import Path

import pytest

from raftkv.storage import removal


def test_what_is_small_is_removed_without_a_process(tmp_path, monkeypatch):
    monkeypatch.setattr(removal, "_helper", lambda _descriptor: pytest.fail("started"))
    path = tmp_path / "small"
    path.write_bytes(b"x" * 5000)

    removal.remove_aside(path)
    removal.remove_aside(path)

    assert not path.exists()


def test_a_large_file_is_let_go_of_last_by_another_process(tmp_path, monkeypatch):
    monkeypatch.setattr(removal, "LARGE_BYTES", 4096)
    held = []

    def closed(descriptor):
        helper = started[-1]
        held.append(str(Path(f"/proc/{helper.pid}/fd/{descriptor}").readlink()))
        assert helper.poll() is None
        original_close(descriptor)

    started = []
    original_helper, original_close = removal._helper, os.close

    def start(descriptor):
        started.append(original_helper(descriptor))
        monkeypatch.setattr(os, "close", closed)
        return started[-1]

    monkeypatch.setattr(removal, "_helper", start)
    path = tmp_path / "large"
    path.write_bytes(b"x" * 50_000)

    removal.remove_aside(path)
    monkeypatch.undo()

    assert held == [f"{path} (deleted)"]
    deadline_s = time.monotonic() + 30
    while started[0].poll() is None:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    assert started[0].returncode == 0


def test_a_file_that_has_a_name_is_only_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(removal, "LARGE_BYTES", 0)
    monkeypatch.setattr(removal, "_helper", lambda _descriptor: pytest.fail("started"))
    path = tmp_path / "named"
    path.write_bytes(b"x")

    removal.close_aside(os.open(path, os.O_RDONLY))

    assert path.exists()


def test_where_no_process_can_be_started_it_is_removed_here(tmp_path, monkeypatch):
    monkeypatch.setattr(removal, "LARGE_BYTES", 4096)
    monkeypatch.setattr(removal, "_PROGRAM", "no such program")
    path = tmp_path / "large"
    path.write_bytes(b"x" * 50_000)

    removal.remove_aside(path)

    assert not path.exists()


def test_a_directory_goes_with_all_its_files(tmp_path):
    directory = tmp_path / "state"
    directory.mkdir()
    (directory / "data").write_bytes(b"x")
    (directory / "lock").write_bytes(b"")

    removal.remove_directory_aside(directory)
    removal.remove_directory_aside(directory)

    assert not directory.exists()
