"""The fake Discord, by itself and behind our connector: form errors, buckets told in headers, signed interactions."""

import pytest
from connected import Connected

from trunkline.errors import Invalid, Unauthenticated

CHANNEL, PRIVATE, CATEGORY = "41771983423143937", "41771983423143939", "41771983423143941"
MESSAGES = f"/channels/{CHANNEL}/messages"


@pytest.fixture
def discord(anonymous):
    return Connected(anonymous, "discord", "bot_token", {"api_key": "token", "public_key": "public_key"})


@pytest.fixture
def api(anonymous, discord):
    async def ask(method, path, document=None, headers=None, **params):
        sent = {"authorization": f"Bot {discord.ready['token']}", "user-agent": "test", **(headers or {})}
        return await anonymous.ask(method, f"/discord/api/v10{path}", params, json=document, headers=sent)

    return ask


async def post(api, path=MESSAGES, **document):
    return await api("POST", path, {"content": "Down", **document})


@pytest.mark.parametrize("header", [None, "Bot wrong", "Bearer {}", "bot {}", "Bot é"])
async def test_a_caller_without_the_bots_token_is_unauthenticated(api, discord, header):
    header = header and header.format(discord.ready["token"]).encode().decode("latin-1")
    answer = await api("GET", "/users/@me", headers={"authorization": header})
    assert (answer.status, answer.json) == (401, {"message": "401: Unauthorized", "code": 0})


async def test_a_caller_that_says_not_who_it_is_is_turned_away(api):
    assert (await api("GET", "/users/@me", headers={"user-agent": None})).json["code"] == 40333


@pytest.mark.parametrize(
    ("path", "document", "status", "code"),
    [
        ("/channels/9/messages", {"content": "x"}, 404, 10003),
        (f"/channels/{PRIVATE}/messages", {"content": "x"}, 403, 50001),
        (f"/channels/{CATEGORY}/messages", {"content": "x"}, 400, 50008),
        ("/channels/pager/messages", {"content": "x"}, 400, 50035),
        (MESSAGES, {"content": " "}, 400, 50006),
        (MESSAGES, {}, 400, 50006),
        (MESSAGES, {"content": 7}, 400, 50035),
        (MESSAGES, {"content": "x" * 2_001}, 400, 50035),
        (MESSAGES, {"content": "x", "nonce": "n" * 26}, 400, 50035),
        (MESSAGES, {"content": "x", "allowed_mentions": []}, 400, 50035),
        (MESSAGES, {"content": "x", "message_reference": {"message_id": "7"}}, 400, 50035),
        (MESSAGES, [], 400, 50109),
        ("/nowhere", {}, 404, 0),
    ],
)
async def test_what_discord_would_refuse_is_refused_with_its_code(api, path, document, status, code):
    answer = await api("POST", path, document)
    assert (answer.status, answer.json["code"]) == (status, code)


async def test_a_form_error_names_the_field_and_what_is_wrong(api):
    errors = (await post(api, content="x" * 2_001)).json["errors"]
    assert errors["content"]["_errors"][0] == {
        "code": "BASE_TYPE_MAX_LENGTH",
        "message": "Must be 2000 or fewer in length.",
    }


async def test_a_body_must_call_itself_json(anonymous, discord):
    headers = {"authorization": f"Bot {discord.ready['token']}", "user-agent": "test"}
    answer = await anonymous.ask("POST", f"/discord/api/v10{MESSAGES}", content=b"content=x", headers=headers)
    assert (answer.status, answer.json["code"]) == (400, 50035)


async def test_a_channel_takes_five_messages_in_five_seconds_and_says_so_in_headers(api, clock):
    seen = [await post(api) for _ in range(6)]
    assert [answer.headers["x-ratelimit-remaining"] for answer in seen] == ["4", "3", "2", "1", "0", "0"]
    limited = seen[-1]
    assert (limited.status, limited.json["retry_after"], limited.json["global"]) == (429, 5.0, False)
    assert (limited.headers["retry-after"], limited.headers["x-ratelimit-scope"]) == ("5", "user")
    assert (await post(api, "/channels/41771983423143938/messages")).status == 200
    clock.advance(4.75)
    assert (await post(api)).headers["x-ratelimit-reset-after"] == "0.250"
    clock.advance(0.25)
    assert (await post(api)).status == 200


async def test_a_bot_makes_fifty_requests_a_second_at_most(api, clock):
    statuses = [(await api("GET", "/users/@me")).status for _ in range(51)]
    assert statuses == [200] * 50 + [429]
    limited = await api("GET", "/users/@me")
    assert (limited.json["global"], limited.headers["x-ratelimit-global"]) == (True, "true")
    clock.advance(1)
    assert (await api("GET", "/users/@me")).status == 200


