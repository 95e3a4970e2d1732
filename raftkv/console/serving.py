"""Serves the files of the console, as routes beside the native API.

What they do is done by the native API, with the rights of whoever sits in front of them: nothing is asked here, and
nothing is told but the files of the package, which are the same for everybody. A page may load and ask nothing but its
own node, and puts no text where it could be taken for markup (Content Security Policy, level 3; Trusted Types). A
browser keeps what it was given, and asks whether that is still so: after an upgrade nobody sees half of the old pages.
"""

from __future__ import annotations

import gzip
import hashlib
from functools import partial
from importlib import resources
from typing import Final

from raftkv.api import paths
from raftkv.api.headers import ETAG
from raftkv.http import parameters
from raftkv.http.choices import Anything
from raftkv.http.handlers.handler import Context, at_once
from raftkv.http.messages import Headers, HttpRequest, HttpResponse
from raftkv.http.needs import Needs
from raftkv.http.routes import Route

_PAGE: Final = "index.html"
TYPES: Final = {
    "css": b"text/css; charset=utf-8",
    "html": b"text/html; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}
_POLICY: Final = (
    b"default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'; "
    b"require-trusted-types-for 'script'"
)
SAFELY: Final[Headers] = (
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-cache"),
    (b"vary", b"Accept-Encoding"),
)


def files() -> dict[str, bytes]:
    """What is served, by name."""
    return {one.name: one.read_bytes() for one in (resources.files(__package__) / "files").iterdir()}


def routes() -> tuple[Route, ...]:
    """One for each file; the page itself is where the console is."""
    return tuple([_route(name, content) for name, content in sorted(files().items())])


def _route(name: str, content: bytes) -> Route:
    path = paths.CONSOLE if name == _PAGE else f"{paths.CONSOLE}/{name}"
    tag = b'"%b"' % hashlib.sha256(content).hexdigest()[:24].encode()
    headers = ((b"content-type", TYPES[name.rpartition(".")[2]]), (ETAG.raw, tag), *SAFELY)
    answer = partial(_answer, headers, tag, content, gzip.compress(content, mtime=0))
    handler = at_once(answer, Anything, needs=Needs.NOTHING)
    return Route(method="GET", path=path, handler=handler, summary="For people", answers={200: (bytes,)}, hot=True)


def _answer(
    headers: Headers,
    tag: bytes,
    content: bytes,
    zipped: bytes,
    request: HttpRequest,
    _chosen: Anything,
    _context: Context,
) -> HttpResponse:
    if parameters.is_unmodified(request, tag):
        return HttpResponse(status=304, headers=headers)
    if b"gzip" in request.headers.get(b"accept-encoding", b""):
        return HttpResponse(status=200, headers=(*headers, (b"content-encoding", b"gzip")), body=zipped)
    return HttpResponse(status=200, headers=headers, body=content)
