"""Searching 100,000 records of 1 KB, and filling their index, beside a plain FTS5 table with the same texts in rank order."""

import asyncio
import os
import random
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import psycopg

from bench.report import Figure, Report
from trunkline.clock import SystemClock
from trunkline.context import App, Context, own_context
from trunkline.http.server import open_app
from trunkline.services import api_keys, datasets, index, versions
from trunkline.services.datasets import Dataset, Draft
from trunkline.services.search import Search, search
from trunkline.services.versions import to_row
from trunkline.services.words import indexed
from trunkline.settings import Settings

_POSTGRES = "TRUNKLINE_TEST_POSTGRES"
_SYLLABLES = [first + second for first in "bdklmnprstv" for second in "aeiou"]
_PAGE = 1_000
_QUIET = 1.1
"""Seconds after which the index is merged."""
Ask = Callable[[str, bool], Awaitable[object]]


def run(*, quick: bool) -> Report:
    """Fill and ask: Trunkline on SQLite, on PostgreSQL if there is one, and plain FTS5."""
    return asyncio.run(_run(3_000 if quick else 100_000, 20 if quick else 200))


async def _run(size: int, asked: int) -> Report:
    corpus = _Corpus(size)
    columns = (
        "",
        "documents/s",
        *(f"{name} {which}" for name in corpus.questions(1) for which in ("p50", "p99")),
    )
    report = Report("search", f"{size:,} records of 1 KB, in process, ms", columns)
    admin = os.environ.get(_POSTGRES)
    with tempfile.TemporaryDirectory() as folder:
        sides: list[tuple[str, Any]] = [
            ("Trunkline, SQLite", partial(_hub, Settings(data_dir=Path(folder) / "hub")))
        ]
        if admin:
            sides.append(("Trunkline, PostgreSQL", partial(_on_postgresql, admin, Path(folder))))
        sides.append(("plain FTS5, bm25", partial(_plain, Path(folder) / "plain.db")))
        for name, opened in sides:
            async with opened(corpus) as (rate, ask):
                measured = [await _ask(ask, some) for some in corpus.questions(asked).values()]
            report.rows.append((name, rate, *(figure for pair in measured for figure in pair)))
    _draw(report, len(sides) - 1)
    return report


def _draw(report: Report, ours: int) -> None:
    for row in report.rows[:ours]:
        report.figures += [
            Figure(f"{row[0]}: all words, p50", float(row[2]), "ms", 5),
            Figure(f"{row[0]}: all words, p99", float(row[3]), "ms", 50),
            Figure(f"{row[0]}: any of four very common words, p99", float(row[7]), "ms", 100),
        ]
    share = float(report.rows[0][1]) / float(report.rows[-1][1]) * 100
    report.figures.append(Figure("documents a second on SQLite, share of plain FTS5's", share, "%"))


class _Corpus:
    """Records of words as frequent as those of a language, always the same."""

    def __init__(self, size: int) -> None:
        chance = random.Random(4)
        made: dict[str, None] = {}
        while len(made) < 30_000:
            made[
                "".join(
                    chance.choices(_SYLLABLES, k=1 + min(4, int(chance.expovariate(0.7)) + (len(made) > 50)))
                )
            ] = None
        self.size = size
        self.words = list(made)
        self._sums = list(accumulate(1 / (rank + 2.7) for rank in range(len(self.words))))

    def records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        chance = random.Random(1)
        for number in range(self.size):
            words = chance.choices(self.words, cum_weights=self._sums, k=130)
            yield (
                f"INC{number:07}",
                {
                    "number": f"INC{number:07}",
                    "short_description": " ".join(words[:10]),
                    "description": " ".join(words[10:]),
                    "state": chance.choice(("New", "In Progress", "Resolved", "Closed")),
                    "assigned_to": f"User {chance.randrange(300)}",
                    "opened_at": "2026-04-01 08:05:00",
                },
            )

    def questions(self, count: int) -> dict[str, list[tuple[str, bool]]]:
        """Return questions by kind, each with whether any word will do: all words, any of some, common, beginnings."""
        chance = random.Random(2)
        texts = random.Random(1)
        three, phrases = [], []
        for _ in range(
            count
        ):  # words that stand together in a record, as somebody who remembers it would type
            words = texts.choices(self.words, cum_weights=self._sums, k=130)
            three.append((" ".join(chance.sample(words, 3)), False))
            phrases.append((f'"{words[20]} {words[21]}"', False))
        rare = [(" ".join(chance.choices(self.words[200:], k=4)), True) for _ in range(count)]
        common = [(" ".join(chance.sample(self.words[:8], 4)), True) for _ in range(count)]
        begun = [(f"{word[:3]}*", False) for word in chance.choices(self.words[500:], k=count)]
        kinds = {"all of 3": three, "any of 4": rare, "any of 4 common": common, "beginning*": begun}
        return kinds | {"phrase of 2": phrases}


