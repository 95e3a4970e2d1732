"""grpc.health.v1, which is asked of the whole server, as etcd has it: it serves where it knows who leads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raftkv.coordination.steps import Plan
from raftkv.etcd.calls import EtcdCall
from raftkv.etcd.errors import CallStatus
from raftkv.etcd.grpc.status import GrpcStatus
from raftkv.etcd.messages import HealthCheckRequest, HealthCheckResponse, ServingStatus
from raftkv.etcd.watching import Schedule
from raftkv.http.handlers.handler import Context

LOOK_EVERY_S: Final = 1.0
"""What a watch is told is so old at most."""


def serving_status(service: str, context: Context) -> ServingStatus:
    """Does this node serve ``service``?"""
    if service:
        return ServingStatus.SERVICE_UNKNOWN
    found = context.status()
    is_serving = found is not None and found.leader is not None
    return ServingStatus.SERVING if is_serving else ServingStatus.NOT_SERVING


def check(request: HealthCheckRequest, call: EtcdCall) -> Plan[HealthCheckResponse]:
    """``Health.Check``. Raises ``CallStatus``."""
    status = serving_status(request.service, call.context)
    if status is ServingStatus.SERVICE_UNKNOWN:
        raise CallStatus(GrpcStatus.NOT_FOUND, "unknown service")
    return HealthCheckResponse(status=status)
    yield  # a plan, if one that never asks


class HealthWatch:
    """``Health.Watch``: tells at once whether ``service`` serves, and whenever that has changed, until it is closed."""

    def __init__(
        self, service: str, context: Context, schedule: Schedule, tell: Callable[[HealthCheckResponse], object]
    ) -> None:
        self._service = service
        self._context = context
        self._schedule = schedule
        self._tell = tell
        self._told: ServingStatus | None = None
        self._look()

    def _look(self) -> None:
        status = serving_status(self._service, self._context)
        self._timer = self._schedule(LOOK_EVERY_S, self._look)
        if status is not self._told:
            self._told = status
            self._tell(HealthCheckResponse(status=status))

    def close(self) -> None:
        """Nobody listens any more."""
        self._timer.cancel()
