"""The fake WhatsApp, by itself and behind our connector: the 24 hours, templates, pair limits, Meta's signatures."""

import pytest
from connected import Connected

from trunkline.errors import Invalid, Unauthenticated
from trunkline.rest.signatures import compile_webhook

PERSON, NUMBER = "16505551234", "106540352242922"
TEXT = {"messaging_product": "whatsapp", "to": PERSON, "type": "text", "text": {"body": "Down"}}


def template(name="trunkline_alert", language="en_US", values=("Down",)):
    parameters = [{"type": "text", "text": value} for value in values]
    components = [{"type": "body", "parameters": parameters}]
    filled = {"name": name, "language": {"code": language}, "components": components}
    return {"messaging_product": "whatsapp", "to": PERSON, "type": "template", "template": filled}


@pytest.fixture
def whatsapp(anonymous):
    secrets = {"bearer_token": "token", "app_secret": "app_secret", "verify_token": "verify_token"}
    config = ("phone_number_id", "business_account_id")
    return Connected(anonymous, "whatsapp", "access_token", secrets, config)


@pytest.fixture
def api(anonymous, whatsapp):
    async def ask(path, document=None, headers=None, **params):
        sent = {"authorization": f"Bearer {whatsapp.ready['token']}", **(headers or {})}
        how = "GET" if document is None else "POST"
        return await anonymous.ask(how, f"/whatsapp{path}", params, json=document, headers=sent)

    return ask


async def send(api, document):
    return await api(f"/v23.0/{NUMBER}/messages", document)


def say(whatsapp, **order):
    return whatsapp.fake.controls()["message"](order)


@pytest.mark.parametrize(("header", "code"), [(None, 104), ("Bearer wrong", 190), ("Bearer é", 190)])
async def test_a_caller_without_the_token_is_unauthenticated(api, header, code):
    header = header and header.encode().decode("latin-1")
    answer = await api(f"/v23.0/{NUMBER}", headers={"authorization": header})
    assert (answer.status, answer.json["error"]["code"]) == (401, code)
    assert answer.json["error"]["fbtrace_id"]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"messaging_product": None}, 400, 100),
        ({"to": None}, 400, 100),
        ({"to": "nobody"}, 400, 131009),
        ({"type": "sticker"}, 400, 100),
        ({"type": ["text"]}, 400, 100),
        ({"type": "template", "template": {"name": "x", "language": "en_US"}}, 400, 131008),
        ({"text": {"body": " "}}, 400, 100),
        ({"text": "Down"}, 400, 100),
        ({"text": {"body": "x" * 4_097}}, 400, 100),
        ({"status": "read", "message_id": "wamid.X"}, 400, 131009),
        (template(name="nothing"), 404, 132001),
        (template(language="de"), 404, 132001),
        (template(name="old_alert"), 400, 132015),
        (template(values=()), 400, 132000),
        (template(values=("a", "b")), 400, 132000),
        (template(values=("a\nb",)), 400, 132018),
        (template(values=("a\tb",)), 400, 132018),
        (template(values=("a     b",)), 400, 132018),
        (template(values=("x" * 1_024,)), 400, 132005),
        (template(values=("",)), 400, 131008),
        ({"type": "template", "template": {"name": "trunkline_alert"}}, 400, 131008),
    ],
)
async def test_what_meta_would_refuse_is_refused_with_its_code(api, whatsapp, change, status, code):
    say(whatsapp)
    document = {name: value for name, value in {**TEXT, **change}.items() if value is not None}
    answer = await send(api, document)
    assert (answer.status, answer.json["error"]["code"]) == (status, code), answer.body
    assert answer.json["error"]["message"].startswith(f"(#{code})")
    assert answer.json["error"]["error_data"]["details"]


@pytest.mark.parametrize(
    ("path", "code"), [("/v23.0/1", 100), ("/v23.0/1/message_templates", 100), ("/nowhere", 2500)]
)
async def test_an_id_of_somebody_else_does_not_exist(api, path, code):
    answer = await api(path)
    assert (answer.status, answer.json["error"]["code"]) == (400, code)


async def test_a_field_that_does_not_exist_is_refused(api):
    answer = await api(f"/v23.0/{NUMBER}", fields="id,colour")
    assert "nonexisting field (colour)" in answer.json["error"]["message"]
    answer = await api(f"/v23.0/{NUMBER}", fields="verified_name")
    assert answer.json == {"id": NUMBER, "verified_name": "Trunkline"}


async def test_free_text_reaches_only_people_who_wrote_within_24_hours(api, whatsapp, clock):
    closed = await send(api, TEXT)
    assert (closed.status, closed.json["error"]["code"]) == (400, 131047)
    assert (await send(api, template())).json["messages"][0]["message_status"] == "accepted"
    say(whatsapp)
    assert (await send(api, TEXT)).status == 200
    assert (await send(api, {**TEXT, "to": "16505559999"})).status == 400
    clock.advance(24 * 3600 - 1)
    assert (await send(api, TEXT)).status == 200
    clock.advance(1)
    assert (await send(api, TEXT)).json["error"]["code"] == 131047


