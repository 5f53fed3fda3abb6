"""Read what people type as values: `k=v`, `k:=json`, JSON and YAML files, secrets that must not be echoed."""

import re
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import typer
import yaml

from trunkline.clock import SystemClock
from trunkline.errors import Invalid

_AGO = re.compile(r"([0-9]{1,6})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_MAX_FILE_BYTES = 1024 * 1024  # what the hub takes as a body
_BOOLEANS = {"true": True, "false": False}
_ARTICLES = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}


def given(**values: Any) -> dict[str, Any]:
    """Keep the options that were given."""
    return {name: value for name, value in values.items() if value is not None}


def parse_time(name: str, text: str | None) -> datetime | None:
    """Read a time: so long ago, as `30m`, `2h` or `7d`, or ISO 8601, in UTC unless it says otherwise.

    Raises:
        Invalid: naming the option.
    """
    if text is None:
        return None
    ago = _AGO.fullmatch(text)
    try:
        if ago is not None:
            return SystemClock().now() - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        time = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise Invalid.field(
            (name,), f"{text!r} is no time, such as 30m, 2h, 7d or 2026-05-03T10:00:00Z"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def parse_params(words: Iterable[str], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Turn `k=v` and `k:=json` into parameters; a plain value becomes what the input schema says of `k`.

    Raises:
        Invalid: naming the word at fault.
    """
    properties = schema.get("properties")
    types = properties if isinstance(properties, Mapping) else {}
    params: dict[str, Any] = {}
    for word in words:
        name, value, typed = split_pair(word)
        params[name] = _json(name, value) if typed else _coerce(name, value, types.get(name))
    return params


def split_pair(word: str) -> tuple[str, str, bool]:
    """Split `k=v` or `k:=json` into name, value, and whether the value is JSON.

    Raises:
        Invalid: the word has no `=`, no name, or bytes that are not UTF-8.
    """
    name, equals, value = word.partition("=")
    typed = name.endswith(":")
    name = name.removesuffix(":") if typed else name
    if not equals or not name:
        raise Invalid(f"{word!r} is not NAME=VALUE (or NAME:=JSON)")
    if not (_is_utf8(name) and _is_utf8(value)):
        raise Invalid(f"{name!r} holds bytes that are not UTF-8")
    return name, value, typed


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _json(name: str, value: str) -> Any:
    try:
        return orjson.loads(value)
    except ValueError as error:
        raise Invalid.field((name,), f"is not JSON: {error}") from error


def _coerce(name: str, value: str, schema: Any) -> Any:
    kinds = schema.get("type") if isinstance(schema, Mapping) else None
    wanted = [kinds] if isinstance(kinds, str) else list(kinds or [])
    if not wanted or "string" in wanted:
        return value
    if "null" in wanted and value == "null":
        return None
    for kind in wanted:
        found = _as_kind(kind, value)
        if found is not None:
            return found
    expected = " or ".join(_ARTICLES.get(kind, f"JSON ({kind})") for kind in wanted if kind != "null")
    raise Invalid.field((name,), f"expects {expected}, not {value!r}")


def _as_kind(kind: str, value: str) -> Any:
    """Return the value as this JSON Schema type, or None when it is not one."""
    if kind == "boolean":
        return _BOOLEANS.get(value.lower())
    try:
        found = orjson.loads(value)
    except ValueError:
        return None
    fits = {
        "integer": isinstance(found, int) and not isinstance(found, bool),
        "number": isinstance(found, int | float) and not isinstance(found, bool),
        "array": isinstance(found, list),
        "object": isinstance(found, dict),
    }
    return found if fits.get(kind) else None


def read_object(path: Path) -> dict[str, Any]:
    """Read one JSON or YAML object from a file, or from stdin when the path is `-`.

    Raises:
        Invalid: the file cannot be read, is over 1 MiB, or holds something else.
    """
    raw = read_bytes(path)
    try:
        value = yaml.safe_load(raw) if path.suffix in {".yaml", ".yml"} else orjson.loads(raw)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise Invalid(f"{path}: {error}") from error
    if not isinstance(value, dict):
        raise Invalid(f"{path}: expected an object, found {type(value).__name__}")
    return value


def read_bytes(path: Path) -> bytes:
    """Read a small file, or stdin when the path is `-`.

    Raises:
        Invalid: the file cannot be read or is over 1 MiB.
    """
    try:
        if str(path) == "-":
            raw = sys.stdin.buffer.read(_MAX_FILE_BYTES + 1)
        else:
            with path.open("rb") as file:
                raw = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}") from error
    if len(raw) > _MAX_FILE_BYTES:
        raise Invalid(f"{path}: larger than {_MAX_FILE_BYTES} bytes")
    return raw


def read_secrets(words: Iterable[str]) -> dict[str, str]:
    """Read `NAME=VALUE`; `NAME=-` asks without echo (or reads a line of stdin), `NAME=@FILE` reads a file.

    Raises:
        Invalid: naming the credential at fault, never its value.
    """
    return dict(_secret(word) for word in words)


def _secret(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals or not name:
        raise Invalid("--credential takes NAME=VALUE, NAME=- to be asked, or NAME=@FILE")
    if value == "-":
        return name, _ask(name)
    if value.startswith("@"):
        try:
            return name, read_bytes(Path(value[1:])).decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise Invalid(f"{value[1:]} is not a text file") from error
    if not _is_utf8(value):
        raise Invalid(f"credential {name!r} holds bytes that are not UTF-8")
    return name, value


def _ask(name: str) -> str:
    if sys.stdin.isatty():
        return str(typer.prompt(name, hide_input=True, err=True))
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise Invalid(f"No value for credential {name!r} on stdin")
    return line
