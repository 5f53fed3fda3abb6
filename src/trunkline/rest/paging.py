"""How a list continues, page by page, in six styles. Pure steps; who sends the requests does not matter here.

A `Pager` gives the first request, and for each answer the records that are new and the next request. Every style
ends: a server that repeats itself, sends nothing for ever or never stops ends in a RemoteFailed of kind `paging`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Protocol

from trunkline.catalog.manifest import Paging
from trunkline.errors import RemoteFailed
from trunkline.rest.paths import Path
from trunkline.rest.trace import Trace

MAX_PAGES = 10_000
MAX_EMPTY_PAGES = 100


@dataclass(frozen=True, slots=True)
class PageRequest:
    """What the next call changes: query parameters to set, or an absolute URL that replaces path and query."""

    query: Mapping[str, Any] = field(default_factory=dict)
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a pager needs of an answer: the parsed body, the URL it came from, its `Link` headers."""

    body: Any
    url: str = ""
    links: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One request of a list, and what its style remembers from those before it."""

    request: PageRequest
    number: int = 1
    empty_in_a_row: int = 0
    memory: Any = None


@dataclass(frozen=True, slots=True)
class Page:
    """The records of one answer that were not there before, and the next step, None after the last page."""

    records: list[Any]
    number: int
    next: Step | None


class Pager(Protocol):
    """One style of paging. Both steps are pure."""

    def first(self) -> Step:
        """Return the first request."""
        ...

    def read(self, step: Step, answer: Answer) -> Page:
        """Return the page a step brought; raise RemoteFailed (kind `paging`) if the list cannot go on."""
        ...

    def pack(self, memory: Any) -> Any:
        """Write a step's memory as JSON, short: what it leaves out makes records come twice, never get lost."""
        ...

    def unpack(self, value: Any) -> Any:
        """Read what `pack` wrote; raise TypeError or ValueError for anything else."""
        ...


def pack(pager: Pager, step: Step) -> dict[str, Any]:
    """Write a step as JSON, so that another process can go on there."""
    return {
        "style": type(pager).__name__,
        "query": dict(step.request.query),
        "url": step.request.url,
        "number": step.number,
        "empty": step.empty_in_a_row,
        "memory": pager.pack(step.memory),
    }


def unpack(pager: Pager, value: Any) -> Step:
    """Read what `pack` wrote; the first step where that was another style of paging."""
    try:
        if value["style"] != type(pager).__name__:
            return pager.first()
        request = PageRequest(dict(value["query"]), value["url"])
        return Step(request, int(value["number"]), int(value["empty"]), pager.unpack(value["memory"]))
    except (KeyError, TypeError, ValueError):
        return pager.first()


def mark(text: str) -> str:
    """Return a short text that stands for a long one."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def answer_of(trace: Trace) -> Answer:
    """Take from a trace what paging needs."""
    links = [value for name, value in trace.headers.items() if name.lower() == "link"]
    return Answer(trace.raw_response, trace.url, links)


async def pages(
    fetch: Callable[[PageRequest], Awaitable[Answer]], pager: Pager, *, max_pages: int = MAX_PAGES
) -> AsyncIterator[Page]:
    """Fetch page after page. What `fetch` raises passes through; the next page is asked only when wanted."""
    step: Step | None = pager.first()
    while step is not None:
        if step.number > max_pages:
            raise refused(f"the list has more than {max_pages} pages")
        page = pager.read(step, await fetch(step.request))
        yield page
        step = page.next


def refused(message: str) -> RemoteFailed:
    """Make the error of a list that cannot go on."""
    return RemoteFailed(f"Paging stopped: {message}", kind="paging")


class Source:
    """What all styles share: where the records are, the page size, and whether there is more."""

    def __init__(self, paging: Paging | None, records: Path | None) -> None:
        self.paging = paging or Paging(type="none")
        self.records_path = records
        self.size = self.paging.limit.size if self.paging.limit else None
        self.limit = {self.paging.limit.param: self.size} if self.paging.limit else {}
        self.more_path = Path.compile(self.paging.more_path) if self.paging.more_path else None
        self.last_path = Path.compile(self.paging.last_path) if self.paging.last_path else None
        self.total_path = Path.compile(self.paging.total_path) if self.paging.total_path else None
        self.cursor_path = Path.compile(self.paging.cursor_path) if self.paging.cursor_path else None

    def records(self, answer: Answer) -> list[Any]:
        """Return the records of an answer; raise RemoteFailed if it holds no list."""
        found = answer.body if self.records_path is None else self.records_path.get(answer.body)
        if found is None:
            return []
        if not isinstance(found, list):
            where = self.records_path.text if self.records_path else "its top"
            raise refused(f"the answer has no list at {where}")
        return found

    def more(self, answer: Answer) -> bool | None:
        """Return what the answer itself says about another page, None if it says nothing."""
        said = self.more_path.get(answer.body) if self.more_path else None
        if isinstance(said, bool):
            return said
        last = self.last_path.get(answer.body) if self.last_path else None
        return not last if isinstance(last, bool) else None

    def total(self, answer: Answer) -> int | None:
        """Return how many records the answer says there are in all, None if it does not say."""
        said = self.total_path.get(answer.body) if self.total_path else None
        if isinstance(said, str) and said.isdecimal() and len(said) < 16:
            return int(said)
        return said if isinstance(said, int) and not isinstance(said, bool) else None

    def follow(self, step: Step, records: list[Any], request: PageRequest, memory: Any) -> Step:
        """Go on to the next request, unless too many pages in a row were empty."""
        empty = 0 if records else step.empty_in_a_row + 1
        if empty >= MAX_EMPTY_PAGES:
            raise refused(f"{MAX_EMPTY_PAGES} pages in a row brought nothing new")
        return Step(request, step.number + 1, empty, memory)
