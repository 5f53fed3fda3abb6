"""The webhooks of a Linear workspace: their bodies, headers and signature, as of now."""

import hashlib
import hmac
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

import orjson

from trunkline.errors import Invalid
from trunkline.sandbox.linear.workspace import HOME, Record, Workspace, iso
from trunkline.sandbox.service import Build, Outgoing

ACTIONS = ("create", "update", "remove")
_USER = ("id", "name", "email", "avatarUrl", "url")


def builders(workspace: Workspace, secret: str) -> dict[str, Build]:
    """Return what builds each kind of webhook. Options: `action`, `id` (of the record), `changed` (an object of old
    values), and fields that replace those of `data`, such as `title`.
    """

    def build(kind: str, make: Callable[[dict[str, Any]], Record]) -> Build:
        return lambda options, at, given: _sign(
            kind, _payload(workspace, kind, make(options), options, at), given or secret
        )

    return {
        "Issue": build("Issue", lambda options: _issue(_pick(workspace, "issues", options))),
        "Comment": build("Comment", lambda options: _comment(_pick(workspace, "issues", options), workspace)),
        "Project": build("Project", lambda options: _project(_pick(workspace, "projects", options))),
    }


def _pick(workspace: Workspace, collection: str, options: dict[str, Any]) -> Record:
    wanted = options.get("id")
    if wanted is None:
        return workspace.all(collection)[-1]
    for record in workspace.all(collection):
        if wanted in {record["id"], record.get("identifier")}:
            return record
    raise Invalid.field(("id",), f"is no id in {collection}")


def _user(user: Record | None) -> Record | None:
    return {name: user[name] for name in _USER} if user else None


def _issue(issue: Record) -> Record:
    plain = (
        "id",
        "createdAt",
        "updatedAt",
        "number",
        "title",
        "priority",
        "identifier",
        "url",
        "description",
    )
    data = {name: issue[name] for name in plain}
    for name, fields in (
        ("state", ("id", "color", "name", "type")),
        ("team", ("id", "key", "name")),
        ("project", ("id", "name", "url")),
    ):
        found = issue[name]
        data[f"{name}Id"] = found and found["id"]
        data[name] = found and {field: found[field] for field in fields}
    labels = [{name: label[name] for name in ("id", "color", "name")} for label in issue["labels"]]
    data |= {"labels": labels, "labelIds": [label["id"] for label in labels]}
    data |= {"assignee": _user(issue["assignee"]), "assigneeId": (issue["assignee"] or {}).get("id")}
    return {key: value for key, value in data.items() if value is not None}


def _comment(issue: Record, workspace: Workspace) -> Record:
    user = workspace.viewer
    about = {name: issue[name] for name in ("id", "title", "identifier", "url")}
    about["team"] = {name: issue["team"][name] for name in ("id", "key", "name")}
    data = {"id": str(uuid.uuid4()), "createdAt": issue["updatedAt"], "updatedAt": issue["updatedAt"]}
    return (
        data
        | {"body": "Looking.", "issueId": issue["id"], "issue": about, "userId": user["id"]}
        | {
            "user": _user(user),
            "reactionData": [],
            "url": f"{issue['url']}#comment-1",
        }
    )


def _project(project: Record) -> Record:
    plain = ("id", "createdAt", "updatedAt", "name", "description", "slugId", "color", "url", "state")
    return {name: project[name] for name in plain} | {"teamIds": [team["id"] for team in project["teams"]]}


def _payload(
    workspace: Workspace, kind: str, data: Record, options: dict[str, Any], at: datetime
) -> dict[str, Any]:
    action = options.get("action", "create")
    if action not in ACTIONS:
        raise Invalid.field(("action",), f"must be one of: {', '.join(ACTIONS)}")
    replaced = {name: value for name, value in options.items() if name not in {"action", "id", "changed"}}
    payload = {
        "action": action,
        "actor": {**(_user(workspace.viewer) or {}), "type": "user"},
        "createdAt": iso(at),
        "data": {**data, **replaced},
        "url": data.get("url", HOME),
        "type": kind,
        "organizationId": workspace.organization["id"],
        "webhookTimestamp": int(at.timestamp() * 1_000),
        "webhookId": str(uuid.UUID(int=1, version=4)),
    }
    if action == "update":
        payload["updatedFrom"] = options.get("changed") or {"updatedAt": data["updatedAt"]}
    return payload


def _sign(kind: str, payload: dict[str, Any], secret: str) -> Outgoing:
    body = orjson.dumps(payload)
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "Linear-Webhook",
        "Linear-Delivery": str(uuid.uuid4()),
        "Linear-Event": kind,
        "Linear-Timestamp": str(payload["webhookTimestamp"]),
    }
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return Outgoing(body, headers, {"Linear-Signature": signature})
