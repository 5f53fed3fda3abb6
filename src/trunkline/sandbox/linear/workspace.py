"""The workspace's records and what may be done to them. Documents as the schema names their fields; no GraphQL here."""

import random
import uuid
from datetime import datetime, timedelta
from typing import Any

from trunkline.clock import Clock
from trunkline.sandbox.linear.refused import bad_input, not_found

Record = dict[str, Any]
SLUG = "trunkline-sandbox"
HOME = f"https://linear.app/{SLUG}"
PRIORITIES = ("No priority", "Urgent", "High", "Medium", "Low")
MAX_TITLE = 512
MAX_TEXT = 100_000
SEEDED = 120
_STATES = (
    ("Backlog", "backlog"),
    ("Todo", "unstarted"),
    ("In Progress", "started"),
    ("In Review", "started"),
    ("Done", "completed"),
    ("Canceled", "canceled"),
)
_PEOPLE = ("Alice Abara", "Bob Bauer", "Charlie Costa", "Dara Diaz")
_TITLES = ("Retry storm on webhook worker", "Search is slow", "Login loops", "Invoice is blank", "Flaky test")


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"


def _ids(value: Any) -> Any:
    """Return what tells two values apart: of records, which may lead back to themselves, only the ids."""
    if isinstance(value, dict):
        return value["id"]
    return [_ids(one) for one in value] if isinstance(value, list) else value


