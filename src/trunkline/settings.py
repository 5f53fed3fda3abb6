"""Every setting, in one list. The only place that reads the environment."""

import difflib
import math
import os
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trunkline.errors import FieldError, Invalid

_PREFIX = "TRUNKLINE_"
_SWITCH = {"true": True, "1": True, "false": False, "0": False}


def _setting(default: Any, help_text: str, *, secret: bool = False, one_of: tuple[str, ...] = ()) -> Any:
    about = {"help": help_text, "secret": secret, "one_of": one_of}
    return field(default=default, metadata=about, repr=not secret)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the operator decides. Each field is `TRUNKLINE_<NAME>`; a secret may come from `…_FILE`."""

    data_dir: Path = _setting(Path("trunkline-data"), "where the SQLite file and the key file live")
    database_url: str = _setting(
        "", "PostgreSQL address; empty: an SQLite file in the data directory", secret=True
    )
    master_key: str = _setting(
        "",
        "master keys, base64 of 32 bytes, separated by commas or white space: the first seals, all open",
        secret=True,
    )
    host: str = _setting("127.0.0.1", "address to listen on; beyond loopback a master key must be given")
    port: int = _setting(8700, "port to listen on; 0 picks a free one")
    public_url: str = _setting(
        "", "address under which the outside reaches the hub, for the addresses it hands out"
    )
    egress_allow: str = _setting(
        "",
        "hosts, host:port pairs and networks that calls may reach although private; plain http only there",
    )
    egress_ca_file: Path | None = _setting(
        None, "certificates (PEM) of one more authority to trust in calls, beside the system's"
    )
    codespar_without_key: bool = _setting(
        False, "true: the codespar wire format takes requests of this machine without a key; loopback only"
    )
    connectors_dir: Path | None = _setting(None, "a folder with more connectors, reloaded on change")
    max_body_bytes: int = _setting(1024 * 1024, "largest request body accepted, in bytes")
    max_upload_bytes: int = _setting(32 * 1024 * 1024, "largest request body of an upload of files, in bytes")
    max_response_bytes: int = _setting(
        10 * 1024 * 1024, "largest upstream answer, in bytes, after decompression"
    )
    connect_timeout_seconds: float = _setting(5.0, "time to connect to an upstream")
    read_timeout_seconds: float = _setting(30.0, "longest silence of an upstream")
    call_timeout_seconds: float = _setting(
        60.0, "one upstream attempt in total; and all attempts together of a call that a client waits for"
    )
    retry_budget_seconds: float = _setting(
        600.0, "all attempts together of a call that nobody waits for, waits included"
    )
    event_retention_days: float = _setting(
        30.0, "how long events, the requests they were read from, and finished deliveries are kept, in days"
    )
    vectors: bool = _setting(
        False,
        "true: records are also searched by meaning; needs the extra `vectors` and a gigabyte of memory",
    )
    log_level: str = _setting(
        "info", "debug, info, warning or error", one_of=("debug", "info", "warning", "error")
    )
    log_format: str = _setting("json", "json or console", one_of=("json", "console"))
    shutdown_seconds: float = _setting(30.0, "longest wait for accepted requests to finish at a stop")

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> "Settings":
        """Read settings from the environment; an override that is not None wins.

        Raises:
            Invalid: naming each variable at fault, and unknown `TRUNKLINE_` variables that look misspelt.
        """
        env = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        problems = _misspelt(env)
        for item in fields(cls):
            name = _PREFIX + item.name.upper()
            try:
                raw = _read(env, name, secret=bool(item.metadata["secret"]))
                if raw is not None:
                    values[item.name] = _cast(item, raw)
            except (ValueError, OSError) as error:
                problems.append(FieldError((name,), str(error)))
        if problems:
            raise Invalid(fields=problems)
        values.update({name: value for name, value in overrides.items() if value is not None})
        return cls(**values)

    @property
    def sqlite_path(self) -> Path:
        return self.data_dir / "trunkline.db"

    @property
    def key_file(self) -> Path:
        return self.data_dir / "master.key"

    @property
    def ready_file(self) -> Path:
        return self.data_dir / "ready.json"


@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    """Where a client finds a running hub, and with which key. Empty means: ask the hub's ready file."""

    url: str = _setting("", "address of a running hub, for the command line")
    api_key: str = _setting("", "API key for the command line", secret=True)
    workspace: str = _setting("", "workspace id for the command line; empty: the key's own")

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> "ClientSettings":
        """Read `TRUNKLINE_URL`, `TRUNKLINE_API_KEY` (or `…_FILE`) and `TRUNKLINE_WORKSPACE`.

        Raises:
            Invalid: naming a variable whose file cannot be read.
        """
        env = os.environ if environ is None else environ
        values = {}
        for item in fields(cls):
            name = _PREFIX + item.name.upper()
            try:
                values[item.name] = _read(env, name, secret=bool(item.metadata["secret"])) or ""
            except (ValueError, OSError) as error:
                raise Invalid.field((name,), str(error)) from error
        return cls(**values)


