"""The incidents and their three states, notes and log entries: what may follow what, and how it looks."""

import random
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson

from trunkline.clock import Clock
from trunkline.sandbox.pagerduty.account import Account, html_url, make_id
from trunkline.sandbox.pagerduty.errors import ALREADY_RESOLVED, clash, invalid, not_found
from trunkline.sandbox.service import RefusedError

STATUSES = ("triggered", "acknowledged", "resolved")
URGENCIES = ("high", "low")
SEEDED = 250
_TITLES = (
    "Error rate above 5 %",
    "Queue is not draining",
    "Disk 95 % full",
    "Latency p99 above 2 s",
    "Certificate ends",
)


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class LogEntry:
    """One line of an incident's history; `actor` is (collection, id)."""

    id: str
    kind: str
    at: datetime
    actor: tuple[str, str]
    channel: dict[str, Any]
    incident_id: str = ""


@dataclass
class Note:
    """What somebody wrote on an incident."""

    id: str
    content: str
    at: datetime
    user_id: str


@dataclass
class Incident:
    """One incident. `changed` drops the rendering that is kept of it."""

    id: str
    number: int
    title: str
    service_id: str
    policy_id: str
    key: str
    created_at: datetime
    urgency: str = "high"
    status: str = "triggered"
    details: Any = None
    assignee_ids: list[str] = field(default_factory=list)
    acknowledged_by: list[tuple[str, datetime]] = field(default_factory=list)
    changed_by: tuple[str, str] = ("", "")
    changed_at: datetime | None = None
    resolved_at: datetime | None = None
    notes: list[Note] = field(default_factory=list)
    entries: list[LogEntry] = field(default_factory=list)
    alerts: int = 0
    rendered: tuple[str, bytes] = ("", b"")


