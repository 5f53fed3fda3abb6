"""The command line as a whole: which commands there are, how fast they come, what goes wrong with which exit code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cli_fake_hub import KEY, FakeHub, Run

from trunkline import __version__
from trunkline.cli import COMMANDS, load
from trunkline.cli.output import clean


def test_help_names_every_command(trunkline: Run) -> None:
    result = trunkline("--help")
    assert result.exit_code == 0
    assert all(f" {name} " in result.output for name in COMMANDS)


def test_help_imports_no_command_and_nothing_heavy() -> None:
    program = (
        "import sys; from typer.testing import CliRunner; from trunkline.cli import app;"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0;"
        "print([m for m in sys.modules if m in ('aiohttp', 'sqlalchemy', 'fastapi', 'trunkline.client')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_listed_help_is_the_commands_own(name: str) -> None:
    assert load(name).help.strip() == COMMANDS[name].help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(trunkline: Run, name: str) -> None:
    assert trunkline(name, "--help").exit_code == 0


def test_version(trunkline: Run) -> None:
    assert trunkline("--version").output == f"trunkline {__version__}\n"


def test_an_unknown_command_is_a_usage_error(trunkline: Run) -> None:
    assert trunkline("conector").exit_code == 2


def test_an_unknown_option_is_a_usage_error(trunkline: Run) -> None:
    assert trunkline("integration", "list", "--nope").exit_code == 2


def test_without_a_hub_the_way_out_is_told(trunkline: Run) -> None:
    result = trunkline("integration", "list")
    assert result.exit_code == 3
    assert "trunkline up" in result.stderr
    assert not result.stdout


def test_a_stopped_hub_is_unreachable(trunkline: Run) -> None:
    result = trunkline("integration", "list", "--url", "http://127.0.0.1:1", "--api-key", KEY)
    assert (result.exit_code, "Connection refused" in result.stderr) == (3, True)


def test_an_address_without_a_key_is_refused(trunkline: Run) -> None:
    assert trunkline("integration", "list", "--url", "http://127.0.0.1:1").exit_code == 4


def test_a_wrong_key_is_refused_and_not_echoed(trunkline: Run, fake: FakeHub) -> None:
    wrong = "tl_" + "x" * 46
    result = trunkline("integration", "list", "--url", fake.url, "--api-key", wrong)
    assert result.exit_code == 4
    assert wrong not in result.output


def test_a_missing_permission_is_refused(with_hub: Run, fake: FakeHub) -> None:
    fake.answer(
        "GET", "/integrations", {"detail": "Insufficient permissions.", "error_code": "forbidden"}, 403
    )
    result = with_hub("integration", "list")
    assert (result.exit_code, "Insufficient permissions" in result.stderr) == (4, True)


def test_the_ready_file_is_found_by_data_dir(with_hub: Run, fake: FakeHub, tmp_path: Path) -> None:
    fake.answer("GET", "/integrations", [])
    (tmp_path / "trunkline-data").rename(tmp_path / "elsewhere")
    assert with_hub("integration", "list", "--data-dir", "elsewhere").exit_code == 0


def test_the_environment_wins_over_the_ready_file(with_hub: Run, fake: FakeHub) -> None:
    environment = {"TRUNKLINE_URL": "http://127.0.0.1:1", "TRUNKLINE_API_KEY": KEY}
    assert with_hub("integration", "list", env=environment).exit_code == 3
    assert fake.asked == []


def test_the_key_of_the_ready_file_goes_to_no_other_hub(with_hub: Run, fake: FakeHub) -> None:
    result = with_hub("integration", "list", "--url", "http://127.0.0.1:1")
    assert (result.exit_code, "No API key" in result.stderr) == (4, True)


@pytest.mark.parametrize("text", ["", "{}", "[]", "not json", '{"url": 1}'])
def test_a_broken_ready_file_is_named(trunkline: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "trunkline-data").mkdir()
    (tmp_path / "trunkline-data" / "ready.json").write_text(text)
    result = trunkline("integration", "list")
    assert (result.exit_code, "ready.json" in result.stderr) == (2, True)


def test_json_goes_to_stdout_alone(with_hub: Run, fake: FakeHub) -> None:
    fake.answer("GET", "/integrations", [])
    result = with_hub("integration", "list", "--json")
    assert json.loads(result.stdout) == {"items": []}
    assert not result.stderr


def test_what_a_service_says_cannot_drive_the_terminal() -> None:
    assert clean("a\x1b[2Jb\x07c\u202ed\ne") == "a\ufffd[2Jb\ufffdc\ufffdd\ne"
