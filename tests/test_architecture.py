"""The house rules that a tool can hold: sizes, broad excepts, names, vendors, one reader of the environment."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "trunkline"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MAX_FUNCTION = 60
MAX_FILE = 600
MAX_HUB = 36_500
MAX_SANDBOX = 9_800
# The job guard, the request boundary, and the thread that hands whatever happened to whoever awaits it.
BROAD_EXCEPTS = {"jobs.py", "http/app.py", "db/lane.py"}
BANNED_NAMES = {"utils", "helpers", "common", "base", "core", "manager"}
VENDORS = re.compile(
    r"servicenow|pagerduty|github|linear\.app|slack|sentry|telegram|discord|whatsapp|jira|zendesk",
    re.IGNORECASE,
)
VENDORS_MAY_STAND_IN = ("connectors/", "sandbox/", "cli/demo", "http/dialects/")


def _name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else path.name


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=_name)
def test_files_and_functions_fit_in_a_head(path: Path):
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_FILE
    long = [
        f"{function.name}: {function.end_lineno - function.lineno + 1} lines"
        for function in _functions(ast.parse(text))
        if function.end_lineno is not None and function.end_lineno - function.lineno >= MAX_FUNCTION
    ]
    assert long == []


def test_the_package_fits_in_a_head():
    lines = {_name(path): len(path.read_text().splitlines()) for path in SOURCES}
    fakes = sum(count for name, count in lines.items() if name.startswith("sandbox/"))
    assert fakes <= MAX_SANDBOX
    assert sum(lines.values()) - fakes <= MAX_HUB


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_a_module_says_what_it_owns(path: Path):
    text = path.read_text()
    assert not text.strip() or ast.get_docstring(ast.parse(text))
    assert path.stem not in BANNED_NAMES


def test_everything_is_caught_only_at_the_boundaries():
    broad = {
        _name(path)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and (
            node.type is None
            or (isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"})
        )
    }
    assert broad <= BROAD_EXCEPTS


def test_vendors_are_data():
    named = [
        f"{_name(path)}:{number}"
        for path in SOURCES
        if not _name(path).startswith(VENDORS_MAY_STAND_IN)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if VENDORS.search(line)
    ]
    assert named == []


def test_only_settings_reads_the_environment():
    readers = {
        _name(path)
        for path in SOURCES
        if re.search(r"os\.environ|os\.getenv|from os import .*(environ|getenv)", path.read_text())
    }
    assert readers <= {"settings.py"}


def test_imports_point_down():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--config", ROOT / "pyproject.toml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