async def _ask(ask: Ask, questions: list[tuple[str, bool]]) -> tuple[float, float]:
    seconds = []
    for text, any_word in questions:
        started = time.perf_counter()
        await ask(text, any_word)
        seconds.append(time.perf_counter() - started)
    seconds.sort()
    return seconds[len(seconds) // 2] * 1e3, seconds[int(len(seconds) * 0.99)] * 1e3


@asynccontextmanager
async def _on_postgresql(admin: str, folder: Path, corpus: _Corpus) -> AsyncIterator[tuple[float, Ask]]:
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS trunkline_bench_search WITH (FORCE)")
        connection.execute("CREATE DATABASE trunkline_bench_search")
        try:
            url = f"{admin.rpartition('/')[0]}/trunkline_bench_search"
            async with _hub(Settings(data_dir=folder / "pg", database_url=url), corpus) as measured:
                yield measured
        finally:
            connection.execute("DROP DATABASE trunkline_bench_search WITH (FORCE)")


@asynccontextmanager
async def _hub(settings: Settings, corpus: _Corpus) -> AsyncIterator[tuple[float, Ask]]:
    async with open_app(settings, SystemClock()) as app:
        made = await api_keys.create_workspace(app, "bench")
        ctx = own_context(app, made["id"])
        dataset = await datasets.create(ctx, Draft("incidents"))
        rate = await _fill(app, ctx, dataset, corpus)

        async def ask(text: str, any_word: bool) -> object:
            return await search(ctx, dataset.id, Search(text, any_word=any_word))

        yield rate, ask


async def _fill(app: App, ctx: Context, dataset: Dataset, corpus: _Corpus) -> float:
    begin = partial(versions.begin, dataset=dataset.number, now=ctx.now, source="bench")
    at = {"dataset": dataset.number, "number": (await app.db.write(begin)).number}
    rows = [to_row(key, record) for key, record in corpus.records()]
    for start in range(0, len(rows), _PAGE):
        await app.db.write(partial(versions.write_page, **at, rows=rows[start : start + _PAGE]))
    started = time.perf_counter()
    await index.fill_due(app)
    rate = len(rows) / (time.perf_counter() - started)
    await app.clock.sleep(_QUIET)
    await index.fill_due(app)  # merges
    await app.db.write(partial(versions.finish, **at, now=ctx.now))
    return rate


@asynccontextmanager
async def _plain(path: Path, corpus: _Corpus) -> AsyncIterator[tuple[float, Ask]]:
    texts = [
        (number, indexed(to_row(key, record).data)) for number, (key, record) in enumerate(corpus.records())
    ]
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA cache_size=-16000"):
        connection.execute(statement)
    connection.execute("CREATE VIRTUAL TABLE documents USING fts5(text)")
    started = time.perf_counter()
    for start in range(0, len(texts), _PAGE):
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO documents (rowid, text) VALUES (?, ?)", texts[start : start + _PAGE]
        )
        connection.execute("COMMIT")
    rate = len(texts) / (time.perf_counter() - started)

    async def ask(text: str, any_word: bool) -> object:
        is_phrase = text.startswith('"')
        match = text if is_phrase else (" OR " if any_word else " AND ").join(text.split())
        query = (
            "SELECT rowid, text, bm25(documents) FROM documents WHERE documents MATCH ? ORDER BY 3 LIMIT 10"
        )
        return connection.execute(query, (match,)).fetchall()

    yield rate, ask
    connection.close()
