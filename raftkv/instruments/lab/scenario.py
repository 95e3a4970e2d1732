"""A scenario: several kinds of clusters that suffer the same seeded workload under the same timeline of faults.

``parse`` turns TOML into a validated ``Scenario`` or raises ``ScenarioError``, whose message names the key and the
reason; ``shipped`` lists what comes with raftkv. Nothing here starts anything. Imports ``raftkv.core.config``, to which
the variants' configuration is held, and its neighbours ``additions``, ``nemesis`` and ``script``.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from raftkv.core.config import ConfigError, QuorumSection, parse_config
from raftkv.core.errors import UsageError
from raftkv.core.refusals import readable
from raftkv.instruments.lab.additions import Update
from raftkv.instruments.lab.nemesis import Planned
from raftkv.instruments.lab.script import Kind, Workload

SHIPPED: Final = Path(__file__).parent / "scenarios"

STARTED_S: Final = 7.0
"""About how long a cluster takes to start, to agree in the end and to stop, on a small machine with little to do."""

PROBED_S: Final = 6.0
"""About how long the delays between its nodes take to measure."""

VARIANTS_MAX: Final = 8
"""More would be a report that nobody reads."""

_OF_READS: Final = frozenset({"consistency", "r", "n", "sloppy"})
_OF_WRITES: Final = frozenset({"w", "n", "sloppy"})

_NODE: Final = '[[node]]\nid = "n{0}"\nhttp = "127.0.0.1:{1}"\npeer = "127.0.0.1:{2}"\n'

Text = Annotated[str, Meta(min_length=1, max_length=2000)]


class ScenarioError(UsageError):
    """The scenario is refused; the message names the key and the reason."""


class Variant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of cluster, and how its clients use it.

    ``read`` and ``write`` are added to the query strings, such as ``consistency=local`` and ``w=1``; ``update`` is how
    clients that add to lists write them back. ``config`` is more of the cluster's configuration, section by section.
    ``promises_linearizable`` says that this variant is linearizable by its own word under these faults: if it is not,
    raftkv is broken.
    """

    name: Annotated[str, Meta(min_length=1, max_length=60)]
    about: Text
    mode: Literal["raft", "quorum"] = "raft"
    read: str = ""
    write: str = ""
    update: Update = "put"
    promises_linearizable: bool = False
    config: dict[str, dict[str, Any]] = {}

    @property
    def slug(self) -> str:
        """The name as a folder."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")

    @property
    def replicas(self) -> int:
        """N, in quorum mode."""
        return int(self.config.get("quorum", {}).get("n", QuorumSection().n))

    @property
    def promises_fresh_reads(self) -> bool:
        """Does every read see every write that was acknowledged before it began?

        So it is with strict quorums where R + W > N, and with whatever promises to be linearizable.
        """
        if self.mode == "raft":
            return self.promises_linearizable
        section = self.config.get("quorum", {})
        asked = [section | dict(parse_qsl(query)) for query in (self.read, self.write)]
        if any("n" in dict(parse_qsl(query)) for query in (self.read, self.write)):
            return False
        r, w = (int(each.get(name, 2)) for each, name in zip(asked, "rw", strict=True))
        is_strict = all(each.get("sloppy", True) in (False, "0") for each in asked)
        return is_strict and r + w > self.replicas

    def sections(self) -> str:
        """``config`` as TOML."""
        lines = []
        for section, values in self.config.items():
            lines.append(f"[{section}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        return "".join(f"{line}\n" for line in lines)


class ScenarioTraffic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What clients do, the same to every variant; see ``raftkv.instruments.lab.script.Workload``."""

    clients: Annotated[int, Meta(ge=1, le=200)] = 9
    keys: Annotated[int, Meta(ge=1, le=1000)] = 4
    operations_per_key: Annotated[int, Meta(ge=1)] = 250
    rate_per_s: Annotated[float, Meta(gt=0, le=5000)] = 90.0
    mix: dict[Kind, int] = msgspec.field(default_factory=lambda: {"get": 60, "put": 30, "once": 10})
    timeout_s: Annotated[float, Meta(gt=0, le=60)] = 1.0
    value_bytes: Annotated[int, Meta(ge=0, le=1 << 20)] = 0
    sticky: bool = False


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that is needed to run it, and to run it again. ``expect`` tells a person what should be seen.

    With ``predicts_staleness`` the delays between the nodes of leaderless variants are measured first.
    """

    title: Text
    expect: Text
    seed: Annotated[int, Meta(ge=0)] = 1
    duration_s: Annotated[float, Meta(gt=0, le=3600)]
    nodes: Annotated[int, Meta(ge=1, le=9)] = 3
    predicts_staleness: bool = False
    workload: ScenarioTraffic = ScenarioTraffic()
    variant: tuple[Variant, ...]
    fault: tuple[Planned, ...] = ()

    def expected_s(self, variant: Variant) -> float:
        """About how long ``variant`` takes."""
        return self.duration_s + STARTED_S + (PROBED_S if self.is_probed(variant) else 0.0)

    def is_probed(self, variant: Variant) -> bool:
        """Are delays between its nodes measured first?"""
        return self.predicts_staleness and variant.mode == "quorum"

    def workload_of(self, variant: Variant) -> Workload:
        """What the clients of ``variant`` do."""
        return Workload(
            seed=self.seed,
            query=variant.read,
            write_query=variant.write,
            update=variant.update,
            retry_share=0.0,  # only one of the modes can promise that a retry is applied once
            **{name: getattr(self.workload, name) for name in self.workload.__struct_fields__},
        )


class Loaded(NamedTuple):
    """A scenario, its short name, and the text that it was read from."""

    name: str
    source: str
    scenario: Scenario


def shipped() -> dict[str, Scenario]:
    """The scenarios that come with raftkv, by name."""
    return {path.stem: parse(path.read_text()) for path in sorted(SHIPPED.glob("*.toml"))}


def load(name: str) -> Loaded:
    """A shipped scenario by its name, or one by its path; raises ``ScenarioError``."""
    path = SHIPPED / f"{name}.toml"
    if not re.fullmatch(r"[a-z0-9-]+", name) or not path.exists():
        path = Path(name)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError):
        known = ", ".join(sorted(each.stem for each in SHIPPED.glob("*.toml")))
        raise ScenarioError(f"{name}: there is no such file, and no such scenario (there are: {known})") from None
    try:
        return Loaded(path.stem, text, parse(text))
    except ScenarioError as error:
        raise ScenarioError(f"{path}: {error}") from None


def changed(
    scenario: Scenario, *, seed: int | None = None, duration_s: float | None = None, names: Collection[str] = ()
) -> Scenario:
    """``scenario`` with another seed or duration, or with the variants of these ``names`` only."""
    unknown = set(names) - {variant.name for variant in scenario.variant}
    if unknown:
        known = ", ".join(repr(variant.name) for variant in scenario.variant)
        raise ScenarioError(f"there is no variant {min(unknown)!r} (there are: {known})")
    scenario = msgspec.structs.replace(
        scenario,
        seed=scenario.seed if seed is None else seed,
        duration_s=scenario.duration_s if duration_s is None else duration_s,
        variant=tuple(variant for variant in scenario.variant if not names or variant.name in names),
    )
    _check_timeline(scenario)
    return scenario


def parse(text: str) -> Scenario:
    """Read TOML ``text``; raises ``ScenarioError`` naming the key and the reason."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"not valid TOML: {error}") from None
    try:
        scenario = msgspec.convert(document, Scenario)
    except msgspec.ValidationError as error:
        raise ScenarioError(readable(str(error))) from None
    _check_variants(scenario)
    _check_timeline(scenario)
    return scenario


