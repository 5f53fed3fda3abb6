"""Judge what a person enters to use a connector: its config, its way in, its credentials. Stores nothing."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from trunkline.catalog.lookup_checks import AUTH_TEMPLATES, lookups_of, places
from trunkline.catalog.manifest import AuthMethod, Manifest, credential_fields, webhook_fields
from trunkline.catalog.patterns import matches
from trunkline.catalog.template import ADDRESS, MissingLookupError, Template
from trunkline.catalog.vocabulary import did_you_mean
from trunkline.errors import FieldError, Invalid

MAX_CONFIG = 2048
MAX_SECRET = 8192


def effective_auth(
    manifest: Manifest, method_name: str | None, config: Mapping[str, str] | None = None
) -> AuthMethod | None:
    """Return the chosen way in, the first one for None; the answer None means that no credentials are sent.

    Where the config is given, it is filled into the method's words, but for the URLs: the engine does those, with
    the base URL in use.

    Raises:
        Invalid: at ("auth_method",) for a name that the connector does not have, at ("config", name) for a look-up.
    """
    if method_name is None:
        method = next(iter(manifest.auth.values()), None)
    elif method_name in manifest.auth:
        method = manifest.auth[method_name]
    else:
        found = did_you_mean(method_name, manifest.auth)
        raise Invalid.field(("auth_method",), f"'{manifest.id}' has no way in '{method_name[:64]}'{found}")
    if method is None or (method.type == "none" and not method.secrets):
        return None
    if config is None:
        return method
    scope = {"config": with_defaults(manifest, config)}
    return method.model_copy(
        update={
            word: _filled(text, scope)
            for word, namespaces in AUTH_TEMPLATES.items()
            if namespaces == ADDRESS and isinstance(text := getattr(method, word), str)
        }
    )


def with_defaults(manifest: Manifest, config: Mapping[str, str]) -> dict[str, str]:
    """Return the config with the defaults of what was left out, and without empty values."""
    given = {name: value for name, value in config.items() if value != ""}
    defaults = {name: field.default for name, field in manifest.config.items() if field.default is not None}
    return {**defaults, **given}


def render_base_url(manifest: Manifest, config: Mapping[str, str]) -> str:
    """Fill in the connector's base URL, without a slash at its end. Raises Invalid at ("config", name)."""
    return _filled(manifest.base_url, {"config": with_defaults(manifest, config)}).rstrip("/")


def _filled(text: str, scope: Mapping[str, Any]) -> str:
    try:
        value = Template.compile(text, namespaces=ADDRESS).render(scope)
    except MissingLookupError as error:
        raise Invalid.field(tuple(error.name.split(".")), "Field required", "missing") from None
    return "" if value is None else str(value)


def check_config(
    manifest: Manifest, config: Mapping[str, Any], *, base_url: str | None = None
) -> list[FieldError]:
    """Check config values, as ("config", name): unknown, missing, too long, not as the pattern says.

    With a `base_url` of the integration's own, the fields that only the connector's base URL looks up may be absent.
    """
    problems = [
        FieldError(
            ("config", name[:64]), f"unknown field{did_you_mean(name, manifest.config)}", "extra_forbidden"
        )
        for name in config
        if name not in manifest.config
    ]
    for name, field in manifest.config.items():
        value = config.get(name)
        if value is None or value == "":
            if (
                field.default is None
                and not field.optional
                and not (base_url and name in only_address(manifest))
            ):
                problems.append(FieldError(("config", name), "Field required", "missing"))
        elif problem := _config_problem(value, field.pattern, field.example):
            problems.append(FieldError(("config", name), problem, input=value))
    return problems


def only_address(manifest: Manifest) -> frozenset[str]:
    """Name the config fields that nothing but the base URL looks up."""
    used: dict[bool, set[str]] = {True: set(), False: set()}
    for place in places(manifest):
        names = (lookup.name for lookup in lookups_of(place.value))
        used[place.loc == ("base_url",)] |= {name[7:] for name in names if name.startswith("config.")}
    return frozenset(used[True] - used[False])


def _config_problem(value: Any, pattern: str | None, example: str | None) -> str | None:
    if not isinstance(value, str):
        return "must be a string"
    if len(value) > MAX_CONFIG:
        return f"has at most {MAX_CONFIG} characters"
    if not value.isprintable():
        return "must not hold control characters"
    if pattern is not None and not matches(pattern, value):
        return f"must look like {example}" if example else f"must match {pattern}"
    return None


def check_credentials(
    manifest: Manifest,
    method: AuthMethod | None,
    values: Mapping[str, Any],
    *,
    stored: Collection[str] = (),
) -> list[FieldError]:
    """Check credentials, those of webhooks too, as ("credentials", name): unknown, missing, empty, too long.

    `stored` names those that are kept from before, so need not be sent again. No value is ever repeated.
    """
    asked = (*(credential_fields(method) if method else ()), *webhook_fields(manifest.webhook))
    fields = {field.name: field for field in asked}
    problems = [
        FieldError(
            ("credentials", name[:64]),
            f"{manifest.name} does not ask for this{did_you_mean(name, fields)}",
            "extra_forbidden",
        )
        for name in values
        if name not in fields
    ]
    for name, field in fields.items():
        if values.get(name) is None:
            if not field.optional and name not in stored and not _named_by(method, name):
                problems.append(FieldError(("credentials", name), "Field required", "missing"))
        else:
            problems += _secret_problems(name, values[name])
            problems += _key_problems(manifest, name, values[name])
    return problems


_KEYS = {
    "standard": (
        r"(?:whsec_)?[A-Za-z0-9+/_-]{16,}={0,2}",
        "must be whsec_ and base64, as the service shows it",
    ),
    "ed25519": (r"[0-9A-Fa-f]{64}|[A-Za-z0-9+/_-]{43}=?", "must be a public key: 64 hexadecimal digits"),
}


def _key_problems(manifest: Manifest, name: str, value: Any) -> Iterator[FieldError]:
    """Find what cannot verify any webhook. Several keys may stand in one value, separated by white space."""
    ways = manifest.webhook.verify.values() if manifest.webhook else ()
    for way in ways:
        if way.secret == name and way.type in _KEYS and isinstance(value, str):
            form, text = _KEYS[way.type]
            if not all(re.fullmatch(form, part) for part in value.split()[:16]):
                yield FieldError(("credentials", name), text)


def _named_by(method: AuthMethod | None, name: str) -> bool:
    """Tell whether the connector gives the value itself, as a fixed `client_id`."""
    return method is not None and name == "client_id" and method.client_id is not None


def _secret_problems(name: str, value: Any) -> Iterator[FieldError]:
    loc = ("credentials", name)
    if not isinstance(value, str):
        yield FieldError(loc, "must be a string", "string_type")
    elif not value:
        yield FieldError(loc, "must not be empty", "string_too_short")
    elif len(value) > MAX_SECRET:
        yield FieldError(loc, f"has at most {MAX_SECRET} characters", "string_too_long")
