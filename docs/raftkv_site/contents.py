"""The table of contents: each list of pages in the index is one part of it, called after its heading."""

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

from raftkv_site.links import page_of


class ContentsOfIndex(SphinxTransform):
    """Gives each section of the index a hidden toctree of the pages that its list names."""

    default_priority = 210

    def apply(self, **_: object) -> None:
        """Do so where this is the index, and nothing elsewhere."""
        if self.env.docname != self.config.root_doc:
            return
        for section in list(self.document.findall(nodes.section)):
            pages = [page for item in _lists(section) if (page := self._first_page(item)) is not None]
            if pages:
                section.append(self._toctree(section.next_node(nodes.title).astext(), pages))

    def _first_page(self, item: nodes.Node) -> str | None:
        found = item.next_node(nodes.reference)
        return found and page_of(self.env, found)

    def _toctree(self, caption: str, pages: list[str]) -> nodes.Node:
        toctree = addnodes.toctree()
        toctree["parent"] = self.env.docname
        toctree["entries"] = [(None, page) for page in pages]
        toctree["includefiles"] = pages
        toctree["caption"] = toctree["rawcaption"] = caption
        toctree.attributes |= _QUIET
        return toctree


_QUIET = {"maxdepth": 1, "glob": False, "hidden": True, "includehidden": False, "numbered": 0, "titlesonly": True}


def _lists(section: nodes.Node) -> list[nodes.Node]:
    """The items of the lists that stand in the section itself, not in one within it."""
    return [item for part in section.children if isinstance(part, nodes.bullet_list) for item in part.children]
