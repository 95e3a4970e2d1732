"""The documents as a site, page by page in a real browser: nothing is wider than its window, and no link is dead."""

import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest

from tests.pages import ROOT

pytest.importorskip("sphinx", reason="the site is built with the extra 'docs'")
pytest.importorskip("playwright", reason="tox -e docs brings what drives a browser")

from tests.integration.browser import COLOURS, needs_chromium, page_at, picture

pytestmark = pytest.mark.integration

LOOKED_AT = ("index.html", "laboratory.html", "scaling.html", "modes.html", "reference/requests.html")
"""Those of which people get pictures."""

TOO_WIDE = """() => [...document.querySelectorAll('article *')].filter((element) => {
  const box = element.getBoundingClientRect();
  if (!box.width || box.right <= innerWidth + 1) return false;
  for (let above = element.parentElement; above; above = above.parentElement)
    if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(above).overflowX)) return false;
  return true;
}).map((element) => element.outerHTML.slice(0, 120))"""

SHRUNK = """() => [...document.querySelectorAll('article img')]
  .filter((image) => image.offsetWidth && image.offsetWidth < 0.55 * image.naturalWidth).map((image) => image.src)"""


class Seen(HTMLParser):
    """What one page links to, and what of it can be linked to."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids |= {found[name] for name in ("id", "name") if found.get(name)}
        self.links += [found[name] for name in ("href", "src") if found.get(name)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-E", "-q", "-b", "html", str(ROOT / "docs"), str(out)]
    subprocess.run(command, check=True, timeout=300)
    return out


@pytest.fixture(scope="module")
def pages(site):
    found = [path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts]
    assert len(found) > 40
    return found


def test_no_link_within_the_site_is_dead(site, pages):
    seen = {path: Seen(path.read_text()) for path in pages}
    dead = []
    for path, found in seen.items():
        for link in found.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            has_anchor = not parts.fragment or target not in seen or unquote(parts.fragment) in seen[target].ids
            if not target.exists() or not has_anchor:
                dead.append(f"{path.relative_to(site)}: {link}")

    assert sum(len(found.links) for found in seen.values()) > 1000
    assert dead == []


@needs_chromium
@pytest.mark.parametrize("size", ["wide", "phone"])
@pytest.mark.parametrize("colour", COLOURS)
def test_every_page_fits_its_window(site, pages, browser, size, colour):
    wrong = {}
    with page_at(browser, pages[0].as_uri(), size=size, colour=colour) as page:
        for path in pages:
            page.goto(path.as_uri())
            name = str(path.relative_to(site))
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                wrong[name] = ["the page scrolls sideways"]
            wrong[name] = [*wrong.get(name, []), *page.evaluate(TOO_WIDE), *page.evaluate(SHRUNK)]
            if name in LOOKED_AT:
                picture(page, f"site-{path.stem}-{size}-{colour}")
        red, *_ = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")

    assert {name: found for name, found in wrong.items() if found} == {}
    assert (red < 128) == (colour == "dark")


@needs_chromium
def test_a_phone_gets_the_narrow_picture_where_there_is_one(site, browser):
    url = (site / "laboratory.html").as_uri()
    for size, shown, hidden in (("wide", "is-wide", "is-narrow"), ("phone", "is-narrow", "is-wide")):
        with page_at(browser, url, size=size) as page:
            assert page.locator(f"article img.{shown}:visible").count() >= 5
            assert page.locator(f"article img.{hidden}:visible").count() == 0
