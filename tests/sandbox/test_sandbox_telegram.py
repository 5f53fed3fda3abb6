"""The fake Telegram, by itself and behind our connector: the token in the path, limits per chat and bot, updates."""

import json

import pytest
from connected import Connected

from trunkline.errors import Invalid, Unauthenticated

GROUP, PERSON = -100200300, 1001


@pytest.fixture
def telegram(anonymous):
    secrets = {"token": "token", "webhook_secret": "webhook_secret"}
    return Connected(anonymous, "telegram", "bot_token", secrets)


@pytest.fixture
def api(anonymous, telegram):
    async def ask(method, how="POST", **args):
        return await anonymous.ask(how, f"/telegram/bot{telegram.ready['token']}/{method}", json=args)

    return ask


async def send(api, chat_id=PERSON, text="Down", **args):
    return await api("sendMessage", chat_id=chat_id, text=text, **args)


@pytest.mark.parametrize(
    ("path", "status", "description"),
    [
        ("/bot1:wrong/getMe", 401, "Unauthorized"),
        ("/botnonsense/getMe", 404, "Not Found"),
        ("/getMe", 404, "Not Found"),
        ("/", 404, "Not Found"),
    ],
)
async def test_the_token_is_part_of_the_path(anonymous, path, status, description):
    answer = await anonymous.get(f"/telegram{path}")
    assert (answer.status, answer.json) == (
        status,
        {"ok": False, "error_code": status, "description": description},
    )


@pytest.mark.parametrize(
    ("method", "args", "status", "description"),
    [
        ("shout", {}, 404, "Not Found: method not found"),
        ("sendMessage", {"text": "x"}, 400, "Bad Request: chat_id is empty"),
        ("sendMessage", {"chat_id": 5, "text": "x"}, 400, "Bad Request: chat not found"),
        ("sendMessage", {"chat_id": 1001, "text": " "}, 400, "Bad Request: message text is empty"),
        ("sendMessage", {"chat_id": 1001, "text": "x" * 4_097}, 400, "Bad Request: message is too long"),
        (
            "sendMessage",
            {"chat_id": 1001, "text": "x", "parse_mode": "BBCode"},
            400,
            "Bad Request: unsupported parse_mode",
        ),
        (
            "sendMessage",
            {"chat_id": 1001, "text": "x", "reply_parameters": {"message_id": 9}},
            400,
            "Bad Request: message to be replied not found",
        ),
        (
            "sendMessage",
            {"chat_id": 1001, "text": "x", "reply_parameters": "{"},
            400,
            "Bad Request: can't parse reply_parameters JSON object",
        ),
        ("sendMessage", {"chat_id": [1], "text": "x"}, 400, "Bad Request: chat not found"),
        ("sendMessage", {"chat_id": 1001, "text": ["x"]}, 400, "Bad Request: message text is empty"),
        (
            "answerCallbackQuery",
            {"callback_query_id": ["x"]},
            400,
            "Bad Request: query is too old and response timeout expired or query ID is invalid",
        ),
        (
            "editMessageText",
            {"chat_id": 1001, "message_id": 9, "text": "x"},
            400,
            "Bad Request: message to edit not found",
        ),
        (
            "deleteMessage",
            {"chat_id": 1001, "message_id": 9},
            400,
            "Bad Request: message to delete not found",
        ),
        (
            "getChatAdministrators",
            {"chat_id": 1001},
            400,
            "Bad Request: there are no administrators in the private chat",
        ),
        (
            "setWebhook",
            {"url": "http://hub.example"},
            400,
            "Bad Request: bad webhook: An HTTPS URL must be provided for webhook",
        ),
        (
            "setWebhook",
            {"url": "https://hub.example", "secret_token": "a b"},
            400,
            "Bad Request: secret token contains unallowed characters",
        ),
    ],
)
async def test_what_telegram_would_refuse_is_refused_in_its_words(api, method, args, status, description):
    answer = await api(method, **args)
    assert (answer.status, answer.json["error_code"], answer.json["description"]) == (
        status,
        status,
        description,
    )


async def test_arguments_come_as_json_a_form_or_a_query_and_methods_in_any_case(anonymous, telegram):
    base = f"/telegram/bot{telegram.ready['token']}"
    form = {"content-type": "application/x-www-form-urlencoded"}
    answers = [
        await anonymous.get(f"{base}/SENDMESSAGE", chat_id="@trunkline_news", text="Down"),
        await anonymous.ask("POST", f"{base}/sendMessage", content=b"chat_id=1001&text=Down", headers=form),
        await anonymous.ask("POST", f"{base}/sendMessage", json={"chat_id": "1001", "text": " Down "}),
    ]
    assert [answer.json["result"]["text"] for answer in answers] == ["Down"] * 3
    broken = await anonymous.ask(
        "POST", f"{base}/getMe", content=b"[", headers={"content-type": "application/json"}
    )
    assert broken.status == 400


async def test_a_chat_takes_a_message_a_second_after_a_short_burst(api, clock):
    assert [(await send(api)).status for _ in range(4)] == [200, 200, 200, 429]
    limited = await send(api)
    assert limited.json == {
        "ok": False,
        "error_code": 429,
        "description": "Too Many Requests: retry after 1",
        "parameters": {"retry_after": 1},
    }
    assert limited.headers["retry-after"] == "1"
    clock.advance(1)
    assert [(await send(api)).status for _ in range(2)] == [200, 429]


async def test_a_group_takes_twenty_a_minute(api, clock):
    sent = 0
    for _ in range(60):
        sent += (await send(api, GROUP)).status == 200
        clock.advance(1)
    assert 38 <= sent <= 40, "the burst of 20, then one every 3 seconds"


