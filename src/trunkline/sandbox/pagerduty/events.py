"""The Events API v2: alerts that trigger, acknowledge and resolve incidents by de-duplication key; changes."""

import secrets
from datetime import datetime
from typing import Any

from trunkline.sandbox.pagerduty.incidents import Incidents
from trunkline.sandbox.service import RefusedError, parse_object

MAX_EVENT = 512 * 1024
SEVERITIES = ("critical", "error", "warning", "info")
ACTIONS = ("trigger", "acknowledge", "resolve")
KEY_LENGTH = 32
MAX_DEDUP_KEY = 255
MAX_SUMMARY = 1_024
MAX_CHANGES = 1_000


def parse_event(raw: bytes) -> dict[str, Any]:
    """Read an event (raises RefusedError)."""
    no_object = RefusedError(400, detail=["Event must be a JSON object"])
    return parse_object(raw, RefusedError(400, detail=["JSON cannot be parsed"]), no_object)


class EventsApi:
    """What one integration of one service receives under its routing key."""

    def __init__(self, incidents: Incidents, service_id: str, routing_key: str) -> None:
        self._incidents = incidents
        self._service_id = service_id
        self._routing_key = routing_key
        self.changes: list[dict[str, Any]] = []

    def enqueue(self, event: dict[str, Any]) -> dict[str, Any]:
        """Take an alert event; what is wrong with it is told all at once."""
        errors = self._routing_errors(event)
        action = event.get("event_action")
        if action not in ACTIONS:
            errors.append(f"'event_action' is missing or invalid (must be one of {', '.join(ACTIONS)})")
        key = event.get("dedup_key")
        if key is not None and not (isinstance(key, str) and len(key) <= MAX_DEDUP_KEY):
            errors.append(f"'dedup_key' must be a string of at most {MAX_DEDUP_KEY} characters")
        if action == "trigger":
            errors += _payload_errors(event.get("payload"), alert=True)
        elif action in ACTIONS and not key:
            errors.append("'dedup_key' is missing or blank")
        if errors:
            raise RefusedError(400, detail=errors)
        key = key or secrets.token_hex(16)
        self._apply(str(action), key, event)
        return {"status": "success", "message": "Event processed", "dedup_key": key}

    def enqueue_change(self, event: dict[str, Any]) -> dict[str, Any]:
        """Take a change event."""
        errors = self._routing_errors(event) + _payload_errors(event.get("payload"), alert=False)
        if errors:
            raise RefusedError(400, detail=errors)
        self.changes = [*self.changes[-MAX_CHANGES + 1 :], event]
        return {"status": "success", "message": "Change event processed"}

    def _routing_errors(self, event: dict[str, Any]) -> list[str]:
        key = event.get("routing_key")
        if not key:
            return ["'routing_key' is missing or blank"]
        if not isinstance(key, str) or len(key) != KEY_LENGTH:
            return [f"Length of 'routing_key' is incorrect (should be {KEY_LENGTH} characters)"]
        if not secrets.compare_digest(key.encode(), self._routing_key.encode()):
            return ["'routing_key' is invalid"]
        return []

    def _apply(self, action: str, key: str, event: dict[str, Any]) -> None:
        """Change the incident; an acknowledge or resolve without an open one is accepted and does nothing."""
        actor = ("services", self._service_id)
        incident = self._incidents.with_key(self._service_id, key)
        if action == "trigger" and incident is None:
            payload = event["payload"]
            incident = self._incidents.open(self._service_id, payload["summary"], key)
            incident.details = payload.get("custom_details")
            incident.urgency = "high" if payload["severity"] in {"critical", "error"} else "low"
        elif action == "trigger" and incident is not None:
            self._incidents.trigger_again(incident, actor)
        elif action == "acknowledge" and incident is not None:
            self._incidents.acknowledge(incident, actor)
        elif incident is not None:
            self._incidents.resolve(incident, actor)


def _payload_errors(payload: Any, *, alert: bool) -> list[str]:
    if not isinstance(payload, dict):
        return ["'payload' is missing or blank"]
    errors = [
        f"'payload.{name}' is missing or blank"
        for name in (("summary", "source") if alert else ("summary",))
        if not isinstance(payload.get(name), str) or not payload[name].strip()
    ]
    if len(str(payload.get("summary", ""))) > MAX_SUMMARY:
        errors.append(f"'payload.summary' is longer than {MAX_SUMMARY} characters")
    if alert and payload.get("severity") not in SEVERITIES:
        errors.append(f"'payload.severity' is invalid (must be one of {', '.join(SEVERITIES)})")
    timestamp = payload.get("timestamp")
    if timestamp is not None and not _is_time(timestamp):
        errors.append("'payload.timestamp' is no ISO 8601 time")
    return errors


def _is_time(value: Any) -> bool:
    """Accept ISO 8601; the vendor's client writes an offset and a Z after it, which the service takes."""
    if not isinstance(value, str):
        return False
    try:
        datetime.fromisoformat(value.removesuffix("Z"))
    except ValueError:
        return False
    return True