def _check_timeline(scenario: Scenario) -> None:
    for position, planned in enumerate(scenario.fault):
        if planned.at_s + planned.for_s > scenario.duration_s:
            raise ScenarioError(f"fault[{position}].for_s: it would last longer than duration_s")


def _check_variants(scenario: Scenario) -> None:
    if not 1 <= len(scenario.variant) <= VARIANTS_MAX:
        raise ScenarioError(f"variant: there must be 1 to {VARIANTS_MAX}")
    slugs = [variant.slug for variant in scenario.variant]
    for position, variant in enumerate(scenario.variant):
        path = f"variant[{position}]"
        if not variant.slug or variant.slug in slugs[:position]:
            raise ScenarioError(f"{path}.name: {variant.name!r} is too much like another one")
        _check_query(f"{path}.read", variant.read, _OF_READS)
        _check_query(f"{path}.write", variant.write, _OF_WRITES)
        allowed = {"raft": ("put", "compare_and_set"), "quorum": ("put", "context")}[variant.mode]
        if variant.update not in allowed:
            raise ScenarioError(f"{path}.update: {variant.mode} mode has {' and '.join(allowed)}")
        if variant.mode == "quorum" and "compare_and_set" in scenario.workload.mix:
            raise ScenarioError(f"workload.mix: {path} is in quorum mode, which has no compare_and_set")
        if variant.config.keys() & {"cluster", "node"}:
            raise ScenarioError(f"{path}.config: cluster and node are made by the laboratory")
        nodes = "".join(_NODE.format(number, 1000 + number, 2000 + number) for number in range(1, scenario.nodes + 1))
        try:
            parse_config(f'[cluster]\nmode = "{variant.mode}"\n{nodes}{variant.sections()}')
        except ConfigError as error:
            raise ScenarioError(f"{path}.config.{error}") from None
    try:
        scenario.workload_of(scenario.variant[0])
    except ValueError as error:
        raise ScenarioError(f"workload.{error}") from None


def _check_query(path: str, query: str, allowed: frozenset[str]) -> None:
    try:
        names = {name for name, _ in parse_qsl(query, strict_parsing=True)} if query else set()
    except ValueError:
        raise ScenarioError(f"{path}: {query!r} is not of the form name=value&name=value") from None
    if names - allowed:
        raise ScenarioError(f"{path}: unknown: {', '.join(sorted(names - allowed))}")