class Workspace:
    """All records by collection and id; ids of the seed are the same for the same seed."""

    def __init__(self, clock: Clock, seed: int) -> None:
        self._clock = clock
        self._dice = random.Random(seed)
        self._seeding = True
        self._numbers: dict[str, int] = {}
        self.records: dict[str, dict[str, Record]] = {
            name: {}
            for name in ("users", "teams", "workflowStates", "issueLabels", "projects", "issues", "comments")
        }
        self.organization = self._dated({"name": "Trunkline Sandbox", "urlKey": SLUG, "userCount": 4})
        self._fill(clock.now())
        self._seeding = False

    @property
    def viewer(self) -> Record:
        return next(iter(self.records["users"].values()))

    def all(self, collection: str) -> list[Record]:
        return list(self.records[collection].values())

    def get(self, collection: str, record_id: Any, kind: str) -> Record:
        """Return a record by its id, an issue also by its identifier (raises GraphQLError)."""
        found = self.records[collection].get(record_id)
        if found is None and collection == "issues":
            found = next((one for one in self.all("issues") if one["identifier"] == record_id), None)
        if found is None:
            raise not_found(kind)
        return found

    def create_issue(self, given: Record) -> Record:
        team = self.get("teams", given["teamId"], "Team")
        issue: Record = {"team": team, "creator": self.viewer, "comments": [], "trashed": None}
        issue |= {"title": "", "description": None, "priority": 0, "estimate": None, "dueDate": None}
        issue |= {"state": self._state(team, "Todo"), "assignee": None, "project": None, "parent": None}
        issue |= {"labels": [], "startedAt": None, "completedAt": None, "canceledAt": None}
        if not (given.get("title") or "").strip():
            raise bad_input("title should not be empty")
        changes = self._changes(given, team)
        number = self._numbers[team["id"]] = self._numbers.get(team["id"], 0) + 1
        identifier = f"{team['key']}-{number}"
        issue |= {"number": number, "identifier": identifier, "url": f"{HOME}/issue/{identifier}"}
        issue["branchName"] = f"alice/{identifier.lower()}"
        return self._add("issues", self._dated(issue | changes, given.get("id")))

    def update_issue(self, issue: Record, given: Record) -> Record:
        """Change an issue and return the fields that changed, with their old values, as webhooks tell them."""
        changes = self._changes(given, issue["team"])
        labels = {
            label["id"]: label for label in (changes["labels"] if "labels" in changes else issue["labels"])
        }
        labels |= {label["id"]: label for label in self._labels(given.get("addedLabelIds"))}
        for label in self._labels(given.get("removedLabelIds")):
            labels.pop(label["id"], None)
        changes["labels"] = list(labels.values())
        before = {name: issue[name] for name, value in changes.items() if _ids(issue[name]) != _ids(value)}
        if before:
            now = iso(self._clock.now())
            if "state" in before and changes["state"]["type"] == "completed":
                changes["completedAt"] = now
            issue |= {**changes, "updatedAt": now}
        return before

    def archive_issue(self, issue: Record) -> None:
        issue["archivedAt"] = issue["updatedAt"] = iso(self._clock.now())

    def create_label(self, given: Record) -> Record:
        team = self.get("teams", given["teamId"], "Team") if given.get("teamId") else None
        name = given["name"].strip()
        if not name or len(name) > 80:
            raise bad_input("name must be between 1 and 80 characters")
        for other in self.all("issueLabels"):
            is_near = team is None or other["team"] is None or other["team"] is team
            if is_near and other["name"].casefold() == name.casefold():
                raise bad_input("Label with the same name already exists", "duplicate label name")
        label: Record = {
            "name": name,
            "color": given.get("color") or "#6B6F76",
            "isGroup": False,
            "team": team,
        }
        label |= {"description": given.get("description"), "creator": self.viewer}
        return self._add("issueLabels", self._dated(label, given.get("id")))

    def create_comment(self, given: Record) -> Record:
        if not given.get("issueId"):
            raise bad_input("One of issueId, projectUpdateId or documentContentId must be given")
        issue = self.get("issues", given["issueId"], "Issue")
        body = given.get("body") or ""
        if not body.strip() or len(body) > MAX_TEXT:
            raise bad_input("body should not be empty")
        comment = self._dated({"body": body, "issue": issue, "issueId": issue["id"], "user": self.viewer})
        comment["url"] = f"{issue['url']}#comment-{comment['id'][:8]}"
        issue["comments"].append(comment)
        return self._add("comments", comment)

    def _changes(self, given: Record, team: Record) -> Record:
        """Check the fields of an input and return them as the record has them."""
        changes: Record = {
            name: given[name] for name in ("description", "estimate", "dueDate", "trashed") if name in given
        }
        if (title := given.get("title")) is not None:
            if not title.strip() or len(title) > MAX_TITLE:
                raise bad_input(f"title must be between 1 and {MAX_TITLE} characters")
            changes["title"] = title
        if len(given.get("description") or "") > MAX_TEXT:
            raise bad_input(f"description must be shorter than or equal to {MAX_TEXT} characters")
        if (priority := given.get("priority")) is not None:
            if priority not in range(len(PRIORITIES)):
                raise bad_input("priority must be one of the following values: 0, 1, 2, 3, 4")
            changes["priority"] = priority
        if given.get("stateId") is not None:
            changes["state"] = self.get("workflowStates", given["stateId"], "WorkflowState")
            if changes["state"]["team"] is not team:
                raise bad_input("The state is not of the issue's team", "Discrepancy between issue and state")
        for name, collection in (("assignee", "users"), ("project", "projects"), ("parent", "issues")):
            if f"{name}Id" in given:
                wanted = given[f"{name}Id"]
                changes[name] = wanted and self.get(collection, wanted, name.capitalize())
        if "labelIds" in given:
            changes["labels"] = self._labels(given["labelIds"])
        return changes

    def _labels(self, ids: list[str] | None) -> list[Record]:
        return [self.get("issueLabels", label_id, "IssueLabel") for label_id in dict.fromkeys(ids or [])]

    def _state(self, team: Record, name: str) -> Record:
        return next(one for one in self.all("workflowStates") if one["team"] is team and one["name"] == name)

    def _dated(self, record: Record, record_id: str | None = None, at: datetime | None = None) -> Record:
        seed = self._dice.getrandbits(128) if self._seeding else uuid.uuid4().int
        made = iso(at or self._clock.now())
        found = record_id or str(uuid.UUID(int=seed, version=4))
        return {"id": found, **record, "createdAt": made, "updatedAt": made, "archivedAt": None}

    def _add(self, collection: str, record: Record) -> Record:
        if record["id"] in self.records[collection]:
            raise bad_input("A record with this id exists already", "conflict on insert")
        self.records[collection][record["id"]] = record
        return record

    def _fill(self, now: datetime) -> None:
        for name in _PEOPLE:
            short = name.split(" ", maxsplit=1)[0].lower()
            user: Record = {
                "name": name,
                "displayName": short,
                "email": f"{short}@example.com",
                "active": True,
            }
            user |= {"admin": short == "alice", "guest": False, "isMe": short == "alice", "avatarUrl": None}
            user |= {"url": f"{HOME}/profiles/{short}", "organization": self.organization}
            self._add("users", self._dated(user))
        for name, key in (("Core", "COR"), ("Platform", "PLA")):
            team: Record = {
                "name": name,
                "displayName": name,
                "key": key,
                "description": None,
                "color": "#0F783C",
            }
            team |= {"icon": None, "private": False, "timezone": "Etc/UTC", "organization": self.organization}
            made = self._add("teams", self._dated(team))
            for place, (state, kind) in enumerate(_STATES):
                one: Record = {"name": state, "type": kind, "color": "#E2E2E2", "description": None}
                self._add("workflowStates", self._dated({**one, "position": place, "team": made}))
        for label in ("backend", "frontend", "bug"):
            self.create_label({"name": label})
        for project in ("Checkout", "Reliability"):
            slug = project.lower()
            fields: Record = {
                "name": project,
                "description": "",
                "slugId": slug,
                "state": "started",
                "priority": 0,
            }
            fields |= {"progress": 0.25, "color": "#5E6AD2", "icon": None, "url": f"{HOME}/project/{slug}"}
            fields |= {"startDate": None, "targetDate": None, "lead": self.viewer, "teams": self.all("teams")}
            self._add("projects", self._dated(fields))
        for place in range(SEEDED):
            self._fill_issue(now - timedelta(hours=SEEDED - place))

    def _fill_issue(self, at: datetime) -> None:
        dice = self._dice
        team = dice.choice(self.all("teams"))
        made = self.create_issue(
            {
                "teamId": team["id"],
                "title": dice.choice(_TITLES),
                "priority": dice.randrange(5),
                "stateId": self._state(team, dice.choice(_STATES)[0])["id"],
                "assigneeId": dice.choice([None, *self.records["users"]]),
                "projectId": dice.choice([None, *self.records["projects"]]),
                "labelIds": dice.sample(list(self.records["issueLabels"]), dice.randrange(3)),
            }
        )
        made["createdAt"] = made["updatedAt"] = iso(at)
