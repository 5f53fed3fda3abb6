"""Settings: read once, each fault named, nothing misspelt in silence."""

from pathlib import Path

import pytest

from trunkline.errors import Invalid
from trunkline.settings import Settings


def test_an_empty_environment_gives_the_defaults():
    assert Settings.load({}) == Settings()


def test_an_override_wins_and_none_does_not():
    assert Settings.load({"TRUNKLINE_PORT": "1"}, port=2, host=None) == Settings(port=2)


def test_a_secret_may_come_from_a_file(tmp_path: Path):
    (tmp_path / "key").write_text("a secret\n")
    assert Settings.load({"TRUNKLINE_MASTER_KEY_FILE": str(tmp_path / "key")}).master_key == "a secret"


def test_no_secret_shows_in_the_representation():
    settings = Settings(master_key="hush", database_url="postgresql://u:hush@h/d")
    assert "hush" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("TRUNKLINE_PORT", "abc", "must be a whole number"),
        ("TRUNKLINE_PORT", "-1", "above 0"),
        ("TRUNKLINE_MAX_BODY_BYTES", "0", "above 0"),
        ("TRUNKLINE_READ_TIMEOUT_SECONDS", "nan", "must be a number"),
        ("TRUNKLINE_PUBLIC_URL", "hub.example.com", r"must be an http\(s\) address"),
        ("TRUNKLINE_PUBLIC_URL", "https://[", "TRUNKLINE_PUBLIC_URL"),
        ("TRUNKLINE_LOG_LEVEL", "loud", "debug, info, warning, error"),
        ("TRUNKLINE_MASTER_KEY_FILE", "/nowhere", "TRUNKLINE_MASTER_KEY"),
        ("TRUNKLINE_CODESPAR_WITHOUT_KEY", "maybe", "must be true or false"),
        ("TRUNKLINE_EGRES_ALLOW", "10.0.0.0/8", "did you mean TRUNKLINE_EGRESS_ALLOW?"),
        ("TRUNKLINE_MASTER_KEYS", "x", "did you mean TRUNKLINE_MASTER_KEY?"),
    ],
)
def test_a_fault_is_told_by_its_variable(name: str, value: str, told: str):
    with pytest.raises(Invalid, match=told) as caught:
        Settings.load({name: value})
    assert name.removesuffix("_FILE") in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("TRUE", True), ("1", True), ("false", False), ("0", False)]
)
def test_a_switch_is_on_or_off(text: str, value: bool):
    assert Settings.load({"TRUNKLINE_CODESPAR_WITHOUT_KEY": text}).codespar_without_key is value


def test_the_outer_address_is_kept_without_a_slash_at_its_end():
    assert Settings.load({"TRUNKLINE_PUBLIC_URL": "https://hub.example.com/in/"}).public_url.endswith("/in")


def test_a_variable_of_somebody_else_is_let_be():
    assert Settings.load({"TRUNKLINE_DEPLOYED_BY": "ci", "TRUNKLINE_URL": "http://127.0.0.1"}) == Settings()
