"""Pictures that phones can show: a narrow one beside a wide one if there is one, else a box in which it scrolls."""

from pathlib import Path

from docutils import nodes
from sphinx.transforms import SphinxTransform


class PicturesForPhones(SphinxTransform):
    """Shows ``NAME-narrow.svg``, where it lies beside ``NAME.svg``, in place of that on narrow windows.

    Any other picture stands in a box of its own, which can be scrolled where the window is narrower than it is legible.
    """

    default_priority = 220

    def apply(self, **_: object) -> None:
        """Do so to all pictures of one page."""
        for picture in list(self.document.findall(nodes.image)):
            narrow = Path(picture["uri"]).with_suffix("")
            narrow = narrow.with_name(f"{narrow.name}-narrow").with_suffix(Path(picture["uri"]).suffix)
            box = nodes.container(classes=["picture"])
            picture.replace_self(box)
            picture["width"] = "100%"  # of the text's; who clicks on one that was scaled gets it as it is
            box += picture
            if (Path(self.env.doc2path(self.env.docname)).parent / narrow).exists():
                picture["classes"].append("is-wide")
                box += nodes.image(uri=str(narrow), alt=picture.get("alt", ""), classes=["is-narrow"])
            else:
                box["classes"].append("scrolls")
