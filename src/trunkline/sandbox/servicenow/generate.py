"""Seeded, realistic incidents for any count: the same seed and count give the same records everywhere."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Protocol

from trunkline.sandbox.servicenow.schema import STATES
from trunkline.sandbox.servicenow.table import Table

END = datetime(2026, 1, 1, tzinfo=UTC)
SPREAD = timedelta(days=180)
FORMAT = "%Y-%m-%d %H:%M:%S"
# One night job closed these together: more than a page of 1,000 with one timestamp, once there are 100,000.
SAME_MOMENT_SHARE = 0.015

_TROUBLES = {
    "network": (
        "VPN drops every few minutes",
        "Wi-Fi unreachable",
        "DNS answers slowly",
        "Proxy refuses sites",
    ),
    "hardware": ("Laptop does not start", "Docking station loses screens", "Printer jams", "Battery swollen"),
    "software": ("Client crashes on start", "Licence expired", "Update failed", "Report export hangs"),
    "database": ("Query times out", "Replica is behind", "Disk of the database almost full", "Deadlocks"),
    "inquiry": (
        "Cannot log in",
        "Password reset wanted",
        "Access to a shared folder wanted",
        "New phone wanted",
    ),
}
_SYSTEMS = ("billing", "payroll", "mail", "intranet", "warehouse", "crm", "build farm", "web shop")
_GROUPS = (
    "Service Desk",
    "Network",
    "Hardware",
    "Software",
    "Database",
    "Identity",
    "Field Support",
    "Major Incident",
)
_FIRST = (
    "Ana",
    "Ben",
    "Chen",
    "Dara",
    "Elif",
    "Femi",
    "Goran",
    "Hana",
    "Ivan",
    "Jun",
    "Kofi",
    "Lena",
    "Mia",
    "Noor",
)
_LAST = (
    "Abara",
    "Bauer",
    "Costa",
    "Diaz",
    "Evans",
    "Fischer",
    "Gupta",
    "Haas",
    "Ito",
    "Jansen",
    "Kim",
    "Lopez",
)
_CLOSE_CODES = (
    "Solution provided",
    "Workaround provided",
    "User error",
    "Duplicate",
    "No resolution provided",
)
_PRIORITY = {
    ("1", "1"): "1",
    ("1", "2"): "2",
    ("2", "1"): "2",
    ("1", "3"): "3",
    ("2", "2"): "3",
    ("3", "1"): "3",
    ("2", "3"): "4",
    ("3", "2"): "4",
}


class Filled(Protocol):
    """What is filled."""

    tables: dict[str, Table]

    def named(self, table_name: str, name: str, more: dict[str, str] | None = None) -> str: ...


def priority_of(impact: str, urgency: str) -> str:
    """Return the priority the instance looks up for impact and urgency."""
    return _PRIORITY.get((impact, urgency), "5")


def generate_incidents(instance: Filled, count: int, seed: int) -> None:
    """Fill the incident table, and the tables it refers to."""
    dice = random.Random(seed)
    table = instance.tables["incident"]
    makers = _Makers(instance, dice)
    table.load(tuple(values.get(name, "") for name in table.names) for values in makers.incidents(count))


class _Makers:
    """The people, groups and things incidents refer to, and the incidents."""

    def __init__(self, instance: Filled, dice: random.Random) -> None:
        self._dice = dice
        people = [f"{first} {last}" for first in _FIRST for last in _LAST]
        self._callers = [self._person(instance, name) for name in people]
        self._resolvers = self._callers[: len(people) // 4]
        self._logins = [_login(name) for name in people[: len(people) // 4]]
        self._groups = [instance.named("sys_user_group", name) for name in _GROUPS]
        self._things = {name: instance.named("cmdb_ci", f"{name} service") for name in _SYSTEMS}

    @staticmethod
    def _person(instance: Filled, name: str) -> str:
        first, last = name.split(" ")
        login = _login(name)
        more = {"user_name": login, "first_name": first, "last_name": last, "email": f"{login}@example.com"}
        return instance.named("sys_user", name, more)

    def incidents(self, count: int) -> Iterator[dict[str, str]]:
        """Make `count` incidents in the order they were opened, spread evenly over the half year."""
        steps = list(accumulate(self._dice.expovariate(1.0) for _ in range(count + 1)))
        night = (END - timedelta(days=30)).replace(hour=2).strftime(FORMAT)
        for index in range(count):
            opened = END - SPREAD + SPREAD * (steps[index] / steps[-1])
            yield self._incident(index, opened, night)

    def _incident(self, index: int, opened: datetime, night: str) -> dict[str, str]:
        dice = self._dice
        category = dice.choice(tuple(_TROUBLES))
        trouble, system = dice.choice(_TROUBLES[category]), dice.choice(_SYSTEMS)
        impact, urgency = dice.choices("123", (1, 4, 5))[0], dice.choices("123", (1, 4, 5))[0]
        caller, resolver = dice.choice(self._callers), dice.randrange(len(self._resolvers))
        updated = min(opened + timedelta(seconds=dice.expovariate(1 / 200_000)), END)
        values = {
            "sys_id": f"{dice.getrandbits(128):032x}",
            "number": f"INC{10_001 + index:07d}",
            "short_description": f"{trouble} ({system})",
            "description": f"{trouble}, seen on {system} since this morning. Others nearby report the same.",
            "priority": priority_of(impact, urgency),
            "impact": impact,
            "urgency": urgency,
            "category": category,
            "contact_type": dice.choice(("phone", "email", "self-service", "monitoring")),
            "caller_id": caller,
            "opened_by": caller,
            "assignment_group": dice.choice(self._groups),
            "cmdb_ci": self._things[system],
            "opened_at": opened.strftime(FORMAT),
            "reassignment_count": str(dice.choices((0, 1, 2, 3), (6, 2, 1, 1))[0]),
            "reopen_count": "0",
            "made_sla": dice.choices(("true", "false"), (9, 1))[0],
            "sys_created_on": opened.strftime(FORMAT),
            "sys_created_by": "system",
            "sys_updated_on": updated.strftime(FORMAT),
            "sys_updated_by": self._logins[resolver],
            "sys_mod_count": str(dice.randrange(1, 12)),
        }
        values.update(self._progress(values, self._resolvers[resolver], night))
        return values

    def _progress(self, values: dict[str, str], resolver: str, night: str) -> dict[str, str]:
        """Say how far it has come: most are closed, and one night job closed many in the same second."""
        dice = self._dice
        together = values["opened_at"] < night and dice.random() < SAME_MOMENT_SHARE * 1.25
        state = "7" if together else dice.choices("123678", (1, 2, 1, 2, 13, 0.3))[0]
        if together:
            values["sys_updated_on"] = night
        more = {
            "state": state,
            "incident_state": STATES[state],
            "active": "false" if state in "78" else "true",
            "assigned_to": "" if state == "1" else resolver,
        }
        if state in "67":
            more["resolved_at"] = more["closed_at"] = values["sys_updated_on"]
            more["resolved_by"] = resolver
            more["close_code"] = dice.choice(_CLOSE_CODES)
            more["close_notes"] = f"Done by {values['sys_updated_by']}."
        if state == "6":
            more["closed_at"] = ""
        return more


def _login(name: str) -> str:
    return name.lower().replace(" ", ".")
