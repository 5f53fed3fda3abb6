"""The fakes judged by the vendors' own, or well-known, client libraries, over TLS as these insist on it."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import pytest

from trunkline.sandbox import SandboxOptions, serve_sandbox

pagerduty = pytest.importorskip("pagerduty")
pysnc = pytest.importorskip("pysnc")


@contextmanager
def running(only: str) -> Iterator[dict]:
    """Serve one fake at the root of its own port, in a thread, since these clients block."""
    ready: Future[dict] = Future()
    tasks: list[tuple[asyncio.AbstractEventLoop, asyncio.Task]] = []

    async def serve() -> None:
        tasks.append((asyncio.get_running_loop(), asyncio.current_task()))
        await serve_sandbox(SandboxOptions(only=only, tls=True, count=250), ready=ready.set_result)

    def run() -> None:
        try:
            asyncio.run(serve())
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            ready.set_exception(error)
            raise

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield ready.result(10)
    finally:
        loop, task = tasks[0]
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)


@pytest.fixture(scope="module")
def servicenow_ready() -> Iterator[dict]:
    with running("servicenow") as ready:
        yield ready


@pytest.fixture(scope="module")
def pagerduty_ready() -> Iterator[dict]:
    with running("pagerduty") as ready:
        yield ready


@pytest.fixture
def trusted(servicenow_ready, monkeypatch):
    """Trust the sandbox through the environment: what is set there wins over this client's `verify`."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", servicenow_ready["ca_file"])


@pytest.fixture
def instance(servicenow_ready, trusted):
    snow = servicenow_ready["servicenow"]
    client = pysnc.ServiceNowClient(
        snow["url"],
        (snow["username"], snow["password"]),
        verify=servicenow_ready["ca_file"],
        auto_retry=False,
    )
    yield client
    client.session.close()


def test_pysnc_reads_every_page_in_order(instance):
    record = instance.GlideRecord("incident", batch_size=100)
    record.add_query("number", "STARTSWITH", "INC001")
    record.order_by("number")
    record.query()
    assert record.get_row_count() == 250
    numbers = [str(found.number) for found in record]
    assert len(set(numbers)) == 250
    assert numbers == sorted(numbers)


def test_pysnc_queries_with_conditions_display_values_and_references(instance):
    record = instance.GlideRecord("incident")
    record.add_active_query()
    condition = record.add_query("priority", "<=", "3")
    condition.add_or_condition("priority", "5")
    record.add_not_null_query("assigned_to")
    record.limit = 5
    record.query()
    assert record.next()
    assert record.get_value("active") == "true"
    assert record.get_value("priority") in {"1", "2", "3", "5"}
    assert record.get_display_value("priority").startswith(f"{record.get_value('priority')} - ")
    user = instance.GlideRecord("sys_user")
    assert user.get(record.get_value("assigned_to"))
    assert user.get_value("name") == record.get_display_value("assigned_to")


def test_pysnc_inserts_updates_and_deletes(instance):
    record = instance.GlideRecord("incident")
    record.initialize()
    record.short_description = "Made by pysnc"
    record.impact = "1"
    sys_id = record.insert()
    assert record.get_value("number").startswith("INC")
    again = instance.GlideRecord("incident")
    assert again.get(sys_id)
    again.urgency = "1"
    assert again.update() == sys_id
    assert again.get_value("priority") == "1"
    assert again.get_value("sys_mod_count") == "1"
    assert again.delete()
    assert not instance.GlideRecord("incident").get(sys_id)


def test_pysnc_changes_and_deletes_many_in_a_batch(instance):
    for place in range(3):
        record = instance.GlideRecord("problem")
        record.initialize()
        record.short_description = f"Batch {place}"
        record.insert()
    several = instance.GlideRecord("problem")
    several.add_query("short_description", "STARTSWITH", "Batch")
    several.query()
    while several.next():
        several.priority = "1"
    assert several.update_multiple()
    urgent = instance.GlideRecord("problem")
    urgent.add_query("priority", "1")
    urgent.query()
    assert len(urgent) == 3
    assert urgent.delete_multiple()
    assert not urgent.get("short_description", "Batch 0")


def test_pysnc_is_told_of_a_wrong_password_and_a_refused_write(instance, servicenow_ready):
    snow = servicenow_ready["servicenow"]
    for credentials, error in (
        ((snow["username"], "wrong"), pysnc.exceptions.AuthenticationException),
        ((snow["readonly_username"], snow["readonly_password"]), pysnc.exceptions.RoleException),
    ):
        client = pysnc.ServiceNowClient(
            snow["url"], credentials, verify=servicenow_ready["ca_file"], auto_retry=False
        )
        record = client.GlideRecord("incident")
        record.initialize()
        record.short_description = "no"
        with pytest.raises(error):
            record.insert()
        client.session.close()


