"""The v3 webhooks of a PagerDuty subscription: their bodies, headers and signatures, as of now."""

import hashlib
import hmac
import random
import uuid
from datetime import datetime
from typing import Any

import orjson

from trunkline.errors import Invalid
from trunkline.sandbox.pagerduty.account import Account, html_url, make_id
from trunkline.sandbox.pagerduty.incidents import Incident, Incidents, iso
from trunkline.sandbox.service import Build, Outgoing

API = "https://api.pagerduty.com"
EVENTS = {
    "incident.triggered": "triggered",
    "incident.acknowledged": "acknowledged",
    "incident.unacknowledged": "triggered",
    "incident.reopened": "triggered",
    "incident.escalated": "triggered",
    "incident.resolved": "resolved",
    "incident.annotated": "",
}
"""The events, and the status that the incident in them has."""


def builders(account: Account, incidents: Incidents, secret: str) -> dict[str, Build]:
    """Return what builds each event. Options: `id` of the incident, `title`, `urgency`, `content` of a note."""

    def build(event: str) -> Build:
        return lambda options, at, given: _sign(
            _event(account, incidents, event, options, at), given or secret
        )

    return {event: build(event) for event in ("pagey.ping", *EVENTS)}


def _event(
    account: Account, incidents: Incidents, kind: str, options: dict[str, Any], at: datetime
) -> dict[str, Any]:
    event: dict[str, Any] = {
        "id": f"01{make_id(random.SystemRandom())[1:]}",
        "event_type": kind,
        "resource_type": kind.partition(".")[0],
        "occurred_at": iso(at).replace("Z", ".000Z"),
        "agent": None,
        "client": None,
        "data": {"message": "Hello from your friend Pagey!", "type": "ping"},
    }
    if kind == "pagey.ping":
        return {"event": event}
    wanted = options.get("id")
    found = list(incidents.by_id.values())[-1] if wanted is None else incidents.by_id.get(str(wanted))
    if found is None:
        raise Invalid.field(("id",), "is no incident's id")
    event["agent"] = account.reference(API, *found.changed_by)
    event["data"] = _incident(account, incidents, found) | {
        name: options[name] for name in ("title", "urgency") if name in options
    }
    if EVENTS[kind]:
        event["data"]["status"] = EVENTS[kind]
    else:
        event["data"] = _note(found, str(options.get("content", "Looking.")))
    return {"event": event}


def _incident(account: Account, incidents: Incidents, incident: Incident) -> dict[str, Any]:
    """Return an incident as webhooks have it, which is not quite as the API does."""
    full = incidents.document(incident, API)
    kept = ("id", "type", "self", "html_url", "status", "incident_key", "created_at", "title", "service")
    data = {name: full[name] for name in (*kept, "escalation_policy", "teams", "priority", "urgency")}
    assignees = [account.reference(API, "users", user_id) for user_id in incident.assignee_ids]
    return data | {
        "number": incident.number,
        "assignees": assignees,
        "conference_bridge": None,
        "resolve_reason": None,
        "incident_type": {"name": "incident_default"},
    }


def _note(incident: Incident, content: str) -> dict[str, Any]:
    about = {"id": incident.id, "type": "incident_reference", "summary": incident.title}
    about |= {"self": f"{API}/incidents/{incident.id}", "html_url": html_url("incidents", incident.id)}
    return {"id": make_id(random.SystemRandom()), "type": "incident_note", "incident": about} | {
        "content": content,
        "trimmed": False,
    }


def _sign(payload: dict[str, Any], secret: str) -> Outgoing:
    """Sign with every secret given, separated by a space: two are valid while one is being replaced."""
    body = orjson.dumps(payload)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "PagerDuty-Webhook/V3.0",
        "X-Webhook-Id": str(uuid.uuid4()),
    }
    signatures = [f"v1={hmac.new(key.encode(), body, hashlib.sha256).hexdigest()}" for key in secret.split()]
    return Outgoing(body, headers, {"X-PagerDuty-Signature": ",".join(signatures)})
