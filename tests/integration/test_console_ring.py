"""The ring in a real browser: whose keys are whose, what goes to and fro, and what each node holds of a key."""

import re

import pytest
from playwright.sync_api import expect

from tests.integration.browser import needs_chromium, page_at, picture, pictures
from tests.integration.processes import running

pytestmark = [pytest.mark.integration, needs_chromium]

HOSTILE = "<img src=x onerror=alert(1)>/\u202egnp"


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    with running(
        tmp_path_factory.mktemp("ring"), mode="quorum", sections="[quorum]\nanti_entropy_s = 600.0\n"
    ) as cluster:
        cluster.wait_ready()
        yield cluster


def find(page, key):
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Find").click()
    return page.get_by_role("region", name="What each node holds")


def only_at(cluster, node, key, value):
    """Let one replica alone hold it."""
    body = {"key": key, "value": value}
    assert cluster.request("POST", node, "/internal/write", json=body).status_code == 200


def test_each_node_has_its_part_of_the_ring(ring, browser):
    with page_at(browser, ring.url("n1", "/ui")) as page:
        expect(page.locator(".ring .arc")).to_have_count(3)
        expect(page.locator(".ring .node .state")).to_have_text(["up"] * 3)
        shares = page.locator(".ring .node .role").all_text_contents()

        assert 98 <= sum(int(one.removesuffix(" %")) for one in shares) <= 102


def test_writes_are_seen_to_travel_and_are_counted(ring, browser):
    with page_at(browser, ring.url("n1", "/ui")) as page:
        expect(page.locator(".film output")).to_have_text("now")
        page.evaluate(
            """() => {
              window.seen = new Set();
              const note = (all) => all.forEach((one) => one.classList && window.seen.add(one.getAttribute("class")));
              new MutationObserver((told) => told.forEach((one) => note(one.addedNodes)))
                .observe(document.querySelector(".ring"), { childList: true, subtree: true });
            }"""
        )
        for _ in range(200):
            assert ring.put("n1", "travels").ok
            if page.evaluate("window.seen.has('dot writes') && window.seen.has('dot acks')"):
                break
            page.wait_for_timeout(100)
        else:
            pytest.fail("no write was seen to travel")
        expect(page.locator(".facts")).to_contain_text(re.compile(r"Writes through it\s*[1-9]"))


def test_hints_come_while_a_node_is_killed_and_are_handed_over_when_it_is_back(ring, browser):
    with page_at(browser, ring.url("n1", "/ui")) as page:
        expect(page.locator(".ring .node .state")).to_have_text(["up"] * 3)
        ring.kill("n3")
        expect(page.locator(".ring .node.lost .id")).to_have_text("n3")
        for number in range(20):
            assert ring.put("n1", f"away/{number}").ok
        expect(page.locator(".ring .said.hints").first).to_contain_text("20 hints")
        told = find(page, "away/7")
        expect(told).to_contain_text("for n3")
        expect(told).to_contain_text("not reached")
        death = page.locator(".events li", has_text=re.compile("n3 is down|cannot reach n3|that n3 is"))
        expect(death).to_have_text(
            [re.compile(r"(n1 and n2 suspect that n3 is down|n3 is down, as n1 and n2 see it)$")]
        )
        picture(page, "ring-killed")

        ring.start("n3")
        expect(page.locator(".events")).to_contain_text("handed 20 writes to n3")
        expect(page.locator(".ring .said.hints")).to_have_count(0)
        expect(told.get_by_text("has the newest")).to_have_count(3)
        expect(told).not_to_contain_text("for n3")
    ring.wait_ready()


def test_what_several_find_of_one_node_is_one_line_and_nobody_takes_part_again_who_never_left(ring, browser):
    """Told of a node's death, as nodes tell it, and of starts: what the page makes of it."""
    told = [
        ("n1", "misfit", "", "it is new"),
        ("n1", "fits", "", ""),
        ("n2", "fits", "", ""),
        ("n1", "reaches", "n3", ""),
        ("n1", "loses", "n3", ""),
        ("n2", "loses", "n3", ""),
        ("n1", "state", "n3", "suspect"),
        ("n2", "state", "n3", "suspect"),
        ("n2", "state", "n3", "down"),
        ("n1", "state", "n3", "down"),
        ("n2", "misfit", "", "its clock is wrong"),
        ("n2", "fits", "", ""),
        ("n2", "state", "n3", "up"),
    ]
    sights = {
        node: {
            "node": node,
            "life": "of-this-test",
            "happenings": [
                {"number": number, "at_ms": number, "kind": kind, "subject": subject, "detail": detail}
                for number, (teller, kind, subject, detail) in enumerate(told, 1)
                if teller == node
            ],
        }
        for node in ("n1", "n2")
    }
    with page_at(browser, ring.url("n1", "/ui")) as page:
        story = page.evaluate(
            """async (sights) => {
              const { live, take, story } = await import("/ui/live.js");
              live.happenings.length = 0;
              take({ sights });
              return story().filter((one) => one.at < 1000).map((one) => one.text);
            }""",
            list(sights.values()),
        )

    assert story == [
        "n1 takes no part: it is new",
        "n1 takes part",
        "n2 takes part",
        "n1 reaches n3",
        "n3 is down, as n1 and n2 see it",
        "n2 takes no part: its clock is wrong",
        "n2 takes part again",
        "n3 is up, as n2 sees it",
    ]


def test_a_read_mends_a_replica_under_the_eyes_of_whoever_looks(ring, browser):
    ring.put("n1", "differs", "old", params={"w": "all"})
    only_at(ring, "n2", "differs", "new")
    with page_at(browser, ring.url("n1", "/ui")) as page:
        told = find(page, "differs")
        expect(told.get_by_text("behind", exact=True)).to_have_count(2)
        expect(page.locator(".ring .hold.behind")).to_have_count(2)

        page.get_by_role("button", name="Read all replicas").click()

        expect(told.get_by_text("has the newest")).to_have_count(3)
        expect(page.locator(".ring .hold.level")).to_have_count(3)
        expect(page.locator(".events")).to_contain_text("mended")


def test_the_page_of_a_key_says_what_each_node_holds_of_it_and_takes_nothing_for_markup(ring, browser):
    operations = [{"op": "put", "key": HOSTILE, "value": "<script>alert(1)</script>"}]
    assert ring.request("POST", "n1", "/batch?w=all", json={"operations": operations}).ok
    with page_at(browser, ring.url("n2", "/ui")) as page:
        told = find(page, HOSTILE)
        expect(told.get_by_text("<script>alert(1)</script>")).to_have_count(3)

        page.evaluate("(key) => { location.hash = `#/keys/${encodeURIComponent(key)}`; }", HOSTILE)
        expect(told.get_by_text("has the newest")).to_have_count(3)
        expect(told.get_by_text("<script>alert(1)</script>")).to_have_count(3)


def test_siblings_are_seen_at_each_node(quorum, browser):
    for node in ("n1", "n2"):
        assert quorum.put(node, "basket", f"from {node}").ok
    with page_at(browser, quorum.url("n3", "/ui#/keys/basket")) as page:
        told = page.get_by_role("region", name="What each node holds")
        expect(told.get_by_text("2 values side by side")).to_have_count(3)
        expect(told.get_by_text("from n1")).to_have_count(3)
        expect(told).to_contain_text("has seen")


def test_pictures_of_the_ring(ring, browser):
    for number in range(5):
        ring.put("n1", f"seen/{number}")
    pictures(browser, ring.url("n1", "/ui"), "ring", ".ring .arc")
