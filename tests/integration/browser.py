"""Pages in a real browser, Debian's Chromium; without one the tests that need it are skipped, and say so.

``RAFTKV_PICTURES`` names a folder that gets a picture of every page at three sizes in both colours.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
SIZES = {"wide": (1280, 900), "tablet": (820, 1180), "phone": (390, 844)}
COLOURS = ("light", "dark")
PATIENCE_MS = 20_000
PICTURES = os.environ.get("RAFTKV_PICTURES")

expect.set_options(timeout=PATIENCE_MS)

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")


@contextmanager
def browsing() -> Iterator[Browser]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def page_at(browser: Browser, url: str, *, size: str = "wide", colour: str = "light") -> Iterator[Page]:
    """A page of ``url``; whatever goes wrong in its scripts, and whatever its policy forbade, fails the test."""
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=colour)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
    page.on("dialog", lambda dialog: wrong.append(f"a dialog: {dialog.message}"))
    try:
        page.goto(url)
        yield page
    finally:
        context.close()
        assert wrong == []


def picture(page: Page, name: str, *, is_whole: bool = True) -> None:
    """A picture for people, where somebody wants them: of the whole page, or of what fits the window."""
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=is_whole)


def pictures(browser: Browser, url: str, name: str, awaited: str) -> None:
    """The page at every size in both colours; nothing of it may be wider than its window."""
    ways = [(size, colour) for size in SIZES for colour in COLOURS]
    for size, colour in ways if PICTURES else [("wide", "light"), ("phone", "dark")]:
        with page_at(browser, url, size=size, colour=colour) as page:
            page.locator(awaited).first.wait_for()
            picture(page, f"{name}-{size}-{colour}")

            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (name, size, colour)
