"""What a connector file may say of webhooks, events and messages, and how it is told what it may not."""

import re

import pytest

from trunkline.catalog.load import ManifestError, parse_manifest
from trunkline.catalog.manifest import Verify
from trunkline.catalog.webhook_checks import VERIFY_WORDS, event_types

GOOD = """\
name: Acme
base_url: "https://acme.example"
config:
  sign_header: {label: Header, default: X-Acme-Signature}
  sender: {label: Sender, optional: true}
auth: {token: {type: bearer_token}}
endpoints:
  send:
    method: POST
    path: /messages
    input_schema: {type: object, required: [to, text], properties: {to: {type: string}, text: {type: string}, from: {type: string}}}
webhook:
  description: Settings, Webhooks.
  verify:
    signed: {type: hmac, secret: signing_secret, header: "{config.sign_header}", prefix: "v1=", signed: "{timestamp}.{body}", timestamp: "{header.x-acme-time}"}
    token: {type: token, secret: token, header: X-Acme-Token}
  secrets:
    signing_secret: {label: Signing secret}
    token: {label: Token}
  delivery_id: "{header.x-acme-id}"
  challenge:
    when: {payload.type: hello}
    answer: "{payload.challenge}"
events:
  - when: {payload.type: [opened, reopened], header.x-acme-kind: "*"}
    each: items
    type: acme.item
    title: "{item.name}"
    subject: "{config.sender?}"
    severity: "{item.level?|severity}"
    dedup_key: "acme-{item.id}"
    action: trigger
  - type: "acme.{payload.type}"
notify:
  endpoint: send
  params: {to: "{channel}", text: "{event.text}", from: "{config.sender?}"}
  channel: {label: Person, example: "@ada", pattern: "^@"}
  max_length: 500
  escape: {"<": "&lt;"}
  window:
    event: acme.item
    hours: 24
    refused: {error.code: [7]}
    endpoint: send
    params: {to: "{channel}", text: "{event.title}: {event.url?}"}
maps:
  severity: {fatal: critical, "*": medium}
"""


def problems(text):
    try:
        parse_manifest(text.encode(), "acme")
    except ManifestError as error:
        return [str(problem) for problem in error.problems]
    return []


def test_a_good_file_loads():
    assert problems(GOOD) == []


def test_the_types_of_events_are_listed_with_a_star_for_what_the_webhook_tells():
    assert event_types(parse_manifest(GOOD.encode(), "acme")) == ["acme.item", "acme.*"]


