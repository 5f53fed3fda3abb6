"""The bare loop that a sync is measured against: fetch a page, parse it, upsert its rows, keep no history.

The same HTTP client, parser, database file settings and page size as the hub's; a page is one transaction. Each job is
one line of JSON on stdin, its answer one line on stdout.
"""

import json
import sqlite3
import sys
import time
from base64 import b64encode
from typing import Any

import aiohttp
import orjson
import uvloop

_TABLE = "CREATE TABLE records (key TEXT PRIMARY KEY, data TEXT NOT NULL)"
_UPSERT = "INSERT INTO records (key, data) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET data = excluded.data"
_PRAGMAS = (
    *("journal_mode=WAL", "synchronous=FULL", "temp_store=MEMORY"),
    "cache_size=-16000",
)


async def run(job: dict[str, Any]) -> dict[str, Any]:
    """Read all records of a table by key and store them in a new file."""
    database = sqlite3.connect(job["file"])
    for pragma in _PRAGMAS:
        database.execute(f"PRAGMA {pragma}")
    database.execute(_TABLE)
    pair = b64encode(f"{job['username']}:{job['password']}".encode()).decode()
    started = time.monotonic()
    async with aiohttp.ClientSession(headers={"Authorization": f"Basic {pair}"}) as session:
        place, offset = "1970-01-01 00:00:00", 0
        while True:
            query = f"sys_updated_on>={place}^ORDERBYsys_updated_on^ORDERBYsys_id"
            params = {
                "sysparm_query": query,
                "sysparm_limit": str(job["page"]),
                "sysparm_offset": str(offset),
            }
            params["sysparm_fields"] = job["fields"]
            async with session.get(f"{job['url']}/api/now/table/incident", params=params) as answer:
                page = orjson.loads(await answer.read())["result"]
            with database:
                database.executemany(_UPSERT, [(row["sys_id"], orjson.dumps(row).decode()) for row in page])
            if len(page) < job["page"]:
                break
            last = page[-1]["sys_updated_on"]
            place, offset = last, offset + len(page) if last == place else 0
    (rows,) = database.execute("SELECT count(*) FROM records").fetchone()
    database.close()
    return {"rows": rows, "seconds": time.monotonic() - started}


def main() -> None:
    """Do jobs until stdin ends."""
    for line in sys.stdin:
        print(json.dumps(uvloop.run(run(json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
