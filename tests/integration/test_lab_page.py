"""A report in a real browser: three sizes, both colours, harm in red, and nothing that has to be scrolled sideways."""

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect

from raftkv.instruments.lab.report.make import report
from raftkv.instruments.lab.report.sentences import Tone, tone
from raftkv.instruments.lab.report.table import rows
from tests.integration.browser import needs_chromium, page_at, pictures

pytestmark = [pytest.mark.integration, needs_chromium]

RUN = Path(__file__).parents[1] / "unit" / "lab_run"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return shutil.copytree(RUN, tmp_path_factory.mktemp("lab") / "run")


@pytest.fixture(scope="module")
def results(folder):
    return report(folder)


@pytest.fixture(scope="module")
def url(folder, results):
    return f"file://{folder / 'report.html'}"


def test_the_badge_of_a_card_has_the_colour_of_its_harm(browser, results, url):
    with page_at(browser, url) as page:
        for each in results.variants:
            card = page.locator("section.card").filter(has=page.get_by_role("heading", name=each.variant.name))
            name = {Tone.HARM: "--bad", Tone.ALLOWED: "--warn", Tone.FINE: "--good"}[tone(each)]
            seen, meant = (
                page.evaluate(f"(e) => {{ e.style.color = '{colour}'; return getComputedStyle(e).color }}", element)
                for colour, element in (
                    ("", card.locator(".badge").element_handle()),
                    (f"var({name})", page.locator("h1").element_handle()),
                )
            )

            assert seen == meant


def test_on_a_phone_every_number_stands_with_its_variant_and_its_meaning(browser, results, url):
    with page_at(browser, url, size="phone") as page:
        for row in rows(results):
            for each, text in zip(results.variants, row.cells, strict=True):
                cell = page.locator("tr", has=page.get_by_text(row.name, exact=True)).locator(
                    f'td[data-of="{each.variant.name}"]'
                )
                expect(cell).to_be_visible()
                expect(cell).to_have_text(text)
                box = cell.bounding_box()
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= 390
            expect(page.get_by_text(row.meaning)).to_be_visible()


def test_every_picture_is_seen_once_and_fits(browser, url):
    for size, shown, hidden in (("wide", "is-wide", "is-narrow"), ("phone", "is-narrow", "is-wide")):
        with page_at(browser, url, size=size) as page:
            count = page.locator("figure").count()
            assert count >= 5
            for number in range(count):
                figure = page.locator("figure").nth(number)
                expect(figure.locator(f"svg.{hidden}")).to_be_hidden()
                assert figure.locator(f"svg.{shown}").bounding_box()["width"] <= page.viewport_size["width"]


def test_pictures_of_a_report(browser, url):
    pictures(browser, url, "report", "figure")
