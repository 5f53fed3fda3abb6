"""Pull the records of a stream page by page, the next page on its way while the last is taken in.

Owns which requests a stream comes to, and where it is: a place is JSON, and another process goes on there. What is
fetched twice is no harm, the same record changes nothing. Storing is `driving.py`'s.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from trunkline.catalog.manifest import Manifest, Stream
from trunkline.context import Context
from trunkline.errors import Conflict, Invalid, RemoteFailed
from trunkline.redact import Redactor
from trunkline.rest import auth, cursors
from trunkline.rest.caller import CompiledEndpoint, read_page
from trunkline.rest.children import ChildCalls
from trunkline.rest.cursors import Value, cursor_query
from trunkline.rest.json_text import compact_json
from trunkline.rest.keyset import KeysetPager
from trunkline.rest.page_styles import plain_pager
from trunkline.rest.paging import Pager, Step, mark, pack, unpack
from trunkline.rest.paths import Path
from trunkline.rest.shape import RecordMapping
from trunkline.rest.trace import Trace
from trunkline.services import actions
from trunkline.services.actions import Loaded
from trunkline.services.datasets import Dataset
from trunkline.services.versions import Row, to_row

MAX_KEY = 512
_TRUNCATED_TRIES = 3
_UNSTORABLE = "is nested too deeply, or holds what JSON cannot"


@dataclass(slots=True)
class Batch:
    """One page: what to store, what cannot be, and where to go on when it is stored."""

    rows: list[Row]
    bad: list[tuple[str, str]]
    """Reason and text of each record that cannot be stored."""
    kept: list[str]
    """Keys of those of them that have one: they are there, so they are not gone."""
    fetched: int
    newest: Value | None
    """The cursor value that it reached."""
    place: dict[str, Any] | None
    """None after the last page."""
    total: int | None = None
    """How many records the service says there are in all."""
    gone: list[str] = field(default_factory=list)
    """Keys of those that the service says are deleted."""


@dataclass(slots=True)
class _Level:
    """A stream of the chain from the outermost parent to the one that is wanted."""

    name: str
    stream: Stream
    endpoint: CompiledEndpoint
    params: dict[str, Any]
    children: ChildCalls | None
    pager: Pager
    query: dict[str, Any] = field(default_factory=dict)


class Pull:
    """A stream of an integration, ready to be pulled. `name` is the connector's."""

    def __init__(
        self, ctx: Context, loaded: Loaded, secrets: Mapping[str, str], name: str, params: Mapping[str, Any]
    ) -> None:
        self._rest = ctx.app.rest
        self._loaded = loaded
        self._secrets = secrets
        self._redactor = auth.redactor_for(secrets)
        self.manifest, self.stream = stream_of(loaded, name)
        self.name = loaded.row.connector or "custom"
        # What a cursor belongs to: another stream, or other params, begin anew.
        self._source = mark(compact_json([name, sorted(params.items())]))
        clash = sorted(params.keys() & (self.stream.cursor.query if self.stream.cursor else {}).keys())
        if clash:
            raise Invalid.field(("params", clash[0]), "is what the stream itself asks for; leave it out")
        self._stream_name, self._params = name, params
        self._key = Path.compile(self.stream.key)
        self._cursor = Path.compile(self.stream.cursor.field) if self.stream.cursor else None
        mapping = self.stream.record_mapping
        self._mapping = RecordMapping(None, mapping) if mapping else None
        self._levels: list[_Level] = []

    def start_at(self, cursor: Any) -> None:
        """Say where to begin: after a cursor as a run before left it, less the stream's lag, or at the start."""
        start: Value | None = None
        if self.stream.cursor is not None and self._fits(cursor):
            value = cursor["value"] if isinstance(cursor, dict) else cursor
            start = cursors.earlier(value, self.stream.cursor.lag_seconds)
        names = [self._stream_name]
        while (above := self.manifest.streams[names[0]].for_each) is not None:
            names.insert(0, above.stream)
        self._levels = [self._level(name, start if name == self._stream_name else None) for name in names]

    def mode(self, wanted: str, cursor: Any) -> str:
        """Choose how an `auto` run goes: for what is new, if the stream can tell and an earlier run got there."""
        if wanted != "auto":
            return wanted
        return "incremental" if self.stream.cursor is not None and self._fits(cursor) else "full"

    def _fits(self, cursor: Any) -> bool:
        """Tell whether a cursor is one of this stream with these params; a bare value always is."""
        if isinstance(cursor, dict):
            return "value" in cursor and cursor.get("of") in {None, self._source}
        return cursor is not None

    def _level(self, name: str, start: Value | None) -> _Level:
        stream = self.manifest.streams[name]
        endpoint = self._loaded.endpoint(stream.endpoint)
        config = self._loaded.target.config
        params = {**stream.params, **(self._params if name == self._stream_name else {})}
        children = ChildCalls(stream.for_each, self.manifest.maps) if stream.for_each else None
        declared = self.manifest.endpoints[stream.endpoint]
        paging = stream.paging or declared.paging
        if paging is None or paging.type != "keyset":
            pager = plain_pager(paging, declared.records)
            query: dict[str, Any] = {}
            if stream.cursor is not None:
                query = cursor_query(stream.cursor, config)(stream.cursor.start if start is None else start)
            return _Level(name, stream, endpoint, params, children, pager, query)
        if stream.cursor is None:
            raise Conflict(f"The stream '{name}' has keyset paging but no cursor.")
        keyset = KeysetPager(
            paging,
            declared.records,
            key=stream.key,
            cursor=stream.cursor.field,
            start=stream.cursor.start if start is None else start,
            query_of=cursor_query(stream.cursor, config),
        )
        return _Level(name, stream, endpoint, params, children, keyset)

    def reached(self, newest: Value | None, started: datetime, now: datetime) -> dict[str, Any] | None:
        """Write where the next run begins: never after what this one can have seen."""
        if newest is None or self.stream.cursor is None:
            return None
        # Lists of other styles may be in any order: what changed after they began may be on a page that was read.
        is_whole = self._is_sorted and len(self._levels) == 1
        return {"value": cursors.capped(newest, now if is_whole else started), "of": self._source}

    @property
    def _is_sorted(self) -> bool:
        return isinstance(self._levels[-1].pager, KeysetPager)

    async def batches(self, place: Mapping[str, Any] | None) -> AsyncGenerator[Batch, None]:
        """Pull from a place on, or from the start.

        Raises:
            RemoteFailed: the service failed, after all that the endpoint's retries allow.
            Invalid: the params do not fit the endpoint.
        """
        place = place or {}
        newest: Value | None = place.get("newest")
        total: int | None = place.get("total")
        leaf = self._levels[-1]
        async with aclosing(self._targets(len(self._levels) - 1, place)) as targets:
            async for params, above, step in targets:
                async with aclosing(self._pages(leaf, {**leaf.params, **params}, step)) as pages:
                    async for records, trace, following in pages:
                        batch = await asyncio.to_thread(self._batch, records)
                        newest = _later(newest, batch.newest)
                        if total is None and len(self._levels) == 1:
                            total = _total(trace)
                        batch.newest, batch.total = newest, total
                        onward = None if following is None else self._packed(leaf, following)
                        if onward is not None or above:
                            batch.place = {"above": above, "step": onward, "newest": newest, "total": total}
                        yield batch
        if len(self._levels) > 1:
            yield Batch([], [], [], 0, newest, None, total)

    def _packed(self, level: _Level, step: Step) -> dict[str, Any]:
        """Write a step down; without its address or cursor when these hold a secret: then the list begins anew."""
        packed = pack(level.pager, step)
        if self._redactor.found_in(orjson.dumps(packed)):
            return pack(level.pager, level.pager.first())
        return packed

    async def _targets(
        self, depth: int, place: Mapping[str, Any]
    ) -> AsyncGenerator[tuple[dict[str, Any], list[Any], Step | None], None]:
        """Give for each list to pull its parameters, where its parents are, and the step to begin with."""
        level = self._levels[depth]
        step = unpack(level.pager, place["step"]) if place.get("step") else None
        if depth == 0:
            yield {}, [], step
            return
        *higher, known = place.get("above") or [None]
        parent = self._levels[depth - 1]
        resumed = {"above": higher, "step": known["step"]} if known else {}
        async with aclosing(self._targets(depth - 1, resumed)) as targets:
            async for params, above, parent_step in targets:
                at = parent_step or parent.pager.first()
                async with aclosing(self._pages(parent, {**parent.params, **params}, at)) as pages:
                    async for records, _, following in pages:
                        packed = self._packed(parent, at)
                        for given, key in _going_on(self._children(level, records), known):
                            is_known = known is not None and key == known["key"]
                            if not is_known or step is not None:
                                yield (
                                    given,
                                    [*above, {"step": packed, "key": key}],
                                    step if is_known else None,
                                )
                        known, step = None, None
                        at = following or at

    def _children(self, level: _Level, records: list[Any]) -> list[tuple[dict[str, Any], str]]:
        if level.children is None or level.stream.for_each is None:
            return []
        is_deleted = _deletion(self.manifest.streams[level.stream.for_each.stream])
        there = [record for record in records if not is_deleted(record)]
        calls = level.children.params(there, self._loaded.target.config)
        return [(params, mark(compact_json(params))) for _, params in calls]

    async def _pages(
        self, level: _Level, params: dict[str, Any], step: Step | None
    ) -> AsyncGenerator[tuple[list[Any], Trace, Step | None], None]:
        """Fetch page after page, the next one already while the last is worked on."""
        step = step or level.pager.first()
        fetching = asyncio.ensure_future(self._fetch(level, params, step))
        try:
            while True:
                trace = await fetching
                records, following = read_page(level.pager, step, trace)
                if trace.error is not None:
                    text = self._redactor.text(trace.error)
                    raise RemoteFailed(text, kind=trace.error_kind or "failed", status=trace.status_code)
                if following is not None:
                    fetching = asyncio.ensure_future(self._fetch(level, params, following))
                yield records, trace, following
                if following is None:
                    return
                step = following
        finally:
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)

    async def _fetch(self, level: _Level, params: dict[str, Any], step: Step) -> Trace:
        for tries in range(1, _TRUNCATED_TRIES + 1):
            trace = await self._rest.call(
                self._loaded.target,
                level.endpoint,
                params,
                self._secrets,
                extra_query={**level.query, **step.request.query},
                next_url=step.request.url,
                detail=False,
                plain=True,
            )
            if trace.error is not None or not _is_broken(trace):
                return trace
            await self._rest.clock.sleep(tries)
        trace.error = f"{self._loaded.target.service} sent a page that is no JSON, or only a part of it"
        trace.error_kind = "malformed"
        return trace

    def _batch(self, records: list[Any]) -> Batch:
        """Make rows of records; runs beside the event loop."""
        rows: dict[str, Row] = {}
        gone: dict[str, None] = {}
        bad: list[tuple[str, str]] = []
        kept: list[str] = []
        good: list[Any] = []
        is_deleted = _deletion(self.stream)
        for record in records:
            key = self._key.get(record) if isinstance(record, dict) else None
            reason = _fault(record, key, self._key.text)
            if reason is None and is_deleted(record):
                gone[str(key)] = None
                rows.pop(str(key), None)
            elif reason is None:
                gone.pop(str(key), None)
                try:
                    rows[str(key)] = to_row(str(key), self._shaped(record))
                except TypeError:
                    reason = _UNSTORABLE
                    kept.append(str(key))
            if reason is not None:
                bad.append((reason, compact_json(record)))
            else:
                good.append(record)
        newest = self._newest(good)
        batch = Batch(list(rows.values()), bad, kept, len(records), newest, None, gone=list(gone))
        return _without_secrets(batch, self._redactor)

    def _newest(self, records: list[Any]) -> Value | None:
        """Return the highest cursor value of a page; where the list is sorted by it, the last."""
        newest: Value | None = None
        if self._cursor is not None:
            for record in records[-1:] if self._is_sorted else records:
                newest = _later(newest, self._cursor.get(record))
        return newest

    def _shaped(self, record: Any) -> Any:
        return record if self._mapping is None else self._mapping.apply([record])[0]


