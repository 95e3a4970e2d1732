"""The layers that samples belong to, and the sampler that takes them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import layers, sampling
from bench.sampling import sitecustomize
from raftkv.instruments.local.nodes import wait_until

ROOT = Path(__file__).parents[2]
START = "<module> (raftkv/__main__.py:1);main (raftkv/node.py:1);Runner.run (asyncio/runners.py:86)"


@pytest.mark.parametrize(
    ("stack", "layer", "library"),
    [
        (f"{START};received (raftkv/peers/link.py:9);feed (raftkv/formats/frames.py:7)", "formats", ""),
        (f"{START};tick (raftkv/raft/engine/internals.py:9);_onTick (pysyncobj/syncobj.py:7)", "engine", "pysyncobj"),
        (f"{START};tick (raftkv/raft/replica.py:9);<genexpr> (random.py:7)", "turn", "python"),
        (f"{START};sync (raftkv/storage/disk.py:9)", "disk", ""),
        (f"{START};commit (raftkv/storage/engines/rocks.py:9)", "store", ""),
        (f"{START};commit (raftkv/storage/engines/lmdb.py:9)", "state", ""),
        (f"{START};write (raftkv/http/door/worker.py:9);_safe_write (gunicorn/asgi/protocol.py:7)", "door", "gunicorn"),
        (f"{START};feed (gunicorn/asgi/protocol.py:7)", "gunicorn", ""),
        (START, "loop", ""),
        ("run (raftkv/http/door/worker.py:9);ASGIWorker.run (gunicorn/workers/gasgi.py:152)", "loop", ""),
        (f"{START};build (raftkv/experiment.py:9)", "other", ""),
    ],
)
def test_the_innermost_frame_of_raftkv_has_the_sample(stack, layer, library):
    assert layers.place(stack.split(";")) == (layer, library)


def test_every_part_of_the_package_that_serves_requests_has_a_layer():
    serving = [
        "api",
        "coordination",
        "core",
        "formats",
        "frontend",
        "http",
        "machine",
        "peers",
        "quorum",
        "raft",
        "storage",
    ]

    for part in serving:
        for path in (ROOT / "raftkv" / part).rglob("*.py"):
            assert layers.layer_of(str(path.relative_to(ROOT))) in layers.TOLD, path


def test_samples_add_up():
    found = layers.costs(
        [f"{START} 3", f"{START};sync (raftkv/storage/disk.py:9) 4", "sync (raftkv/storage/disk.py:9) 1"]
    )

    assert found.layers == {"loop": 3, "disk": 5}
    assert found.samples == 8


# It ends by turns, not by a read that blocks: a signal that comes just before such a read is handled only after it.
PROGRAM = """
import select, sys, time
print("ready", flush=True)
def spins():
    end = time.process_time() + 1.0
    while time.process_time() < end:
        pass
def waits():
    time.sleep(1.0)
waits()
spins()
print("done", flush=True)
while not select.select([sys.stdin], [], [], 0.01)[0]:
    pass
"""


def test_the_sampler_sees_what_runs_and_not_what_waits(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(sampling.__path__[0])), "BENCH_SAMPLES": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        os.kill(process.pid, sitecustomize.SIGNAL)
        assert process.stdout.readline() == b"done\n"
        os.kill(process.pid, sitecustomize.SIGNAL)
        path = tmp_path / f"{process.pid}.collapsed"
        wait_until(path.exists, "the samples")
        process.stdin.write(b"\n")
    seen = [line.rpartition(" ") for line in path.read_text().splitlines()]
    spinning = sum(int(count) for stack, _, count in seen if "spins" in stack)

    assert spinning >= 20  # a second of CPU, a hundred or more kernel ticks
    assert not any("waits" in stack for stack, _, _ in seen)
