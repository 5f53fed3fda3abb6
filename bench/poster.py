"""The baseline of deliveries: a bare aiohttp client that signs and posts, without a database, a schedule or a trace."""

import asyncio
import hmac
import json
import sys
import time
from base64 import b64encode

import aiohttp
import orjson
import uvloop

_KEY = b"k" * 32
_DATA = {"service": "db-03", "detail": "Free space falls. " * 20}


async def main(url: str, count: int, at_once: int) -> None:
    """Post so many, and print how many a second that were."""
    left = iter(range(count))

    async def post(session: aiohttp.ClientSession) -> None:
        for number in left:
            body = orjson.dumps({"specversion": "1.0", "id": str(number), "type": "calm.one", "data": _DATA})
            moment = str(int(time.time()))
            mark = b64encode(hmac.digest(_KEY, f"{number}.{moment}.".encode() + body, "sha256")).decode()
            headers = {
                "content-type": "application/cloudevents+json",
                "webhook-id": str(number),
                "webhook-timestamp": moment,
                "webhook-signature": f"v1,{mark}",
            }
            async with session.post(url, data=body, headers=headers) as answer:
                await answer.read()

    async with aiohttp.ClientSession() as session:
        started = time.monotonic()
        await asyncio.gather(*(post(session) for _ in range(at_once)))
        print(json.dumps({"per_second": count / (time.monotonic() - started)}), flush=True)


if __name__ == "__main__":
    sys.exit(uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
