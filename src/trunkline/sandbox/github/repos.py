"""The user's repositories and what is in them; how issues are listed, made and changed. No HTTP here."""

import hashlib
import random
from datetime import datetime, timedelta
from typing import Any

from trunkline.clock import Clock
from trunkline.sandbox.service import RefusedError

Record = dict[str, Any]
HOME = "https://github.com"
LOGIN = "octo-trunkline"
MAX_TITLE = 256
MAX_TEXT = 65_536
SEEDED = 70
REASONS = ("completed", "not_planned", "duplicate", "reopened", None)
_TITLES = ("Checkout fails", "Search is slow", "Typo in the docs", "Crash on start", "Support dark mode")
_LABELS = ("bug", "documentation", "urgent")


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def invalid(resource: str, field: str, code: str = "missing_field", **more: Any) -> RefusedError:
    """Input that the API refuses, naming the field."""
    error = {"resource": resource, "code": code, "field": field, **more}
    return RefusedError(422, "Validation Failed", detail=[error])


def user_of(login: str, number: int = 1) -> Record:
    url = f"{HOME}/{login}"
    return {"login": login, "id": number, "type": "User", "html_url": url, "site_admin": False}


class Account:
    """One user with two repositories. Ids are the same for the same seed."""

    def __init__(self, clock: Clock, seed: int) -> None:
        self._clock = clock
        dice = random.Random(seed)
        now = clock.now()
        self.user = user_of(LOGIN) | {"name": "Octo Trunkline", "email": None}
        self.logins = {LOGIN: self.user, "mona": user_of("mona", 2)}
        self.repos: dict[str, Record] = {}
        self.issues: dict[str, list[Record]] = {}
        self.commits: dict[str, list[Record]] = {}
        self.runs: dict[str, list[Record]] = {}
        self.dispatches: list[Record] = []
        for number, name in enumerate(("shop", "infra"), 1):
            self._add_repo(name, number, now)
            for place in range(SEEDED):
                at = now - timedelta(hours=SEEDED - place)
                title, label = dice.choice(_TITLES), dice.choice(_LABELS)
                issue = self._issue(name, title, label, at)
                if place % 7 == 0:
                    issue["pull_request"] = {"url": f"{HOME}/{LOGIN}/{name}/pull/{issue['number']}"}
                if place % 3 == 0:
                    issue |= {"state": "closed", "state_reason": "completed", "closed_at": iso(at)}
                self.commits[name].append(self._commit(name, f"{title}, fixed", at))

    def _add_repo(self, name: str, number: int, now: datetime) -> None:
        url = f"{HOME}/{LOGIN}/{name}"
        repo: Record = {
            "id": number + 9,
            "name": name,
            "full_name": f"{LOGIN}/{name}",
            "private": name == "infra",
        }
        repo |= {"owner": self.user, "html_url": url, "default_branch": "main", "archived": False}
        repo |= {"open_issues_count": 0, "created_at": iso(now - timedelta(days=90 - number)), "fork": False}
        self.repos[name] = repo | {"updated_at": iso(now), "pushed_at": iso(now)}
        self.issues[name], self.commits[name] = [], []
        run: Record = {
            "id": 30_000 + number,
            "name": "CI",
            "run_number": 7,
            "event": "push",
            "head_branch": "main",
        }
        run |= {"status": "completed", "conclusion": "failure", "workflow_id": 1, "run_attempt": 1}
        run |= {"head_sha": "0" * 40, "html_url": f"{url}/actions/runs/{30_000 + number}", "actor": self.user}
        self.runs[name] = [run | {"created_at": iso(now), "updated_at": iso(now), "display_title": "Ship it"}]

    def repo(self, owner: str, name: str) -> Record:
        """Return a repository (raises RefusedError)."""
        if owner != LOGIN or name not in self.repos:
            raise RefusedError(404)
        return self.repos[name]

    def issue(self, name: str, number: Any) -> Record:
        """Return an issue by its number (raises RefusedError)."""
        for issue in self.issues[name]:
            if str(issue["number"]) == str(number):
                return issue
        raise RefusedError(404)

    def create_issue(self, name: str, given: Record) -> Record:
        """Open an issue; labels that are new are made (raises RefusedError)."""
        if not isinstance(given.get("title"), str) or not given["title"].strip():
            raise invalid("Issue", "title")
        changes = self._changes(given)
        issue = self._issue(name, changes["title"], None, self._clock.now())
        return self._apply(issue, changes)

    def update_issue(self, name: str, number: Any, given: Record) -> Record:
        """Change an issue; what is not given stays (raises RefusedError)."""
        issue = self.issue(name, number)
        changes = self._changes(given)
        if given.get("state", "open") not in {"open", "closed"}:
            raise invalid("Issue", "state", "invalid", value=given["state"])
        if given.get("state_reason") not in REASONS:
            raise invalid("Issue", "state_reason", "invalid", value=given["state_reason"])
        if "state" in given:
            is_closed = given["state"] == "closed"
            changes["state"] = given["state"]
            changes["state_reason"] = given.get("state_reason") or ("completed" if is_closed else "reopened")
            changes["closed_at"] = iso(self._clock.now()) if is_closed else None
        return self._apply(issue, changes)

    def comment(self, name: str, number: Any, given: Record) -> Record:
        """Comment on an issue (raises RefusedError)."""
        issue, text = self.issue(name, number), given.get("body")
        if not isinstance(text, str) or not text.strip() or len(text) > MAX_TEXT:
            raise invalid("IssueComment", "body")
        comments: list[Record] = issue["_comments"]
        number = 1_000 * issue["number"] + len(comments)
        made = {
            "id": number,
            "body": text,
            "user": self.user,
            "html_url": f"{issue['html_url']}#issuecomment-{number}",
        }
        comments.append(made | {"created_at": iso(self._clock.now()), "updated_at": iso(self._clock.now())})
        self._apply(issue, {"comments": len(comments)})
        return comments[-1]

    def _changes(self, given: Record) -> Record:
        changes: Record = {}
        for field, limit in (("title", MAX_TITLE), ("body", MAX_TEXT)):
            if (text := given.get(field)) is None:
                continue
            if not isinstance(text, str) or len(text) > limit or (field == "title" and not text.strip()):
                raise invalid(
                    "Issue", field, "custom", message=f"{field} is too long (maximum is {limit} characters)"
                )
            changes[field] = text
        for field in ("labels", "assignees"):
            names = given.get(field)
            if names is None:
                continue
            if not isinstance(names, list) or not all(isinstance(one, str) and one for one in names):
                raise invalid("Issue", field, "invalid")
            changes[field] = names
        if unknown := [login for login in changes.get("assignees", []) if login not in self.logins]:
            raise invalid("Issue", "assignees", "invalid", value=unknown[0])
        if "assignees" in changes:
            changes["assignees"] = [self.logins[login] for login in changes["assignees"]]
            changes["assignee"] = (changes["assignees"] or [None])[0]
        if "labels" in changes:
            changes["labels"] = [_label(label) for label in changes["labels"]]
        return changes

    def _apply(self, issue: Record, changes: Record) -> Record:
        issue |= {**changes, "updated_at": iso(self._clock.now())}
        return issue

    def _issue(self, name: str, title: str, label: str | None, at: datetime) -> Record:
        number = len(self.issues[name]) + 1
        issue: Record = {
            "id": self.repos[name]["id"] * 10_000 + number,
            "number": number,
            "title": title,
            "body": None,
        }
        issue |= {"state": "open", "state_reason": None, "user": self.user, "comments": 0, "locked": False}
        issue |= {"labels": [_label(label)] if label else [], "assignees": [], "assignee": None}
        issue |= {"html_url": f"{HOME}/{LOGIN}/{name}/issues/{number}", "closed_at": None, "_comments": []}
        issue |= {"created_at": iso(at), "updated_at": iso(at), "milestone": None}
        self.issues[name].append(issue)
        return issue

    def _commit(self, name: str, message: str, at: datetime) -> Record:
        sha = hashlib.sha256(f"{name}{message}{at}".encode()).hexdigest()[:40]
        person = {"name": "Mona", "email": "mona@example.com", "date": iso(at)}
        commit = {"message": message, "author": person, "committer": person}
        return {"sha": sha, "commit": commit, "author": self.logins["mona"]} | {
            "html_url": f"{HOME}/{LOGIN}/{name}/commit/{sha}",
            "parents": [],
        }

    def pull(self, name: str, issue: Record) -> Record:
        """Return a pull request, which is an issue with branches."""
        kept = (
            "id",
            "number",
            "title",
            "body",
            "state",
            "user",
            "labels",
            "created_at",
            "updated_at",
            "closed_at",
        )
        pull: Record = {field: issue[field] for field in kept}
        pull |= {"html_url": issue["pull_request"]["url"], "draft": False, "merged_at": None, "merged": False}
        sha = hashlib.sha256(str(issue["id"]).encode()).hexdigest()[:40]
        branch = f"fix-{issue['number']}"
        pull["head"] = {"ref": branch, "sha": sha, "label": f"{LOGIN}:{branch}"}
        return pull | {
            "base": {"ref": "main", "sha": "0" * 40, "label": f"{LOGIN}:main", "repo": self.repos[name]}
        }


def _label(name: str) -> Record:
    return {"id": sum(name.encode()), "name": name, "color": "d73a4a", "default": name in _LABELS}


def shown(issue: Record) -> Record:
    """Return an issue without what the fake keeps on it for itself."""
    return {name: value for name, value in issue.items() if not name.startswith("_")}