def test_a_type_is_written_out_for_the_values_that_when_allows():
    rule = '  - {when: {payload.do: [made, gone]}, type: "acme.thing_{payload.do|done}"}\n  - type: "acme.{payload.type}"'
    text = GOOD.replace('  - type: "acme.{payload.type}"', rule)
    text += '  done: {made: created, "*": changed}\n'
    kinds = event_types(parse_manifest(text.encode(), "acme"))
    assert kinds == ["acme.item", "acme.thing_created", "acme.thing_changed", "acme.*"]


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("type: hmac", "type: hmak", 15, "type: Input should be .*, not 'hmak'"),
        ("type: token, secret: token", "type: token, secret: tokne", 16, "did you mean 'token'"),
        (", secret: token, header: X", ", header: X", 16, "type 'token' needs 'secret'"),
        ("header: X-Acme-Token", "header: X-Acme-Token, signed: a", 16, "signed: is no word of type 'token'"),
        ("header: X-Acme-Token", "header: 'X Acme'", 16, "header: is no header name"),
        (
            "    token: {type: token, secret: token, header: X-Acme-Token}",
            "    open: {type: none}",
            16,
            "stands alone",
        ),
        ('"{timestamp}.{body}"', '"{body}"', 15, "timestamp: is not signed, so it proves nothing"),
        ('"{timestamp}.{body}"', '"{timestamp}"', 15, "signed: must look up {body}"),
        (
            '"{timestamp}.{body}"',
            '"{timestamp}.{body}{payload.x}"',
            15,
            "signed: '{payload.x}': `payload` can",
        ),
        (', timestamp: "{header.x-acme-time}"', "", 15, "say where it stands, under `timestamp`"),
        ('"{header.x-acme-time}"', '"{header.X-Acme-Time}"', 15, "is looked up in lower case"),
        ('"{header.x-acme-time}"', '"{query.t}"', 15, "must be one look-up, {header.x} or {payload.x}"),
        ('"{header.x-acme-time}"', '"{header.a} {header.b}"', 15, "must be one look-up"),
        (
            'signed: "{timestamp}.{body}", timestamp: "{header.x-acme-time}"',
            "tolerance_seconds: 60",
            15,
            "needs `timestamp`",
        ),
        (
            "    token: {label: Token}",
            "    token: {label: T}\n    spare: {label: S}",
            20,
            "spare: is never used",
        ),
        (
            "auth: {token: {type: bearer_token}}",
            "auth: {token: {type: bearer_token, secrets: {token: {label: x}}}}",
            19,
            "is the name of a credential",
        ),
        (
            'delivery_id: "{header.x-acme-id}"',
            'delivery_id: "{secret.token}"',
            20,
            "`secret` cannot be looked",
        ),
        ("when: {payload.type: hello}", "when: {}", 22, "must say by what a challenge is known"),
        ("when: {payload.type: hello}", "when: {event.x: 1}", 22, "`event` cannot be looked up here"),
        ("when: {payload.type: hello}", "when: {'{payload.x}': 1}", 22, "is written without braces"),
        (
            "when: {payload.type: hello}",
            "when: {payload.type: {a: 1}}",
            22,
            "must be a text, number, boolean",
        ),
        (
            'answer: "{payload.challenge}"',
            "answer: x\n    token: '{query.hub.verify_token}'",
            21,
            "belong tog",
        ),
        ("each: items", "each: 'items..'", 26, "each: is no path"),
        ("each: items", "each: 'a[].b[].c[].d[].e[]'", 26, "each: has more than 32 steps, or more than 4"),
        ("each: items", f"each: '{'.'.join('a' * 33)}'", 26, "each: has more than 32 steps"),
        ("    each: items\n", "", 27, "'{item.name}': `item` cannot be looked up here"),
        ("type: acme.item", "type: Acme", 27, "type: must look like word.word"),
        ("action: trigger", "action: triger", 32, "must be one of trigger.*did you mean 'trigger'"),
        ('"{item.level?|severity}"', "urgent", 30, "severity: must be one of critical, high"),
        ("fatal: critical", "fatal: bad", 47, "severity: 'bad' is none of critical, high"),
        ('subject: "{config.sender?}"', "subject: '{config.sender}'", 29, "is needed by every call, but opt"),
        ('subject: "{config.sender?}"', "subject: '{config.sendr?}'", 29, "did you mean 'sender'"),
        (
            'dedup_key: "acme-{item.id}"',
            'dedup_key: "{secret.token}"',
            31,
            "`secret` cannot be looked up here",
        ),
        ("[opened, reopened], header.x-acme-kind", "[], header.X-kind", 25, "must be a text, number"),
        ('header.x-acme-kind: "*"', "header.X-Kind: '*'", 25, "is looked up in lower case"),
        (
            "notify:\n  endpoint: send",
            "notify:\n  endpoint: sent",
            35,
            "no endpoint 'sent'; did you mean 'send'",
        ),
        ('text: "{event.text}", from', "from", 36, "'send' needs 'text'"),
        (
            'text: "{event.text}", from',
            'text: "{event.url?}", from',
            36,
            "may be absent, but 'send' needs it",
        ),
        (
            'text: "{event.text}", from',
            'text: "{event.url} ", from',
            36,
            "may be absent; write '{event.url\\?}'",
        ),
        ('text: "{event.text}", from', 'text: "{event.txet}", from', 36, "did you mean 'text'"),
        ('text: "{event.text}", from', 'text: "{event.title.x}", from', 36, "leads nowhere"),
        (
            'text: "{event.text}", from',
            'text: "{secret.token}", from',
            36,
            "`secret` cannot be looked up here",
        ),
        ('text: "{event.text}", from', 'text: "{payload.x}", from', 36, "`payload` cannot be looked up here"),
        (
            'to: "{channel}", text: "{event.text}"',
            'to: "x", text: "y"',
            36,
            "must look up {channel} somewhere",
        ),
        (
            'from: "{config.sender?}"}',
            'form: "{config.sender?}"}',
            36,
            "no parameter of 'send'; did you mean",
        ),
        ('example: "@ada"', "example: ada", 37, "example: does not match the pattern"),
        ('escape: {"<"', 'escape: {""', 39, "must not replace nothing"),
        ("refused: {error.code: [7]}", "refused: {'error..': [7]}", 43, "is no path"),
        ("max_length: 500", "max_length: 5", 38, "greater than or equal to 100"),
        ("  verify:\n", "  verfy:\n", 14, "verfy: unknown word; did you mean 'verify'"),
    ],
)
def test_each_fault_is_told_with_its_line(old, new, line, said):
    assert GOOD.count(old) == 1, old
    found = problems(GOOD.replace(old, new))
    assert any(text.startswith(f"acme.yaml:{line}: ") and re.search(said, text) for text in found), found


def test_a_rule_behind_one_that_takes_everything_is_never_reached():
    text = GOOD.replace("notify:\n", "  - {type: acme.more}\nnotify:\n", 1)
    assert problems(text) == ["acme.yaml:34: events.2: is never reached: the rule before it takes everything"]


def test_a_window_names_an_event_that_can_happen():
    text = GOOD.replace("event: acme.item", "event: acme.itm").replace(
        '  - type: "acme.{payload.type}"\n', ""
    )
    assert (problems(text)) == [
        "acme.yaml:40: notify.window.event: no rule of `events` makes 'acme.itm'; did you mean 'acme.item'?"
    ]


def test_events_need_a_webhook():
    text = 'name: A\nbase_url: "https://a.example"\nevents:\n  - {type: a.b}\n'
    assert problems(text) == ["acme.yaml:3: events: are read from what a webhook brings; add `webhook`"]


def test_only_a_connector_that_does_nothing_but_receive_has_no_base_url():
    hook = "name: A\nwebhook: {verify: {open: {type: none}}}\n"
    assert problems(hook) == []
    assert "base_url: is missing" in problems("name: A\n")[0]
    assert "base_url: is missing" in problems(hook + "auth: {open: {type: none}}\n")[0]


def test_a_webhook_says_how_it_is_verified():
    assert "must name a way" in problems("name: A\nwebhook: {verify: {}}\n")[0]


def test_every_type_of_verification_has_its_words():
    from typing import get_args

    assert set(VERIFY_WORDS) == set(get_args(Verify.model_fields["type"].annotation))
    allowed = {word for needed, may in VERIFY_WORDS.values() for word in needed | may}
    assert allowed == set(Verify.model_fields) - {"type"}


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ("{id: 'a..b'}", "record_mapping.id: is no path"),
        ("{a: {b: 7}}", "record_mapping.a.b: is no path"),
        ("{id: id}, response_mapping: {id: id}", "takes the place of response_mapping"),
    ],
)
def test_a_wrong_record_mapping_is_told(mapping, said):
    text = f'name: A\nbase_url: "https://a.example"\nendpoints:\n  all: {{path: /x, record_mapping: {mapping}}}\n'
    assert any(said in problem for problem in problems(text))
