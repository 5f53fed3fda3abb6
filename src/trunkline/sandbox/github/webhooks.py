"""The webhooks of a repository: their bodies, headers and both signatures, as of now."""

import hashlib
import hmac
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import orjson

from trunkline.errors import Invalid
from trunkline.sandbox.github.repos import HOME, LOGIN, Account, Record, iso, shown
from trunkline.sandbox.service import Build, Outgoing

Make = Callable[[Account, str, dict[str, Any], datetime], Record]
HOOK_ID = "1"


def builders(account: Account, secret: str) -> dict[str, Build]:
    """Return what builds each event. Options: `repository` (a name), `action`, `number`, `title`, `form` (true: sent
    as a form), and what single events have.
    """

    def build(event: str, make: Make) -> Build:
        def send(options: dict[str, Any], at: datetime, given: str | None) -> Outgoing:
            name = options.get("repository", "shop")
            if name not in account.repos:
                raise Invalid.field(("repository",), f"must be one of: {', '.join(account.repos)}")
            body = {
                **make(account, name, options, at),
                "repository": account.repos[name],
                "sender": account.user,
            }
            return _sign(event, body, given or secret, is_form=options.get("form") is True)

        return send

    made: dict[str, Make] = {
        "ping": _ping,
        "push": _push,
        "issues": _issues,
        "issue_comment": _comment,
        "pull_request": _pull,
        "workflow_run": _run,
    }
    return {event: build(event, make) for event, make in made.items()}


def _ping(account: Account, name: str, options: dict[str, Any], at: datetime) -> Record:
    del account, name, options
    hook = {"type": "Repository", "id": int(HOOK_ID), "active": True, "events": ["*"], "created_at": iso(at)}
    return {"zen": "Keep it logically awesome.", "hook_id": int(HOOK_ID), "hook": hook}


def _push(account: Account, name: str, options: dict[str, Any], at: datetime) -> Record:
    commit = account.commits[name][-1]
    sha, message = commit["sha"], str(options.get("title", commit["commit"]["message"]))
    author = {"name": "Mona", "email": "mona@example.com", "username": "mona"}
    head: Record = {"id": sha, "message": message, "timestamp": iso(at), "url": commit["html_url"]}
    head |= {"author": author, "committer": author, "added": [], "removed": [], "modified": ["src/cart.py"]}
    before = account.commits[name][-2]["sha"]
    made: Record = {
        "ref": options.get("ref", "refs/heads/main"),
        "before": before,
        "after": sha,
        "forced": False,
    }
    made |= {"created": False, "deleted": False, "base_ref": None, "commits": [head], "head_commit": head}
    made |= {"compare": f"{HOME}/{LOGIN}/{name}/compare/{before[:12]}...{sha[:12]}"}
    return made | {"pusher": {"name": LOGIN, "email": "octo@example.com"}}


def _find(account: Account, name: str, options: dict[str, Any], *, pulls: bool) -> Record:
    found = [one for one in account.issues[name] if ("pull_request" in one) == pulls]
    if "number" in options:
        found = [one for one in found if one["number"] == options["number"]]
    if not found:
        raise Invalid.field(("number",), "is no number of one")
    return shown(found[-1]) | ({"title": options["title"]} if "title" in options else {})


def _issues(account: Account, name: str, options: dict[str, Any], at: datetime) -> Record:
    action = options.get("action", "opened")
    issue = _find(account, name, options, pulls=False) | {"updated_at": iso(at)}
    if action in {"closed", "opened", "reopened"}:
        issue |= {"state": "closed" if action == "closed" else "open"}
    return {"action": action, "issue": issue}


def _comment(account: Account, name: str, options: dict[str, Any], at: datetime) -> Record:
    issue = _find(account, name, options, pulls=False)
    comment = {"id": 99, "user": account.user, "body": options.get("body", "Looking."), "created_at": iso(at)}
    comment |= {"html_url": f"{issue['html_url']}#issuecomment-99", "updated_at": iso(at)}
    return {"action": options.get("action", "created"), "issue": issue, "comment": comment}


def _pull(account: Account, name: str, options: dict[str, Any], at: datetime) -> Record:
    action = options.get("action", "opened")
    pull = account.pull(name, _find(account, name, options, pulls=True)) | {"updated_at": iso(at)}
    if action == "closed":
        merged_at = iso(at) if options.get("merged", True) else None
        pull |= {"state": "closed", "merged": bool(merged_at), "merged_at": merged_at}
    return {"action": action, "number": pull["number"], "pull_request": pull}


def _run(account: Account, name: str, options: dict[str, Any], at: datetime) -> Record:
    run = account.runs[name][0] | {"conclusion": options.get("conclusion", "failure"), "updated_at": iso(at)}
    run |= {"display_title": options.get("title", run["display_title"])}
    workflow = {"id": 1, "name": run["name"], "path": ".github/workflows/ci.yml", "state": "active"}
    return {"action": options.get("action", "completed"), "workflow_run": run, "workflow": workflow}


def _sign(event: str, payload: Record, secret: str, *, is_form: bool) -> Outgoing:
    body = orjson.dumps(payload)
    if is_form:
        body = urlencode({"payload": body.decode()}).encode()
    headers = {
        "Content-Type": "application/x-www-form-urlencoded" if is_form else "application/json",
        "User-Agent": "GitHub-Hookshot/sandbox",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": str(uuid.uuid4()),
        "X-GitHub-Hook-ID": HOOK_ID,
        "X-GitHub-Hook-Installation-Target-Type": "repository",
    }
    key = secret.encode()
    proof = {
        "X-Hub-Signature-256": f"sha256={hmac.new(key, body, hashlib.sha256).hexdigest()}",
        "X-Hub-Signature": f"sha1={hmac.new(key, body, hashlib.sha1).hexdigest()}",
    }
    return Outgoing(body, headers, proof)
