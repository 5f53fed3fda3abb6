"""The three ways out of a route: a connector's message, any endpoint, a signed webhook. One attempt, one call each.

Reads what an attempt needs; sends it through `rest`; decides nothing about what comes after.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import orjson
import sqlalchemy as sa
from sqlalchemy import Connection

from trunkline import vault
from trunkline.catalog.manifest import Manifest, Notify, Window
from trunkline.catalog.template import MESSAGE, ROUTE, MissingLookupError, Template
from trunkline.context import App, own_context
from trunkline.errors import Conflict, Invalid, NotFound
from trunkline.rest.caller import Target, Trace
from trunkline.rest.json_text import compact_json
from trunkline.rest.paths import Path
from trunkline.rest.signatures import sign_standard
from trunkline.services import actions, events, messages
from trunkline.services.actions import Loaded
from trunkline.services.claims import Claimed
from trunkline.services.events import Event
from trunkline.tables import events as event_rows
from trunkline.tables import integrations, routes
from trunkline.vault import SealedRow

BUDGET_SECONDS = 30.0
"""One call: a receiver that takes longer has failed."""
_WINDOW_EVENTS = 2000
"""So many of the newest are looked through for somebody's last message; for an older one the template is sent."""
_EVENTS = sa.select(event_rows).where(event_rows.c.id.in_(sa.bindparam("ids", expanding=True)))
_ROUTES = sa.select(routes.c.id, routes.c.workspace_id, routes.c.enabled, routes.c.target).where(
    routes.c.id.in_(sa.bindparam("ids", expanding=True))
)
_OLDEST = (
    sa.select(integrations.c.id)
    .where(
        integrations.c.workspace_id == sa.bindparam("workspace_id"),
        integrations.c.connector == sa.bindparam("connector"),
        integrations.c.enabled,
    )
    .order_by(integrations.c.created_at, integrations.c.id)
    .limit(1)
)


@dataclass(frozen=True, slots=True)
class Message:
    """An attempt with all that is read for it."""

    claimed: Claimed
    event: Event
    target: Mapping[str, Any]
    secrets: Sequence[SealedRow] = field(default=(), repr=False)


def read(conn: Connection, claimed: Sequence[Claimed]) -> dict[str, Message | str]:
    """Read the event and the target of each attempt; a text says why there is nothing to send."""
    kept = {
        row["id"]: events.from_row(row)
        for row in conn.execute(_EVENTS, {"ids": [each.event_id for each in claimed]}).mappings()
    }
    found = conn.execute(_ROUTES, {"ids": sorted({each.route_id for each in claimed})})
    live = {row.id: row for row in found if row.enabled}
    signed = {key: vault.rows(conn, row.workspace_id, key) for key, row in live.items() if _is_signed(row)}
    read: dict[str, Message | str] = {}
    for each in claimed:
        if each.route_id not in live:
            read[each.id] = "Not sent: the route was deleted or switched off."
        elif each.event_id not in kept:
            read[each.id] = "Not sent: the event is not kept any more."
        else:
            target, secrets = live[each.route_id].target, signed.get(each.route_id, ())
            read[each.id] = Message(each, kept[each.event_id], target, secrets)
    return read


def _is_signed(row: Any) -> bool:
    return bool(row.target["type"] == "webhook")


async def send(app: App, message: Message) -> Trace:
    """Make the call, and return its trace.

    Raises:
        NotFound, Conflict, Invalid: the integration is gone, off or changed, or the params do not fit.
    """
    kind = message.target["type"]
    if kind == "webhook":
        return await _post(app, message)
    return await (_notify if kind == "notify" else _call_endpoint)(app, message)


async def _post(app: App, message: Message) -> Trace:
    claimed, url = message.claimed, message.target["url"]
    secrets = await app.vault.open_sealed(claimed.workspace_id, claimed.route_id, message.secrets)
    now = app.clock.now()
    keys = [secrets[name] for name in _signing(message.target, now) if name in secrets]
    if not keys:
        raise Conflict("The route has no signing secret; rotate it to make one.")
    body = _json(events.to_cloud_event(message.event))
    headers = {
        "Content-Type": "application/cloudevents+json",
        "Idempotency-Key": claimed.id,
        **sign_standard(keys, claimed.id, now, body),
    }
    target = Target(claimed.workspace_id, claimed.destination_id, urlsplit(url).hostname or url, url)
    return await app.rest.post(
        target, body, headers, secrets, gate=claimed.destination_id, budget_seconds=BUDGET_SECONDS
    )


