"""The documents as a reader takes them: blocks to type, files to write, and what a comment in the source says of them.

A comment before a block says what is done with it, and is not shown anywhere:

``.. Not run: REASON``
    nobody types it here, because of REASON.
``.. Long: REASON``
    it is typed where there is time (``pytest -m soak``).
``.. File: NAME``
    the reader writes it into NAME.
"""

import re
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.rst", *sorted((ROOT / "docs").rglob("*.rst"))]
ELSEWHERE = {
    "docs/authentication.rst": "test_authentication.py",
    "docs/backup.rst": "test_backup_page.py",
    "docs/disaster.rst": "test_disaster.py",
    "docs/tls.rst": "test_tls.py",
}
"""Pages that a test of their own types, on nodes that are broken as they say."""

_BLOCK = re.compile(
    r"(?:^\.\. (?P<mark>Not run|Long|File): (?P<said>.+)\n\n)?"
    r"(?:^\.\. code-block:: (?P<kind>[\w-]+)|^(?!\.\. )\S.*::|^::)\n\n(?P<text>(?:[ ]{3,}.*\n|\n(?=[ ]{3}))+)",
    re.MULTILINE,
)
_LINE = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n?)*)", re.MULTILINE)


class Block(msgspec.Struct, frozen=True):
    """One block of a page: its language, its text, and what the comment before it says."""

    kind: str
    text: str
    mark: str
    said: str

    @property
    def lines(self) -> list[tuple[str, str]]:
        """What is typed into a shell, each with what it shows."""
        return [(line, shown.strip()) for line, shown in _LINE.findall(self.text)]


def name_of(page: Path) -> str:
    """The page as others call it."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """Those of a page that are typed, run or written, in order."""
    found = [
        Block(match["kind"] or "console", _dedented(match["text"]), match["mark"] or "", match["said"] or "")
        for match in _BLOCK.finditer(page.read_text())
    ]
    return [block for block in found if block.mark == "File" or block.kind == "python" or block.lines]


def quoted(page: Path) -> list[list[re.Pattern[str]]]:
    """What a page quotes of what programs say, block by block and line by line; numbers and blanks are any."""
    texts = [_dedented(match["text"]) for match in _BLOCK.finditer(page.read_text()) if match["kind"] is None]
    return [[_line_like(line) for line in text.split("\n") if line.strip()] for text in texts if "$ " not in text]


def _line_like(line: str) -> re.Pattern[str]:
    words = re.sub(r"\d+", r"\\d+", re.escape(line.strip()))
    return re.compile(words.replace(r"\ ", r"\s+"))


def _dedented(text: str) -> str:
    return re.sub(r"^   ", "", text, flags=re.MULTILINE)
