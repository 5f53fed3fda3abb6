"""What the demonstration does with the fakes, as data: which integrations, which calls, how lists are read.

Pure: whoever runs it sends the calls. It lives here because it speaks of vendors, and the command line must not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CONNECTORS = ("servicenow", "pagerduty", "sentry", "slack")
TICKETS, PAGER, TRACKER, CHAT = CONNECTORS
ALERT = "ZeroDivisionError in the checkout"
SUMMARY = "newest_incident"
_NEWEST_FIRST = "ORDERBYDESCopened_at"

_SUMMARY_ENDPOINT: dict[str, Any] = {
    "name": SUMMARY,
    "description": "Say in one line what the newest incident is.",
    "method": "GET",
    "path": "/api/now/table/incident",
    "input_schema": {
        "type": "object",
        "properties": {
            "sysparm_limit": {"type": "integer", "minimum": 1},
            "sysparm_query": {"type": "string"},
        },
    },
    "response_filter": ["result[].number", "result[].short_description", "result[].priority"],
    "response_mapping": {
        "number": "result[0].number",
        "what": "result[0].short_description",
        "priority": "result[0].priority",
    },
    "result_template": "{number} (priority {priority}): {what}",
    "retry_config": {"max_retries": 2, "retry_on_status": [503]},
}


@dataclass(frozen=True)
class Call:
    """One call of an endpoint."""

    integration: str
    endpoint: str
    params: Mapping[str, Any]


def integrations(ready: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the bodies that create the integrations, from what a running sandbox says of itself."""
    tickets, pager, tracker, chat = (ready[name] for name in CONNECTORS)
    return [
        {
            "name": TICKETS,
            "display_name": "ServiceNow (sandbox)",
            "connector": TICKETS,
            "config": {"url": tickets["url"]},
            "credentials": {
                "method": "password",
                "values": {name: tickets[name] for name in ("username", "password")},
            },
            "endpoints": [_SUMMARY_ENDPOINT],
        },
        {
            "name": PAGER,
            "display_name": "PagerDuty (sandbox)",
            "connector": PAGER,
            "config": {"url": pager["url"], "events_url": pager["url"], "from_email": pager["from_email"]},
            "credentials": {"method": "api_key", "values": {"api_key": pager["token"]}},
        },
        {
            "name": TRACKER,
            "display_name": "Sentry (sandbox)",
            "connector": TRACKER,
            "config": {"url": tracker["url"], "organization": tracker["organization"]},
            "credentials": {
                "method": "token",
                "values": {"bearer_token": tracker["token"], "webhook_secret": tracker["webhook_secret"]},
            },
        },
        {
            "name": CHAT,
            "display_name": "Slack (sandbox)",
            "connector": CHAT,
            "config": {"url": chat["url"]},
            "credentials": {"method": "bot_token", "values": {"bearer_token": chat["token"]}},
        },
    ]


def route(ready: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of the route by which alerts reach the chat."""
    target = {"type": "notify", "connector": CHAT, "channel": ready[CHAT]["channel"]}
    return {"name": "Errors to the pager's channel", "event_type": "sentry.*", "target": target}


def alert(hook_url: str) -> dict[str, Any]:
    """Return the order that makes the error tracker send a signed alert to a hook."""
    return {"url": hook_url, "event": "event_alert", "title": ALERT, "level": "fatal"}


def newest_message(ready: Mapping[str, Any]) -> Call:
    return Call(CHAT, "list_messages", {"channel": ready[CHAT]["channel"], "limit": 1})


def first_line(messages: Any) -> str:
    """Return the first line of the newest message of a channel."""
    found = messages.get("messages", []) if isinstance(messages, dict) else messages
    return str(found[0].get("text", "")).splitlines()[0] if found else ""


def newest_incidents(limit: int) -> Call:
    return Call(TICKETS, "list_incidents", {"sysparm_limit": limit, "sysparm_query": _NEWEST_FIRST})


def users(limit: int) -> Call:
    return Call(TICKETS, "list_users", {"sysparm_limit": limit})


def services() -> Call:
    return Call(PAGER, "list_services", {"limit": 1})


def page_of_incidents(offset: int, size: int) -> Call:
    """Return the call that reads one page; the order makes the pages add up."""
    params = {"sysparm_limit": size, "sysparm_offset": offset, "sysparm_query": "ORDERBYnumber"}
    return Call(TICKETS, "list_incidents", params)


def records(data: Any) -> Sequence[Mapping[str, Any]]:
    """Return the records in a list's answer, of whichever fake."""
    for name in ("result", "services"):
        if isinstance(data, dict) and isinstance(data.get(name), list):
            return [item for item in data[name] if isinstance(item, dict)]
    return []


def incident_name(incident: Mapping[str, Any]) -> str:
    return str(incident["number"])


def describe_incident(incident: Mapping[str, Any]) -> str:
    """Return one line about an incident of the ticket system."""
    what = incident.get("short_description") or incident.get("category") or "no description"
    return f"{incident_name(incident)}: {what}"


def describe_user(user: Mapping[str, Any]) -> str:
    return str(user.get("name") or user.get("user_name"))


def page_somebody(incident: Mapping[str, Any], service: Mapping[str, Any]) -> Call:
    """Return the call that opens an incident in the pager from one of the ticket system."""
    params = {
        "title": describe_incident(incident),
        "service_id": service["id"],
        "incident_key": incident_name(incident),
    }
    return Call(PAGER, "create_incident", params)


def summary() -> Call:
    """Return the call whose stages all differ."""
    return Call(TICKETS, SUMMARY, {"sysparm_limit": 2, "sysparm_query": _NEWEST_FIRST})


def one_outage() -> dict[str, Any]:
    """Return the fault that makes the ticket system answer 503 once."""
    return {
        "service": TICKETS,
        "kind": "status",
        "status": 503,
        "times": 1,
        "headers": {"Retry-After": "1"},
    }
