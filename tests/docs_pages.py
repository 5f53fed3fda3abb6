"""The documentation as data: its pages, their fenced blocks, and what they name. Judges nothing."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
HISTORY = {"CHANGELOG.md", "decisions.md"}
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
_NOT_RUN = re.compile(r"<!-- not run: [^>]{10,} -->\s*\Z")


@dataclass(frozen=True)
class Block:
    """One fenced block. One that is not run has `<!-- not run: why -->` on the line before it."""

    page: Path
    line: int
    kind: str
    note: str
    text: str
    is_run: bool

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page, in order."""
    whole = page.read_text()
    for match in _FENCE.finditer(whole):
        kind, _, note = match["info"].strip().partition(" ")
        before = whole[: match.start()]
        is_run = _NOT_RUN.search(before) is None
        yield Block(page, before.count("\n") + 1, kind, note, match["body"], is_run)


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def all_text() -> str:
    """Return every page that says what is there, one after the other."""
    return "\n".join(page.read_text() for page in PAGES if page.name not in HISTORY)


def table_rows(page: Path) -> Iterator[list[str]]:
    """Yield the cells of every table row."""
    for line in prose(page).splitlines():
        if line.startswith("|") and not re.fullmatch(r"[|\s:-]+", line):
            cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
            yield [cell.strip() for cell in cells]


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as the usual renderers make them."""
    found = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in found}
