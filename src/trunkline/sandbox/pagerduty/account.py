"""The account around the incidents: users, teams, services, escalation policies, schedules. Fixed at start."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SUBDOMAIN = "trunkline-sandbox"
ABILITIES = (
    "sso",
    "advanced_reports",
    "teams",
    "read_only_users",
    "urgencies",
    "event_rules",
    "response_plays",
)
# Known to the service but not part of this account's plan.
UNPAID_ABILITIES = ("coordinated_responding", "preview_intelligent_alert_grouping")
_PEOPLE = ("Alice Abara", "Bob Bauer", "Charlie Costa", "Dara Diaz", "Elif Evans", "Femi Fischer")
_SERVICES = ("Checkout", "Billing", "Search", "Web Shop", "Data Platform", "Identity")
_TEAMS = ("Payments", "Platform")
_PLACES = {
    "acknowledgers": "acknowledger",
    "agents": "last_status_change_by",
    "assignees": "assignee",
    "escalation_policies": "escalation_policy",
    "schedules": "schedule",
    "services": "service",
    "teams": "teams",
    "users": "user",
}
"""Where the references stand that a value of `include[]` turns into whole objects."""


def make_id(dice: random.Random) -> str:
    """Return an id as the service makes them: P and thirteen more characters."""
    return "P" + "".join(dice.choices(_ALPHABET, k=13))


@dataclass
class Thing:
    """One object of a collection; `refs` name other objects by (collection, id)."""

    kind: str
    id: str
    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    refs: dict[str, Any] = field(default_factory=dict)


class Account:
    """The directory, by collection and id."""

    def __init__(self, seed: int) -> None:
        dice = random.Random(seed)
        self.things: dict[str, dict[str, Thing]] = {
            name: {} for name in ("users", "teams", "services", "escalation_policies", "schedules")
        }
        for name in _PEOPLE:
            email = f"{name.split(' ', maxsplit=1)[0].lower()}@example.com"
            fields = {"email": email, "time_zone": "Etc/UTC", "role": "user", "job_title": "Engineer"}
            self._add("users", Thing("user", make_id(dice), name, fields))
        for name in _TEAMS:
            self._add("teams", Thing("team", make_id(dice), name, {"default_role": "manager"}))
        users = list(self.things["users"].values())
        for place, name in enumerate(("Primary", "Secondary")):
            fields = {"time_zone": "Etc/UTC"}
            refs = {"users": [("users", user.id) for user in users[place::2]]}
            self._add("schedules", Thing("schedule", make_id(dice), name, fields, refs))
        self._add_policies(dice)
        self._add_services(dice)

    def _add(self, collection: str, thing: Thing) -> None:
        self.things[collection][thing.id] = thing

    def _add_policies(self, dice: random.Random) -> None:
        schedules = list(self.things["schedules"].values())
        for name, team in zip(("Payments on call", "Platform on call"), self.things["teams"], strict=True):
            rules = [
                {
                    "id": make_id(dice),
                    "escalation_delay_in_minutes": 30,
                    "targets": [("schedules", schedule.id)],
                }
                for schedule in schedules
            ]
            refs = {"escalation_rules": rules, "teams": [("teams", team)]}
            fields = {"num_loops": 2, "on_call_handoff_notifications": "if_has_services"}
            self._add("escalation_policies", Thing("escalation_policy", make_id(dice), name, fields, refs))

    def _add_services(self, dice: random.Random) -> None:
        policies = list(self.things["escalation_policies"].values())
        for place, name in enumerate(_SERVICES):
            policy = policies[place % len(policies)]
            fields = {"status": "active", "acknowledgement_timeout": 1_800, "auto_resolve_timeout": 14_400}
            refs = {"escalation_policy": ("escalation_policies", policy.id), "teams": policy.refs["teams"]}
            self._add("services", Thing("service", make_id(dice), name, fields, refs))

    def user_by_email(self, email: str) -> Thing | None:
        wanted = email.strip().lower()
        for user in self.things["users"].values():
            if user.fields["email"] == wanted:
                return user
        return None

    def on_call(self, policy_id: str) -> str:
        """Return the id of the user a policy wakes first."""
        policy = self.things["escalation_policies"][policy_id]
        _, schedule = policy.refs["escalation_rules"][0]["targets"][0]
        first: tuple[str, str] = self.things["schedules"][schedule].refs["users"][0]
        return first[1]

    def reference(self, base: str, collection: str, thing_id: str) -> dict[str, str]:
        """Return what stands for an object inside another one."""
        thing = self.things[collection][thing_id]
        return {
            "id": thing.id,
            "type": f"{thing.kind}_reference",
            "summary": thing.name,
            "self": f"{base}/{collection}/{thing.id}",
            "html_url": html_url(collection, thing.id),
        }

    def document(self, base: str, collection: str, thing: Thing) -> dict[str, Any]:
        """Return an object in full."""
        refs = {name: self._resolve(base, value) for name, value in thing.refs.items()}
        own = {"id": thing.id, "type": thing.kind, "summary": thing.name, "name": thing.name}
        address = {"self": f"{base}/{collection}/{thing.id}", "html_url": html_url(collection, thing.id)}
        return {**own, **address, **thing.fields, **refs}

    def include(self, base: str, value: Any, wanted: Sequence[str]) -> Any:
        """Return a document with the objects in full that `include[]` asks for, in place of their references."""
        places = {_PLACES[name] for name in wanted if name in _PLACES}
        return self._include(base, value, places) if places else value

    def _include(self, base: str, value: Any, places: set[str], *, is_wanted: bool = False) -> Any:
        if isinstance(value, list):
            return [self._include(base, item, places, is_wanted=is_wanted) for item in value]
        if not isinstance(value, dict):
            return value
        if is_wanted and str(value.get("type")).endswith("_reference"):
            for collection, things in self.things.items():
                if value["id"] in things:
                    return self.document(base, collection, things[value["id"]])
        return {
            name: self._include(base, item, places, is_wanted=name in places) for name, item in value.items()
        }

    def _resolve(self, base: str, value: Any) -> Any:
        if isinstance(value, tuple):
            return self.reference(base, *value)
        if isinstance(value, list):
            return [self._resolve(base, item) for item in value]
        if isinstance(value, dict):
            return {name: self._resolve(base, item) for name, item in value.items()}
        return value


def html_url(collection: str, thing_id: str) -> str:
    return f"https://{SUBDOMAIN}.pagerduty.com/{collection.replace('_', '-')}/{thing_id}"
