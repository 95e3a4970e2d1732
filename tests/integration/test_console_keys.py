"""The console's pages of keys in a real browser: found, read, compared, changed, and never taken for markup."""

import json
import math
import re
import time
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from tests.integration.browser import needs_chromium, page_at, pictures

pytestmark = [pytest.mark.integration, needs_chromium]

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "\u202egnp.exe\u2066",
    "javascript:alert(1)",
    "עברית/ערך",
    "%2e%2e/#?&\\",
    "${alert(1)}{{7*7}}",
    "k" * 1024,
    "tab\tand\nline",
)
BIG = 12345678901234567890


def keys_at(cluster, key="", node="n1"):
    return cluster.url(node, "/ui#/keys" + (f"/{quote(key, safe='')}" if key else ""))


def put(cluster, **pairs):
    operations = [{"op": "put", "key": key, "value": value} for key, value in pairs.items()]
    answer = cluster.request("POST", "n1", "/batch", json={"operations": operations})
    assert answer.status_code == 200, answer.text


def rows(page):
    return page.get_by_role("tree").get_by_role("treeitem")


def row(page, name):
    return rows(page).filter(has=page.locator("bdi", has_text=re.compile(f"^{re.escape(name)}$")))


def test_keys_are_a_tree_and_open_by_mouse_and_keyboard(raft, browser):
    put(raft, **{"shop/cart/7": "apples", "shop/cart/8": "pears", "shop/open": "yes"})
    with page_at(browser, keys_at(raft)) as page:
        row(page, "shop/").click()
        expect(row(page, "cart/")).to_be_visible()
        expect(row(page, "open")).to_be_visible()

        page.get_by_role("tree").press("ArrowDown")
        page.get_by_role("tree").press("ArrowRight")
        row(page, "7").click()
        expect(page.get_by_label("Value", exact=True)).to_have_text("apples")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        expect(page.get_by_label("Value", exact=True)).to_have_text("pears")
        expect(page.get_by_role("tree")).to_be_focused()

        page.get_by_role("button", name="Show flat").click()
        expect(row(page, "shop/cart/8")).to_be_visible()


def test_values_are_shown_as_json_text_and_bytes(raft, browser):
    put(raft, document=json.dumps({"n": BIG, "list": []}), bytes={"base64": "AP9BQg=="})
    with page_at(browser, keys_at(raft, "document")) as page:
        expect(page.get_by_label("Value", exact=True)).to_have_text(f'{{\n  "n": {BIG},\n  "list": []\n}}')
        page.get_by_role("button", name="text").click()
        expect(page.get_by_label("Value", exact=True)).to_have_text(json.dumps({"n": BIG, "list": []}))
    with page_at(browser, keys_at(raft, "bytes")) as page:
        expect(page.get_by_label("Value", exact=True)).to_contain_text("00 ff 41 42")
        expect(page.get_by_role("button", name="Edit")).to_be_disabled()


def test_hostile_keys_and_values_are_text(raft, browser):
    put(raft, **{f"h/{key}"[:1024]: key for key in HOSTILE})
    with page_at(browser, keys_at(raft)) as page:
        page.get_by_role("button", name="Show flat").click()
        page.get_by_label("Search", exact=True).fill("h/")
        expect(rows(page)).to_have_count(len(HOSTILE))
        assert page.locator("main script, main img, main svg").count() == 0
        expect(row(page, r"h/\u{202e}gnp.exe\u{2066}")).to_be_visible()
        expect(row(page, r"h/tab\u{9}and\u{a}line")).to_be_visible()
    for key in HOSTILE:
        with page_at(browser, keys_at(raft, f"h/{key}"[:1024])) as page:
            page.get_by_role("button", name="text").click()
            assert page.get_by_label("Value", exact=True).text_content() == key
            assert page.locator("main script, main img").count() == 0
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), key


def test_keys_that_are_no_text_are_found_read_and_deleted(raft, browser):
    for path in ("bin%C3%28/%FF%FE%00", "bin%C3%28/%FFx", "bin%C3%28/é"):
        assert raft.request("PUT", "n1", f"/kv/{path}", data=b"of bytes").status_code == 201
    with page_at(browser, keys_at(raft)) as page:
        row(page, r"bin\xc3(/").click()
        expect(row(page, "é")).to_be_visible()
        row(page, r"\xff\xfe\u{0}").click()
        expect(page.get_by_label("Value", exact=True)).to_have_text("of bytes")
        expect(page.get_by_role("heading", name=r"bin\xc3(/\xff\xfe\u{0}")).to_be_visible()
        page.reload()
        expect(page.get_by_label("Value", exact=True)).to_have_text("of bytes")
        page.get_by_role("button", name="Delete", exact=True).click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(page.get_by_text("There is no such key now.")).to_be_visible()

    assert raft.request("GET", "n1", "/kv/bin%C3%28/%FF%FE%00").status_code == 404
    assert raft.request("GET", "n1", "/kv/bin%C3%28/%FFx").status_code == 200


