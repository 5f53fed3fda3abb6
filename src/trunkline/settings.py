"""Every setting, in one list. The only place that reads the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from trunkline.errors import FieldError, Invalid

_PREFIX = "TRUNKLINE_"


def _setting(default: Any, help_text: str, *, secret: bool = False) -> Any:
    return field(default=default, metadata={"help": help_text, "secret": secret}, repr=not secret)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the operator decides. Each field is `TRUNKLINE_<NAME>`; a secret may come from `…_FILE`."""

    data_dir: Path = _setting(Path("trunkline-data"), "where the SQLite file and the key file live")
    database_url: str = _setting(
        "", "PostgreSQL address; empty: an SQLite file in the data directory", secret=True
    )
    master_key: str = _setting(
        "", "master keys, base64 of 32 bytes, comma-separated: the first seals, all open", secret=True
    )
    host: str = _setting("127.0.0.1", "address to listen on; beyond loopback a master key must be given")
    port: int = _setting(8700, "port to listen on; 0 picks a free one")
    egress_allow: str = _setting(
        "",
        "hosts, host:port pairs and networks that calls may reach although private; plain http only there",
    )
    egress_ca_file: Path | None = _setting(
        None, "certificates (PEM) of one more authority to trust in calls, beside the system's"
    )
    connectors_dir: Path | None = _setting(None, "a folder with more connectors, reloaded on change")
    max_body_bytes: int = _setting(1024 * 1024, "largest request body accepted, in bytes")
    max_response_bytes: int = _setting(
        10 * 1024 * 1024, "largest upstream answer, in bytes, after decompression"
    )
    connect_timeout_seconds: float = _setting(5.0, "time to connect to an upstream")
    read_timeout_seconds: float = _setting(30.0, "longest silence of an upstream")
    call_timeout_seconds: float = _setting(60.0, "one upstream attempt in total")
    retry_budget_seconds: float = _setting(600.0, "all attempts of one call together, waits included")
    log_level: str = _setting("info", "debug, info, warning or error")
    log_format: str = _setting("json", "json or console")
    shutdown_seconds: float = _setting(30.0, "longest wait for accepted requests to finish at a stop")

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> "Settings":
        """Read settings from the environment; an override that is not None wins.

        Raises:
            Invalid: naming each variable at fault, and unknown `TRUNKLINE_` variables that look misspelt.
        """
        env = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        problems: list[FieldError] = []
        for item in fields(cls):
            name = _PREFIX + item.name.upper()
            try:
                raw = _read(env, name, secret=bool(item.metadata["secret"]))
                if raw is not None:
                    values[item.name] = _cast(item.name, item.default, raw)
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
    if path:
        return Path(path).read_text(encoding="utf-8").strip()
    return env.get(name) or None


def _cast(name: str, default: Any, raw: str) -> Any:
    if isinstance(default, Path) or default is None:
        return Path(raw)
    if isinstance(default, str):
        return raw
    number = type(default)(raw)
    if number < 0 or (number == 0 and name != "port"):
        raise ValueError("must be a positive number")
    return number


def documented() -> list[tuple[str, str, str]]:
    """List (variable, default, help) for the docs page and `trunkline doctor`."""
    return [
        (_PREFIX + item.name.upper(), str(item.default or ""), str(item.metadata["help"]))
        for item in fields(Settings)
    ]
