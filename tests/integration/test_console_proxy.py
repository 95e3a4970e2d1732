"""The console by way of ``raftkv proxy``: the pages of whichever node it asks, also when that one is killed."""

import re

import pytest
from playwright.sync_api import expect

from tests.integration.browser import needs_chromium, page_at
from tests.integration.processes import running
from tests.integration.test_proxy import proxy_for
from tests.integration.test_users import ROOT, GuardedCluster

pytestmark = [pytest.mark.integration, needs_chromium]


@pytest.fixture(scope="module", params=["raft", "quorum"])
def behind(request, tmp_path_factory):
    """A cluster, and the address of a proxy for it."""
    with running(tmp_path_factory.mktemp("behind"), mode=request.param) as cluster:
        cluster.wait_ready()
        with proxy_for(cluster) as url:
            yield cluster, url


def test_every_page_is_shown(behind, browser):
    cluster, url = behind
    assert cluster.put("n1", "a/key", "its value").ok
    headings = {"locks": "Locks and elections", "operations": "Operations", "traffic": "Traffic"}
    with page_at(browser, f"{url}/ui#/keys/a%2Fkey") as page:
        expect(page.get_by_label("Value", exact=True)).to_have_text("its value")
        for name, heading in headings.items():
            page.get_by_role("link", name=name, exact=False).first.click()
            expect(page.get_by_role("heading", level=1)).to_have_text(heading)
            expect(page.locator("#main")).not_to_contain_text("undefined")
        expect(page.locator(".chart")).to_have_count(4)
        expect(page.locator("#corner .chip").first).to_contain_text(re.compile(r"n\d ready"))


def test_what_changes_is_seen_as_it_comes(behind, browser):
    cluster, url = behind
    if cluster.mode == "quorum":
        pytest.skip("a leaderless cluster has no changes to watch")
    with page_at(browser, f"{url}/ui#/keys") as page:
        with page.expect_response(lambda answer: "/watch" in answer.url and answer.ok):
            page.get_by_role("button", name="Watch live").click()
        assert cluster.put("n2", "seen/live", "1").ok
        expect(page.get_by_role("log")).to_contain_text("seen/live")


def test_a_node_that_is_killed_under_it_is_followed_by_another(behind, browser):
    cluster, url = behind
    with page_at(browser, f"{url}/ui") as page:
        asked = page.get_by_role("heading", name=re.compile("which the proxy asks"))
        expect(asked).to_be_visible()
        expect(page.locator(".ring .node")).to_have_count(3)
        first = asked.inner_text().partition(",")[0]

        cluster.kill(first)

        expect(asked).not_to_contain_text(first)
        expect(page.locator(".events")).to_contain_text("the proxy asks n")
        expect(page.locator(".ring .node.lost .id")).to_have_text(first)
        expect(page.locator("#banner")).to_be_empty()
        cluster.start(first)
        expect(page.locator(".ring .node.lost")).to_have_count(0)
    cluster.wait_ready()


@pytest.mark.parametrize("mode", ["raft", "quorum"])
def test_a_backup_is_downloaded_by_who_has_signed_in(browser, tmp_path, mode):
    with GuardedCluster(tmp_path, mode=mode) as cluster:
        cluster.start()
        cluster.wait_ready()
        cluster.done("set", "kept", "in the backup", "--w", "all")
        its_own = {"RAFTKV_USER": "root", "RAFTKV_PASSWORD": ROOT}
        with proxy_for(cluster, **its_own) as url, page_at(browser, f"{url}/ui#/operations") as page:
            page.get_by_label("User").fill("root")
            page.get_by_label("Password").fill(ROOT)
            page.get_by_role("button", name="Sign in").click()
            with page.expect_download() as download:
                page.get_by_role("button", name="Download a backup").click()
            download.value.save_as(tmp_path / "backup")

        assert "backup: whole" in cluster.done("backup", "verify", str(tmp_path / "backup"))
