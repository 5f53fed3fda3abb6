"""`GET /v1/{workspace_id}/datasets/{dataset_id}/search`: records by their words, or by what they mean."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, Field

from trunkline.http.native.models import PaginatedResponse
from trunkline.http.native.route import Call, Router
from trunkline.services import search as records_search
from trunkline.services.records import Filters
from trunkline.services.search import MOST_SKIPPED, Mode, Search
from trunkline.services.search_query import MOST_CHARACTERS

router = Router("Records")


class SearchQuery(BaseModel):
    """What to search for, and where."""

    q: Annotated[str, Field(max_length=MOST_CHARACTERS, description='Words, "phrases", beginnings*')]
    any: bool = Field(False, description="One of the words is enough; all are required otherwise")
    mode: Mode = Field("words", description="By what to search: words, meaning, or both")
    version: Annotated[int, Field(gt=0, le=2**31 - 1)] | None = Field(None, description="Not the active one")
    filters: str | None = Field(
        None, description='A JSON object of paths and the values wanted there: {"state":"Closed"}'
    )
    limit: Annotated[int, Field(gt=0, le=100)] = 10
    offset: Annotated[int, Field(ge=0, le=MOST_SKIPPED)] = 0


class Highlight(BaseModel):
    """A piece of a field: HTML, with what was found in `<mark>`."""

    field: str
    text: str


class HitResponse(BaseModel):
    """A record that has what was searched for."""

    key: str
    version: int = Field(description="The version that was searched")
    since: int = Field(description="The version since which the record is like this")
    score: float = Field(description="The higher, the better; to be compared within one search only")
    highlights: list[Highlight]
    record: Any


class Covered(BaseModel):
    """How many of a version's records can be found by meaning already."""

    records: int
    of: int


class SearchResponse(PaginatedResponse[HitResponse]):
    """Hits, best first; `continuation_token` is the next `offset`."""

    version: int
    covered: Covered | None = Field(description="Null when only words were searched")


@router.answers(
    "GET /v1/{workspace_id}/datasets/{dataset_id}/search",
    "Dataset.view",
    returns=SearchResponse,
    errors={
        404: "No such dataset or version, or none is active yet.",
        409: "The version is being made.",
        410: "The version's records are not kept.",
    },
)
async def search_records(
    call: Call, workspace_id: UUID, dataset_id: UUID, query: Annotated[SearchQuery, Query()]
) -> dict[str, Any]:
    """Search the records of a version, best first; `total` is null when there are many, or with filters."""
    wanted = Search(
        query.q, query.version, Filters.parse(query.filters), query.any, query.mode, query.limit, query.offset
    )
    found = await records_search.search(call, str(dataset_id), wanted)
    end = query.offset + len(found.items)
    return {
        "items": [hit._asdict() for hit in found.items],
        "has_more": found.more,
        "continuation_token": end if found.more and end <= MOST_SKIPPED else None,
        "total": found.total,
        "version": found.version,
        "covered": None if found.covered is None else {"records": found.covered, "of": found.records},
    }
