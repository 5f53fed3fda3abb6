"""The organization's projects, issues and events, the search over them, and what may be changed. No HTTP here."""

import hashlib
import operator
import random
import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from trunkline.clock import Clock
from trunkline.sandbox.service import RefusedError

Record = dict[str, Any]
SLUG = "trunkline-sandbox"
SEEDED = 130
STATUSES = ("resolved", "resolvedInNextRelease", "unresolved", "ignored")
LEVELS = ("error", "fatal", "warning", "info")
_TITLES = (
    ("ReferenceError: cart is not defined", "src/cart.ts in total"),
    ("TimeoutError: pool is exhausted", "shop.db in connect"),
    ("KeyError: 'price'", "shop.invoice in lines"),
    ("TypeError: x is null", "src/login.ts in submit"),
)
_PEOPLE = (("4", "Alice Abara", "alice@example.com"), ("5", "Bob Bauer", "bob@example.com"))
_TERM = re.compile(r'(!?[A-Za-z_.]+):(>=|<=|>|<)?("[^"]*"|\S+)|("[^"]*"|\S+)')
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_ORDER = {"date": "lastSeen", "new": "firstSeen", "freq": "count", "user": "userCount"}


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def invalid(**problems: str) -> RefusedError:
    """Fields that are refused, each with its problem."""
    return RefusedError(400, detail={name: [text] for name, text in problems.items()})


