"""The demo's job: what it does with a running hub and a running sandbox, step by step, each for real."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from trunkline.cli import output
from trunkline.cli.stages import show_stages, summary
from trunkline.client import Trunkline
from trunkline.clock import Clock
from trunkline.errors import Conflict, RemoteFailed, TrunklineError, Unavailable
from trunkline.sandbox import scenario
from trunkline.sandbox.scenario import Call

_PAGE_SIZE = 500
_STAGE_LINES = 12
_DELIVERY_SECONDS = 10.0
_LOOK_SECONDS = 0.05


@dataclass
class Job:
    """One run of the demo's steps. Each raises one of our errors when it does not come out as it should."""

    hub: Trunkline
    sandbox: Mapping[str, Any]
    expected: int
    clock: Clock
    incident: Mapping[str, Any] = field(default_factory=dict)

    async def run(self) -> None:
        """Do every step, in order, and say what came of it."""
        await self.connect()
        await self.look_around()
        await self.page_somebody()
        await self.pass_an_alert_on()
        await self.read_everything()
        await self.show_one_call()

    async def connect(self) -> None:
        """Create the integrations, or point those of an earlier run here, and test their connections."""
        for body in scenario.integrations(self.sandbox):
            await self._ensure(body)
            verdict = await self.hub.integrations.test_connection(body["name"])
            if verdict["status"] != "healthy":
                raise RemoteFailed(f"{body['name']} is {verdict['status']}: {verdict.get('message', '')}")
            output.done(f"integration {body['name']} at {_origin(body['config']['url'])} is healthy")

    async def _ensure(self, body: dict[str, Any]) -> None:
        try:
            await self.hub.integrations.create(**body)
        except Conflict:
            kept = {name: value for name, value in body.items() if name not in {"name", "connector"}}
            await self.hub.integrations.update(body["name"], **kept)

    async def look_around(self) -> None:
        """List the newest incidents and some users."""
        found = await self._list(scenario.newest_incidents(3))
        self.incident = found[0]
        output.done(f"newest incidents: {'; '.join(scenario.describe_incident(item) for item in found)}")
        people = await self._list(scenario.users(3))
        output.done(f"users: {', '.join(scenario.describe_user(item) for item in people)}")

    async def page_somebody(self) -> None:
        """Open an incident in one service from an incident of the other."""
        service = (await self._list(scenario.services()))[0]
        answer = await self._call(scenario.page_somebody(self.incident, service))
        output.done(f"from {scenario.incident_name(self.incident)}: {answer['final_result']}")

    async def pass_an_alert_on(self) -> None:
        """Have one service send a signed alert, and find it as a message in the chat."""
        hook = await self.hub.integrations.hook(scenario.TRACKER)
        await self._ensure_route(scenario.route(self.sandbox))
        started = self.clock.monotonic()
        order = scenario.alert(self.hub.url + hook["path"])
        sent = await self._order(f"{scenario.TRACKER}/deliver", order)
        if sent.get("status") != 202:
            raise RemoteFailed(f"the alert was answered with {sent.get('status')}: {sent.get('body')}")
        event_id = orjson.loads(sent["body"])["id"]
        delivery = await self._delivered(event_id, started + _DELIVERY_SECONDS)
        seconds = self.clock.monotonic() - started
        found = await self._call(scenario.newest_message(self.sandbox))
        line = scenario.first_line(found["data"])
        if scenario.ALERT not in line:
            raise RemoteFailed(f"the newest message is another: {line!r}")
        state = f"{delivery['state']} in {seconds:.1f} s"
        output.done(f"signed alert of {scenario.TRACKER} to {scenario.CHAT}, {state}: {line}")

    async def _ensure_route(self, body: dict[str, Any]) -> None:
        async for route in self.hub.routes.all():
            if route["name"] == body["name"]:
                await self.hub.routes.update(route["id"], **body)
                return
        await self.hub.routes.create(**body)

    async def _delivered(self, event_id: str, give_up_at: float) -> dict[str, Any]:
        while True:
            async for delivery in self.hub.deliveries.all(event_id=event_id):
                if delivery["state"] == "delivered":
                    return delivery
            if self.clock.monotonic() > give_up_at:
                raise RemoteFailed(f"event {event_id} was not delivered within {_DELIVERY_SECONDS:.0f} s")
            await self.clock.sleep(_LOOK_SECONDS)

    async def read_everything(self) -> None:
        """Page through all incidents and count the distinct ones."""
        started, pages, names = self.clock.monotonic(), 0, set[str]()
        with output.progress() as display:
            task = display.add_task("reading incidents", total=self.expected)
            while found := await self._page(pages * _PAGE_SIZE):
                names.update(scenario.incident_name(item) for item in found)
                pages += 1
                display.update(task, completed=len(names))
                if len(found) < _PAGE_SIZE:
                    break
        seconds = self.clock.monotonic() - started
        if len(names) != self.expected:
            raise RemoteFailed(f"read {len(names)} distinct incidents, but there are {self.expected}")
        word = "page" if pages == 1 else "pages"
        output.done(f"read all {len(names):,} distinct incidents in {pages} {word}, {seconds:.1f} s")

    async def _page(self, offset: int) -> list[Mapping[str, Any]]:
        answer = await self._call(scenario.page_of_incidents(offset, _PAGE_SIZE))
        return list(scenario.records(answer["data"]))

    async def show_one_call(self) -> None:
        """Make the service fail once, call it, and show what each stage made of the answer."""
        await self._order("faults", scenario.one_outage())
        call = scenario.summary()
        answer = await self.hub.test(call.integration, call.endpoint, call.params)
        output.say("")
        output.say(f"One call, stage by stage: {call.integration} {call.endpoint}", "bold")
        output.say("(the service was told to answer 503 once; the hub tried again)", "dim")
        show_stages(answer, lines=_STAGE_LINES)
        if answer.get("error") or answer.get("retries") != 1:
            raise RemoteFailed(f"expected an answer after one retry: {summary(answer)}")

    async def _order(self, path: str, order: dict[str, Any]) -> dict[str, Any]:
        """Tell the sandbox what to do."""
        url = f"{self.sandbox['control_url']}/{path}"
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.post(url, json=order) as answer,
            ):
                if answer.status >= 300:
                    raise Unavailable(f"The sandbox refused {path}: {await answer.text()}")
                return dict(await answer.json())
        except aiohttp.ClientError as error:
            raise Unavailable(f"The sandbox does not answer at {url}") from error

    async def _list(self, call: Call) -> list[Mapping[str, Any]]:
        found = list(scenario.records((await self._call(call))["data"]))
        if not found:
            raise RemoteFailed(f"{call.integration} {call.endpoint} returned no records")
        return found

    async def _call(self, call: Call) -> dict[str, Any]:
        return await self.hub.call(call.integration, call.endpoint, call.params)


async def run_job(hub: Trunkline, sandbox: Mapping[str, Any], expected: int, clock: Clock) -> bool:
    """Run the job; say what failed, if anything, and return whether nothing did."""
    try:
        await Job(hub, sandbox, expected, clock).run()
    except TrunklineError as error:
        output.report(error)
        return False
    return True


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
