"""Codespar's spellings: pure functions between its JSON and ours, its error table, and each guess its page leaves open.

Its documents: docs/codespar.md.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from trunkline.catalog.manifest import Manifest, credential_fields, webhook_fields
from trunkline.errors import (
    Broken,
    Conflict,
    FieldError,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    RemoteFailed,
    TooMany,
    TrunklineError,
    Unauthenticated,
    Unavailable,
)
from trunkline.http.dialects.dialect import NoSuchMethod
from trunkline.http.wire import Answer, TooLarge, encode
from trunkline.redact import redact_keys
from trunkline.services.integrations import Integration
from trunkline.services.routes import Route

_MAX_TEXT = 2000


class NotConfigured(Invalid):
    """The integration is not configured"""

    code = "integration_not_configured"


class IncidentNotFound(NotFound):
    """Incident not found"""

    code = "incident_not_found"


class RouteNotFound(NotFound):
    """Channel route not found"""

    code = "route_not_found"


_ERRORS: dict[type[TrunklineError], tuple[int, str]] = {
    NotConfigured: (400, "INTEGRATION_NOT_CONFIGURED"),
    TooLarge: (413, "PAYLOAD_TOO_LARGE"),
    Invalid: (400, "VALIDATION_ERROR"),
    Unauthenticated: (401, "UNAUTHORIZED"),
    Forbidden: (403, "FORBIDDEN"),
    IncidentNotFound: (404, "INCIDENT_NOT_FOUND"),
    RouteNotFound: (404, "ROUTE_NOT_FOUND"),
    NoSuchMethod: (405, "METHOD_NOT_ALLOWED"),
    NotFound: (404, "NOT_FOUND"),
    Conflict: (409, "CONFLICT"),
    Gone: (404, "NOT_FOUND"),
    TooMany: (429, "RATE_LIMITED"),
    RemoteFailed: (502, "UPSTREAM_ERROR"),
    Unavailable: (503, "SERVICE_UNAVAILABLE"),
    Broken: (500, "INTERNAL_ERROR"),
}
"""The page names the first of the 400s, the two 404s of a noun, and UPSTREAM_ERROR; the other codes are choices."""


def to_answer(error: TrunklineError, request_id: str) -> Answer:
    """Write an error in the one shape of this format."""
    del request_id  # it is a header
    status, code = next(_ERRORS[kind] for kind in type(error).__mro__ if kind in _ERRORS)
    text = "Internal error" if isinstance(error, Broken) else _text(error)
    body: dict[str, Any] = {"error": redact_keys(text), "code": code, "status": status}
    if isinstance(error, RemoteFailed) and error.trace is not None:
        body |= error.trace
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if isinstance(error, TooMany):
        headers = ((b"retry-after", b"%d" % -(-error.retry_after // 1)),)
    if isinstance(error, NoSuchMethod):
        headers = ((b"allow", error.allowed.encode()),)
    return Answer(status, encode(body), headers=headers)


def _text(error: TrunklineError) -> str:
    if isinstance(error, Invalid) and error.fields:
        return "; ".join(_fault(field) for field in error.fields)[:_MAX_TEXT]
    return error.message


def _fault(field: FieldError) -> str:
    """Name a field as this format's client knows it, without the place that our own list of faults begins with."""
    named = field.loc if field.type != "json_invalid" else ()  # which names a byte
    place = [str(part)[:200] for part in named if part not in {"body", "query", "path", "params"}]
    return f"{'.'.join(place) or 'body'}: {field.msg}"


def camel(name: str) -> str:
    """Spell `created_at` as `createdAt`."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def snake(name: str) -> str:
    """Spell `createdAt` as `created_at`."""
    return re.sub(r"(?<=[a-z0-9])[A-Z]", lambda found: "_" + found[0], name).lower()


def utc(text: Any) -> Any:
    """Write a service's time as this format does: ISO 8601, UTC, `Z`, milliseconds if any; what is no time stays."""
    if isinstance(text, datetime):
        when = text
    else:
        try:
            when = datetime.fromisoformat(text)
        except (TypeError, ValueError):
            return text
    try:
        when = when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    except OverflowError:
        return text
    return when.isoformat(timespec="milliseconds" if when.microsecond else "seconds").replace("+00:00", "Z")


