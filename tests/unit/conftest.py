"""Fixtures that several modules of unit tests share."""

import pytest

from tests.unit.fake_server import FakeServer


@pytest.fixture
def serve():
    servers = []

    def start(*answers):
        servers.append(FakeServer(*answers))
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__()
