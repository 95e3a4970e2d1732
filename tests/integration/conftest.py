"""Fixtures that several modules of tests with real nodes share: a browser, and a cluster of either mode."""

import pytest

from tests.integration.processes import running


@pytest.fixture(scope="module")
def browser():
    from tests.integration.browser import browsing  # only where a browser is driven is its driver installed

    with browsing() as browser:
        yield browser


@pytest.fixture(scope="module")
def raft(tmp_path_factory):
    with running(tmp_path_factory.mktemp("raft")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def quorum(tmp_path_factory):
    sections = '[quorum]\nconflicts = "siblings"\n'
    with running(tmp_path_factory.mktemp("quorum"), mode="quorum", sections=sections) as cluster:
        yield cluster
