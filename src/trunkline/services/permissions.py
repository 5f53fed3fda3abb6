"""Which role may do what. Pure: no storage.

Permissions are `Noun.verb`, compared without regard to case; `Noun.*` and `*` stand for many.
"""

import difflib
import re

from trunkline.errors import Forbidden, Invalid

ROLES = ("viewer", "member", "admin", "owner")
"""Weakest first."""

KNOWN = (
    "ApiKey.create",
    "ApiKey.delete",
    "ApiKey.update",
    "ApiKey.view",
    "Connector.view",
    "Dataset.create",
    "Dataset.delete",
    "Dataset.rollback",
    "Dataset.sync",
    "Dataset.update",
    "Dataset.view",
    "Delivery.resend",
    "Delivery.view",
    "Event.replay",
    "Event.view",
    "Hook.update",
    "Hook.view",
    "Integration.create",
    "Integration.delete",
    "Integration.readdress",
    "Integration.sync",
    "Integration.update",
    "Integration.view",
    "Person.create",
    "Person.delete",
    "Person.update",
    "Person.view",
    "Route.create",
    "Route.delete",
    "Route.update",
    "Route.view",
    "Workspace.create",
    "Workspace.update",
    "Workspace.view",
)

_FORM = re.compile(r"\*|[A-Za-z]{1,40}\.(\*|[A-Za-z_]{1,40})")
_VIEW = frozenset(name for name in KNOWN if name.endswith(".view"))
_OF_ROLE: dict[str, frozenset[str]] = {
    "viewer": _VIEW - {"ApiKey.view", "Hook.view"},  # some hooks' addresses are all it takes to post
    "member": _VIEW
    | {"Integration.create", "Integration.update", "Integration.sync", "Hook.update"}
    | {"Dataset.create", "Dataset.sync", "Dataset.update"}
    | {"Event.replay", "Delivery.resend", "Route.create", "Route.delete", "Route.update"},
    "admin": frozenset(KNOWN) - {"Workspace.create"},
    "owner": frozenset({"*"}),
}


def effective(role: str, explicit: tuple[str, ...] | list[str]) -> frozenset[str]:
    """Return what a key may do, in lower case: its explicit permissions if it has any, else its role's."""
    granted = explicit or _OF_ROLE.get(role, frozenset())
    return frozenset(name.lower() for name in granted)


def allows(granted: frozenset[str], permission: str) -> bool:
    """Tell whether lower-case `granted` covers `permission` (which may itself be a wildcard)."""
    wanted = permission.lower()
    if wanted in granted or "*" in granted:
        return True
    noun, _, _verb = wanted.partition(".")
    return f"{noun}.*" in granted


def check_role(role: str) -> str:
    """Return the role's canonical name.

    Raises:
        Invalid: naming `role`, with the four that exist.
    """
    name = role.lower()
    if name not in ROLES:
        raise Invalid.field(("body", "role"), f"must be one of {', '.join(reversed(ROLES))}")
    return name


def check_permissions(names: list[str]) -> list[str]:
    """Return the permissions in canonical spelling, without repeats.

    Raises:
        Invalid: naming each one that no route asks for.
    """
    canonical = {name.lower(): name for name in KNOWN}
    nouns = {name.partition(".")[0].lower(): name.partition(".")[0] for name in KNOWN}
    found: list[str] = []
    for index, text in enumerate(names):
        lower = text.lower()
        noun, _, verb = lower.partition(".")
        if lower in canonical:
            name = canonical[lower]
        elif lower == "*" or (verb == "*" and noun in nouns):
            name = "*" if lower == "*" else f"{nouns[noun]}.*"
        else:
            raise Invalid.field(("body", "permissions", index), _unknown(text))
        if name not in found:
            found.append(name)
    return found


def _unknown(text: str) -> str:
    if not _FORM.fullmatch(text):
        return "must look like Noun.verb, Noun.* or *"
    near = difflib.get_close_matches(text.title(), KNOWN, n=1)
    return "no such permission" + (f"; did you mean {near[0]}?" if near else f"; known: {', '.join(KNOWN)}")


def check_grant(caller_role: str, caller_permissions: frozenset[str], role: str, explicit: list[str]) -> None:
    """Refuse to grant more than the caller has.

    Raises:
        Forbidden: the role ranks higher than the caller's, or a permission is not the caller's.
    """
    if ROLES.index(role) > ROLES.index(caller_role):
        raise Forbidden(f"Insufficient permissions: a key with role {caller_role} cannot grant role {role}.")
    for name in sorted(effective(role, explicit)):
        if not allows(caller_permissions, name):
            raise Forbidden(f"Insufficient permissions: the caller lacks {name}, so it cannot grant it.")
