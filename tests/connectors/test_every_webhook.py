"""One suite for what every service sends and is sent: proofs hold, payloads become events, messages are as they must be."""

from datetime import UTC, datetime
from fnmatch import fnmatchcase

import orjson
import pytest
from connector_samples import MANIFESTS, assert_sent, call, sample_of

from trunkline.catalog.configure import check_config, check_credentials, with_defaults
from trunkline.catalog.template import MESSAGE, Template
from trunkline.catalog.webhook_checks import event_types
from trunkline.errors import Unauthenticated
from trunkline.rest.event_rules import Rules
from trunkline.rest.signatures import compile_webhook
from trunkline.services import messages
from trunkline.services.events import Event

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOOKED = [item for item in MANIFESTS.values() if item.webhook]
SENDING = [item for item in MANIFESTS.values() if item.notify]
EACH_HOOKED = pytest.mark.parametrize("manifest", HOOKED, ids=lambda manifest: manifest.id)
EACH_SENDING = pytest.mark.parametrize("manifest", SENDING, ids=lambda manifest: manifest.id)


def webhooks_of(manifest):
    return sample_of(manifest).get("webhooks", {})


SAMPLED = [
    pytest.param(manifest, sample, id=f"{manifest.id}-{name}")
    for manifest in HOOKED
    for name, sample in webhooks_of(manifest).items()
]
PROVEN = [item for item in SAMPLED if "proof" in item.values[1]]
EACH_WEBHOOK = pytest.mark.parametrize(("manifest", "sample"), SAMPLED)
EACH_PROOF = pytest.mark.parametrize(("manifest", "sample"), PROVEN)


def headers_of(sample):
    given = {"content-type": "application/json", **sample.get("headers", {}), **sample.get("proof", {})}
    return {name.lower(): value for name, value in given.items()}


def body_of(sample):
    body = sample.get("body", "")
    return body.encode() if isinstance(body, str) else orjson.dumps(body)


def config_of(manifest, sample):
    return with_defaults(manifest, sample_of(manifest)["config"] | sample.get("config", {}))


def events_of(manifest, sample):
    """Parse a sample's body; leave out what is null, and the data."""
    made = Rules(manifest).read_request(body_of(sample), headers_of(sample), config_of(manifest, sample))
    names = [name for name in type(made[0]).__dataclass_fields__ if name != "data"]
    shown = [{name: getattr(event, name) for name in names} for event in made]
    for event in shown:
        event["time"] = event["time"] and event["time"].isoformat().replace("+00:00", "Z")
    return [{name: value for name, value in event.items() if value is not None} for event in shown]


def verify(manifest, sample, *, headers=None, body=None):
    webhook = compile_webhook(manifest.webhook, config_of(manifest, sample))
    at = datetime.fromisoformat(sample["at"]) if "at" in sample else NOW
    headers = headers_of(sample) if headers is None else headers
    body = body_of(sample) if body is None else body
    return webhook.verify(headers, body, sample.get("query", {}), sample["secrets"], at)


def flipped(text):
    """Change one character after the other, into another hexadecimal digit."""
    for index, character in enumerate(text):
        yield text[:index] + ("1" if character == "0" else "0") + text[index + 1 :]


@EACH_WEBHOOK
def test_a_webhook_becomes_the_events_its_sample_says(manifest, sample):
    assert set(sample) <= {
        *("headers", "proof", "secrets", "config", "at", "query", "body", "delivery", "events", "reply")
    }
    if "events" in sample:
        assert events_of(manifest, sample) == sample["events"]
    assert "events" in sample or "reply" in sample


@EACH_PROOF
def test_a_proof_holds_and_tells_its_delivery_from_others(manifest, sample):
    verified = verify(manifest, sample)
    if "delivery" in sample:
        assert verified.dedup == sample["delivery"]
    assert verified.reply == sample.get("reply")