async def test_a_nonce_that_is_enforced_makes_one_message_of_two(api, clock):
    first = (await post(api, nonce="n1", enforce_nonce=True)).json["id"]
    assert (await post(api, nonce="n1", enforce_nonce=True)).json["id"] == first
    assert (await post(api, nonce="n1")).json["id"] != first
    clock.advance(600)
    assert (await post(api, nonce="n1", enforce_nonce=True)).json["id"] != first


async def test_a_message_mentions_everybody_unless_that_is_forbidden(api):
    assert (await post(api, content="@everyone")).json["mention_everyone"]
    assert not (await post(api, content="@everyone", allowed_mentions={"parse": []})).json["mention_everyone"]


async def test_messages_are_posted_answered_changed_read_back_and_deleted(discord):
    said = await discord.call("create_message", channel_id=CHANNEL, text="Down")
    where = {"channel_id": CHANNEL, "message_id": said.value["id"]}
    assert (await discord.call("edit_message", **where, text="Up")).value["edited_timestamp"]
    answer = await discord.call(
        "create_message", channel_id=CHANNEL, text="Thanks", reply_to=said.value["id"], nonce="n1"
    )
    assert answer.final_result == f"Posted {answer.value['id']}"
    assert (await discord.call("add_reaction", **where, emoji="👀")).error is None
    assert "Unknown Emoji" in (await discord.call("add_reaction", **where, emoji="eyes")).error
    newest_first = await discord.records("list_messages", channel_id=CHANNEL)
    assert [message["content"] for message in newest_first] == ["Thanks", "Up"]
    assert (await discord.call("delete_message", **where)).error is None
    assert len(await discord.records("list_messages", channel_id=CHANNEL)) == 1


async def test_a_bot_changes_no_message_of_others(discord):
    said = discord.fake.controls()["message"]({"content": "Mine"})
    where = {"channel_id": said["channel_id"], "message_id": said["id"]}
    assert "by another user" in (await discord.call("edit_message", **where, text="x")).error
    assert "Missing Permissions" in (await discord.call("delete_message", **where)).error
    with pytest.raises(Invalid):
        discord.fake.controls()["message"]({"channel_id": "9"})


async def test_history_is_read_from_either_side(api, clock):
    ids = [(await post(api, content=str(number))).json["id"] for number in range(4)]
    found = (await api("GET", MESSAGES, after=ids[0], limit=2)).json
    assert [message["id"] for message in found] == [ids[2], ids[1]]
    found = (await api("GET", MESSAGES, before=ids[3], limit=2)).json
    assert [message["id"] for message in found] == [ids[2], ids[1]]
    assert (await api("GET", MESSAGES, limit=101)).json["code"] == 50035


async def test_the_connection_test_and_the_lists_work(discord):
    assert (await discord.caller.probe(discord.target, discord.secrets)).status == "healthy"
    guild = (await discord.records("list_guilds"))[0]["id"]
    assert len(await discord.records("list_channels", guild_id=guild)) == 5
    assert (await discord.call("get_channel", channel_id=CHANNEL)).value["name"] == "alerts"


async def test_a_message_of_ours_mentions_nobody_and_hides_nothing(discord):
    trace = await discord.notify(CHANNEL, "[critical] @everyone ||x|| [safe](https://evil.example) <@1>")
    assert trace.error is None
    (message,) = await discord.records("list_messages", channel_id=CHANNEL)
    assert message["content"] == (
        "\\[critical] @everyone \\|\\|x\\|\\| \\[safe](https://evil.example) \\<@1>"
    )
    assert (message["mention_everyone"], message["flags"]) == (False, 4)


async def test_the_longest_message_we_write_is_taken(discord):
    assert (await discord.notify(CHANNEL, "x" * discord.manifest.notify.max_length)).error is None


async def test_the_hub_learns_from_the_headers_that_a_channel_is_used_up(discord):
    for _ in range(5):
        assert (await discord.notify(CHANNEL, "Down")).error is None
    trace = await discord.notify(CHANNEL, "Down")
    assert (trace.error_kind, trace.retry_after) == ("rate_limited", 5.0)


async def test_interactions_are_verified_and_become_events(discord, clock):
    assert discord.receive(discord.send("ping")).reply == {"type": 1}
    assert discord.summaries(discord.send("command")) == [("discord.interaction", CHANNEL, "alice: oncall")]
    button = discord.send("button", custom_id="resolve", id="77", user="bob")
    assert discord.summaries(button) == [("discord.interaction", CHANNEL, "bob: resolve")]
    assert discord.receive(button).dedup == "77"
    with pytest.raises(Unauthenticated):
        discord.receive(discord.send("command", secret="11" * 32))
    with pytest.raises(Invalid):
        discord.send("command", secret="no key")
    clock.advance(400)
    with pytest.raises(Unauthenticated):
        discord.receive(button)


async def test_a_fault_is_told_as_discord_tells_it(discord, sandbox):
    sandbox.faults.add({"service": "discord", "kind": "rate_limit", "seconds": 30})
    trace = await discord.call("get_me")
    assert (trace.status_code, trace.retry_after) == (429, 30)
    assert "You are being rate limited." in trace.error
