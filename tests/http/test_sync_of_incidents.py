"""A real log of incidents, replayed by the sandbox while it is synced: each run brings what changed, version by version."""

from pathlib import Path
from typing import Any

import pytest

from http_asgi import Client
from run_stories import Synced, settle
from trunkline.clock import ManualClock
from trunkline.sandbox import SandboxOptions, SandboxServer
from trunkline.services import datasets, versions
from trunkline.services.datasets import Draft

LOG = Path(__file__).parents[2] / "../shared/data/servicenow_incident_log.csv"


def shown(server: SandboxServer) -> dict[str, Any]:
    """Return the incidents as the fake has them now, by number: when each changed, and its state."""
    table = server.sandbox.services["servicenow"]._instance.tables["incident"]
    names = [column.name for column in table.schema.columns]
    rows = [dict(zip(names, record.values, strict=True)) for record in table.rows.values()]
    return {row["number"]: (row["sys_updated_on"], row["incident_state"]) for row in rows}


async def held(incidents: Synced, version: int | None = None) -> dict[str, Any]:
    found = (await incidents.read(version)).values()
    return {row["number"]: (row["sys_updated_on"], row["incident_state"]) for row in found}


@pytest.mark.slow
@pytest.mark.skipif(not LOG.exists(), reason="the log of incidents is not here")
async def test_a_real_log_is_followed_version_by_version(alice: Client, clock: ManualClock):
    options = SandboxOptions(clock=clock, only="servicenow", incidents_csv=LOG, log_share=0.4)
    async with SandboxServer(options) as server:
        ready = server.ready["servicenow"]
        made = await alice.integration(
            name="incidents",
            connector="servicenow",
            base_url="",
            config={"url": ready["url"]},
            credentials={
                "method": "password",
                "values": {key: ready[key] for key in ("username", "password")},
            },
        )
        incidents = Synced(alice, None, made, None)
        params = {"sysparm_fields": "sys_id,number,incident_state,sys_updated_on"}
        incidents.dataset = await datasets.create(
            incidents.ctx, Draft("inc", made["id"], "incidents", params)
        )
        states = []
        for turn in range(4):
            before = dict(shown(server)) if turn else {}
            if turn:
                server.sandbox.services["servicenow"]._instance.replay(700)
            now = shown(server)
            run = await incidents.run()
            assert (run.state, run.error) == ("succeeded", None)
            assert await held(incidents) == now
            assert run.added == len(now.keys() - before.keys())
            assert run.changed == sum(before[number] != now[number] for number in before)
            assert run.fetched - run.added - run.changed < 30  # of the last minute, asked for again
            states.append(now)
        for number, state in enumerate(states, 1):
            assert await held(incidents, number) == state
        await versions.roll_back(incidents.ctx, incidents.dataset.id, 2)
        assert await held(incidents) == states[1]
        await incidents.run()
        assert await held(incidents) == states[3]
        await settle(incidents.app)
