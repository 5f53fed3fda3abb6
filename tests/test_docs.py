"""The documentation names everything that is there, and nothing that is not. Running it is test_docs_examples.py's."""

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest

import docs_pages as docs
from trunkline import errors
from trunkline.cli import COMMANDS, load
from trunkline.http import native
from trunkline.http.app import _OPERATOR
from trunkline.http.native.errors import status_of
from trunkline.http.native.route import NativeRoute
from trunkline.http.telemetry import Telemetry
from trunkline.http.wire import TooLarge
from trunkline.services import permissions
from trunkline.settings import ClientSettings, Settings, documented

FOLDER = docs.ROOT / "docs"
PRESENT = [page for page in docs.PAGES if page.name not in docs.HISTORY]
ROUTES = [route for route in native.build().routes if isinstance(route, NativeRoute)]
SECRET = {
    item.name.upper()
    for kind in (Settings, ClientSettings)
    for item in fields(kind)
    if item.metadata["secret"]
}
VARIABLES = {f"TRUNKLINE_{item.name.upper()}" for kind in (Settings, ClientSettings) for item in fields(kind)}
VARIABLES |= {f"TRUNKLINE_{name}_FILE" for name in SECRET} | {"TRUNKLINE_TEST_POSTGRES"}


def _called(page: Path) -> str:
    return page.relative_to(docs.ROOT).as_posix()


def _code(page: Path) -> Iterator[str]:
    """Yield what a page sets as code: spans, and the commands of its blocks."""
    yield from re.findall(r"`([^`\n]+)`", docs.prose(page))
    for block in docs.blocks(page):
        if block.kind in {"console", "bash"}:
            yield from (line[2:] for line in block.text.splitlines() if line.startswith("$ "))


def test_every_setting_is_in_the_table_with_its_default():
    rows = [row for row in docs.table_rows(FOLDER / "operating.md") if row[0].startswith("`TRUNKLINE_")]
    table = {row[0].strip("`"): row[1].strip("`") for row in rows}
    wanted = {name: default for name, default, _ in documented()}
    assert wanted.items() <= table.items()


def test_every_permission_is_in_the_table_with_who_has_it():
    page = FOLDER / "workspaces.md"
    rows = [row for row in docs.table_rows(page) if re.fullmatch(r"`[A-Z]\w+\.\w+`", row[0])]
    table = {row[0].strip("`"): row[1:5] for row in rows if len(row) == 6}
    assert table == {
        name: [
            "yes" if permissions.allows(permissions.effective(role, []), name) else ""
            for role in permissions.ROLES
        ]
        for name in permissions.KNOWN
    }
    header = next(row for row in docs.table_rows(page) if row[0] == "permission")
    assert header[1:5] == list(permissions.ROLES)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_every_route_stands_in_a_table_with_its_permission(route: NativeRoute):
    method = next(iter(route.methods))
    wanted = f"`{method} {route.path}`"
    rows = [row for page in PRESENT for row in docs.table_rows(page) if row[0] == wanted]
    assert [row[1].strip("`") for row in rows] == [route.plan.permission or "any valid key"]


@pytest.mark.parametrize("path", sorted(_OPERATOR))
def test_every_operators_route_is_named(path: str):
    assert f"`GET {path}`" in (FOLDER / "operating.md").read_text()


def test_every_error_is_in_the_table_with_its_status():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    raised = [kind for kind in kinds if issubclass(kind, errors.TrunklineError)]
    raised.remove(errors.TrunklineError)
    wanted = {(str(status_of(kind())), kind.code) for kind in [*raised, TooLarge]}
    rows = {(row[0], row[1].strip("`")) for row in docs.table_rows(FOLDER / "errors.md")}
    assert wanted <= rows


def test_every_kind_of_failure_is_in_the_table():
    source = docs.ROOT / "src/trunkline"
    files = [*source.glob("rest/*.py"), *source.glob("egress/*.py")]
    kinds = {kind for file in files for kind in re.findall(r'kind="(\w+)"', file.read_text())}
    kinds |= {"status", "refused", "shape"}
    rows = {row[0].strip("`") for row in docs.table_rows(FOLDER / "errors.md")}
    assert kinds <= rows


def test_every_metric_is_named():
    wanted = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in Telemetry().registry.collect()
    }
    rows = {row[0].strip("`") for row in docs.table_rows(FOLDER / "operating.md")}
    assert wanted <= rows


@pytest.mark.parametrize("page", PRESENT, ids=_called)
def test_a_page_names_only_settings_that_exist(page: Path):
    named = set(re.findall(r"\bTRUNKLINE_[A-Z_]*[A-Z]\b", page.read_text()))
    assert named <= VARIABLES


@pytest.mark.parametrize("page", PRESENT, ids=_called)
def test_a_page_names_only_commands_and_options_that_exist(page: Path):
    wrong = []
    for text in _code(page):
        found = re.search(r"(?:^|[\s/])trunkline ([a-z]+)\b(.*)", text)
        if found and not _is_command(found[1], found[2].partition(" #")[0]):
            wrong.append(text)
    assert wrong == []


def _is_command(name: str, rest: str) -> bool:
    if name not in COMMANDS:
        return False
    command = load(name)
    if isinstance(command, click.Group) or hasattr(command, "commands"):
        verb = re.match(r" ([a-z]+)\b", rest)
        if verb is None:
            return rest.strip(" …") == "" or "--help" in rest
        command = command.commands.get(verb[1])
        if command is None:
            return False
    known = {option for item in command.params for option in (*item.opts, *item.secondary_opts)} | {"--help"}
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest)) <= known


@pytest.mark.parametrize("page", PRESENT, ids=_called)
def test_a_page_names_only_routes_that_exist(page: Path):
    if page.name == "sandbox.md":
        pytest.skip("the routes of the fakes are tried by running the page")
    wanted = re.findall(
        r"\b(GET|POST|PUT|PATCH|DELETE) (/(?:v1|healthz|readyz|metrics)[^\s`?]*)", page.read_text()
    )
    assert [named for named in wanted if not _is_route(*named)] == []


def _is_route(method: str, path: str) -> bool:
    if path in _OPERATOR:
        return method == "GET"
    return any(
        method in route.methods and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", route.path), path)
        for route in ROUTES
    )


@pytest.mark.parametrize("page", docs.PAGES, ids=_called)
def test_links_lead_somewhere(page: Path):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", docs.prose(page)):
        if target.startswith("https://"):
            continue
        place, _, anchor = target.partition("#")
        file = (page.parent / place).resolve() if place else page
        if not file.exists() or (anchor and anchor not in docs.headings(file)):
            broken.append(target)
    assert broken == []


def test_the_index_leads_to_every_page():
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", (FOLDER / "index.md").read_text()))
    assert linked == {page.name for page in FOLDER.glob("*.md")} - {"index.md"}


def test_the_readme_is_short_and_stands_alone():
    text = (docs.ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 150
    assert "shields.io" not in text
    for image in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text):
        assert (docs.ROOT / image).stat().st_size < 300 * 1024


@pytest.mark.parametrize("page", docs.PAGES, ids=_called)
def test_a_page_knows_no_particular_machine(page: Path):
    assert re.search(r"/(work|home|Users|root)/\w|[Pp]y[Pp][Ii]|index-url", page.read_text()) is None
