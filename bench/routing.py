"""Which of 1,000 routes an event matches: the index, beside trying every route in turn."""

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench.report import Figure, Report, middle
from trunkline.services.matching import Condition, Matcher, Pattern, Rule, _Sight

_ROUTES = 1_000
_BOUND_US = 200
_SERVICES, _KINDS, _PROJECTS = 40, 25, 20
Event = tuple[str, str, dict[str, Any]]
Make = Callable[[int], Rule[int]]
Find = Callable[[str, str, dict[str, Any]], list[int]]


def _where(path: str, operator: str, value: Any) -> Condition:
    return Condition.compile(path, operator, value)


def _exact(number: int) -> Rule[int]:
    return Rule(number, Pattern.compile(f"svc{number % _SERVICES}.kind{number % _KINDS}"))


def _prefix(number: int) -> Rule[int]:
    return Rule(number, Pattern.compile(f"svc{number % _SERVICES}.*"), f"project{number % _PROJECTS}")


def _inner(number: int) -> Rule[int]:
    return Rule(number, Pattern.compile(f"*.kind{number % _KINDS}*"), f"project{number % _PROJECTS}")


def _equal(number: int) -> Rule[int]:
    conditions = (
        _where("data.issue.id", "equals", f"issue-{number}"),
        _where("data.issue.count", "greater_than", number % 50),
    )
    return Rule(number, Pattern.compile("*"), None, conditions)


def _search(number: int) -> Rule[int]:
    return Rule(
        number, Pattern.compile("*"), None, (_where("data.issue.title", "contains", f"{number}th disk"),)
    )


_SETS: dict[str, Sequence[Make]] = {
    "of each kind": (_exact, _prefix, _inner, _equal, _search),
    "exact types": (_exact,),
    "wildcards and projects": (_prefix, _inner),
    "equal to a value": (_equal,),
    "text contains": (_search,),
}


def _events(count: int) -> list[Event]:
    draw = random.Random(7)
    title = "Disk of a machine in the second rack is nearly full; see the run book before you call anybody"
    return [
        (
            f"svc{draw.randrange(_SERVICES)}.kind{draw.randrange(_KINDS)}",
            f"project{draw.randrange(_PROJECTS + 5)}",
            {"data": {"issue": {"id": f"issue-{draw.randrange(_ROUTES)}", "count": 60, "title": title}}},
        )
        for _ in range(count)
    ]


def _index(rules: Sequence[Rule[int]]) -> Find:
    matcher = Matcher(rules)
    return lambda name, project, document: matcher.match(name, project, lambda: document)


def _one_by_one(rules: Sequence[Rule[int]]) -> Find:
    def find(name: str, project: str, document: dict[str, Any]) -> list[int]:
        sight = _Sight(document)
        return [
            rule.item
            for rule in rules
            if rule.project in {None, project}
            and rule.pattern.matches(name)
            and all(map(sight.holds, rule.conditions))
        ]

    return find


def _measure(find: Find, events: Sequence[Event]) -> float:
    started = time.perf_counter()
    for event in events:
        find(*event)
    return (time.perf_counter() - started) / len(events) * 1e6


def run(*, quick: bool) -> Report:
    """Measure each set of routes, a new matcher a round: the first event of each type is in the figure."""
    rounds, count = (1, 200) if quick else (5, 2_000)
    report = Report(
        "routing", f"matching an event with {_ROUTES:,} routes", ("routes", "µs/event", "one by one", "times")
    )
    for name, makes in _SETS.items():
        rules = [makes[number % len(makes)](number) for number in range(_ROUTES)]
        events = _events(count)
        few = events[: count // 10]
        ours, bare = [], []
        for _ in range(rounds):
            ours.append(_measure(_index(rules), events))
            bare.append(_measure(_one_by_one(rules), few))
        index, plain = _index(rules), _one_by_one(rules)
        if any(sorted(index(*event)) != plain(*event) for event in few):
            raise AssertionError(name)
        report.rows.append((name, middle(ours), middle(bare), middle(bare) / middle(ours)))
        report.figures.append(Figure(name, middle(ours), "µs", _BOUND_US))
    return report
