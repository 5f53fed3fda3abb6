"""Where a route sends to: three kinds of target, checked before they are stored. Sending is `sending.py`'s."""

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson

from trunkline.catalog.manifest import Manifest
from trunkline.catalog.manifest import Notify as NotifyRule
from trunkline.catalog.patterns import matches
from trunkline.catalog.template import ROUTE, Template, TemplateError
from trunkline.catalog.vocabulary import did_you_mean
from trunkline.catalog.webhook_checks import ALWAYS, SOMETIMES
from trunkline.context import Context
from trunkline.egress import check_url
from trunkline.errors import Invalid, NotFound
from trunkline.services import integrations
from trunkline.services.integrations import Filter, Integration

MAX_PARAMS = 16 * 1024
EVENT_WORDS = ALWAYS + SOMETIMES
"""What the params of an endpoint target may look up of an event."""
_PLACE = ("body", "target")


@dataclass(frozen=True, slots=True)
class Notify:
    """A message into a channel: through one integration, or through the oldest enabled one of a connector."""

    channel: str
    connector: str | None = None
    integration_id: str | None = None


@dataclass(frozen=True, slots=True)
class CallEndpoint:
    """A call of any endpoint of any integration."""

    integration_id: str
    endpoint: str
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SignedWebhook:
    """A signed POST to an address."""

    url: str


Target = Notify | CallEndpoint | SignedWebhook
_TYPES = {Notify: "notify", CallEndpoint: "endpoint", SignedWebhook: "webhook"}


@dataclass(frozen=True, slots=True)
class Checked:
    """A target as it is stored; `label` is for people, `warning` what is not wrong but will not work yet."""

    stored: dict[str, Any]
    label: str
    notify: NotifyRule | None = None
    warning: str | None = None

    @property
    def is_signed(self) -> bool:
        return is_signed(self.stored)

    def destination_id(self, workspace_id: str) -> str:
        """Name the destination: two routes to one place share its turns, its rate limit and its circuit."""
        target = orjson.dumps(self.stored, option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(workspace_id.encode() + target).hexdigest()


def is_signed(stored: dict[str, Any]) -> bool:
    """Tell whether what goes to a stored target is signed, so that the route has a secret."""
    return bool(stored["type"] == _TYPES[SignedWebhook])


async def check(ctx: Context, target: Target) -> Checked:
    """Check a target against what there is in the workspace.

    Raises:
        Invalid: naming the field at fault.
    """
    if isinstance(target, Notify):
        return await _check_notify(ctx, target)
    if isinstance(target, CallEndpoint):
        return await _check_endpoint(ctx, target)
    try:
        check_url(target.url)
    except ValueError as error:
        raise _fault("url", str(error)) from None
    return Checked(_stored(target), f"webhook {urlsplit(target.url).hostname}")


def _stored(target: Target, **changes: Any) -> dict[str, Any]:
    return {"type": _TYPES[type(target)], **asdict(target), **changes}


def _fault(name: str, text: str) -> Invalid:
    return Invalid.field((*_PLACE, name), text)


async def _integration(ctx: Context, integration_id: str) -> Integration:
    try:
        return await integrations.get(ctx, integration_id)
    except NotFound:
        raise _fault("integration_id", "no such integration in this workspace") from None


async def _check_notify(ctx: Context, target: Notify) -> Checked:
    connector, place, warning = target.connector, "connector", None
    if target.integration_id is not None:
        place = "integration_id"
        row = await _integration(ctx, target.integration_id)
        if connector not in {None, row.connector}:
            raise _fault("connector", f"is not the connector of that integration, which is {row.connector}")
        connector = row.connector
    elif connector is None:
        raise _fault("connector", "Field required: a connector, or the integration_id of one integration")
    else:
        found = await integrations.list_page(ctx, Filter(enabled=True, connector=connector), None, 1, 0)
        if not found.items:
            warning = (
                f"No enabled integration of {connector} is there yet: make one, or nothing is delivered."
            )
    manifest = _able_to_notify(ctx, connector, place)
    _check_channel(manifest, target.channel)
    label = f"{manifest.id} {target.channel}"
    return Checked(_stored(target, connector=manifest.id), label, manifest.notify, warning)


def _able_to_notify(ctx: Context, connector: str | None, place: str) -> Manifest:
    catalog = ctx.app.catalog
    able = sorted(item.id for item in catalog.all() if item.notify is not None)
    if connector not in able:
        raise _fault(place, f"sends no messages{did_you_mean(connector or '', able)}")
    return catalog.get(connector or "")


def _check_channel(manifest: Manifest, channel: str) -> None:
    if not channel.isprintable() or channel != channel.strip():
        raise _fault("channel", "must have no control characters, and no white space at its ends")
    form = manifest.notify.channel if manifest.notify else None
    if form is not None and form.pattern is not None and not matches(form.pattern, channel):
        example = f", such as {form.example}" if form.example else ""
        raise _fault("channel", f"is not what {manifest.name} takes: {form.label}{example}")


async def _check_endpoint(ctx: Context, target: CallEndpoint) -> Checked:
    row = await _integration(ctx, target.integration_id)
    known = {entry["name"]: entry for entry in orjson.loads(row.endpoints)}
    if target.endpoint not in known:
        raise _fault("endpoint", f"{row.name} has no such endpoint{did_you_mean(target.endpoint, known)}")
    if len(orjson.dumps(target.params)) > MAX_PARAMS:
        raise _fault("params", f"must have at most {MAX_PARAMS:,} bytes as JSON")
    try:
        names = Template.compile(target.params, namespaces=ROUTE).names()
    except TemplateError as error:
        raise Invalid.field((*_PLACE, "params", *error.loc), str(error)) from None
    for name in sorted(names):
        word = name.split(".")[1]
        if word not in EVENT_WORDS:
            raise _fault("params", f"'{{{name}}}': an event has no `{word}`{did_you_mean(word, EVENT_WORDS)}")
    wanted = (known[target.endpoint].get("input_schema") or {}).get("required") or ()
    if missing := [name for name in wanted if name not in target.params]:
        raise _fault("params", f"{target.endpoint} needs: {', '.join(map(str, missing))}")
    return Checked(_stored(target), f"{row.name}.{target.endpoint}")
