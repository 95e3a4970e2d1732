"""The console in a real browser: what a person sees of a cluster, and what it says when nodes go away."""

import pytest
import requests
from playwright.sync_api import expect

from tests.integration.browser import needs_chromium, page_at, pictures

pytestmark = [pytest.mark.integration, needs_chromium]


def test_another_site_may_link_to_the_console_and_take_nothing_of_it(raft):
    foreign = {"Sec-Fetch-Site": "cross-site"}

    assert requests.get(raft.url("n1", "/ui"), headers=foreign, timeout=10).status_code == 200
    assert requests.get(raft.url("n1", "/ui/app.js"), headers=foreign, timeout=10).status_code == 403
    assert requests.get(raft.url("n1", "/ui"), headers={"Host": "evil.example"}, timeout=10).status_code == 421


def test_it_says_who_leads(raft, browser):
    leader = raft.leader()
    for node in raft.nodes:
        with page_at(browser, raft.url(node, "/ui")) as page:
            expect(page.get_by_role("heading", level=1)).to_contain_text(f"{leader} leads")
            expect(page.locator(".ring .leads .id")).to_have_text(leader)
            expect(page.locator("#corner")).to_contain_text(f"{node} ready")


def test_the_leaders_page_says_who_is_how_far_behind(raft, browser):
    with page_at(browser, raft.url(raft.leader(), "/ui")) as page:
        expect(page.locator(".ring .state")).to_have_text(["up to date"] * 3)


def test_the_last_minutes_can_be_looked_at_again(raft, browser):
    with page_at(browser, raft.url("n1", "/ui")) as page:
        when = page.locator(".film output")
        expect(when).to_have_text("now")
        expect(page.get_by_role("button", name="Play again")).to_be_enabled()
        page.get_by_role("slider").fill("0")
        expect(when).to_contain_text("ago")
        expect(page.locator(".ring .leads .id")).to_have_text(raft.leader())
        page.get_by_role("button", name="Now").click()
        expect(when).to_have_text("now")


def test_every_node_of_a_leaderless_cluster_shows_its_share(quorum, browser):
    with page_at(browser, quorum.url("n2", "/ui")) as page:
        expect(page.get_by_role("heading", level=1)).to_have_text("Every node takes reads and writes")
        expect(page.locator(".ring .arc")).to_have_count(3)
        expect(page.get_by_role("region", name="Nodes", exact=True)).to_contain_text("%")


def test_without_scripts_it_says_where_the_same_is_found(raft, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(raft.url("n1", "/ui"))

    expect(page.get_by_role("navigation")).to_be_visible()
    expect(page.get_by_role("link", name="its status")).to_have_attribute("href", "/status")
    assert "raftkv status" in page.content()
    context.close()


def test_colours_can_be_turned_and_stay_so(raft, browser):
    with page_at(browser, raft.url("n1", "/ui"), colour="light") as page:
        page.get_by_role("button", name="Use dark colours").click()
        page.reload()

        expect(page.get_by_role("button", name="Use light colours")).to_be_visible()
        assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"


def test_a_node_that_dies_under_its_page_is_missed_and_found_again(raft, browser):
    leader = raft.leader()
    other = next(node for node in raft.nodes if node != leader)
    with page_at(browser, raft.url(leader, "/ui")) as dying, page_at(browser, raft.url(other, "/ui")) as living:
        expect(dying.get_by_role("heading", level=1)).to_contain_text(f"{leader} leads")
        expect(living.get_by_role("heading", level=1)).to_contain_text(f"{leader} leads")
        raft.kill(leader)

        expect(dying.get_by_role("alert").first).to_contain_text(f"{leader} has not answered")
        link = dying.get_by_role("alert").first.get_by_role("link", name=other)
        expect(link).to_have_attribute("href", raft.url(other, "/ui"))
        expect(living.locator(".events")).to_contain_text("has a majority: it leads")
        expect(living.locator(".events")).to_contain_text(f"cannot reach {leader}")

        raft.start(leader)
        expect(dying.get_by_role("alert").first).to_be_empty()
        expect(dying.locator(".events")).to_contain_text(f"{leader} answers again")
    raft.wait_ready()


def test_pictures_of_clusters(raft, quorum, browser):
    pictures(browser, raft.url(raft.leader(), "/ui"), "cluster", ".ring")
    pictures(browser, quorum.url("n1", "/ui"), "ring", ".ring")