async def test_a_bot_sends_thirty_a_second_to_all_together(telegram, api, clock):
    for chat_id in range(1, 32):
        telegram.fake.controls()["chat"]({"chat_id": chat_id})
    assert [(await send(api, chat_id)).status for chat_id in range(1, 32)] == [200] * 30 + [429]
    clock.advance(1 / 30)
    assert (await send(api, 31)).status == 200
    with pytest.raises(Invalid):
        telegram.fake.controls()["chat"]({"chat_id": "31"})


async def test_messages_are_sent_answered_changed_and_deleted(telegram):
    said = await telegram.call("send_message", chat_id=str(PERSON), text="Down <b>", silent=True)
    assert said.final_result == f"Sent message {said.value['message_id']}"
    where = {"chat_id": PERSON, "message_id": said.value["message_id"]}
    assert (await telegram.call("edit_message", **where, text="Up")).value["edit_date"]
    assert "is not modified" in (await telegram.call("edit_message", **where, text="Up")).error
    answer = await telegram.call(
        "send_message", chat_id=PERSON, text="Thanks", reply_to=said.value["message_id"]
    )
    assert answer.raw_response["result"]["reply_to_message"]["text"] == "Up"
    assert (await telegram.call("delete_message", **where)).value is True
    assert "to delete not found" in (await telegram.call("delete_message", **where)).error


async def test_whoever_puts_the_bot_out_gets_nothing_more(telegram):
    for chat_id, reason in ((PERSON, "blocked by the user"), (GROUP, "kicked from the supergroup chat")):
        telegram.fake.controls()["leave"]({"chat_id": chat_id})
        trace = await telegram.notify(str(chat_id), "Down")
        assert (trace.status_code, trace.retryable) == (403, False)
        assert f"Forbidden: bot was {reason}" in trace.error


async def test_the_connection_test_and_the_reads_work(telegram):
    assert (await telegram.caller.probe(telegram.target, telegram.secrets)).status == "healthy"
    assert (await telegram.call("get_me")).value["username"] == "trunkline_bot"
    assert (await telegram.call("get_chat", chat_id="@trunkline_news")).value["type"] == "channel"
    assert (await telegram.records("list_administrators", chat_id=GROUP))[0]["status"] == "creator"


async def test_updates_are_listed_until_they_are_confirmed_or_a_webhook_takes_them(telegram):
    first, second = (telegram.fake.controls()["message"]({"text": text}) for text in ("one", "two"))
    assert await telegram.records("list_updates") == [first, second]
    assert await telegram.records("list_updates", offset=second["update_id"]) == [second]
    hook = {"url": "https://hub.example/hooks/x", "secret_token": "s3cret-token"}
    assert (await telegram.call("set_webhook", **hook)).value is True
    assert (await telegram.call("get_webhook")).value["url"] == hook["url"]
    refused = await telegram.call("list_updates")
    assert refused.status_code == 409
    assert telegram.send("message").proof == {"X-Telegram-Bot-Api-Secret-Token": "s3cret-token"}
    assert (await telegram.call("delete_webhook")).value is True
    assert (await telegram.call("list_updates")).error is None


async def test_a_message_of_ours_is_plain_text_without_previews_and_calls_nobody(telegram):
    trace = await telegram.notify(str(PERSON), "[critical] *Disk* <b>full</b> @bob")
    sent = trace.raw_response["result"]
    assert sent["text"] == "[critical] *Disk* <b>full</b> @\u2060bob"
    assert sent["link_preview_options"] == {"is_disabled": True}
    assert (await telegram.notify(str(PERSON), "x" * telegram.manifest.notify.max_length)).error is None


async def test_the_token_shows_in_no_trace_and_no_journal(telegram, sandbox):
    token = telegram.ready["token"]
    sandbox.faults.add({"service": "telegram", "kind": "status", "status": 500, "body": f"oops {token}"})
    for _ in range(2):
        trace = await telegram.notify(str(PERSON), f"Down {token}")
        shown = json.dumps(trace.to_wire(), default=str)
        assert "/bot[redacted]/sendMessage" in shown
        assert token not in shown
        assert token.replace(":", "%3A") not in shown
    assert token not in json.dumps(sandbox.journal.read("telegram"))


@pytest.mark.parametrize(
    ("event", "wanted"),
    [
        ("message", ("telegram.message", "1001", "Hello")),
        ("edited_message", ("telegram.edited_message", "1001", "Hello")),
        ("channel_post", ("telegram.channel_post", "-1001234567890", "Hello")),
        ("callback_query", ("telegram.callback_query", "1001", "Alice: acknowledge")),
    ],
)
async def test_updates_are_verified_and_become_events(telegram, event, wanted):
    sent = telegram.send(event, update_id=42)
    assert telegram.summaries(sent) == [wanted]
    assert telegram.receive(sent).dedup == "42"
    with pytest.raises(Unauthenticated):
        telegram.receive(telegram.send(event, secret="another"))


async def test_a_pressed_button_is_answered_once_it_was_pressed(telegram):
    payload = json.loads(telegram.send("callback_query").body)["callback_query"]
    assert (await telegram.call("answer_callback", callback_query_id=payload["id"])).value is True
    assert "query ID is invalid" in (await telegram.call("answer_callback", callback_query_id="x")).error


async def test_a_fault_is_told_as_telegram_tells_it(telegram, sandbox):
    sandbox.faults.add({"service": "telegram", "kind": "rate_limit", "seconds": 35})
    trace = await telegram.call("get_me")
    assert (trace.status_code, trace.retry_after) == (429, 35)
    assert trace.raw_response["parameters"] == {"retry_after": 35}