def test_an_edit_shows_what_it_changes_and_is_not_saved_over_anothers(raft, browser):
    put(raft, edited="one\ntwo\nthree")
    with page_at(browser, keys_at(raft, "edited")) as page:
        page.get_by_role("button", name="Edit").click()
        page.get_by_label("Value", exact=True).fill("one\n2\nthree")
        page.get_by_role("button", name="Review").click()
        expect(page.locator(".diff del")).to_have_text("- two")
        expect(page.locator(".diff ins")).to_have_text("+ 2")

        put(raft, edited="another's")
        page.get_by_role("button", name="Save").click()
        expect(page.locator(".note")).to_contain_text("Somebody changed the key while you were writing")
        assert raft.get("n1", "edited").text == "another's"

        page.get_by_role("button", name="Review").click()
        expect(page.locator(".diff del")).to_have_text("- another's")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_label("Value", exact=True)).to_have_text("one\n2\nthree")
        assert raft.get("n1", "edited").text == "one\n2\nthree"


def test_a_key_tells_what_it_was_and_what_becomes_of_it(raft, browser):
    put(raft, told="first")
    raft.request("DELETE", "n1", "/kv/told")
    put(raft, told="second")
    with page_at(browser, keys_at(raft, "told")) as page:
        past = page.locator(".history li")
        expect(past).to_contain_text(["made", "deleted", "made"])

        put(raft, told="third")
        expect(page.get_by_label("Value", exact=True)).to_have_text("third")
        expect(past).to_have_count(4)
        past.nth(0).locator("summary").click()
        expect(past.nth(0).locator("del")).to_have_text("- second")
        expect(past.nth(0).locator("ins")).to_have_text("+ third")

        past.nth(3).locator("summary").click()
        past.nth(3).get_by_role("button", name="Bring this back").click()
        page.get_by_role("button", name="Review").click()
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_label("Value", exact=True)).to_have_text("first")


def told_at(cluster, key):
    """When each revision of the key came about, in seconds since 1970, by what the stream of changes says."""
    query = {"key": key, "from_revision": 1, "progress_s": 1}
    lines = {"Accept": "application/x-ndjson"}
    with cluster.request("GET", "n1", "/watch", params=query, headers=lines, stream=True) as answer:
        found = []
        for line in answer.iter_lines():
            told = json.loads(line) if line else {}
            if "changes" in told:
                found.append(told["time_ms"] / 1000)
            elif told:
                return found
    return found


def choose(page, at_s):
    """Ask what the key was at a time, as a clock here shows it."""
    page.get_by_label("or at").fill(datetime.fromtimestamp(at_s, UTC).astimezone().strftime("%Y-%m-%dT%H:%M:%S"))


def test_a_key_tells_when_it_changed_and_what_it_was_at_a_time(raft, browser):
    put(raft, timed="first\nkept")
    time.sleep(2.2)  # times are chosen by the second
    put(raft, timed="second\nkept")
    first_s, second_s = told_at(raft, "timed")
    with page_at(browser, keys_at(raft, "timed")) as page:
        expect(page.locator(".history li time")).to_have_text([re.compile("ago|now")] * 2)
        exact = datetime.fromtimestamp(first_s, UTC).astimezone().strftime("%H:%M:%S")
        expect(page.locator(".history li time").nth(1)).to_have_attribute("title", re.compile(exact))

        moment = page.get_by_role("region", name="As it was then")
        choose(page, math.ceil(first_s))
        expect(moment.get_by_label("Value", exact=True)).to_have_text("first\nkept")
        expect(moment.locator("del")).to_have_text("- first")
        expect(moment.locator("ins")).to_have_text("+ second")
        choose(page, math.ceil(second_s))
        expect(moment).to_contain_text("It is the same now.")
        page.get_by_role("button", name="1 day ago").click()
        expect(moment).to_contain_text("There was no such key then.")

        choose(page, math.ceil(first_s))
        moment.get_by_role("button", name="Bring this back").click()
        page.get_by_role("button", name="Review").click()
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_label("Value", exact=True).first).to_have_text("first\nkept")
    assert raft.get("n1", "timed").text == "first\nkept"


def test_history_begins_with_the_oldest_state_that_is_kept(raft, browser):
    put(raft, kept="before")
    put(raft, kept="last of the forgotten")
    revision = raft.get("n1", "kept", headers={"Accept": "application/json"}).json()["revision"]
    put(raft, kept="after")
    raft.request("POST", "n1", "/compact", json={"revision": revision})
    with page_at(browser, keys_at(raft, "kept")) as page:
        past = page.locator(".history li")
        expect(past).to_contain_text(["changed", "is the oldest that is kept"])
        past.nth(0).locator("summary").click()
        expect(past.nth(0).locator("del")).to_have_text("- last of the forgotten")
        page.get_by_role("button", name="1 hour ago").click()
        expect(page.get_by_role("region", name="As it was then")).to_contain_text("That is not kept any more.")


