"""The documents as a site: links between files become links between pages, and the index a table of contents."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

pytest.importorskip("sphinx", reason="the site is built with the extra 'docs'")

from raftkv.core.config import ClusterConfig

DOCS = Path(__file__).parents[2] / "docs"
INDEX = "Shop\n====\n\nLearn\n-----\n\n- `One <one.rst>`_: first\n- `Two <more/two.rst>`_\n"
ONE = "Number one\n==========\n\nSee `there <more/two.rst#the-end>`_.\n"
TWO = "Number two\n==========\n\nThe end\n-------\n\nBack to `one <../one.rst>`_.\n"


@pytest.fixture
def build(tmp_path):
    """Build a site of these pages by our extension: its pages, and what was warned of."""
    (tmp_path / "docs" / "more").mkdir(parents=True)
    conf = f"import sys\nsys.path.insert(0, {str(DOCS)!r})\nextensions = ['raftkv_site']\n"
    (tmp_path / "docs" / "conf.py").write_text(conf)

    def build(**pages):
        for name, text in {"index": INDEX, "one": ONE, "more/two": TWO, **pages}.items():
            (tmp_path / "docs" / f"{name}.rst").write_text(text)
        command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "docs", "site"]
        done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60)
        made = {page: (tmp_path / "site" / f"{page}.html").read_text() for page in ("index", "one", "more/two")}
        return made, done.stderr

    return build


def test_links_to_files_lead_to_pages_and_headings(build):
    pages, said = build()

    assert said == ""
    assert 'href="more/two.html#the-end"' in pages["one"]
    assert 'href="../one.html"' in pages["more/two"]


def test_the_lists_of_the_index_are_the_table_of_contents(build):
    pages, _ = build()

    assert "Number two" in pages["one"]
    assert '<span class="caption-text">Learn</span>' in pages["one"]


@pytest.mark.parametrize("link", ["gone.rst", "more/two.rst#gone", "../GONE.rst"])
def test_a_link_that_leads_nowhere_is_a_warning(build, link):
    _, said = build(one=f"Number one\n==========\n\n`There <{link}>`_.\n")

    assert f"no such page or heading: {link}" in said


def test_every_key_has_its_default_and_its_reason():
    spec = importlib.util.spec_from_file_location("site_keys", DOCS / "raftkv_site" / "keys.py")
    keys = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(keys)
    told = keys.read_reference((DOCS.parent / "conf" / "reference.toml").read_text())

    for section in msgspec.structs.fields(ClusterConfig):
        kind = section.type.__args__[0] if section.encode_name == "node" else section.type
        for key in msgspec.structs.fields(kind):
            default, why = told[section.encode_name, key.encode_name]
            assert default
            assert len(why.split()) > 2


def test_a_phone_is_given_the_narrow_picture_if_there_is_one_and_a_box_to_scroll_in_if_not(build, tmp_path):
    for name in ("both", "both-narrow", "alone"):
        (tmp_path / "docs" / f"{name}.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    pages, said = build(
        one="Number one\n==========\n\n.. image:: both.svg\n   :alt: B\n\n.. image:: alone.svg\n   :alt: A\n"
    )

    assert said == ""
    assert re.findall(r'<img alt="(\w)" class="([\w-]+)" src="_images/([\w-]+).svg"', pages["one"]) == [
        ("B", "is-wide", "both"),
        ("B", "is-narrow", "both-narrow"),
    ]
    assert re.search(
        r'<div class="picture scrolls docutils container">\s*<a [^>]*><img alt="A" src="_images/alone', pages["one"]
    )