class Incidents:
    """All incidents of the account."""

    def __init__(self, account: Account, clock: Clock, seed: int) -> None:
        self._account = account
        self._clock = clock
        self.by_id: dict[str, Incident] = {}
        self._open_keys: dict[tuple[str, str], Incident] = {}
        self._seed(random.Random(seed))

    def _seed(self, dice: random.Random) -> None:
        """Make 250 incidents of the last four weeks; the youngest ones are still open."""
        now = self._clock.now()
        services = list(self._account.things["services"])
        for place in range(SEEDED):
            created = now - timedelta(days=28) * ((SEEDED - place) / SEEDED)
            service = dice.choice(services)
            incident = self.open(
                service, dice.choice(_TITLES), make_id(dice), at=created, incident_id=make_id(dice)
            )
            incident.urgency = dice.choice(URGENCIES)
            user = ("users", incident.assignee_ids[0])
            if place < SEEDED - 5:
                self.acknowledge(incident, user, at=created + timedelta(minutes=3))
            if place < SEEDED - 15:
                self.resolve(incident, user, at=created + timedelta(minutes=40))

    def get(self, incident_id: str) -> Incident:
        incident = self.by_id.get(incident_id)
        if incident is None:
            raise not_found()
        return incident

    def with_key(self, service_id: str, key: str) -> Incident | None:
        """Return the open incident of a service with this de-duplication key."""
        return self._open_keys.get((service_id, key))

    def open(
        self,
        service_id: str,
        title: str,
        key: str | None,
        *,
        at: datetime | None = None,
        incident_id: str | None = None,
        actor: tuple[str, str] | None = None,
    ) -> Incident:
        """Trigger a new incident (raises RefusedError when one with this key is open on the service)."""
        key = key or secrets.token_hex(16)
        if self.with_key(service_id, key) is not None:
            raise clash("Open incident with matching dedup key already exists on this service")
        _, policy_id = self._account.things["services"][service_id].refs["escalation_policy"]
        incident = Incident(
            id=incident_id or make_id(random.SystemRandom()),
            number=len(self.by_id) + 1,
            title=title,
            service_id=service_id,
            policy_id=policy_id,
            key=key,
            created_at=at or self._clock.now(),
            assignee_ids=[self._account.on_call(policy_id)],
        )
        self.by_id[incident.id] = incident
        self._open_keys[service_id, key] = incident
        self._changed(incident, actor or ("services", service_id), "trigger", incident.created_at)
        return incident

    def acknowledge(self, incident: Incident, actor: tuple[str, str], *, at: datetime | None = None) -> None:
        """Acknowledge; a resolved incident cannot be."""
        _must_be_open(incident)
        moment = at or self._clock.now()
        incident.status = "acknowledged"
        if actor[0] == "users":
            incident.acknowledged_by.append((actor[1], moment))
        self._changed(incident, actor, "acknowledge", moment)

    def resolve(self, incident: Incident, actor: tuple[str, str], *, at: datetime | None = None) -> None:
        """Resolve; this is the last state."""
        _must_be_open(incident)
        incident.status = "resolved"
        incident.resolved_at = at or self._clock.now()
        incident.assignee_ids = []
        del self._open_keys[incident.service_id, incident.key]
        self._changed(incident, actor, "resolve", incident.resolved_at)

    def trigger_again(self, incident: Incident, actor: tuple[str, str]) -> None:
        """Count one more alert on an open incident."""
        self._changed(incident, actor, "trigger", self._clock.now())

    def update(self, incident: Incident, change: dict[str, Any], actor: tuple[str, str]) -> None:
        """Apply the fields of a PUT: status, title, urgency, assignments, escalation_policy; all or nothing."""
        status = change.get("status", incident.status)
        if status not in STATUSES or (status == "triggered" and incident.status != "triggered"):
            raise invalid("Status must be one of acknowledged, resolved")
        title = change.get("title", incident.title)
        if not isinstance(title, str) or not title.strip():
            raise invalid("Title cannot be empty")
        urgency = change.get("urgency", incident.urgency)
        if urgency not in URGENCIES:
            raise invalid("Urgency must be one of high, low")
        assignees = self._assignees(change) if "assignments" in change else None
        policy = (
            self._policy(change["escalation_policy"]) if "escalation_policy" in change else incident.policy_id
        )
        if status == "acknowledged" or assignees is not None:
            _must_be_open(incident)
        if status == "resolved" and incident.status == "resolved" and "status" in change:
            _must_be_open(incident)
        incident.title, incident.urgency, incident.policy_id = title, urgency, policy
        incident.rendered = ("", b"")
        if assignees is not None:
            incident.assignee_ids = assignees
            self._changed(incident, actor, "assign", self._clock.now())
        if "status" in change and status == "acknowledged":
            self.acknowledge(incident, actor)
        elif "status" in change and status == "resolved":
            self.resolve(incident, actor)

    def _assignees(self, change: dict[str, Any]) -> list[str]:
        assignments = change["assignments"]
        if not isinstance(assignments, list) or not assignments:
            raise invalid("Assignments must be a list of users")
        users = self._account.things["users"]
        ids = [_reference_id(item.get("assignee")) if isinstance(item, dict) else "" for item in assignments]
        if any(user_id not in users for user_id in ids):
            raise invalid("Assignee not found")
        return ids

    def _policy(self, reference: Any) -> str:
        policy_id = _reference_id(reference)
        if policy_id not in self._account.things["escalation_policies"]:
            raise invalid("Escalation policy not found")
        return policy_id

    def add_note(self, incident: Incident, content: str, user_id: str) -> Note:
        note = Note(make_id(random.SystemRandom()), content, self._clock.now(), user_id)
        incident.notes.append(note)
        channel = {"type": "note", "summary": content, "content": content}
        self._log(incident, ("users", user_id), "annotate", note.at, channel)
        return note

    def _changed(self, incident: Incident, actor: tuple[str, str], action: str, at: datetime) -> None:
        incident.changed_by, incident.changed_at = actor, at
        incident.rendered = ("", b"")
        if action == "trigger":
            incident.alerts += 1
        self._log(incident, actor, action, at, {"type": "website" if actor[0] == "users" else "api"})

    @staticmethod
    def _log(
        incident: Incident, actor: tuple[str, str], action: str, at: datetime, channel: dict[str, Any]
    ) -> None:
        entry_id = "R" + secrets.token_hex(13).upper()
        incident.entries.append(LogEntry(entry_id, f"{action}_log_entry", at, actor, channel, incident.id))

    def fragment(self, incident: Incident, base: str) -> orjson.Fragment:
        """Return an incident as ready JSON, kept until it changes."""
        if incident.rendered[0] != base:
            incident.rendered = (base, orjson.dumps(self.document(incident, base)))
        return orjson.Fragment(incident.rendered[1])

    def document(self, incident: Incident, base: str) -> dict[str, Any]:
        """Return an incident in full."""
        refer = self._account.reference
        teams = self._account.things["services"][incident.service_id].refs["teams"]
        return {
            "id": incident.id,
            "type": "incident",
            "summary": f"[#{incident.number}] {incident.title}",
            "self": f"{base}/incidents/{incident.id}",
            "html_url": html_url("incidents", incident.id),
            "incident_number": incident.number,
            "title": incident.title,
            "description": incident.title,
            "created_at": iso(incident.created_at),
            "updated_at": iso(incident.changed_at or incident.created_at),
            "status": incident.status,
            "urgency": incident.urgency,
            "incident_key": incident.key,
            "service": refer(base, "services", incident.service_id),
            "assigned_via": "escalation_policy",
            "assignments": [
                {"at": iso(incident.created_at), "assignee": refer(base, "users", user_id)}
                for user_id in incident.assignee_ids
            ],
            "acknowledgements": [
                {"at": iso(at), "acknowledger": refer(base, "users", user_id)}
                for user_id, at in incident.acknowledged_by
                if incident.status == "acknowledged"
            ],
            "last_status_change_at": iso(incident.changed_at or incident.created_at),
            "last_status_change_by": refer(base, *incident.changed_by),
            "resolved_at": iso(incident.resolved_at) if incident.resolved_at else None,
            "escalation_policy": refer(base, "escalation_policies", incident.policy_id),
            "teams": [refer(base, *team) for team in teams],
            "priority": None,
            "pending_actions": [],
            "impacted_services": [refer(base, "services", incident.service_id)],
            "is_mergeable": True,
            "alert_counts": {
                "all": incident.alerts,
                "triggered": incident.alerts if incident.status != "resolved" else 0,
                "resolved": incident.alerts if incident.status == "resolved" else 0,
            },
            "body": {"type": "incident_body", "details": incident.details},
        }

    def note_document(self, note: Note, base: str) -> dict[str, Any]:
        return {
            "id": note.id,
            "user": self._account.reference(base, "users", note.user_id),
            "channel": {"summary": "The PagerDuty website or APIs"},
            "content": note.content,
            "created_at": iso(note.at),
        }

    def entry_document(self, entry: LogEntry, base: str) -> dict[str, Any]:
        incident = self.by_id[entry.incident_id]
        action = entry.kind.removesuffix("_log_entry")
        return {
            "id": entry.id,
            "type": entry.kind,
            "summary": f"{action} by {self._account.things[entry.actor[0]][entry.actor[1]].name}",
            "self": f"{base}/log_entries/{entry.id}",
            "html_url": None,
            "created_at": iso(entry.at),
            "agent": self._account.reference(base, *entry.actor),
            "channel": entry.channel,
            "service": self._account.reference(base, "services", incident.service_id),
            "incident": {
                "id": incident.id,
                "type": "incident_reference",
                "summary": f"[#{incident.number}] {incident.title}",
                "self": f"{base}/incidents/{incident.id}",
                "html_url": html_url("incidents", incident.id),
            },
            "teams": [],
        }


def _must_be_open(incident: Incident) -> None:
    if incident.status == "resolved":
        raise RefusedError(400, "Incident Already Resolved", code=ALREADY_RESOLVED, detail=[])


def _reference_id(reference: Any) -> str:
    """Return the id inside a reference, or nothing where there is none."""
    found = reference.get("id") if isinstance(reference, dict) else None
    return found if isinstance(found, str) else ""
