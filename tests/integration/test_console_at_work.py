"""A cluster at work as its page shows it; the picture of the README is made here."""

import re

import pytest
import requests
from playwright.sync_api import expect

from raftkv.instruments.local.nodes import wait_until
from tests.integration.browser import PICTURES, needs_chromium, page_at

pytestmark = [pytest.mark.integration, needs_chromium]

WRITES = 12


def agreed(page):
    return int(page.get_by_text(re.compile(r"\d+ entries agreed")).text_content().split()[0].replace(",", ""))


def test_writes_are_seen_to_be_agreed_on_and_everybody_to_be_up_to_date(raft, browser):
    leader = raft.leader()
    with page_at(browser, raft.url(leader, "/ui")) as page:
        expect(page.get_by_role("heading", level=1)).to_contain_text(f"{leader} leads")
        expect(page.locator(".ring .state")).to_have_text(["up to date"] * 3)
        before = agreed(page)
        for number in range(WRITES):
            assert requests.put(raft.url(leader, f"/kv/order/{number}"), data="lamp", timeout=10).ok
        wait_until(lambda: agreed(page) >= before + WRITES, "the page to show what was agreed on", 20)
        expect(page.locator(".ring .state")).to_have_text(["up to date"] * 3)
        expect(page.get_by_text(f"{agreed(page):,} entries, all applied")).to_be_visible()
        if PICTURES:
            page.screenshot(path=f"{PICTURES}/ui-cluster.png", clip={"x": 0, "y": 0, "width": 1280, "height": 725})
