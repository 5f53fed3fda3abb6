"""One list of records, offered in every style of paging; edits between pages on demand."""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from trunkline.rest.paging import Answer, PageRequest

HOME = "https://api.example/records?type=all"


def records(count: int, same: Callable[[int], int] = lambda number: number) -> list[dict[str, Any]]:
    """Make records whose `at` is `same` of their number."""
    return [{"id": f"r{number:05}", "at": f"t{same(number):05}"} for number in range(count)]


class FakeList:
    """Answers page requests over `rows`; `edits[n]` runs after the nth answer; `cap` bounds any page."""

    def __init__(self, rows: list[dict[str, Any]], *, cap: int = 10_000) -> None:
        self.rows = rows
        self.cap = cap
        self.asked: list[PageRequest] = []
        self.edits: dict[int, Callable[[], None]] = {}

    async def cursor(self, request: PageRequest) -> Answer:
        start = int(str(request.query.get("cursor", "c0"))[1:])
        rows, end = self._cut(start, request.query)
        return self._answer(request, {"items": rows, "next": f"c{end}" if end < len(self.rows) else None})

    async def link(self, request: PageRequest) -> Answer:
        query = dict(parse_qsl(urlsplit(request.url).query)) if request.url else request.query
        start = int(query.get("start", 0))
        rows, end = self._cut(start, query)
        links = [
            f'<https://api.example/>; rel="first", </records?start={end}&limit={query["limit"]}>; rel="next"'
        ]
        return self._answer(request, {"items": rows}, links=links if end < len(self.rows) else [])

    async def page(self, request: PageRequest) -> Answer:
        size = min(self.cap, int(request.query["limit"]))
        start = (int(request.query["page"]) - 1) * size
        return self._answer(request, {"items": self.rows[start : start + size], "total": len(self.rows)})

    async def offset(self, request: PageRequest) -> Answer:
        rows, end = self._cut(int(request.query["offset"]), request.query)
        return self._answer(request, {"items": rows, "more": end < len(self.rows), "total": len(self.rows)})

    async def keyset(self, request: PageRequest) -> Answer:
        """Serve `at >= since`, ordered by `at` and `id`, as a table API does."""
        since = request.query["since"]
        found = sorted(
            (row for row in self.rows if row["at"] >= since), key=lambda row: (row["at"], row["id"])
        )
        start = int(request.query.get("offset", 0))
        size = min(self.cap, int(request.query["limit"]))
        return self._answer(request, {"items": [dict(row) for row in found[start : start + size]]})

    def edit(self, number: int, at: str) -> None:
        """Change a record, as its owner would: it moves to a later time."""
        self.rows[number]["at"] = at

    def _cut(self, start: int, query: Any) -> tuple[list[dict[str, Any]], int]:
        end = start + min(self.cap, int(query["limit"]))
        return self.rows[start:end], end

    def _answer(self, request: PageRequest, body: Any, links: Any = ()) -> Answer:
        self.asked.append(request)
        self.edits.pop(len(self.asked), lambda: None)()
        return Answer(body, request.url or HOME, links)
