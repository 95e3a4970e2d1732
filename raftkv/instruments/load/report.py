"""A result as a person reads it and as a spreadsheet does. Pure: it builds lines, and writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raftkv.core.errors import Effect
from raftkv.instruments.load.plan import LoadPlan
from raftkv.instruments.load.result import Latency, Result
from raftkv.instruments.load.samples import RequestKind

COLUMNS: Final = ("kind", "count", "per s", "mean ms", "p50", "p90", "p99", "p99.9", "p99.99", "max", "errors")


def heading(plan: LoadPlan, servers: Sequence[str], mode: str, sizes: tuple[int, int, int] | None) -> str:
    """What is measured, before it is; ``mode`` and ``sizes`` (N, R, W) as a server says them, ``None`` if none does."""
    count = f"{len(servers)} server{'s' if len(servers) > 1 else ''}"
    n, r, w = ("?", "?", "?") if sizes is None else sizes
    level = plan.consistency or ("linearizable" if mode in ("raft", "etcd") else "eventual" if sizes else "by default")
    reads = f"reads {level}"
    writes = f"writes w={plan.w or 'majority'}"
    if mode == "quorum":
        reads, writes = f"{reads}, R={plan.r or r} of {n}", f"writes W={plan.w or w} of {n}"
    elif plan.r:
        reads += f", r={plan.r}"
    loop = "closed loop" if plan.rate_per_s is None else f"open loop of {plan.rate_per_s:g}/s"
    return (
        f"{mode}, {count} ({' '.join(servers)}); {reads}; {writes}; {plan.ratio} writes/reads, {plan.clients} clients, "
        f"{loop}, {plan.keys:,} keys ({plan.distribution}), values of {plan.value_bytes:,} bytes; "
        f"{plan.seconds:g} s after {plan.warm_up_s:g} s"
    )


def latency_rows(result: Result) -> list[tuple[str, ...]]:
    """One row of ``COLUMNS`` for each kind of operation that occurred."""
    rows = []
    for kind in RequestKind:
        found = result.latency.get(kind)
        errors = sum(each.count for each in result.errors if each.kind is kind)
        if found is None and not errors:
            continue
        cells = ["0", "0"] + ["-"] * 7 if found is None else _cells(found, result.seconds)
        rows.append((kind.value, *cells, f"{errors:,}"))
    return rows


def _cells(found: Latency, seconds: float) -> list[str]:
    numbers = (found.mean_ms, found.p50_ms, found.p90_ms, found.p99_ms, found.p999_ms, found.p9999_ms, found.max_ms)
    return [f"{found.count:,}", f"{found.count / seconds:,.0f}", *map(_ms, numbers)]


def _ms(number: float) -> str:
    """Three digits, which is what is kept of a latency."""
    return f"{number:,.{2 if number < 9.995 else 1 if number < 99.95 else 0}f}"


def remarks(result: Result) -> list[str]:
    """What else there is to say, a line each; the most important first."""
    fresh = result.freshness
    lines = [f"{result.per_second:,.0f} operations per second"]
    if fresh.reads:
        lines.append(
            f"stale reads: {fresh.stale:,} of {fresh.reads:,} ({fresh.stale_share:.3%}) returned less than the newest "
            f"write that was acknowledged before they began, {fresh.missed:,} of them nothing at all"
        )
        lines.append(
            f"backward reads: {fresh.backward:,} returned something older than another read had returned before"
        )
        lines.append(
            f"reads during a write of the same key: {fresh.during_write:,}, of which {fresh.during_write_older:,} saw "
            "what was there before, as they may"
        )
    lines += [
        f"{each.count:,} {each.kind.value}s failed: {each.code}, applied: {each.applied}"
        + (f" (first: {' '.join(each.first.split())})" if each.first else "")
        for each in result.errors
    ]
    if result.unsent:
        lines.append(
            f"{result.unsent:,} requests were due and never sent, all clients being busy: the real latencies are worse "
            "(lower --rate, or raise --clients if the servers have room)"
        )
    if result.left:
        lines.append(f"{result.left:,} keys (bench-...) could not be deleted and are still there")
    if result.client_cores > 0.9:
        lines.append(f"the load generator itself used {result.client_cores:.2f} cores: it may be what limits this")
    return lines


def csv_fields(result: Result) -> dict[str, str | float]:
    """One row of a spreadsheet; all runs have the same columns, empty where nothing was measured."""
    plan, fresh = result.plan, result.freshness
    fields: dict[str, str | float] = {
        "began": result.began,
        "version": result.version,
        "servers": " ".join(result.servers),
        "ratio": str(plan.ratio),
        "clients": plan.clients,
        "rate_per_s": plan.rate_per_s or "",
        **{
            name: getattr(plan, name)
            for name in ("distribution", "keys", "value_bytes", "consistency", "r", "w", "seed")
        },
        "seconds": round(result.seconds, 3),
        "per_second": round(result.per_second, 1),
        "client_cores": round(result.client_cores, 3),
        "unsent": result.unsent,
        **{
            name: getattr(fresh, name) for name in ("stale", "missed", "backward", "during_write", "during_write_older")
        },
    }
    for kind in RequestKind:
        found = result.latency.get(kind)
        errors = [each for each in result.errors if each.kind is kind]
        fields[f"{kind}_count"] = 0 if found is None else found.count
        fields[f"{kind}_errors"] = sum(each.count for each in errors)
        fields[f"{kind}_unknown"] = sum(each.count for each in errors if each.applied == Effect.UNKNOWN)
        for name in ("mean_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "p999_ms", "p9999_ms", "max_ms"):
            fields[f"{kind}_{name}"] = "" if found is None else round(getattr(found, name), 3)
    return fields
