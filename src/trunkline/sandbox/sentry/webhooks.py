"""The webhooks of a Sentry integration: their bodies as documented, headers and signature, as of now."""

import hashlib
import hmac
import secrets
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

import orjson

from trunkline.errors import Invalid
from trunkline.sandbox.sentry.issues import SLUG, Organization, Record, iso, new_event_id
from trunkline.sandbox.service import Build, Outgoing

HOME = "https://sentry.io"
ISSUE_ACTIONS = ("created", "resolved", "assigned", "archived", "unresolved")
METRIC_ACTIONS = ("critical", "warning", "resolved")
_APP = {"id": "sentry", "name": "Sentry", "type": "application"}
_INSTALLATION = {"uuid": "a8e5d37a-696c-4c54-adb5-b3f28d64c7de"}
Make = Callable[[Organization, dict[str, Any], datetime], tuple[str, Record]]


def builders(organization: Organization, secret: str) -> dict[str, Build]:
    """Return what builds each kind of webhook. Options: `action`; `id` of the issue; `title`, `level`, `project`."""

    def build(resource: str, make: Make) -> Build:
        def send(options: dict[str, Any], at: datetime, given: str | None) -> Outgoing:
            action, data = make(organization, options, at)
            body = {"action": action, "actor": _APP, "data": data, "installation": _INSTALLATION}
            return _sign(resource, body, at, given or secret)

        return send

    made: dict[str, Make] = {"issue": _issue, "event_alert": _event_alert, "metric_alert": _metric_alert}
    return {resource: build(resource, make) for resource, make in made.items()}


def _pick(organization: Organization, options: dict[str, Any]) -> Record:
    """Return an issue as webhooks show it, with what the options replace."""
    wanted = options.get("id")
    issues = organization.issues
    found = issues.get(str(wanted)) if wanted is not None else next(reversed(issues.values()))
    if found is None:
        raise Invalid.field(("id",), "is no issue's id")
    issue = found | {name: options[name] for name in ("title", "level", "culprit") if name in options}
    if "project" in options:
        for project in organization.projects:
            if options["project"] == project["slug"]:
                issue["project"] = {name: project[name] for name in ("id", "slug", "name", "platform")}
                break
        else:
            raise Invalid.field(("project",), "is no project's slug")
    url = f"{HOME}/api/0/organizations/{SLUG}/issues/{issue['id']}/"
    return issue | {"web_url": f"{HOME}/organizations/{SLUG}/issues/{issue['id']}/", "url": url}


def _action(options: dict[str, Any], known: tuple[str, ...]) -> str:
    action = options.get("action", known[0])
    if action not in known:
        raise Invalid.field(("action",), f"must be one of: {', '.join(known)}")
    return str(action)


def _issue(organization: Organization, options: dict[str, Any], at: datetime) -> tuple[str, Record]:
    del at
    action = _action(options, ISSUE_ACTIONS)
    issue = _pick(organization, options)
    status = {"resolved": "resolved", "archived": "ignored"}.get(action, "unresolved")
    issue |= {"status": status, "statusDetails": {}}
    return action, {"issue": issue}


def _event_alert(organization: Organization, options: dict[str, Any], at: datetime) -> tuple[str, Record]:
    issue = _pick(organization, options)
    event_id, project = new_event_id(), issue["project"]
    api = f"{HOME}/api/0/projects/{SLUG}/{project['slug']}/events/{event_id}/"
    event: Record = {
        "event_id": event_id,
        "issue_id": issue["id"],
        "title": issue["title"],
        "level": issue["level"],
    }
    event |= {"culprit": issue["culprit"], "project": int(project["id"]), "platform": project["platform"]}
    event |= {"datetime": iso(at), "timestamp": at.timestamp(), "received": at.timestamp(), "type": "error"}
    event |= {"metadata": issue["metadata"], "message": "", "tags": [["level", issue["level"]]], "url": api}
    event |= {
        "issue_url": f"{HOME}/api/0/issues/{issue['id']}/",
        "web_url": f"{issue['web_url']}events/{event_id}/",
    }
    rule = options.get("rule", "Very Important Alert Rule!")
    return _action(options, ("triggered",)), {"event": event, "triggered_rule": rule}


def _metric_alert(organization: Organization, options: dict[str, Any], at: datetime) -> tuple[str, Record]:
    action = _action(options, METRIC_ACTIONS)
    project = options.get("project", organization.projects[0]["slug"])
    rule: Record = {
        "id": "7",
        "name": options.get("title", "Too many errors"),
        "aggregate": "count()",
        "dataset": "events",
    }
    rule |= {"query": "level:error", "time_window": 10, "projects": [project], "organization_id": "1"}
    rule |= {"environment": None, "resolve_threshold": None, "threshold_type": 0, "triggers": []}
    alert: Record = {
        "id": str(options.get("id", "4")),
        "identifier": "1",
        "title": "Sacred Marmot",
        "alert_rule": rule,
    }
    alert |= {
        "projects": [project],
        "organization_id": "1",
        "status": {"resolved": 2, "critical": 20}.get(action, 10),
    }
    alert |= {"type": 2, "status_method": 3, "activities": None, "groups": []}
    alert |= {"date_started": iso(at), "date_detected": iso(at), "date_created": iso(at), "date_closed": None}
    title = f"{action.capitalize()}: {rule['name']}"
    data: Record = {"metric_alert": alert, "description_title": title}
    data |= {"description_text": "1000 events in the last 10 minutes\nFilter: level:error"}
    return action, data | {"web_url": f"{HOME}/organizations/{SLUG}/alerts/1/"}


def _sign(resource: str, payload: dict[str, Any], at: datetime, secret: str) -> Outgoing:
    body = orjson.dumps(payload)
    headers = {
        "Content-Type": "application/json",
        "Request-ID": uuid.UUID(bytes=secrets.token_bytes(16), version=4).hex,
        "Sentry-Hook-Resource": resource,
        "Sentry-Hook-Timestamp": str(int(at.timestamp())),
    }
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return Outgoing(body, headers, {"Sentry-Hook-Signature": digest})