@pytest.mark.usefixtures("trusted")
def test_pysnc_signs_in_with_client_credentials(servicenow_ready):
    snow = servicenow_ready["servicenow"]
    flow = pysnc.ServiceNowClientCredentialsFlow(snow["client_id"], snow["client_secret"])
    client = pysnc.ServiceNowClient(snow["url"], flow, auto_retry=False)
    record = client.GlideRecord("incident")
    record.limit = 1
    record.query()
    assert record.next()
    client.session.close()


@pytest.fixture
def account(pagerduty_ready):
    pager = pagerduty_ready["pagerduty"]
    client = pagerduty.RestApiV2Client(
        pager["token"],
        default_from=pager["from_email"],
        base_url=pager["url"],
        verify=ssl.create_default_context(cafile=pagerduty_ready["ca_file"]),
    )
    yield client
    client.close()


@pytest.fixture
def events(pagerduty_ready):
    pager = pagerduty_ready["pagerduty"]
    client = pagerduty.EventsApiV2Client(
        pager["routing_key"],
        base_url=pager["events_url"],
        verify=ssl.create_default_context(cafile=pagerduty_ready["ca_file"]),
    )
    yield client
    client.close()


def test_pagerduty_lists_every_page_and_counts(account):
    incidents = account.list_all("incidents", params={"sort_by": "incident_number:asc"})
    assert len({incident["id"] for incident in incidents}) == len(incidents) >= 250
    assert account.get_total("incidents") == len(incidents)
    resolved = list(account.iter_all("incidents", params={"statuses": ["resolved"]}))
    assert {incident["status"] for incident in resolved} == {"resolved"}
    assert account.subdomain == "trunkline-sandbox"
    assert account.api_key_access == "account"
    assert account.account_has_ability("teams")


def test_pagerduty_finds_opens_updates_and_resolves(account):
    service = account.find("services", "checkout")
    assert account.rget(service) == service
    reference = {"id": service["id"], "type": "service_reference"}
    body = {"type": "incident", "title": "Made by the client", "service": reference, "incident_key": "c1"}
    incident = account.rpost("incidents", json=body)
    assert incident["status"] == "triggered"
    with pytest.raises(pagerduty.HttpError, match="Arguments Caused Error"):
        account.rpost("incidents", json=body)
    change = {"id": incident["id"], "type": "incident_reference", "status": "acknowledged"}
    assert account.rput("incidents", json=[change])[0]["status"] == "acknowledged"
    note = account.rpost(f"incidents/{incident['id']}/notes", json={"content": "Looking."})
    assert note["content"] == "Looking."
    assert [entry["channel"]["content"] for entry in account.iter_incident_notes(incident["id"])] == [
        "Looking."
    ]
    done = account.rput(incident, json={"type": "incident", "status": "resolved"})
    assert done["status"] == "resolved"


def test_pagerduty_events_trigger_acknowledge_and_resolve(account, events):
    def status() -> str:
        (incident,) = account.list_all("incidents", params={"incident_key": key})
        return incident["status"]

    key = events.trigger("Disk full", "db-1", severity="error", custom_details={"free": 0})
    assert status() == "triggered"
    assert events.trigger("Disk full", "db-1", dedup_key=key) == key
    events.acknowledge(key)
    assert status() == "acknowledged"
    events.resolve(key)
    assert status() == "resolved"
    events.submit("Deployed", "ci", timestamp="2026-01-01T00:00:00Z")
    with pytest.raises(pagerduty.HttpError, match="severity"):
        events.trigger("Disk full", "db-1", severity="bad")


def test_pagerduty_is_told_of_a_wrong_key_and_a_missing_sender(account, pagerduty_ready):
    pager = pagerduty_ready["pagerduty"]
    context = ssl.create_default_context(cafile=pagerduty_ready["ca_file"])
    for token, call, refusal in (
        ("wrong", lambda client: client.rget("users"), "401"),
        (pager["token"], lambda client: client.rpost("incidents", json={"title": "x"}), "From"),
    ):
        with (
            pagerduty.RestApiV2Client(token, base_url=pager["url"], verify=context) as client,
            pytest.raises(pagerduty.HttpError, match=refusal),
        ):
            call(client)
