"""How complete a connector is: points for what makes it useful, and what is missing, said as what to add."""

from collections.abc import Iterator
from dataclasses import dataclass

from trunkline.catalog.manifest import Endpoint, Manifest


@dataclass(frozen=True, slots=True)
class Mark:
    """One thing that counts: points earned of those possible, and what is missing if any."""

    name: str
    points: int
    possible: int
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Depth:
    """The marks of a connector; `score` is per cent."""

    marks: tuple[Mark, ...]

    @property
    def score(self) -> int:
        return round(
            100 * sum(mark.points for mark in self.marks) / sum(mark.possible for mark in self.marks)
        )

    @property
    def missing(self) -> list[str]:
        return [mark.missing for mark in self.marks if mark.missing]


def depth(manifest: Manifest) -> Depth:
    """Score a connector: 100 is complete."""
    return Depth(tuple(_marks(manifest)))


def _marks(manifest: Manifest) -> Iterator[Mark]:
    if manifest.base_url or not manifest.webhook:
        yield from _calling(manifest)
    if "events" not in manifest.model_fields_set or manifest.webhook or manifest.events:
        yield from _receiving(manifest)
    if manifest.notify:
        yield Mark("notify", 10, 10)


def _receiving(manifest: Manifest) -> Iterator[Mark]:
    """Score webhooks; `events: []` says that the service sends none, and so lacks none."""
    yield _all_or_nothing(
        "webhook", 10, manifest.webhook, "a verified `webhook` (or `events: []` if it sends none)"
    )
    yield _all_or_nothing("events", 10, manifest.events, "`events`: what its webhooks mean")


def _calling(manifest: Manifest) -> Iterator[Mark]:
    endpoints = manifest.endpoints
    lists = {name: endpoint for name, endpoint in endpoints.items() if _is_list(manifest, name, endpoint)}
    yield _all_or_nothing("check", 10, manifest.check, "a check call, so that credentials can be tested")
    yield _all_or_nothing("auth", 10, manifest.auth, "a way in")
    yield _all_or_nothing("errors", 10, manifest.errors, "how this API says no (`errors`)")
    yield _all_or_nothing("rate_limit", 10, manifest.rate_limit, "what its headers tell of rate limits")
    yield _share("endpoints", 15, endpoints, set(), "endpoints")
    silent = {name for name, endpoint in endpoints.items() if not endpoint.description}
    yield _share("descriptions", 10, endpoints, silent, "a description")
    open_ones = {name for name, endpoint in endpoints.items() if not endpoint.input_schema}
    yield _share("input_schemas", 10, endpoints, open_ones, "an input_schema")
    unpaged = {name for name in lists if not _pages(manifest, name)}
    yield _share("paging", 10, lists, unpaged, "paging")
    yield _all_or_nothing("streams", 15, manifest.streams, "streams of its records")


def _all_or_nothing(name: str, possible: int, there: object, missing: str) -> Mark:
    return Mark(name, possible, possible) if there else Mark(name, 0, possible, missing)


def _share(name: str, possible: int, all_of: dict[str, Endpoint], without: set[str], missing: str) -> Mark:
    if not all_of:
        return Mark(name, 0, possible, f"{missing}: nothing there has any")
    points = round(possible * (len(all_of) - len(without)) / len(all_of))
    return Mark(name, points, possible, f"{missing} for {', '.join(sorted(without))}" if without else "")


def _is_list(manifest: Manifest, name: str, endpoint: Endpoint) -> bool:
    if endpoint.records is not None or endpoint.paging is not None:
        return True
    return any(stream.endpoint == name for stream in manifest.streams.values())


def _pages(manifest: Manifest, name: str) -> bool:
    if manifest.endpoints[name].paging is not None:
        return True
    return any(stream.endpoint == name and stream.paging for stream in manifest.streams.values())