def stamp(when: datetime | None) -> str | None:
    """Write a time of ours, in whole seconds."""
    return None if when is None else str(utc(when.replace(microsecond=0)))


_TIMES = frozenset({"acknowledgedAt", "createdAt", "firstSeen", "lastSeen", "since", "until"})
_NUMBERS = frozenset({"count", "userCount", "issueCount", "escalationLevel", "priority"})
ONCALL = ("userId", "name", "email", "escalationLevel", "since", "until")
INCIDENT = ("id", "title", "status", "urgency", "service", "createdAt", "assignee")
ACKNOWLEDGED = ("id", "status", "acknowledgedAt")
TEAM = ("id", "name", "key", "issueCount")
ISSUE = ("id", "title", "status", "priority", "assignee", "labels", "createdAt")
CREATED_ISSUE = ("id", "title", "status", "url")
ERROR_ISSUE = (
    *("id", "title", "culprit", "level", "count", "userCount"),
    *("firstSeen", "lastSeen", "permalink"),
)


def show(record: Any, names: Sequence[str]) -> dict[str, Any]:
    """Spell a mapped record as this format does: these names, in this order; null for what is not there."""
    given = {camel(key): value for key, value in record.items()} if isinstance(record, Mapping) else {}
    return {name: _value(name, given.get(name)) for name in names}


def _value(name: str, value: Any) -> Any:
    if name in _TIMES:
        return utc(value)
    if name in _NUMBERS and isinstance(value, str) and value.isdecimal():
        return int(value[:18])  # one service counts in strings
    if name in _NUMBERS and isinstance(value, float) and value.is_integer():
        return int(value)  # another has floats for 0 to 4
    if isinstance(value, Mapping):  # somebody without a name is nobody
        return dict(value) if any(part is not None for part in value.values()) else None
    return value


def show_all(records: Any, names: Sequence[str]) -> list[dict[str, Any]]:
    """Spell a list of records."""
    return [show(record, names) for record in records_of(records)]


def records_of(value: Any) -> list[Mapping[str, Any]]:
    """Return the records of a list; what is none is left out."""
    return [record for record in value if isinstance(record, Mapping)] if isinstance(value, list) else []


def show_oncall(records: Any) -> dict[str, Any] | None:
    """Choose whom to show of those on call: the page has one, so the lowest level's first. Null: nobody is."""
    shown = show_all(records, ONCALL)
    return min(shown, key=lambda person: person["escalationLevel"] or 0, default=None)


STATUSES = ("triggered", "acknowledged", "resolved")


def read_statuses(text: str) -> list[str]:
    """Read a list separated by commas.

    Raises:
        Invalid: naming `status`.
    """
    found = list(dict.fromkeys(part.strip() for part in text.split(",")))
    if not set(found) <= set(STATUSES):
        raise Invalid.field(("status",), f"must be one or more of {', '.join(STATUSES)}, separated by commas")
    return found


def show_status(connector: str, row: Integration | None) -> dict[str, Any]:
    """Show whether a connector's integration is set up: it is once credentials are stored."""
    is_configured = row is not None and bool(row.configured)
    is_active = is_configured and row is not None and row.enabled
    return {
        "id": connector,
        "configured": is_configured,
        "status": "active" if is_active else "inactive",
        # A choice: when a connection test last reached the service. Nothing is synced here as the page's word suggests.
        "lastSync": stamp(row.last_tested_at) if row is not None and is_active else None,
    }


@dataclass(frozen=True, slots=True)
class Config:
    """A client's `config`, sorted by where its values belong; and how each was spelled there."""

    config: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    spelled: dict[str, str] = field(default_factory=dict)

    def name_again(self, error: Invalid) -> Invalid:
        """Name the fields of an error as the client did; one that is missing, as the client would have."""
        fields = []
        for fault in error.fields:
            name = str(fault.loc[-1])
            spelled = self.spelled.get(name) or _SPELLED.get(name) or camel(name)
            fields.append(FieldError(("config", spelled), fault.msg, fault.type))
        return Invalid(error.message, fields)


