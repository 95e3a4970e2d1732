"""The console in a real browser: what a person sees of a cluster, and what it says when nodes go away."""

import re

import pytest
import requests
from playwright.sync_api import expect

from tests.integration.browser import needs_chromium, page_at, picture, pictures

pytestmark = [pytest.mark.integration, needs_chromium]


def test_another_site_may_link_to_the_console_and_take_nothing_of_it(raft):
    foreign = {"Sec-Fetch-Site": "cross-site"}

    assert requests.get(raft.url("n1", "/ui"), headers=foreign, timeout=10).status_code == 200
    assert requests.get(raft.url("n1", "/ui/app.js"), headers=foreign, timeout=10).status_code == 403
    assert requests.get(raft.url("n1", "/ui"), headers={"Host": "evil.example"}, timeout=10).status_code == 421


def test_pages_are_got_and_nothing_else(raft):
    for path in ("/ui", "/ui/app.js"):
        answer = requests.post(raft.url("n1", path), timeout=10)
        assert answer.status_code == 405
        assert "GET" in answer.headers["Allow"]


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


def test_it_says_why_that_node_leads(raft, browser):
    before = raft.leader()
    heir = next(node for node in raft.nodes if node != before)
    with page_at(browser, raft.url("n3", "/ui")) as page:
        lead = page.locator(".lead")
        expect(lead).to_contain_text(f"{before} was elected in term")
        expect(lead).to_contain_text("because no leader was known before")
        expect(lead).to_contain_text("If it is cut off or falls silent, the others elect another")

        assert raft.request("POST", before, "/cluster/transfer", json={"to": heir}).ok
        expect(page.get_by_role("heading", level=1)).to_contain_text(f"{heir} leads")
        expect(lead).to_contain_text(f"because {before} handed over to it")
        expect(lead.locator("time")).to_have_attribute("title", re.compile(":"))
        expect(page.locator(".elections")).to_contain_text(f"{before} elected in term")
        raft.kill(heir)
        expect(lead).to_contain_text(
            re.compile(f"because {heir}, which led before, (could not be reached|was not heard) any more")
        )
    raft.start(heir)
    raft.wait_ready()
    with page_at(browser, raft.url(heir, "/ui")) as page:  # who comes late is told the same
        expect(page.locator(".lead")).to_contain_text(f"because {heir}, which led before,")


def test_a_node_that_is_cut_off_says_what_it_still_does(raft, browser):
    first, *others = raft.nodes
    with page_at(browser, raft.url(first, "/ui")) as page:
        expect(page.get_by_role("heading", level=1)).to_contain_text("leads")
        for node in others:
            raft.kill(node)
        expect(page.get_by_role("heading", level=1)).to_have_text("Nobody leads")
        expect(page.locator(".lead")).to_contain_text(f"{first} is cut off: it reaches 1 of 3 nodes")
        expect(page.locator(".lead")).to_contain_text("Local reads still answer, from its own copy, which may be old")
    for node in others:
        raft.start(node)
    raft.wait_ready()


def test_a_page_is_one_stream_and_asks_for_nothing_beside(raft, browser):
    with page_at(browser, raft.url("n1", "/ui#/cluster")) as page:
        expect(page.locator(".film output")).to_have_text("now")
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.get_by_role("link", name="Traffic").click()
        expect(page.locator(".chart").first).to_be_visible()
        page.get_by_role("link", name="Cluster").click()
        page.wait_for_timeout(3000)

        assert [url for url in asked if "/ui" not in url] == []


def test_where_no_stream_is_to_be_had_the_node_is_asked(raft, browser):
    with page_at(browser, raft.url("n1", "/ui#/keys")) as page:
        page.route(
            "**/cluster/live*",
            lambda route: route.fulfill(status=429, json={"code": "overloaded", "detail": "too many"}),
        )
        page.goto(raft.url("n1", "/ui#/cluster"))
        page.reload()
        expect(page.get_by_role("heading", level=1)).to_contain_text("leads")
        raft.request(
            "POST", raft.leader(), "/cluster/transfer", json={"to": next(n for n in raft.nodes if n != raft.leader())}
        )
        expect(page.get_by_role("heading", level=1)).to_contain_text(f"{raft.leader()} leads")
        expect(page.get_by_role("alert").first).to_be_empty()


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
    pictures(browser, raft.url(raft.leader(), "/ui"), "cluster", ".events li")
    pictures(browser, quorum.url("n1", "/ui"), "ring", ".events li")


CAUGHT = """(() => {
    const dots = document.getAnimations().filter((one) => one.effect.target?.classList.contains("dot"));
    const of = (kind) => dots.filter((one) => one.effect.target.classList.contains(kind));
    if (of("entries").length < 2 || of("acks").length < 2) return false;
    const acks = new Set(of("acks")); // which begin half a flight later
    dots.forEach((one, at) => Object.assign(one, { currentTime: acks.has(one) ? 480 + 60 * (at % 2) : 250 }).pause());
    return true;
})()"""
"""Are entries on their way, and acknowledgements? If so, all stand still there."""


def test_entries_travel_from_the_leader_and_are_acknowledged(raft, browser):
    with page_at(browser, raft.url(raft.leader(), "/ui")) as page:
        page.set_viewport_size({"width": 1280, "height": 725})
        expect(page.locator(".lead")).to_contain_text("with the votes of")
        for number in range(200):
            assert raft.put("n1", "travels", str(number)).ok
            if page.evaluate(CAUGHT):
                break
            page.wait_for_timeout(60)
        else:
            pytest.fail("no entry was seen to travel")
        picture(page, "travels", is_whole=False)