@EACH_PROOF
def test_a_proof_does_not_hold_with_one_byte_changed_or_another_secret_or_none(manifest, sample):
    body, headers = body_of(sample), headers_of(sample)
    way = next(iter(compile_webhook(manifest.webhook, config_of(manifest, sample)).needed(sample["secrets"])))
    wrong = [
        {"headers": {**headers, name.lower(): changed}}
        for name, value in sample["proof"].items()
        for changed in flipped(value)
    ]
    wrong += [
        {"headers": {key: text for key, text in headers.items() if key != name.lower()}}
        for name in sample["proof"]
    ]
    if not any(item.type == "token" and item.secret == way for item in manifest.webhook.verify.values()):
        middle = len(body) // 2
        wrong.append({"body": body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]})
    for change in wrong:
        with pytest.raises(Unauthenticated):
            verify(manifest, sample, **change)
    for secrets in ({}, {way: "another-secret"}):
        with pytest.raises(Unauthenticated):
            verify(manifest, {**sample, "secrets": secrets})


@EACH_HOOKED
def test_every_way_to_verify_has_a_sample_with_a_proof(manifest):
    webhook = manifest.webhook
    wanted = {name for name, way in webhook.verify.items() if way.type != "none"}
    proven = [item.values[1] for item in PROVEN if item.values[0] is manifest]
    shown = {compile_webhook(webhook, config_of(manifest, item)).way(item["secrets"]) for item in proven}
    assert shown == wanted


@EACH_HOOKED
def test_the_form_says_where_the_address_goes_and_takes_the_samples_secrets(manifest):
    assert manifest.webhook.description
    assert all(secret.label for secret in manifest.webhook.secrets.values())
    for sample in webhooks_of(manifest).values():
        faults = check_credentials(manifest, None, sample.get("secrets", {}))
        assert faults == []


@EACH_HOOKED
def test_a_challenge_is_answered_as_a_sample_shows(manifest):
    challenge = manifest.webhook.challenge
    if challenge is None:
        return
    samples = [sample for sample in webhooks_of(manifest).values() if "reply" in sample]
    assert samples
    for sample in samples:
        if challenge.token is not None:
            webhook = compile_webhook(manifest.webhook, config_of(manifest, sample))
            assert webhook.handshake(sample["query"], sample["secrets"]) == sample["reply"]
            with pytest.raises(Unauthenticated):
                webhook.handshake(sample["query"], {challenge.secret: "another"})


@EACH_HOOKED
def test_no_rule_of_events_could_be_left_out(manifest):
    """Without any one rule, some sample would become other events."""
    samples = [sample for sample in webhooks_of(manifest).values() if "events" in sample]
    idle = []
    for index, rule in enumerate(manifest.events):
        rest = [other for place, other in enumerate(manifest.events) if place != index]
        less = manifest.model_copy(update={"events": rest})
        if all(events_of(less, sample) == events_of(manifest, sample) for sample in samples):
            idle.append(f"{index}: {rule.type} {rule.when}")
    assert idle == []


@EACH_HOOKED
def test_samples_have_no_other_types_than_the_catalogue_offers(manifest):
    offered = [*event_types(manifest), f"{manifest.id}.received", f"{manifest.id}.unreadable"]
    for sample in webhooks_of(manifest).values():
        for event in sample.get("events", []):
            assert any(fnmatchcase(event["type"], kind) for kind in offered)


def message_of(manifest, part, sample):
    event = Event(
        time=NOW, data={}, id="e1", workspace_id="w", sequence=1, received_at=NOW, **sample["event"]
    )
    template = Template.compile(part.params, namespaces=MESSAGE, maps=manifest.maps)
    scope = messages.scope(event, "d1", manifest.notify)
    return template.render({"channel": sample["channel"], "event": scope, "config": config_of(manifest, {})})


@EACH_SENDING
async def test_a_message_asks_exactly_what_its_sample_says(manifest):
    sample = sample_of(manifest)["notify"]
    assert set(sample) <= {"channel", "event", "request", "outside_window"}
    for part, wanted in ((manifest.notify, "request"), (manifest.notify.window, "outside_window")):
        if part is not None:
            params = message_of(manifest, part, sample)
            _, _, sent = await call(manifest, part.endpoint, params, {"status": 200, "body": {}})
            assert_sent(sent, sample[wanted], manifest)


@EACH_SENDING
def test_the_samples_channel_fits_the_form(manifest):
    sample = sample_of(manifest)["notify"]
    channel = manifest.notify.channel
    form = manifest.model_copy(update={"config": {"channel": channel}})
    assert check_config(form, {"channel": sample["channel"]}) == []
    assert channel.example
