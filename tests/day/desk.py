"""What an operator has on the desk: a log of the day, a program that goes on writing, and the alerts' rules."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from prometheus_client.parser import text_string_to_metric_families

from raftkv import Client, RaftkvError

ALERTS: Final = Path(__file__).parents[2] / "packaging" / "prometheus" / "alerts.yml"
PAUSE_S: Final = 0.01


class Load:
    """A program that writes one key after the other for as long as the ``with`` block lasts."""

    def __init__(self, servers: Sequence[str], tls_ca: Path, name: str, auth: tuple[str, str] | None = None) -> None:
        self.acknowledged: dict[str, str] = {}
        self.failures: list[str] = []
        self._took: list[tuple[float, float]] = []
        self._name = name
        self._client = Client(servers, tls_ca=str(tls_ca), auth=auth, timeout_s=20.0)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._is_over.set()
        self._thread.join(30)
        self._client.close()

    def _run(self) -> None:
        while not self._is_over.wait(PAUSE_S):
            key, began_s = f"shop/{self._name}/{len(self._took):06}", time.monotonic()
            try:
                self._client.set(key, key[::-1])
            except RaftkvError as error:
                self.failures.append(f"{key}: {error}")
            else:
                self.acknowledged[key] = key[::-1]
            self._took.append((began_s, time.monotonic() - began_s))

    def worst_s(self, since_s: float) -> float:
        """The longest that a write took which was not over by then."""
        return max((took_s for began_s, took_s in self._took if began_s + took_s >= since_s), default=0.0)


class Logbook:
    """How long each step of the day took, how many commands, and the longest a write took meanwhile."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str, str]] = []
        self._count = 0

    def typed(self) -> None:
        """One more command."""
        self._count += 1

    @contextlib.contextmanager
    def step(self, name: str, load: Load | None = None) -> Iterator[None]:
        """A step of the day; ``load`` goes on meanwhile."""
        began_s, before = time.monotonic(), self._count
        yield
        worst = "" if load is None else f"{1000 * load.worst_s(began_s):.0f}"
        self.rows.append((name, f"{time.monotonic() - began_s:.1f}", str(self._count - before), worst))

    def table(self) -> str:
        """All of it."""
        lines = [("step", "seconds", "commands", "worst write, ms"), *self.rows]
        widths = [max(len(line[place]) for line in lines) for place in range(4)]
        return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def firing(scraped: Mapping[str, str | None], home: Path) -> set[str] | None:
    """The alerts that fire where nodes go on telling what they tell now; ``None`` without Prometheus' own tool.

    ``scraped`` has what each instance tells, ``None`` for one that does not answer.
    """
    if shutil.which("promtool") is None:
        return None
    series = [f'up{{job="raftkv",instance="{name}"}} {int(text is not None)}' for name, text in scraped.items()]
    for name, text in scraped.items():
        for family in text_string_to_metric_families(text or ""):
            for sample in family.samples:
                labels = {**sample.labels, "job": "raftkv", "instance": name}
                told = ",".join(f'{key}="{value}"' for key, value in labels.items())
                series.append(f"{sample.name}{{{told}}} {sample.value:g}")
    inputs = ""
    for line in series:
        told, _, value = line.rpartition(" ")
        inputs += f"      - series: '{told}'\n        values: '{value}+0x70'\n"
    names = [line.split()[-1] for line in ALERTS.read_text().splitlines() if "- alert:" in line]
    expressions = ""
    for name in names:
        fires = f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)'
        silent = "exp_samples: [{labels: '{}', value: 0}]"
        expressions += f"      - expr: '{fires}'\n        eval_time: 30m\n        {silent}\n"
    test = home / "alerts.test.yml"
    test.write_text(
        f"rule_files: [{ALERTS}]\nevaluation_interval: 30s\ntests:\n  - interval: 30s\n    input_series:\n{inputs}"
        f"    promql_expr_test:\n{expressions}"
    )
    done = subprocess.run(["promtool", "test", "rules", str(test)], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    found = {name for name in names if f'alertname=\\"{name}\\"' in said or f'alertname="{name}"' in said}
    assert bool(found) == bool(done.returncode), said
    return found
