"""A cluster of simulated machines on one virtual clock: what scenarios and random runs are written against.

The mode is whatever makes the processes: ``raftkv.instruments.sim.raft`` for raft. Everything here is the same for all
modes.
"""

from __future__ import annotations

import random as random_module
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import msgspec

from raftkv.core.errors import StartupError
from raftkv.core.rules import ALWAYS
from raftkv.formats.identity import Identity
from raftkv.instruments.sim.machines import Observer, Process, SimulatedMachine
from raftkv.instruments.sim.network import Network
from raftkv.instruments.sim.schedule import Schedule
from raftkv.instruments.sim.transcript import Transcript
from raftkv.peers.greeting import Greeter, Newcomers
from raftkv.storage.identity import started, unlike

ALWAYS_IN_FORCE: Final = {name for names in ALWAYS.values() for name in names}
"""The rules that a disk remembers."""


class Mode(Protocol):
    """Makes the replicas of one mode."""

    def attach(self, cluster: SimulatedCluster) -> None:
        """The cluster is about to be used: give the library its clock, watch what must be watched."""

    def make(self, machine: SimulatedMachine, port: Greeter) -> Process:
        """Start a replica from what ``machine`` has on its disk; raises ``StartupError``."""


class Port:
    """The network as one process sees it; implements ``Link`` of ``raftkv.peers.greeting``."""

    def __init__(self, network: Network, name: str) -> None:
        self._network, self._name = network, name

    def send(self, peer: str, payload: bytes) -> bool:
        """See ``Link``."""
        return self._network.send(self._name, peer, payload)

    def flush(self) -> None:
        """See ``Link``."""

    def outstanding_bytes(self, peer: str) -> int:
        """See ``Link``."""
        return self._network.outstanding_bytes(self._name, peer)

    def dismiss(self, peer: str) -> None:
        """See ``Link``: what was sent before arrives before the end."""
        self._network.close(self._name, peer)

    def close_peer(self, peer: str) -> None:
        """A replica does this to peers that talk nonsense, and here everybody is a replica."""
        raise AssertionError(f"{self._name} found a message of {peer} malformed")


class _OnMachine:
    """``IdentityStore`` on a machine's disk."""

    def __init__(self, machine: SimulatedMachine) -> None:
        self._machine = machine
        self.save = machine.save

    @property
    def identity(self) -> Identity:
        """What the disk says."""
        assert self._machine.identity is not None
        return self._machine.identity


