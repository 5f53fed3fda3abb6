"""Which wire format a request speaks: by host, by prefix, by marks at the root. Pure; builds nothing.

Every documented path of the five formats works at the root (docs/wire-formats.md); what nobody documents is native's,
which answers that it is not there.
"""

from collections.abc import Mapping
from typing import Any

NATIVE, SPIKE, CODESPAR, SUPPORTBOT, TOOLREGISTRY = (
    "native",
    "spike",
    "codespar",
    "supportbot",
    "toolregistry",
)
FORMATS = (NATIVE, SPIKE, CODESPAR, SUPPORTBOT, TOOLREGISTRY)

_HOSTS = {name.encode(): name for name in FORMATS}
_PREFIX = "/as/"
_BELOW_V1 = {
    "api": CODESPAR,
    "webhooks": CODESPAR,
    "a2a": CODESPAR,
    "integrations": TOOLREGISTRY,
    "actions": TOOLREGISTRY,
    "runs": TOOLREGISTRY,
}
_AT_ROOT = {
    "api": CODESPAR,
    "webhooks": CODESPAR,
    "a2a": CODESPAR,
    "incidents": SPIKE,
    "services": SPIKE,
    "escalations": SPIKE,
    "automation": SPIKE,
    "on-calls": SPIKE,
    "oncalls": SPIKE,
    "teams": SPIKE,
    "orgs": SPIKE,
    "users": SPIKE,
}
_KNOWLEDGE_BASE = "knowledge-base"
_PUSH = "push-events"
_SUPPORTBOTS = frozenset({"all", "id", "update", "delete", "sync"})
"""What follows `/integrations/` in one format alone, whoever asks; `create` is in both."""


def owner(scope: Mapping[str, Any]) -> tuple[str, str]:
    """Return the format a request speaks, and its path there."""
    path: str = scope["path"]
    headers = scope["headers"]
    for name, value in headers:
        if name == b"host":
            named = _HOSTS.get(value.partition(b".")[0].partition(b":")[0].lower())
            if named is not None:
                return named, path
            break
    if path.startswith(_PREFIX):
        name, slash, rest = path[len(_PREFIX) :].partition("/")
        if name in FORMATS:
            return name, slash + rest or "/"
    return _by_marks(path, headers), path


def _by_marks(path: str, headers: Any) -> str:
    if path.startswith("/v1/"):
        return _BELOW_V1.get(path[4:].partition("/")[0], NATIVE)
    _, _, rest = path.partition("/")
    first, _, rest = rest.partition("/")
    if first == "integrations":
        return _of_integrations(rest, headers)
    if first == "api" and rest.partition("/")[0] == _KNOWLEDGE_BASE:
        return SUPPORTBOT
    return _AT_ROOT.get(first) or (SPIKE if rest == _PUSH and first else NATIVE)


def _of_integrations(rest: str, headers: Any) -> str:
    """Tell apart the two formats whose integrations lie at the root: a Bearer token alone is one's, and so are most of its paths."""
    is_supportbots = rest.partition("/")[0] in _SUPPORTBOTS
    for name, value in headers:
        if name == b"x-team-id":
            return SPIKE
        if name == b"authorization" and value[:6].lower() == b"bearer":
            is_supportbots = True
    return SUPPORTBOT if is_supportbots else SPIKE