def _signing(target: Mapping[str, Any], now: datetime) -> tuple[str, ...]:
    """Name the secrets to sign with: after a rotation also the one before, for its last day."""
    until = target.get("previous_secret_until")
    is_kept = until is not None and datetime.fromisoformat(until) > now
    return ("signing_secret", "previous_signing_secret") if is_kept else ("signing_secret",)


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_UTC_Z)
    except TypeError:  # integers beyond 64 bits
        return compact_json(value).encode()


async def _call_endpoint(app: App, message: Message) -> Trace:
    loaded = await _load(app, message.claimed.workspace_id, message.target["integration_id"])
    scope = {"event": messages.scope(message.event, message.claimed.id)}
    params = _render(Template.compile(message.target["params"], namespaces=ROUTE), scope)
    return await _call(app, message, loaded, message.target["endpoint"], params)


async def _notify(app: App, message: Message) -> Trace:
    workspace_id, target = message.claimed.workspace_id, message.target
    integration_id = target.get("integration_id")
    if integration_id is None:
        wanted = {"workspace_id": workspace_id, "connector": target["connector"]}
        integration_id = await app.db.read(lambda conn: conn.scalar(_OLDEST, wanted))
        if integration_id is None:
            raise NotFound(f"No enabled integration of {target['connector']}; make one, or enable it.")
    loaded = await _load(app, workspace_id, integration_id)
    manifest = loaded.manifest
    if manifest is None or manifest.notify is None:
        raise Conflict("The integration's connector sends no messages any more.")
    return await _say(app, message, loaded, manifest, manifest.notify)


async def _say(app: App, message: Message, loaded: Loaded, manifest: Manifest, notify: Notify) -> Trace:
    scope = {
        "channel": message.target["channel"],
        "event": messages.scope(message.event, message.claimed.id, notify),
        "config": loaded.target.config,
    }
    window = notify.window
    if window is None or await _is_open(app, message, window):
        params = _render(Template.compile(notify.params, namespaces=MESSAGE, maps=manifest.maps), scope)
        trace = await _call(app, message, loaded, notify.endpoint, params)
        if window is None or not _is_refused(trace, window):
            return trace
    params = _render(Template.compile(window.params, namespaces=MESSAGE, maps=manifest.maps), scope)
    return await _call(app, message, loaded, window.endpoint, params)


async def _is_open(app: App, message: Message, window: Window) -> bool:
    """Tell whether somebody of this channel wrote within the hours in which free text is taken."""
    since = app.clock.now() - timedelta(hours=window.hours)
    newest = (
        sa.select(event_rows.c.subject, event_rows.c.time)
        .where(event_rows.c.workspace_id == message.claimed.workspace_id, event_rows.c.type == window.event)
        .order_by(event_rows.c.sequence.desc())
        .limit(_WINDOW_EVENTS)
        .subquery()
    )
    found = sa.select(sa.literal(1)).where(
        newest.c.subject == message.target["channel"], newest.c.time > since
    )
    return await app.db.read(lambda conn: conn.scalar(found.limit(1))) is not None


def _is_refused(trace: Trace, window: Window) -> bool:
    if trace.error is None or not window.refused:
        return False
    return all(Path.compile(path).get(trace.raw_response) == value for path, value in window.refused.items())


async def _load(app: App, workspace_id: str, integration_id: str) -> Loaded:
    loaded = await actions.load(own_context(app, workspace_id), integration_id)
    if not loaded.row.enabled:
        raise Conflict(f"The integration {loaded.row.name} is disabled; enable it.")
    return loaded


def _render(template: Template, scope: Mapping[str, Any]) -> dict[str, Any]:
    try:
        params: dict[str, Any] = template.render(scope)
    except MissingLookupError as error:
        raise Invalid(f"The message cannot be written: {error}") from None
    return params


async def _call(app: App, message: Message, loaded: Loaded, endpoint: str, params: dict[str, Any]) -> Trace:
    secrets = await actions.open_secrets(own_context(app, message.claimed.workspace_id), loaded)
    return await app.rest.call(
        loaded.target,
        loaded.endpoint(endpoint),
        params,
        secrets,
        extra_headers={"Idempotency-Key": message.claimed.id},
        budget_seconds=BUDGET_SECONDS,
        once=True,
        gate=message.claimed.destination_id,
    )