def test_a_key_is_made_counts_down_and_is_deleted_once_that_is_confirmed(raft, browser):
    with page_at(browser, keys_at(raft)) as page:
        page.get_by_role("button", name="New key").click()
        page.get_by_label("Key; “/” makes folders").fill("made/here")
        page.get_by_role("button", name="Next").click()
        page.get_by_role("button", name="Write it").click()
        page.get_by_label("Value", exact=True).fill("v")
        page.get_by_label("Lives for so many seconds").fill("900")
        page.get_by_role("button", name="Review").click()
        page.get_by_role("button", name="Save").click()
        expect(page.locator(".facts")).to_contain_text("Time left15 min")
        assert 800 < raft.get("n1", "made%2Fhere", headers={"Accept": "application/json"}).json()["ttl_left"] <= 900

        page.get_by_role("button", name="Delete").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        assert raft.get("n1", "made%2Fhere").status_code == 200
        page.get_by_role("button", name="Delete").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(page.get_by_text("There is no such key now.")).to_be_visible()
        assert raft.get("n1", "made%2Fhere").status_code == 404


def test_changes_of_a_prefix_are_shown_as_they_come(raft, browser):
    with page_at(browser, keys_at(raft)) as page:
        page.get_by_label("Search", exact=True).fill("live/")
        page.wait_for_timeout(400)  # what is typed is looked for a moment later
        page.get_by_role("button", name="Watch live").click()
        expect(page.get_by_text("Waiting for something to change")).to_be_visible()
        expect(page.get_by_role("heading", level=2)).to_contain_text("live/")
        page.wait_for_timeout(500)  # a watch without a revision begins when it is answered
        put(raft, **{"live/a": "1", "other": "2"})
        put(raft, **{"live/b": "3"})

        expect(page.get_by_role("log").get_by_role("listitem")).to_contain_text(["live/b", "live/a"])


def test_a_hundred_thousand_keys_are_paged_and_searched(raft, browser):
    for first in range(0, 100_000, 1000):
        put(raft, **{f"many/{n // 100:03}/{n:06}": f"value {n}" for n in range(first, first + 1000)})
    with page_at(browser, keys_at(raft)) as page:
        row(page, "many/").click()
        expect(row(page, "000/")).to_be_visible()
        page.get_by_role("button", name="Show flat").click()
        page.get_by_label("Search", exact=True).fill("many/")
        tree = page.get_by_role("tree")
        expect(row(page, "many/000/000000")).to_be_visible()
        for _ in range(5):
            tree.evaluate("one => { one.scrollTop = one.scrollHeight; }")
            page.wait_for_timeout(200)
        assert rows(page).count() < 60
        assert page.locator("[aria-setsize]").first.get_attribute("aria-setsize") >= "3000"

        page.get_by_label("What is searched").select_option("key")
        page.get_by_label("Search", exact=True).fill("099999")
        expect(row(page, "many/999/099999")).to_be_visible()
        page.get_by_label("What is searched").select_option("value")
        page.get_by_label("Search", exact=True).fill("VALUE 4242")
        expect(rows(page)).to_have_count(11)  # 4242 and 42420 to 42429


def test_siblings_stand_side_by_side_until_somebody_joins_them(quorum, browser):
    for node in ("n1", "n2"):
        assert quorum.request("PUT", node, "/kv/cart", data=f"from {node}").ok
    with page_at(browser, keys_at(quorum, "cart")) as page:
        expect(page.locator(".sibling")).to_have_count(2)
        page.get_by_role("button", name="Join all").click()
        expect(page.get_by_label("Value", exact=True)).to_have_value(re.compile("from n"))
        page.get_by_label("Value", exact=True).fill("from both")
        page.get_by_role("button", name="Review").click()
        page.get_by_role("button", name="Save").click()

        expect(page.get_by_label("Value", exact=True)).to_have_text("from both")
    answer = quorum.request("GET", "n3", "/kv/cart")
    assert (answer.status_code, answer.text) == (200, "from both")


def test_a_leaderless_cluster_says_what_it_cannot_tell(quorum, browser):
    with page_at(browser, keys_at(quorum)) as page:
        page.get_by_role("button", name="Watch live").click()
        expect(page.get_by_role("alert").filter(has_text=re.compile("leader|order")).first).to_be_visible()


def test_pictures_of_keys(raft, quorum, browser):
    for n in (1, 2, 3):
        put(raft, **{"config/site": json.dumps({"title": "Shop", "version": n, "limits": {"cart": 10 * n}})})
    pictures(browser, keys_at(raft, "config/site"), "key", ".history li")
    pictures(browser, keys_at(raft), "keys", ".row-one")
    for node in ("n1", "n2"):
        quorum.request("PUT", node, "/kv/basket", data=f"from {node}")
    pictures(browser, keys_at(quorum, "basket"), "siblings", ".sibling")