def environment_for_child(environ: Mapping[str, str] | None = None, **values: str) -> dict[str, str]:
    """Return a child's environment: this one's without any `TRUNKLINE_` variable, plus `values`."""
    env = os.environ if environ is None else environ
    kept = {name: value for name, value in env.items() if not name.startswith(_PREFIX)}
    return kept | {_PREFIX + name.upper(): value for name, value in values.items()}


def _read(env: Mapping[str, str], name: str, *, secret: bool) -> str | None:
    path = env.get(name + "_FILE") if secret else None
    if path and env.get(name):
        raise ValueError(f"is set, and so is {name}_FILE; keep one of them")
    if path:
        return Path(path).read_text(encoding="utf-8").strip()
    return env.get(name) or None


def _cast(item: Field[Any], raw: str) -> Any:
    if isinstance(item.default, Path) or item.default is None:
        return Path(raw)
    if isinstance(item.default, str):
        if item.name == "public_url":
            return _url(raw)
        allowed = item.metadata["one_of"]
        if allowed and raw.lower() not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return raw.lower() if allowed else raw
    if isinstance(item.default, bool):
        if raw.lower() not in _SWITCH:
            raise ValueError("must be true or false")
        return _SWITCH[raw.lower()]
    return _number(raw, int if isinstance(item.default, int) else float, may_be_zero=item.name == "port")


def _url(raw: str) -> str:
    parts = urlsplit(raw)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an http(s) address without query, such as https://hub.example.com")
    return raw.rstrip("/")


def _number(raw: str, kind: type[int] | type[float], *, may_be_zero: bool) -> float:
    text = "must be a whole number" if kind is int else "must be a number"
    try:
        number = kind(raw)
    except ValueError:
        raise ValueError(text) from None
    if not math.isfinite(number) or number < 0 or (number == 0 and not may_be_zero):
        raise ValueError(f"{text} above 0")
    return number


def _misspelt(env: Mapping[str, str]) -> list[FieldError]:
    """Find variables that are nobody's but almost ours: a typo must not leave a door open or shut unseen."""
    known = {_PREFIX + item.name.upper() for kind in (Settings, ClientSettings) for item in fields(kind)}
    known |= {name + "_FILE" for name in known}
    strange = (name for name in env if name.startswith(_PREFIX) and name not in known)
    near = ((name, difflib.get_close_matches(name, known, n=1, cutoff=0.9)) for name in strange)
    return [FieldError((name,), f"is no setting; did you mean {found[0]}?") for name, found in near if found]


def documented() -> list[tuple[str, str, str]]:
    """List (variable, default, help) for the docs page and `trunkline doctor`."""
    return [
        (_PREFIX + item.name.upper(), str(item.default or ""), str(item.metadata["help"]))
        for item in fields(Settings)
    ]
