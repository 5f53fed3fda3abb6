"""Encoded queries (`sysparm_query`): parse them, and compile them to a test of one record's values.

As the real service does by default, a condition on a field that does not exist is ignored; with
`returns_no_rows` (glide.invalid_query.returns_no_rows) it matches nothing. What this fake cannot do
(scripts, joins, relative dates, full text) is refused rather than ignored.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from trunkline.sandbox.service import RefusedError
from trunkline.sandbox.servicenow.schema import Column

MAX_QUERY = 32_768
MAX_CONDITIONS = 500

Test = Callable[[tuple[str, ...]], bool]
Getter = Callable[[tuple[str, ...]], str]
# Finds a field: how to read its value, how to read what it shows, and its column; None when there is none.
FindField = Callable[[str], "tuple[Getter, Getter, Column] | None"]

_OPERATORS = (
    "ISNOTEMPTY",
    "ISEMPTY",
    "NOT LIKE",
    "NOT IN",
    "DOES NOT CONTAIN",
    "STARTSWITH",
    "ENDSWITH",
    "CONTAINS",
    "LIKE",
    "IN(?!STANCEOF)",
    "!=",
    ">=",
    "<=",
    "=",
    ">",
    "<",
)
_CONDITION = re.compile(rf"([a-z][a-z0-9_.]*)({'|'.join(_OPERATORS)})(.*)", re.DOTALL)
_UNSUPPORTED = re.compile(
    r"JOIN|RLQUERY|SUBQUERY|123TEXTQUERY321|[a-z0-9_.]+(?:BETWEEN|RELATIVE|ON|NOTON|SAMEAS|NSAMEAS|GT_FIELD|"
    r"LT_FIELD|VALCHANGES|CHANGES|DYNAMIC|DATEPART|MORETHAN|LESSTHAN|INSTANCEOF|EMPTYSTRING|ANYTHING)"
)


@dataclass(frozen=True)
class Condition:
    """One comparison, as written."""

    name: str
    operator: str
    value: str


@dataclass
class Query:
    """Sets joined by NQ; each is all of some choices; each choice is any of its conditions."""

    sets: list[list[list[Condition]]] = field(default_factory=lambda: [[]])
    order: list[tuple[str, bool]] = field(default_factory=list)


def parse_query(text: str) -> Query:
    """Read an encoded query (raises RefusedError 400 for what cannot be done)."""
    if len(text) > MAX_QUERY:
        raise RefusedError(
            400, "Invalid query", detail=f"sysparm_query is longer than {MAX_QUERY} characters"
        )
    query = Query()
    terms = _terms(text)
    if len(terms) > MAX_CONDITIONS:
        raise RefusedError(400, "Invalid query", detail=f"more than {MAX_CONDITIONS} conditions")
    for term in terms:
        _add_term(query, term)
    return query


def _terms(text: str) -> list[str]:
    """Split at `^`; a doubled one stands for itself."""
    marked = text.replace("^^", "\0")
    return [part.replace("\0", "^") for part in marked.split("^") if part]


def _add_term(query: Query, term: str) -> None:
    if term == "EQ" or term.startswith("GROUPBY"):
        return
    for word, descending in (("ORDERBYDESC", True), ("ORDERBY", False)):
        if term.startswith(word):
            query.order.append((term.removeprefix(word), descending))
            return
    if term.startswith("NQ"):
        query.sets.append([])
        term = term.removeprefix("NQ")
    joined = term.startswith("OR")
    condition = _condition(term.removeprefix("OR") if joined else term)
    if condition is None:
        return
    if joined and query.sets[-1]:
        query.sets[-1][-1].append(condition)
    else:
        query.sets[-1].append([condition])


def _condition(term: str) -> Condition | None:
    if "javascript:" in term:
        raise RefusedError(400, "Invalid query", detail="this sandbox evaluates no javascript: in a query")
    found = _CONDITION.fullmatch(term)
    if found is None:
        if _UNSUPPORTED.match(term):
            raise RefusedError(
                400, "Invalid query", detail=f"this sandbox does not know how to do: {term[:100]}"
            )
        return Condition("", "", term) if term else None
    return Condition(*found.groups())


def compile_sets(query: Query, find: FindField, *, returns_no_rows: bool) -> Test | None:
    """Return the test for one record's values, or None when every record passes."""
    sets = [_compile_set(group, find, returns_no_rows=returns_no_rows) for group in query.sets]
    if any(not tests for tests in sets):
        return None
    if len(sets) == 1:
        return _all_of(sets[0])
    alternatives = [_all_of(tests) for tests in sets]
    return lambda values: any(test(values) for test in alternatives)


