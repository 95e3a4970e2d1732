"""Short words for what scenarios do that are written by hand, in either mode."""

from __future__ import annotations

from raftkv.core.replicator import Pending
from raftkv.core.requests import Request
from raftkv.core.results import Outcome
from raftkv.instruments.sim.cluster import SimulatedCluster


class Scenario(SimulatedCluster):
    def submit(self, node_id: str, request: Request, timeout_s: float = 5.0) -> Pending:
        return self.machines[node_id].submit(request, timeout_s)

    def await_outcome(self, pending: Pending) -> Outcome:
        self.run_until(lambda: pending.outcome is not None)
        return pending.outcome

    def ask(self, node_id: str, request: Request, timeout_s: float = 5.0) -> Outcome:
        return self.await_outcome(self.submit(node_id, request, timeout_s))

    def others(self, *names: str) -> list[str]:
        """All machines but these."""
        return [name for name in self.machines if name not in names]

    def start_again(self, *names: str, power: bool = False) -> None:
        """End their processes, and when all are gone start them."""
        for name in names:
            self.kill(name, power=power)
        for name in names:
            self.restart(name)
