"""Supportbot's spellings: pure functions between its JSON and ours, its masks, times and frames, its error table.

Its documents: docs/supportbot.md.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from trunkline.catalog.manifest import AuthMethod, Manifest, credential_fields
from trunkline.context import Context
from trunkline.errors import (
    Broken,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    RemoteFailed,
    TooMany,
    TrunklineError,
    Unauthenticated,
    Unavailable,
)
from trunkline.http.dialects.dialect import NoSuchMethod
from trunkline.http.wire import Answer, TooLarge, encode
from trunkline.redact import redact_keys
from trunkline.services import permissions
from trunkline.services.integrations import Integration

MASK = "********"
MAX_ERROR = 500
BATCH = 5

PERMISSIONS = {
    "integration.view": "Integration.view",
    "integration.create": "Integration.create",
    "integration.edit": "Integration.update",
    "integration.delete": "Integration.delete",
    "integration.sync": "Integration.sync",
    "kb.view": "Dataset.view",
    "kb.upload": "Dataset.update",
    "kb.validate": "Dataset.update",
    "kb.ingest": "Dataset.sync",
    "kb.version_manage": "Dataset.delete",
    "kb.rollback": "Dataset.rollback",
}


def permit(ctx: Context, permission: str | None) -> None:
    """Refuse a caller who lacks a permission, named as this format does.

    Raises:
        Forbidden
    """
    if permission is not None and not permissions.allows(ctx.caller.permissions, PERMISSIONS[permission]):
        raise Forbidden(f"Missing permission: {permission}")


class Refused(Invalid):
    """The request cannot be done."""

    code = "refused"


_STATUS: dict[type[TrunklineError], int] = {
    Refused: 400,
    TooLarge: 413,
    Invalid: 422,
    Unauthenticated: 401,
    Forbidden: 403,
    NoSuchMethod: 405,
    NotFound: 404,
    Conflict: 409,
    Gone: 410,
    TooMany: 429,
    RemoteFailed: 502,
    Unavailable: 503,
    Broken: 500,
}


def to_answer(error: TrunklineError, request_id: str) -> Answer:
    """Write an error as the product's framework does: `detail`, a list of faults for a body that is wrong."""
    del request_id  # it is a header
    status = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
    detail: Any = redact_keys(error.message)
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if status == 422 and isinstance(error, Invalid) and error.fields:
        detail = [{"loc": list(field.loc), "msg": field.msg, "type": field.type} for field in error.fields]
    elif isinstance(error, Broken):
        detail = "Internal Server Error"
    elif type(error) is NotFound and error.message == NotFound().message:
        detail = "Not Found"
    elif isinstance(error, NoSuchMethod):
        detail, headers = "Method Not Allowed", ((b"allow", error.allowed.encode()),)
    elif isinstance(error, TooMany):
        headers = ((b"retry-after", b"%d" % -(-error.retry_after // 1)),)
    elif isinstance(error, Unauthenticated):
        headers = ((b"www-authenticate", b"Bearer"),)
    return Answer(status, encode({"detail": detail}), headers=headers)


def failed(message: str) -> dict[str, Any]:
    """Say no as this format does once the caller is known: status 200, `success` false."""
    return {"success": False, "message": redact_keys(message)}


def frame(event: str, data: Mapping[str, Any]) -> bytes:
    """Write one server-sent event, with the spaces of the product's own JSON."""
    return f"event: {event}\ndata: {json.dumps(data)}\n\n".encode()


def error_frame(message: str) -> bytes:
    """Write the last frame of a stream that went wrong."""
    return frame("error", failed(message))


# Secrets: which they are, hidden, and taken back when a client writes the mask.

_SECRET_NAMES = frozenset(
    {"password", "api_key", "secret", "token", "api_token", "access_token", "refresh_token"}
)
_SECRET_PARTS = ("password", "secret", "token")
Path = tuple[str | int, ...]


def is_secret(name: str) -> bool:
    """Tell whether the value of a config key is never shown."""
    lower = name.lower()
    return lower in _SECRET_NAMES or any(part in lower for part in _SECRET_PARTS)


def hidden_in(config: Mapping[str, Any], stored: Mapping[Path, Any]) -> list[Path]:
    """Find what was shown as a mask though its name is no secret's: the credentials that another format was given."""
    return [
        (key,) for key, value in config.items() if value == MASK and not is_secret(key) and (key,) in stored
    ]


def secrets_of(config: Any, at: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Find the secrets of a config, nested ones too."""
    if isinstance(config, dict):
        for key, value in config.items():
            if is_secret(key):
                yield (*at, key), value
            else:
                yield from secrets_of(value, (*at, key))
    elif isinstance(config, list):
        for index, value in enumerate(config):
            yield from secrets_of(value, (*at, index))


def with_values(config: dict[str, Any], values: Mapping[Path, Any]) -> dict[str, Any]:
    """Return a copy of a config with other values in some places."""

    def copy(value: Any, at: Path) -> Any:
        if at in values:
            return values[at]
        if isinstance(value, dict):
            return {key: copy(item, (*at, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [copy(item, (*at, index)) for index, item in enumerate(value)]
        return value

    copied: dict[str, Any] = copy(config, ())
    return copied


def masked(config: dict[str, Any], hidden: Iterable[Path] = ()) -> dict[str, Any]:
    """Return a copy of a config with each secret hidden, and what else is to be."""
    return with_values(config, dict.fromkeys([*hidden, *(path for path, _ in secrets_of(config))], MASK))


def unmasked(config: dict[str, Any], stored: Mapping[Path, Any]) -> dict[str, Any]:
    """Put the stored secrets where a client wrote the mask back.

    Raises:
        Refused: nothing is stored that the mask could stand for.
    """
    kept: dict[Path, Any] = {path: stored[path] for path in hidden_in(config, stored)}
    for path, value in secrets_of(config):
        if value == MASK:
            if path not in stored:
                text = (
                    f"Invalid value for sensitive field '{path[-1]}'. Send a real value to update the secret."
                )
                raise Refused(text)
            kept[path] = stored[path]
    return with_values(config, kept)


# Times.

_LAST_SYNCED = ("lastSynced", "last_synced")
_SPACED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


def read_time(text: str) -> datetime:
    """Read a time in ISO 8601 or as `YYYY-MM-DD HH:MM:SS`, in UTC unless it says otherwise. Raises ValueError."""
    try:
        when = datetime.fromisoformat(text.strip())
        return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ValueError("must be a time such as 2026-04-01T08:05:00Z or 2026-04-01 08:05:00") from None


def stamp(when: datetime | None) -> str | None:
    """Write a time in whole seconds."""
    return None if when is None else when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def last_synced(config: Mapping[str, Any]) -> datetime | None:
    """Return from when on a config says that records are wanted.

    Raises:
        Invalid: naming the key.
    """
    for name in _LAST_SYNCED:
        given = config.get(name)
        if given is None or given == "":
            continue
        try:
            return read_time(given if isinstance(given, str) else "")
        except ValueError as fault:
            raise Invalid.field(("body", "config", name), str(fault)) from None
    return None


def with_last_synced(config: dict[str, Any], when: str) -> dict[str, Any]:
    """Note a sync in a config, under the name and in the form that the client chose."""
    given = [name for name in _LAST_SYNCED if name in config] or [_LAST_SYNCED[0]]
    spaced = when.replace("T", " ").removesuffix("Z")
    forms = {name: spaced if _SPACED.fullmatch(str(config.get(name))) else when for name in given}
    return config | forms


# Integrations.


def connector_named(catalog: Iterable[Manifest], service_name: str) -> Manifest | None:
    """Find the connector that a service's name means: its id or its name, whatever the case and the spaces."""
    wanted = _plain(service_name)
    return next((item for item in catalog if wanted in {_plain(item.id), _plain(item.name)}), None)


def _plain(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


_WAYS: dict[str, tuple[tuple[str, dict[str, tuple[str, ...]]], ...]] = {
    "basic_auth": (("basic", {"username": ("username", "email"), "password": ("password",)}),),
    "api_token": (
        ("basic", {"username": ("email", "username"), "password": ("api_token", "token")}),
        ("bearer_token", {"bearer_token": ("api_token", "token", "access_token")}),
        ("api_key_header", {"api_key": ("api_token", "api_key", "token")}),
    ),
    "oauth2": (
        ("bearer_token", {"bearer_token": ("access_token",)}),
        ("oauth2_client_credentials", {"client_id": ("client_id",), "client_secret": ("client_secret",)}),
    ),
    "pat": (
        ("bearer_token", {"bearer_token": ("pat", "token", "access_token", "api_token")}),
        ("api_key_header", {"api_key": ("pat", "token", "api_key", "api_token")}),
    ),
}
"""What an `auth_type` can be at a connector: a type of auth, and the config keys of its credentials, best first."""
_ADDRESS = ("url", "instance_url", "base_url")


class Fitted:
    """A client's config, sorted by what the connector knows; `missing` names what it needs besides."""

    def __init__(self, manifest: Manifest, auth_type: str, config: Mapping[str, Any]) -> None:
        self.method, self.keys = _way_in(manifest, auth_type, config)
        method = manifest.auth[self.method] if self.method else None
        own = {entry.name: (entry.name,) for entry in credential_fields(method)} if method else {}
        self.keys = own | self.keys
        places = {name: _ADDRESS if name == "url" else (name,) for name in manifest.config}
        self.config_keys = {name: _given(config, names) for name, names in places.items()}
        self.config = {name: _text(config[key]) for name, key in self.config_keys.items() if key in config}
        self.credential_keys = {name: _given(config, names) for name, names in self.keys.items()}
        self.credentials = {
            name: _text(config[key]) for name, key in self.credential_keys.items() if key in config
        }
        needed = [
            self.config_keys[name]
            for name, entry in manifest.config.items()
            if entry.default is None and not entry.optional
        ]
        optional = {entry.name for entry in credential_fields(method) if entry.optional} if method else set()
        needed += [key for name, key in self.credential_keys.items() if name not in optional]
        self.needed = list(dict.fromkeys(needed))

    @staticmethod
    def is_complete(manifest: Manifest, row: Integration) -> bool:
        """Tell whether an integration has all that its connector needs."""
        method = manifest.auth.get(row.method or "")
        if method is None and manifest.auth and row.auth is None:
            return False
        credentials = (
            {entry.name for entry in credential_fields(method) if not entry.optional} if method else set()
        )
        config = {
            name for name, entry in manifest.config.items() if entry.default is None and not entry.optional
        }
        return credentials <= set(row.configured) and config <= row.config.keys()


def _given(config: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((name for name in names if config.get(name) not in (None, "")), names[0])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _way_in(
    manifest: Manifest, auth_type: str, config: Mapping[str, Any]
) -> tuple[str | None, dict[str, tuple[str, ...]]]:
    """Choose the connector's way in: the first of the fitting ones for which everything is there, else the first."""
    fitting = [
        (name, keys)
        for kind, keys in _WAYS[auth_type]
        for name, method in manifest.auth.items()
        if method.type == kind
    ]
    for name, keys in fitting:
        if all(config.get(_given(config, names)) for names in keys.values()):
            return name, dict(keys)
    return (fitting[0][0], dict(fitting[0][1])) if fitting else (next(iter(manifest.auth), None), {})


_AUTH_TYPES = {"basic": "basic_auth", "oauth2_client_credentials": "oauth2", "oauth2_jwt_bearer": "oauth2"}


def auth_type_of(method: AuthMethod | None) -> str:
    """Name a connector's way in as this format does."""
    return _AUTH_TYPES.get(method.type, "api_token") if method else "api_token"


def noted(aside: Mapping[str, Any], outcome: Mapping[str, Any] | None) -> dict[str, Any]:
    """Write the outcome of an integration's last run into what is kept of it; an unfinished one changes nothing."""
    if outcome is None or outcome["state"] in {"queued", "running"}:
        return dict(aside)
    sync = {name: value for name, value in aside.get("sync", {}).items() if name not in {"run", "starting"}}
    if outcome["state"] != "succeeded":
        return {**aside, "sync": sync | _gone_wrong(why(outcome, sync.get("service", "")))}
    when = stamp(outcome["finished_at"]) or ""
    sync |= {"at": when, "status": "success", "error": None}
    if sync.get("start") == aside["sync"].get("starting"):
        sync.pop("start", None)
    changed: dict[str, Any] = {**aside, "sync": sync}
    if "config" in aside:
        changed["config"] = with_last_synced(aside["config"], when)
    return changed


def _gone_wrong(message: str) -> dict[str, Any]:
    return {"status": "error", "error": message[:MAX_ERROR]}


def refused(aside: Mapping[str, Any], message: str) -> dict[str, Any]:
    """Write down that a sync was refused."""
    return {**aside, "sync": {**aside.get("sync", {}), **_gone_wrong(message)}}


def begun(aside: Mapping[str, Any], run_id: str, since: int, service: str) -> dict[str, Any]:
    """Write down that a sync has begun."""
    sync = {**aside.get("sync", {}), "run": run_id, "since": since, "service": service}
    return {**aside, "sync": sync | {"starting": sync.get("start")}}


def why(outcome: Mapping[str, Any], service: str) -> str:
    """Say why a run did not succeed."""
    cause = str(outcome["error"] or "")
    if outcome["state"] == "cancelled":
        return "The sync was cancelled"
    if outcome["state"] == "waiting":
        return f"Ingestion error: the new version waits for approval: {cause}"
    return f"Failed to fetch incidents from {service}: {_cause(cause, service)}"


_ANSWERED = re.compile(r"HTTP (\d{3}) from .*?(?:: (.*))?", re.DOTALL)


def _cause(text: str, service: str) -> str:
    """Say what an upstream answered as the product does."""
    found = _ANSWERED.fullmatch(text)
    if found is None and "allows no more calls" not in text:
        return text
    code = found[1] if found else "429"
    if code == "401":
        return "Authentication failed — check credentials"
    if code == "429":
        return f"{service} rate limit exceeded — retry later"
    return f"{service} API error {code}: {found[2] or '' if found else ''}"


def show(row: Integration, aside: Mapping[str, Any], manifest: Manifest | None) -> dict[str, Any]:
    """Show an integration; one that was made elsewhere as if it had been made here."""
    method = manifest.auth.get(row.method) if manifest and row.method else None
    auth_type = aside.get("auth_type") or auth_type_of(method)
    sync = aside.get("sync", {})
    if "config" in aside:
        config = masked(aside["config"])
        if manifest is not None:  # changed elsewhere meanwhile, perhaps
            keys = Fitted(manifest, auth_type, config).config_keys
            config |= {key: row.config[name] for name, key in keys.items() if name in row.config}
    else:
        config = {**row.config, **dict.fromkeys(row.configured, MASK)}
        config = with_last_synced(config, sync["at"]) if sync.get("at") else config
    updated = stamp(row.updated_at) or ""
    return {
        "id": row.id,
        "service_name": aside.get("service_name") or (manifest.name if manifest else row.display_name),
        "auth_type": auth_type,
        "config": config,
        "is_active": row.enabled,
        "last_synced_at": sync.get("at"),
        "last_sync_status": sync.get("status"),
        "last_sync_error": sync.get("error"),
        "updated_at": max(updated, sync.get("at") or ""),
        "user_id": aside.get("user_id"),
    }