async def test_one_person_takes_a_burst_then_a_message_every_six_seconds(api, whatsapp, clock):
    say(whatsapp)
    say(whatsapp, **{"from": "16505559999"})
    statuses = [(await send(api, TEXT)).status for _ in range(46)]
    assert statuses == [200] * 45 + [400]
    limited = await send(api, TEXT)
    assert limited.json["error"]["code"] == 131056
    assert "retry-after" not in limited.headers
    assert (await send(api, {**TEXT, "to": "16505559999"})).status == 200
    clock.advance(6)
    assert [(await send(api, TEXT)).status for _ in range(2)] == [200, 400]


async def test_the_number_sends_eighty_a_second_to_all_together(api):
    statuses = [(await send(api, {**template(), "to": f"1650555{n:04}"})).status for n in range(81)]
    assert statuses == [200] * 80 + [429]


async def test_a_message_that_came_in_is_shown_as_read(whatsapp):
    message_id = say(whatsapp, id="wamid.IN")["entry"][0]["changes"][0]["value"]["messages"][0]["id"]
    assert (await whatsapp.call("mark_read", message_id=message_id)).value == {"success": True}
    with pytest.raises(Invalid):
        say(whatsapp, **{"from": "Alice"})


async def test_the_connection_test_and_the_list_of_templates_work(whatsapp):
    assert (await whatsapp.caller.probe(whatsapp.target, whatsapp.secrets)).status == "healthy"
    names = [item["name"] for item in await whatsapp.records("list_templates", limit=1)]
    assert names == ["trunkline_alert", "hello_world", "old_alert"]
    approved = await whatsapp.records("list_templates", status="APPROVED")
    assert [item["name"] for item in approved] == ["trunkline_alert", "hello_world"]


async def test_a_message_of_ours_is_a_text_within_the_window_and_a_template_outside(whatsapp):
    text = "[critical] Disk\tfull\npagerduty.incident · shop\nhttps://x.example"
    refused = await whatsapp.notify(PERSON, text)
    rule = whatsapp.manifest.notify.window.refused
    assert rule == {"error.code": refused.raw_response["error"]["code"]}
    assert (await whatsapp.notify(PERSON, text, outside_window=True)).error is None
    say(whatsapp)
    assert (await whatsapp.notify(PERSON, text)).error is None
    by_template, free = whatsapp.fake.controls()["messages"]({})["messages"]
    line = "[critical] Disk full · pagerduty.incident · shop · https://x.example"
    assert by_template["text"] == f"Alert: {line}. Sent by Trunkline."
    assert (free["text"], free["request"]["text"]["preview_url"]) == (line, False)


async def test_the_longest_message_we_write_fits_a_template_too(whatsapp):
    say(whatsapp)
    longest = "x" * whatsapp.manifest.notify.max_length
    assert (await whatsapp.notify(PERSON, longest)).error is None
    assert (await whatsapp.notify(PERSON, longest, outside_window=True)).error is None


async def test_messages_and_receipts_are_verified_and_become_events(whatsapp, api):
    sent = whatsapp.send("message", text="Café ✓ https://x.example/a")
    assert b"Caf\\u00e9" in sent.body
    assert b"https:\\/\\/x.example" in sent.body
    assert whatsapp.summaries(sent) == [("whatsapp.message", PERSON, "Café ✓ https://x.example/a")]
    with pytest.raises(Unauthenticated):
        whatsapp.receive(whatsapp.send("message", secret="another"))
    assert (await send(api, TEXT)).status == 200, "a person who writes opens the window"
    assert whatsapp.summaries(whatsapp.send("status"))[0][:2] == ("whatsapp.delivered", PERSON)
    failed = whatsapp.receive(whatsapp.send("status", status="failed", code=131026)).events[0]
    assert (failed.type, failed.severity, failed.title) == (
        "whatsapp.failed",
        "high",
        "Message undeliverable",
    )


async def test_the_handshake_is_answered_with_the_challenge(whatsapp):
    sent = whatsapp.send("handshake", challenge="1158201444")
    webhook = compile_webhook(whatsapp.manifest.webhook, whatsapp.config)
    assert (sent.method, webhook.handshake(sent.query, whatsapp.secrets)) == ("GET", "1158201444")
    with pytest.raises(Unauthenticated):
        webhook.handshake(whatsapp.send("handshake", secret="another").query, whatsapp.secrets)


async def test_a_fault_is_told_as_meta_tells_it(whatsapp, sandbox):
    sandbox.faults.add({"service": "whatsapp", "kind": "rate_limit"})
    trace = await whatsapp.call("get_phone_number")
    assert (trace.status_code, trace.retry_after) == (429, None)
    assert "(#130429)" in trace.error