class Organization:
    """Everything the organization has. Ids are the same for the same seed."""

    def __init__(self, clock: Clock, seed: int) -> None:
        self._clock = clock
        dice = random.Random(seed)
        now = clock.now()
        links = {"organizationUrl": f"https://{SLUG}.sentry.io", "regionUrl": "https://us.sentry.io"}
        self.document: Record = {"id": "1", "slug": SLUG, "name": "Trunkline Sandbox", "links": links}
        self.people = [{"type": "user", "id": i, "name": n, "email": e} for i, n, e in _PEOPLE]
        self.projects: list[Record] = [
            {"id": number, "slug": slug, "name": name, "platform": platform, "isMember": True}
            | {
                "dateCreated": iso(now - timedelta(days=400)),
                "teams": [{"id": "3", "slug": "core", "name": "Core"}],
            }
            for number, slug, name, platform in (
                ("2", "shop", "Shop", "javascript"),
                ("3", "api", "API", "python"),
            )
        ]
        self.releases: list[Record] = [
            {"id": number, "version": f"shop@1.{number}.0", "shortVersion": f"1.{number}.0", "url": None}
            | {
                "dateCreated": iso(now - timedelta(days=30 - number)),
                "dateReleased": None,
                "newGroups": number,
            }
            | {"projects": [{"slug": "shop", "name": "Shop"}], "commitCount": 3, "deployCount": 1}
            for number in range(3, 0, -1)
        ]
        self.issues: dict[str, Record] = {}
        self.comments: list[Record] = []
        for place in range(SEEDED):
            at = now - timedelta(hours=SEEDED - place)
            issue = self.open(dice.choice(self.projects), *dice.choice(_TITLES), dice.choice(LEVELS), at)
            issue |= {"count": str(dice.randrange(1, 500)), "userCount": dice.randrange(50)}
            issue["status"] = "resolved" if place % 5 == 0 else "unresolved"

    def open(self, project: Record, title: str, culprit: str, level: str, at: datetime) -> Record:
        """Add an issue, first and last seen at that time."""
        number = len(self.issues) + 1
        issue_id = str(5_550_000 + number)
        seen = iso(at)
        kind, _, value = title.partition(": ")
        issue: Record = {"id": issue_id, "shortId": f"{project['slug'].upper()}-{number:X}", "title": title}
        issue |= {"culprit": culprit, "level": level, "status": "unresolved", "substatus": "new"}
        issue |= {"statusDetails": {}, "logger": None, "type": "error", "count": "1", "userCount": 1}
        issue |= {"project": {name: project[name] for name in ("id", "slug", "name", "platform")}}
        issue |= {"metadata": {"type": kind, "value": value}, "assignedTo": None, "isBookmarked": False}
        issue |= {"firstSeen": seen, "lastSeen": seen, "hasSeen": False, "isUnhandled": True}
        issue |= {"permalink": f"https://{SLUG}.sentry.io/issues/{issue_id}/", "annotations": []}
        self.issues[issue_id] = issue
        return issue

    def issue(self, wanted: str) -> Record:
        """Return an issue by its id or its short id (raises RefusedError)."""
        for issue in self.issues.values():
            if wanted in {issue["id"], issue["shortId"]}:
                return issue
        raise RefusedError(404)

    def project(self, slug: str) -> Record:
        """Return a project by slug or id (raises RefusedError)."""
        for project in self.projects:
            if slug in {project["slug"], project["id"]}:
                return project
        raise RefusedError(404)

    def search(self, query: str, sort: str) -> list[Record]:
        """Return the issues that a search finds (raises RefusedError for what this fake cannot search by)."""
        if sort not in _ORDER:
            raise RefusedError(400, f"Invalid sort: {sort}")
        found = list(self.issues.values())
        for key, compare, value, text in _TERM.findall(query):
            wanted = (value or text).strip('"')
            found = [one for one in found if self._holds(one, key, compare, wanted)]
        name = _ORDER[sort]
        return sorted(
            found, key=lambda one: (int(one[name]) if name == "count" else one[name], one["id"]), reverse=True
        )

    def _holds(self, issue: Record, key: str, compare: str, wanted: str) -> bool:
        if key.startswith("!"):
            return not self._holds(issue, key[1:], compare, wanted)
        if not key:
            return wanted.casefold() in f"{issue['title']} {issue['culprit']}".casefold()
        if key in {"firstSeen", "lastSeen"} and compare:
            return _COMPARE[compare](issue[key], _moment(wanted))
        person = issue["assignedTo"] or {}
        known: dict[str, Callable[[], bool]] = {
            "is": lambda: _is(issue, wanted),
            "level": lambda: issue["level"] == wanted,
            "project": lambda: wanted in {issue["project"]["slug"], issue["project"]["id"]},
            "issue": lambda: issue["shortId"] == wanted,
            "assigned": lambda: wanted in {person.get("email"), person.get("name")},
        }
        if key not in known or compare:
            raise RefusedError(400, f"Error parsing search query: {key} is nothing the sandbox searches by")
        return known[key]()

    def update(self, issue: Record, given: Record) -> None:
        """Change an issue's status and assignee (raises RefusedError)."""
        status = given.get("status", issue["status"])
        if status not in STATUSES:
            raise invalid(status=f'"{status}" is not a valid choice.')
        changes: Record = {"status": status}
        details = given.get("statusDetails") or {}
        if not isinstance(details, dict):
            raise invalid(statusDetails="Expected a dictionary of items.")
        if status == "resolvedInNextRelease":
            changes["status"], details = "resolved", {"inNextRelease": True}
        if "status" in given:
            changes |= {"statusDetails": details, "substatus": _substatus(changes["status"], given)}
        if "assignedTo" in given:
            changes["assignedTo"] = self._assignee(given["assignedTo"])
        issue |= changes

    def _assignee(self, wanted: Any) -> Record | None:
        if wanted in {None, ""}:
            return None
        for person in self.people:
            if wanted in {person["email"], f"user:{person['id']}", person["id"]}:
                return person
        raise invalid(assignedTo="Unknown actor input")

    def comment(self, issue: Record, text: Any) -> Record:
        if not isinstance(text, str) or not text.strip():
            raise invalid(text="This field is required.")
        made = {
            "id": str(len(self.comments) + 1),
            "type": "note",
            "data": {"text": text},
            "issue": issue["id"],
        }
        made |= {"dateCreated": iso(self._clock.now()), "user": self.people[0]}
        self.comments.append(made)
        return {name: value for name, value in made.items() if name != "issue"}

    def events(self, issue: Record) -> list[Record]:
        """Return an issue's events, newest first; as many as it counts, at most 120."""
        last = datetime.fromisoformat(issue["lastSeen"])
        return [
            self.event(issue, number, last - timedelta(minutes=number))
            for number in range(min(int(issue["count"]), 120))
        ]

    @staticmethod
    def event(issue: Record, number: int, at: datetime) -> Record:
        """Return one event; the same for the same issue and number."""
        event_id = hashlib.md5(f"{issue['id']}-{number}".encode(), usedforsecurity=False).hexdigest()
        event: Record = {"id": event_id, "eventID": event_id, "groupID": issue["id"], "title": issue["title"]}
        event |= {"message": "", "location": issue["culprit"].split(" ")[0], "dateCreated": iso(at)}
        event |= {"user": {"id": "u7", "email": None, "username": None}, "culprit": issue["culprit"]}
        event |= {"tags": [{"key": "level", "value": issue["level"]}], "platform": "javascript"}
        return event


def new_event_id() -> str:
    return secrets.token_hex(16)


def _is(issue: Record, wanted: str) -> bool:
    known = {"assigned": issue["assignedTo"] is not None, "unassigned": issue["assignedTo"] is None}
    known |= {"archived": issue["status"] == "ignored"}
    known |= {status: issue["status"] == status for status in ("unresolved", "resolved", "ignored")}
    if wanted not in known:
        raise RefusedError(400, f'Error parsing search query: Invalid value for "is" search: {wanted}')
    return known[wanted]


def _substatus(status: str, given: Record) -> str | None:
    usual = {"unresolved": "ongoing", "ignored": "archived_until_escalating"}.get(status)
    return given.get("substatus") or usual


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise RefusedError(400, f"Error parsing search query: {text} is not a valid date") from error
    return iso(moment.astimezone(UTC) if moment.tzinfo else moment)
