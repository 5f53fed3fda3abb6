"""The nouns of data: datasets with their versions, records and quarantine, the runs that fill them, uploads."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from trunkline.client.following import Tell, follow_stream
from trunkline.client.pages import Hub, follow
from trunkline.client.wire import Plain, as_object, decode, encode, is_uuid, query_text, segment
from trunkline.errors import NotFound, Unavailable

_PAGE = 100  # the largest `limit` the routes take
_ENDINGS = frozenset({"complete", "error"})


class Datasets:
    """The datasets of the workspace. Each method takes an id or a name."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._ids: dict[str, str] = {}

    async def all(self, **query: Plain) -> AsyncIterator[dict[str, Any]]:
        """Go through every dataset, newest first. Query: integration_id."""
        route = await self._hub.workspace_path("datasets")
        async for item in follow(self._hub, route, {"limit": _PAGE} | query):
            yield item

    async def id(self, dataset: str) -> str:
        """Return the id of a dataset, looking its name up once.

        Raises:
            NotFound: no dataset has that name.
        """
        if is_uuid(dataset):
            return dataset
        if dataset not in self._ids:
            self._ids = {str(item["name"]): str(item["id"]) async for item in self.all()}
        if dataset not in self._ids:
            raise NotFound(f"No dataset is named {dataset!r}")
        return self._ids[dataset]

    async def path(self, dataset: str, *more: str | int) -> str:
        """Return the path of a dataset, or of something in it."""
        parts = [await self.id(dataset), *map(str, more)]
        return "/".join([await self._hub.workspace_path("datasets"), *map(segment, parts)])

    async def get(self, dataset: str) -> dict[str, Any]:
        return as_object(await self._hub.request("GET", await self.path(dataset)))

    async def create(self, **body: Any) -> dict[str, Any]:
        """Make a dataset: name, and for a stream integration_id, stream, params, schedule, gate."""
        route = await self._hub.workspace_path("datasets")
        return as_object(await self._hub.request("POST", route, body=body))

    async def update(self, dataset: str, **body: Any) -> dict[str, Any]:
        """Change what is given and leave the rest as it is."""
        return as_object(await self._hub.request("PUT", await self.path(dataset), body=body))

    async def delete(self, dataset: str) -> None:
        """Delete a dataset with all its versions."""
        await self._hub.request("DELETE", await self.path(dataset))
        self._ids.pop(dataset, None)

    async def versions(self, dataset: str) -> AsyncIterator[dict[str, Any]]:
        """Go through the versions, newest first."""
        async for item in follow(self._hub, await self.path(dataset, "versions"), {"limit": _PAGE}):
            yield item

    async def rollback(self, dataset: str, version: int, notes: str | None = None) -> dict[str, Any]:
        """Make another version the active one, and its cursor with it."""
        path = await self.path(dataset, "versions", version, "rollback")
        return as_object(await self._hub.request("POST", path, body={"notes": notes}))

    async def decide(self, dataset: str, version: int, verdict: str) -> dict[str, Any]:
        """`activate` or `reject` a version that the gate holds back."""
        path = await self.path(dataset, "versions", version, verdict)
        return as_object(await self._hub.request("POST", path))

    async def diff(self, dataset: str, before: int, after: int) -> AsyncIterator[dict[str, Any]]:
        """Go through what differs between two versions, by key."""
        path = await self.path(dataset, "diff")
        async for item in self._keyed(path, {"from": before, "to": after}):
            yield item

    async def records(
        self, dataset: str, *, version: int | None = None, filters: Mapping[str, str] | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Go through the records of a version, the active one unless told otherwise, in the order of their keys."""
        path = await self.path(dataset, "records")
        wanted = encode(filters).decode() if filters else None
        async for item in self._keyed(path, {"version": version, "filters": wanted}):
            yield item

    async def _keyed(self, path: str, query: Mapping[str, Plain]) -> AsyncIterator[dict[str, Any]]:
        after: str | None = None
        while True:
            asked = query_text({"limit": _PAGE, **query, "after": after})
            page = as_object(await self._hub.request("GET", path, query=asked))
            for item in page.get("items", []):
                yield as_object(item)
            before, after = after, page.get("after")
            if after is None:
                return
            if after == before:
                raise Unavailable("The hub's list does not advance; are both of one version?")

    async def record(self, dataset: str, key: str, *, version: int | None = None) -> dict[str, Any]:
        """Show one record."""
        path = await self.path(dataset, "records", key)
        return as_object(await self._hub.request("GET", path, query=query_text({"version": version})))

    async def search(self, dataset: str, query: str, **more: Plain) -> dict[str, Any]:
        """Search the records; `items` are hits, best first. More: version, limit, offset, any, mode, filters."""
        path = await self.path(dataset, "search")
        return as_object(await self._hub.request("GET", path, query=query_text({"q": query, **more})))

    async def export(
        self, dataset: str, *, format: str = "jsonl", version: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield the records of a version as a file: jsonl, csv or parquet."""
        path = await self.path(dataset, "export")
        query = query_text({"format": format, "version": version})
        async with self._hub.stream(path, query=query, headers={}) as chunks:
            async for chunk in chunks:
                yield chunk

    async def quarantine(self, dataset: str) -> AsyncIterator[dict[str, Any]]:
        """Go through the rows that could not be taken in, newest first."""
        async for item in follow(self._hub, await self.path(dataset, "quarantine"), {"limit": _PAGE}):
            yield item

    async def replay(self, dataset: str, ids: list[str] | None = None) -> dict[str, Any]:
        """Try quarantined rows again: some, or all."""
        path = await self.path(dataset, "quarantine", "replay")
        return as_object(await self._hub.request("POST", path, body={"ids": ids} if ids else {}))


class Runs:
    """What fills a dataset: runs, one at a time."""

    def __init__(self, hub: Hub, datasets: Datasets) -> None:
        self._hub = hub
        self._datasets = datasets

    async def start(self, dataset: str, mode: str | None = None) -> dict[str, Any]:
        """Begin a run: `incremental`, `full`, or what fits."""
        path = await self._datasets.path(dataset, "runs")
        return as_object(await self._hub.request("POST", path, body={"mode": mode} if mode else {}))

    async def all(self, dataset: str) -> AsyncIterator[dict[str, Any]]:
        """Go through the runs, newest first."""
        async for item in follow(self._hub, await self._datasets.path(dataset, "runs"), {"limit": _PAGE}):
            yield item

    async def get(self, dataset: str, run_id: str) -> dict[str, Any]:
        return as_object(await self._hub.request("GET", await self._datasets.path(dataset, "runs", run_id)))

    async def cancel(self, dataset: str, run_id: str) -> dict[str, Any]:
        """Ask a run to end; nothing of it stays."""
        path = await self._datasets.path(dataset, "runs", run_id, "cancel")
        return as_object(await self._hub.request("POST", path))

    async def follow(
        self, dataset: str, run_id: str, *, after: int = 0, tell: Tell = lambda _: None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield what a run's watchers are told, each with its `type`, until `complete` or `error`.

        A connection that breaks is made again, and nothing is missed.
        """
        path = await self._datasets.path(dataset, "runs", run_id, "stream")
        async with aclosing(follow_stream(self._hub, path, {}, str(after), tell)) as messages:
            async for message in messages:
                yield {**as_object(decode(message.data.encode(), "the address")), "type": message.type}
                if message.type in _ENDINGS:
                    return


class Uploads:
    """Files of records: kept, checked, mapped, taken in as a version."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def create(self, files: list[dict[str, Any]], dataset_id: str | None = None) -> dict[str, Any]:
        """Keep files for checking; each has `filename`, `content`, and `encoding` (text or base64)."""
        route = await self._hub.workspace_path("uploads")
        body = {"dataset_id": dataset_id, "files": files}
        return as_object(await self._hub.request("POST", route, body=body))

    async def get(self, upload_id: str) -> dict[str, Any]:
        return as_object(await self._hub.request("GET", await self._path(upload_id)))

    async def validate(self, upload_id: str, mapping: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Check every row, with other names for its fields if a mapping is given; see the answer's `report`."""
        verb, body = ("validate", None) if mapping is None else ("map", {"mapping": dict(mapping)})
        return as_object(await self._hub.request("POST", f"{await self._path(upload_id)}/{verb}", body=body))

    async def ingest(self, upload_id: str, notes: str | None = None) -> dict[str, Any]:
        """Begin to take the valid rows in; the answer has `run_id` and `dataset_id`."""
        path = f"{await self._path(upload_id)}/ingest"
        return as_object(await self._hub.request("POST", path, body={"notes": notes}))

    async def _path(self, upload_id: str) -> str:
        return f"{await self._hub.workspace_path('uploads')}/{segment(upload_id)}"