def _deletion(stream: Stream) -> Callable[[Any], bool]:
    """Return what tells whether a record of a stream is one that its service says is deleted."""
    marks = [(Path.compile(path), value) for path, value in (stream.deleted or {}).items()]
    return lambda record: bool(marks) and all(path.get(record) == value for path, value in marks)


async def prepare(ctx: Context, integration_id: str, name: str, params: Mapping[str, Any]) -> Pull:
    """Make a stream of an integration ready to be pulled.

    Raises:
        NotFound, Invalid
        Conflict: the integration is switched off, or its connector has no such stream any more.
    """
    loaded = await actions.load(ctx, integration_id)
    if not loaded.row.enabled:
        raise Conflict("This integration is disabled; enable it to sync.")
    return Pull(ctx, loaded, await actions.open_secrets(ctx, loaded), name, params)


async def row_reader(ctx: Context, dataset: Dataset, key: str | None = None) -> Callable[[Any], Row | str]:
    """Return what makes a row of one record of a dataset's stream, or says why it cannot: for rows tried again.

    Args:
        key: the path of the key, instead of the stream's or, without one, the `key` of the dataset's params.

    Raises:
        Invalid: naming `key`: it is no path, or nothing else says it.
        NotFound, Conflict: as `prepare`.
    """
    pull = None
    if dataset.integration_id and dataset.stream:
        pull = await prepare(ctx, dataset.integration_id, dataset.stream, dataset.params)
    else:
        key = key or dataset.params.get("key")
    if pull is None and not isinstance(key, str):
        raise Invalid.field(("body", "key"), "is needed: nothing of this dataset names it", "missing")
    try:
        path = pull._key if pull and key is None else Path.compile(key or "")  # noqa: SLF001 - the same module
    except ValueError as error:
        raise Invalid.field(("body", "key"), str(error)) from None

    def read(record: Any) -> Row | str:
        found = path.get(record) if isinstance(record, dict) else None
        reason = _fault(record, found, path.text)
        if reason is not None:
            return reason
        try:
            return to_row(str(found), pull._shaped(record) if pull else record)  # noqa: SLF001
        except TypeError:
            return _UNSTORABLE

    return read


