"""The styles of paging that an endpoint can have by itself: none, cursor, link, page, offset."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trunkline.catalog.manifest import Paging
from trunkline.rest.json_text import compact_json
from trunkline.rest.links import next_link, same_origin
from trunkline.rest.paging import Answer, Page, Pager, PageRequest, Source, Step, mark, refused
from trunkline.rest.paths import MISSING, Path

MAX_CURSOR_LENGTH = 8_192
REMEMBERED = 100
"""Of how many cursors or addresses is known that they were used; a longer circle ends with the most pages."""
Marks = tuple[str, ...]


def plain_pager(paging: Paging | None, records: str | None) -> Pager:
    """Compile an endpoint's paging: every style but `keyset`, which follows a stream's cursor (see `keyset`).

    `records` is the path of the list in an answer, None if the answer is the list. Raises ValueError for a word
    that is missing.
    """
    path = Path.compile(records) if records else None
    if paging is None or paging.type == "none":
        return _Single(Source(paging, path))
    style = _STYLES.get(paging.type)
    if style is None:
        raise ValueError(f"paging of type {paging.type} needs a stream with a cursor")
    return style(Source(paging, path))


def _word(value: str | None, name: str, style: str) -> str:
    if not value:
        raise ValueError(f"paging of type {style} needs {name}")
    return value


class _Single:
    """Style `none`: one answer is all there is."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def first(self) -> Step:
        return Step(PageRequest(dict(self._source.limit)))

    def read(self, step: Step, answer: Answer) -> Page:
        return Page(self._source.records(answer), step.number, None)

    def pack(self, memory: Any) -> None:
        """It remembers nothing."""

    def unpack(self, value: Any) -> None:
        """It remembers nothing."""


class _Cursor:
    """Style `cursor`: each answer holds the cursor of the next page. Remembers the cursors that were used."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._param = _word(source.paging.cursor_param, "cursor_param", "cursor")
        _word(source.paging.cursor_path, "cursor_path", "cursor")

    def first(self) -> Step:
        return Step(PageRequest(dict(self._source.limit)), memory=())

    def read(self, step: Step, answer: Answer) -> Page:
        records = self._source.records(answer)
        cursor = self._next(answer)
        if cursor is None:
            return Page(records, step.number, None)
        used = _marked(step.memory, str(cursor), "a cursor")
        request = PageRequest({**self._source.limit, self._param: cursor})
        return Page(records, step.number, self._source.follow(step, records, request, used))

    def pack(self, memory: Marks) -> list[str]:
        return list(memory)

    def unpack(self, value: Any) -> Marks:
        return tuple(value)

    def _next(self, answer: Answer) -> str | int | None:
        path = self._source.cursor_path
        cursor = path.get(answer.body) if path else None
        more = self._source.more(answer)
        if more is False:
            return None
        if cursor is MISSING or cursor is None or cursor in ("", False):
            if more:
                raise refused("the service says there is more, but gave no cursor")
            return None
        if not isinstance(cursor, str | int) or len(str(cursor)) > MAX_CURSOR_LENGTH:
            raise refused("the cursor is no text or number of a sensible length")
        return cursor


class _Link:
    """Style `link`: the `Link` header has the next address. Remembers where it began and what was used."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def first(self) -> Step:
        return Step(PageRequest(dict(self._source.limit)), memory=("", ()))

    def read(self, step: Step, answer: Answer) -> Page:
        records = self._source.records(answer)
        home, used = step.memory
        home = home or answer.url
        url = next_link(answer.links, answer.url)
        if url is None:
            return Page(records, step.number, None)
        if not same_origin(home, url):
            raise refused("the next page is at another origin, where credentials do not go")
        if url == answer.url:
            used = (*used, mark(url))
        memory = (home, _marked(used, url, "an address"))
        return Page(records, step.number, self._source.follow(step, records, PageRequest(url=url), memory))

    def pack(self, memory: tuple[str, Marks]) -> list[Any]:
        return [memory[0], list(memory[1])]

    def unpack(self, value: Any) -> tuple[str, Marks]:
        home, used = value
        return str(home), tuple(used)


@dataclass(frozen=True, slots=True)
class _Counted:
    """What `page` and `offset` remember: where they are, and how to know the end."""

    at: int
    fetched: int = 0
    fingerprint: str | None = None


class _Counting:
    """Styles `page` and `offset`: a number says where the next page begins.

    The list ends where the answer says so (`more_path`, `last_path`, `total_path`), else with an empty page: a short page proves
    nothing, since services cap page sizes and filter pages by permission.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._by_page = source.paging.type == "page"
        name = "page_param" if self._by_page else "offset_param"
        self._param = _word(getattr(source.paging, name), name, source.paging.type)

    def first(self) -> Step:
        at = self._source.paging.first_page if self._by_page else 0
        return Step(self._request(at), memory=_Counted(at))

    def _request(self, at: int) -> PageRequest:
        return PageRequest({**self._source.limit, self._param: at})

    def read(self, step: Step, answer: Answer) -> Page:
        records = self._source.records(answer)
        before: _Counted = step.memory
        now = _Counted(
            at=before.at + (1 if self._by_page else len(records)),
            fetched=before.fetched + len(records),
            fingerprint=mark(compact_json(records)),
        )
        if records and now.fingerprint == before.fingerprint:
            raise refused(f"the service gave the same page again: does it know {self._param}?")
        if self._ends(now, records, answer):
            return Page(records, step.number, None)
        return Page(records, step.number, self._source.follow(step, records, self._request(now.at), now))

    def _ends(self, now: _Counted, records: list[Any], answer: Answer) -> bool:
        more, total = self._source.more(answer), self._source.total(answer)
        if more is not None:
            if more and not records and not self._by_page:
                raise refused("the service says there is more, but sent nothing")
            return not more
        return not records or (total is not None and now.fetched >= total)

    def pack(self, memory: _Counted) -> list[Any]:
        return [memory.at, memory.fetched, memory.fingerprint]

    def unpack(self, value: Any) -> _Counted:
        at, fetched, fingerprint = value
        return _Counted(int(at), int(fetched), fingerprint)


def _marked(used: Marks, text: str, what: str) -> Marks:
    """Remember a cursor or address; raise when it was used before."""
    marked = mark(text)
    if marked in used:
        raise refused(f"the service gave {what} that it had given before")
    return (*used, marked)[-REMEMBERED:]


_STYLES: dict[str, Callable[[Source], Pager]] = {
    "cursor": _Cursor,
    "link": _Link,
    "page": _Counting,
    "offset": _Counting,
}