def _compile_set(group: list[list[Condition]], find: FindField, *, returns_no_rows: bool) -> list[Test]:
    tests = []
    for choice in group:
        compiled = [test for condition in choice if (test := compile_condition(condition, find)) is not None]
        if len(compiled) < len(choice) and returns_no_rows:
            return [lambda _values: False]
        if compiled:
            tests.append(_any_of(compiled))
    return tests


def _all_of(tests: list[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]
    return lambda values: all(test(values) for test in tests)


def _any_of(tests: list[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]
    return lambda values: any(test(values) for test in tests)


def compile_condition(condition: Condition, find: FindField) -> Test | None:
    """Return the test of one comparison, or None when its field does not exist."""
    found = find(condition.name)
    if found is None:
        return None
    get, show, column = found
    operator, value = condition.operator, condition.value
    if operator == "ISEMPTY" or (operator == "=" and value in {"", "NULL"}):
        return lambda values: not get(values)
    if operator == "ISNOTEMPTY" or (operator == "!=" and value in {"", "NULL"}):
        return lambda values: bool(get(values))
    if operator in {">", ">=", "<", "<="}:
        return _ordering(operator, value, get, column)
    if operator in {"=", "!=", "IN", "NOT IN"}:
        wanted = frozenset(part.strip().casefold() for part in value.split(",")) if "IN" in operator else None
        return _membership(wanted or frozenset({value.casefold()}), get, negated=operator in {"!=", "NOT IN"})
    return _text_test(operator, value.casefold(), show if column.kind == "reference" else get)


def _membership(wanted: frozenset[str], get: Getter, *, negated: bool) -> Test:
    """Compare as the real database does: without regard to case; an empty field differs from every value."""
    if negated:
        return lambda values: get(values).casefold() not in wanted
    if len(wanted) == 1:
        (only,) = wanted
        return lambda values: get(values).casefold() == only
    return lambda values: get(values).casefold() in wanted


def _text_test(operator: str, value: str, get: Getter) -> Test:
    if operator == "STARTSWITH":
        return lambda values: get(values).casefold().startswith(value)
    if operator == "ENDSWITH":
        return lambda values: get(values).casefold().endswith(value)
    if operator in {"LIKE", "CONTAINS"}:
        return lambda values: value in get(values).casefold()
    return lambda values: value not in get(values).casefold()


def _ordering(operator: str, value: str, get: Getter, column: Column) -> Test:
    """Order numbers as numbers, everything else as text; an empty field is in no order."""
    if column.kind in {"integer", "choice"}:
        limit = as_number(value)
        if limit is None:
            return lambda _values: False
        return _number_ordering(operator, limit, get)
    if column.kind == "datetime":
        value = as_datetime(value) or "\uffff"
        if value == "\uffff":
            return lambda _values: False
    if operator == ">":
        return lambda values: get(values) > value
    if operator == ">=":
        return lambda values: get(values) >= value and bool(get(values))
    if operator == "<":
        return lambda values: "" < get(values) < value
    return lambda values: "" < get(values) <= value


def _number_ordering(operator: str, limit: float, get: Getter) -> Test:
    def test(values: tuple[str, ...]) -> bool:
        number = as_number(get(values))
        if number is None:
            return False
        if operator == ">":
            return number > limit
        if operator == ">=":
            return number >= limit
        return number < limit if operator == "<" else number <= limit

    return test


def as_number(text: str) -> float | None:
    """Read a number, or nothing."""
    try:
        return float(text)
    except ValueError:
        return None


_DATETIME = re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d)?")


def as_datetime(text: str) -> str | None:
    """Read `YYYY-MM-DD` or `YYYY-MM-DD HH:MM:SS` (UTC), the only forms the service takes; or nothing."""
    if not _DATETIME.fullmatch(text):
        return None
    return text if len(text) > len("YYYY-MM-DD") else f"{text} 00:00:00"