def stream_of(loaded: Loaded, name: str) -> tuple[Manifest, Stream]:
    """Return a stream of an integration's connector.

    Raises:
        Conflict: there is none of that name any more.
    """
    manifest = loaded.manifest
    if manifest is None or name not in manifest.streams:
        raise Conflict(f"The connector of this integration has no stream '{name}' any more.")
    return manifest, manifest.streams[name]


def _fault(record: Any, key: Any, path: str) -> str | None:
    if not isinstance(record, dict):
        return "is no object"
    if isinstance(key, bool) or not isinstance(key, str | int | float) or key == "":
        return f"has no text or number at {path}, its key"
    if len(str(key)) > MAX_KEY:
        return f"has more than {MAX_KEY} characters at {path}, its key"
    return f"holds the character U+0000 at {path}, its key" if "\0" in str(key) else None


def _later(one: Value | None, other: Any) -> Value | None:
    if isinstance(other, bool) or not isinstance(other, str | int | float) or other == "":
        return one
    return other if one is None or cursors.rank(other) > cursors.rank(one) else one


def _going_on(
    calls: list[tuple[dict[str, Any], str]], known: Mapping[str, Any] | None
) -> Iterator[tuple[dict[str, Any], str]]:
    """Leave out what comes before a known call; nothing, when it is not there any more."""
    keys = [key for _, key in calls]
    first = keys.index(known["key"]) if known is not None and known["key"] in keys else 0
    yield from calls[first:]


def _is_broken(trace: Trace) -> bool:
    """Tell whether a page is text, or nothing although its status says that there is something."""
    return isinstance(trace.raw_response, str) or (trace.raw_response is None and trace.status_code != 204)


def _total(trace: Trace) -> int | None:
    said = next((text for name, text in trace.headers.items() if name.lower() == "x-total-count"), "")
    return int(said) if said.isascii() and said.isdecimal() and len(said) < 12 else None


def _without_secrets(batch: Batch, redactor: Redactor) -> Batch:
    texts = [row.data for row in batch.rows] + [text for _, text in batch.bad]
    if redactor.found_in("\n".join(texts).encode()):
        batch.rows = [to_row(row.key, redactor.value(orjson.loads(row.data))) for row in batch.rows]
        batch.bad = [(reason, redactor.text(text)) for reason, text in batch.bad]
    return batch
