"""What the site needs beyond Sphinx: links between pages, the table of contents, and reference made from the code.

Pages are written so that they can also be read as they lie there, in a repository's viewer: links name files, the index
is a page of lists. This package makes Sphinx's links and tables of contents of them while it builds.
"""

from sphinx.application import Sphinx

from raftkv_site import contents, keys, links, openapi, pictures


def setup(app: Sphinx) -> dict[str, bool]:
    """Add all of it to a build."""
    app.add_transform(contents.ContentsOfIndex)
    app.add_transform(pictures.PicturesForPhones)
    app.add_post_transform(links.LinksToFiles)
    app.connect("missing-reference", links.resolve)
    app.add_directive("configuration-keys", keys.ConfigurationKeys)
    app.add_directive("http-requests", openapi.HttpRequests)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