_KEYS = frozenset({"apiKey", "apiToken", "accessToken", "authToken", "botToken", "token"})
_SIGNING = frozenset({"webhookSecret", "signingSecret"})
_ALIASES = {"org": "organization"}
_SPELLED = {"bearer_token": "token", "organization": "org"}


def read_config(manifest: Manifest, given: Mapping[str, str]) -> Config:
    """Sort a client's `config` into a connector's config and secrets.

    Names are the connector's in camelCase. Whatever a client calls its key is the connector's first credential, and its
    webhook secret the connector's first. Other names are left out, as the product's own server does.
    """
    method = next(iter(manifest.auth.values()))
    credentials = [entry.name for entry in credential_fields(method)]
    hook_secrets = [entry.name for entry in webhook_fields(manifest.webhook)]
    found = Config()
    for key, text in given.items():
        name = snake(key)
        if name not in manifest.config and _ALIASES.get(key) in manifest.config:
            name = _ALIASES[key]
        if key in _KEYS and name not in credentials:
            name = credentials[0]
        if key in _SIGNING and name not in hook_secrets and hook_secrets:
            name = hook_secrets[0]
        if name in manifest.config:
            found.config[name] = text
        elif name in credentials or name in hook_secrets:
            found.secrets[name] = text
        found.spelled[name] = key
    return found


AlertType = Literal["deploy", "error", "incident", "all"]
_PATTERNS: dict[str, tuple[str, ...]] = {
    "deploy": ("deploy.*",),
    "error": ("sentry.*",),
    "incident": ("incident.*", "pagerduty.incident.*"),
}
"""Which events an alert type of the product's own server stands for: a choice, as only its name is known."""
_ALERTS = "codespar alerts: "
DEFAULT_ORG = "default"


def read_org(headers: Mapping[str, str]) -> str:
    """Return the organisation that a request names, or `default`."""
    text = headers.get("x-org-id", "").encode("latin-1").decode("utf-8", "replace")
    return name_org(text)


def name_org(text: str) -> str:
    """Return the organisation that a text names, `default` where it names none."""
    text = text.strip()
    return text if text.casefold() not in {"", DEFAULT_ORG} else DEFAULT_ORG


def patterns_of(alert_types: Sequence[str]) -> list[str]:
    """Return the patterns of alert types. `all` are those of every type, not `*`: messages in channels are no alerts."""
    wanted = _PATTERNS if "all" in alert_types else alert_types
    return list(dict.fromkeys(pattern for name in wanted for pattern in _PATTERNS[name]))


def alerts_name(channel: str) -> str:
    """Name the routes that alert types were turned into."""
    return (_ALERTS + channel)[:256]


def sets_alerts(route: Route) -> bool:
    """Tell whether a route was made of an alert type, and so is replaced by the next ones for its channel."""
    return route.name.startswith(_ALERTS) and not route.conditions


def is_channel_route(route: Route) -> bool:
    """Tell whether a route is one that this format can show: messages into a channel."""
    return route.target.get("type") == "notify"


def show_route(route: Route) -> dict[str, Any]:
    """Show a route into a channel."""
    return {
        "id": route.id,
        "eventType": route.event_type,
        "channel": route.target["connector"],
        "channelId": route.target["channel"],
        "projectId": route.project_id,
        "enabled": route.enabled,
    }


def name_route_fields(error: Invalid, connector: str) -> Invalid:
    """Name the fields of a route's error as this format does."""
    names = {
        "event_type": "eventType",
        "channel": "channelId",
        "project_id": "projectId",
        "connector": connector,
    }
    fields = [
        FieldError((names.get(str(fault.loc[-1]), str(fault.loc[-1])),), fault.msg, fault.type)
        for fault in error.fields
    ]
    return Invalid(error.message, fields)


def show_received(inbox_id: str, *, is_routed: bool) -> dict[str, Any]:
    """Answer a webhook. Trunkline has no agents: what took the alert is named after the event, and null is nobody."""
    return {
        "received": True,
        "routed": is_routed,
        "agentId": f"agent-incident-{inbox_id[:4]}" if is_routed else None,
    }