class SimulatedCluster:
    """Machines, the network between them, and time."""

    def __init__(
        self,
        names: Iterable[str],
        mode: Mode,
        *,
        seed: int | str = 0,
        start_s: float = 1000.0,
        latency_s: tuple[float, float] = (0.0005, 0.004),
        silence_s: float = 3.0,
        redial_s: tuple[float, float] = (0.001, 0.01),
        turn_s: float = 0.0,
        flush_s: float = 0.0,
        rates: Iterable[float] = (),
        transcript: Transcript | None = None,
        begins: bool = True,
    ) -> None:
        """``turn_s`` and ``flush_s`` are how long processes and disks take at most; ``rates`` those of the clocks.

        Unless it ``begins`` at once, ``begin`` starts the machines.
        """
        self.random = random_module.Random(f"cluster {seed}")
        self.schedule = Schedule(start_s)
        self.transcript = transcript if transcript is not None else Transcript()
        self.machines = {
            name: SimulatedMachine(name, self.schedule, random_module.Random(f"{name} {seed}"), self) for name in names
        }
        for machine, rate in zip(self.machines.values(), rates, strict=False):
            machine.rate = rate
        self.active = next(iter(self.machines.values()))
        self.network = Network(
            self.schedule,
            self,
            self.machines,
            random=random_module.Random(f"network {seed}"),
            latency_s=latency_s,
            silence_s=silence_s,
            redial_s=redial_s,
        )
        self.network.on_sent = self._sent
        self.observers: list[Observer] = []
        self.turn_s, self.flush_s = turn_s, flush_s
        self._mode = mode
        mode.attach(self)
        if begins:
            self.begin()

    def begin(self) -> None:
        """Start every machine."""
        for machine in self.machines.values():
            machine.start()

    @property
    def now_s(self) -> float:
        """The time of the simulation; machines' clocks may run at other rates."""
        return self.schedule.now_s

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.schedule.run_to(self.now_s + seconds)

    def run_until(self, condition: Callable[[], bool], limit_s: float = 30.0) -> None:
        """Let time pass until ``condition`` holds, which is looked at after every event."""
        end_s = self.now_s + limit_s
        while not condition():
            assert self.schedule.step(end_s), f"nothing happened within {limit_s} s"

    # --- faults

    def kill(self, name: str, *, power: bool = False) -> None:
        """``kill -9``, or the loss of ``power``."""
        if self.machines[name].process is not None:
            self.note(name, "loses its power" if power else "is killed")
            self.machines[name].end(power=power)

    def restart(self, name: str) -> None:
        """Start the process again."""
        if self.machines[name].process is None:
            self.note(name, "starts")
            self.machines[name].start()

    def pause(self, name: str) -> None:
        """Stop the process in its tracks."""
        if self.machines[name].is_working:
            self.note(name, "is paused")
            self.machines[name].pause()

    def resume(self, name: str) -> None:
        """Let a paused process go on."""
        if self.machines[name].is_paused:
            self.note(name, "goes on")
            self.machines[name].resume()

    def cut(self, sources: Iterable[str], targets: Iterable[str], *, both: bool = True) -> list[tuple[str, str]]:
        """Let nothing through from ``sources`` to ``targets``; returns what was cut."""
        targets = sorted(targets)
        pairs = [(source, target) for source in sorted(sources) for target in targets if source != target]
        if both:
            pairs += [(target, source) for source, target in pairs]
        self.note("net", "cuts " + " ".join(f"{source}>{target}" for source, target in pairs))
        self.network.cut(pairs)
        return pairs

    def isolate(self, *names: str) -> list[tuple[str, str]]:
        """Cut these off from all others."""
        return self.cut(names, set(self.machines) - set(names))

    def heal(self, pairs: list[tuple[str, str]] | None = None) -> None:
        """End these cuts, or all."""
        self.note("net", "heals" if pairs is None else "heals " + " ".join(f"{one}>{other}" for one, other in pairs))
        self.network.heal(pairs)

    # --- ``World`` of the machines

    def make(self, machine: SimulatedMachine) -> Process:
        """See ``World``: a start is numbered and peers are greeted as in a real node (``raftkv.replicas``)."""
        nonce = f"{machine.random.getrandbits(32):08x}"
        held = machine.identity
        if held is None:
            disk = f"{machine.random.getrandbits(32):08x}"
            held = Identity(node=machine.name, disk=disk, starts=(), rules={})
        always = {name: value for name, value in machine.rules.items() if name in ALWAYS_IN_FORCE}
        differing = unlike(held, machine.name, always)
        if differing:
            raise StartupError(f"its disk holds the data of a cluster with other rules: {differing}")
        machine.save(msgspec.structs.replace(started(held, nonce), rules=always))
        port = Port(self.network, machine.name)
        machine.greeter = Greeter(
            _OnMachine(machine), machine.rules, link=port, clock=machine.now_s, reads=machine.reads
        )
        process = self._mode.make(machine, machine.greeter)
        machine.greeter.attach(process.conversation, process if isinstance(process, Newcomers) else None)
        return process

    def note(self, who: str, what: str) -> None:
        """See ``World``."""
        self.transcript.note(self.now_s, who, what)

    # --- ``Ends`` of the network

    def is_working(self, name: str) -> bool:
        """See ``Ends``."""
        return self.machines[name].is_working

    def link_up(self, name: str, peer: str) -> None:
        """See ``Ends``."""
        self.note(name, f"has a connection to {peer}")
        self.machines[name].tell(lambda events: events.link_up(peer))

    def link_down(self, name: str, peer: str) -> None:
        """See ``Ends``."""
        self.note(name, f"loses its connection to {peer}")
        self.machines[name].tell(lambda events: events.link_down(peer))

    def received(self, name: str, peer: str, payload: bytes) -> None:
        """See ``Ends``."""
        machine = self.machines[name]
        machine.tell(lambda events: events.received(peer, payload))
        for observer in self.observers:
            observer.received(machine, peer)

    def _sent(self, source: str, target: str, payload: bytes) -> None:
        self.transcript.sent(self.now_s, source, target, payload)
