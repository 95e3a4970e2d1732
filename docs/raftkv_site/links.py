"""Links as ```a page <page.rst#heading>`_`` lead from page to page of the site; one that leads nowhere is a warning."""

import re
from pathlib import Path

from docutils import nodes
from docutils.utils import get_source_line
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.nodes import make_refnode

_FILE = re.compile(r"(?P<path>[\w./-]+\.(?:rst|py))(?:#(?P<anchor>[\w.-]+))?")
_PROGRAMS = "howto/programs"
"""The page that shows the recipes' programs, each below its name."""

_log = logging.getLogger(__name__)


def page_of(env: BuildEnvironment, link: nodes.reference) -> str | None:
    """The page that a link to a file means, if it is one.

    What lies beside the documents, as the list of changes does, is included by a page of ``project``.
    """
    found = _FILE.fullmatch(link.get("refuri", ""))
    if found is None:
        return None
    source, _ = get_source_line(link)
    target = (Path(source or env.doc2path(env.docname)).parent / found["path"]).resolve()
    root = Path(env.srcdir)
    if target.suffix == ".py":
        return _PROGRAMS
    if target.parent == root.parent:
        return f"project/{target.stem.lower()}"
    return env.path2doc(target)


class LinksToFiles(SphinxPostTransform):
    """Turns them into references to pages, which ``resolve`` makes links of, in whatever format is built."""

    default_priority = 5

    def run(self, **_: object) -> None:
        """Change all links of one page."""
        for link in list(self.document.findall(nodes.reference)):
            page = page_of(self.env, link)
            if page is None:
                continue
            path, _, anchor = link["refuri"].partition("#")
            anchor = nodes.make_id(Path(path).name) if path.endswith(".py") else anchor
            if page not in self.env.found_docs or (anchor and anchor not in self.env.get_doctree(page).ids):
                _log.warning("no such page or heading: %s", link["refuri"], location=link)
                continue
            text = nodes.inline("", "", *link.children)
            link.replace_self(
                addnodes.pending_xref("", text, refdomain="", reftype="file", reftarget=page, anchor=anchor)
            )


def resolve(
    app: Sphinx, env: BuildEnvironment, reference: addnodes.pending_xref, text: nodes.Element
) -> nodes.Element | None:
    """The link that one of our references stands for."""
    if reference["reftype"] != "file":
        return None
    return make_refnode(app.builder, env.current_document.docname, reference["reftarget"], reference["anchor"], text)
