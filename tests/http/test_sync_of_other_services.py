"""Jira, Zendesk and GitHub through the sync engine: each is only a file, and a second run brings only what changed."""

from typing import Any

import pytest

from http_asgi import Client
from run_stories import Synced, settle
from trunkline.clock import ManualClock
from trunkline.sandbox import SandboxOptions, SandboxServer
from trunkline.services import datasets
from trunkline.services.datasets import Draft

SIGN_IN = {
    "jira": ("api_token", {"username": "email", "password": "token"}),
    "zendesk": ("api_token", {"username": "username", "password": "token"}),
    "github": ("token", {"bearer_token": "token"}),
}


async def dataset_of(alice: Client, server: SandboxServer, stream: str) -> Synced:
    name = str(server.sandbox.options.only)
    ready, (method, values) = server.ready[name], SIGN_IN[name]
    given = {"method": method, "values": {secret: ready[key] for secret, key in values.items()}}
    made = await alice.integration(
        name=f"of-{name}", connector=name, base_url="", config={"url": ready["url"]}, credentials=given
    )
    synced = Synced(alice, None, made, None)
    synced.dataset = await datasets.create(synced.ctx, Draft(stream, made["id"], stream))
    return synced


def change(server: SandboxServer) -> None:
    """Have somebody change one record at the service."""
    fakes: Any = server.sandbox.services
    if "jira" in fakes:
        fakes["jira"].touch("10007", summary="Changed")
    else:
        fakes["zendesk"].touch(7, subject="Changed")


@pytest.mark.parametrize(("name", "stream", "count"), [("jira", "issues", 250), ("zendesk", "tickets", 250)])
async def test_everything_comes_first_and_then_what_changed(
    alice: Client, clock: ManualClock, name: str, stream: str, count: int
):
    async with SandboxServer(SandboxOptions(clock=clock, only=name)) as server:
        synced = await dataset_of(alice, server, stream)
        first = await synced.run()
        assert (first.state, first.error, first.added) == ("succeeded", None, count)
        clock.advance(3_600)
        change(server)
        clock.advance(61)
        second = await synced.run()
        assert (second.state, second.mode, second.added, second.changed) == ("succeeded", "incremental", 0, 1)
        assert second.fetched < 20
        third = await synced.run()
        assert (third.state, third.changed) == ("succeeded", 0)
        await settle(synced.app)


async def test_what_the_service_says_is_deleted_goes_without_a_full_run(alice: Client, clock: ManualClock):
    async with SandboxServer(SandboxOptions(clock=clock, only="zendesk")) as server:
        fake: Any = server.sandbox.services["zendesk"]
        synced = await dataset_of(alice, server, "tickets")
        clock.advance(3_600)
        fake.touch(8, status="deleted")
        clock.advance(61)
        first = await synced.run()
        assert (first.added, first.removed) == (249, 0)
        clock.advance(3_600)
        fake.touch(7, status="deleted")
        fake.touch(8, status="open")
        clock.advance(61)
        second = await synced.run()
        assert (second.mode, second.added, second.changed, second.removed) == ("incremental", 1, 0, 1)
        path = f"/v1/{{ws}}/datasets/{synced.dataset.id}/records"
        assert (await alice.get(f"{path}/7")).status == 404
        assert (await alice.get(f"{path}/8")).status == 200
        third = await synced.run()
        assert (third.changed, third.removed) == (0, 0)


async def test_nothing_is_asked_about_what_is_deleted(alice: Client, clock: ManualClock):
    limits = {"zendesk": 100_000}
    async with SandboxServer(SandboxOptions(clock=clock, only="zendesk", request_limits=limits)) as server:
        fake: Any = server.sandbox.services["zendesk"]
        fake.touch(7, status="deleted")
        clock.advance(61)
        run = await (await dataset_of(alice, server, "comments")).run()
        assert (run.state, run.error, run.added) == ("succeeded", None, 249)


@pytest.mark.parametrize(
    ("name", "stream", "count"),
    [
        ("jira", "comments", 50),
        ("zendesk", "comments", 250),
        ("zendesk", "users", 30),
        ("jira", "projects", 2),
        ("github", "issues", 140),
    ],
)
async def test_children_and_lists_without_a_cursor_come_too(
    alice: Client, clock: ManualClock, name: str, stream: str, count: int
):
    limits = {name: 100_000}
    async with SandboxServer(SandboxOptions(clock=clock, only=name, request_limits=limits)) as server:
        synced = await dataset_of(alice, server, stream)
        run = await synced.run()
        assert (run.state, run.error, run.added) == ("succeeded", None, count)
        await settle(synced.app)
