"""The fake Slack, by itself and behind our connector: no inside a 200, limits, pages, signed webhooks."""

import re

import pytest
from connected import Connected

from trunkline.errors import Unauthenticated


@pytest.fixture
def slack(anonymous):
    secrets = {"bearer_token": "token", "signing_secret": "signing_secret"}
    return Connected(anonymous, "slack", "bot_token", secrets)


@pytest.fixture
def api(anonymous, slack):
    async def ask(method, path="POST", headers=None, **args):
        sent = {"authorization": f"Bearer {slack.ready['token']}", **(headers or {})}
        return await anonymous.ask(path, f"/slack/api/{method}", json=args or None, headers=sent)

    return ask


async def post(api, channel="C0PAGER", text="Down", **args):
    return await api("chat.postMessage", channel=channel, text=text, **args)


@pytest.mark.parametrize(
    ("header", "error"),
    [(None, "not_authed"), ("Bearer xoxb-wrong", "invalid_auth"), ("Bearer é", "invalid_auth")],
)
async def test_a_caller_without_the_token_is_refused_inside_a_200(api, header, error):
    header = header and header.encode().decode("latin-1")
    answer = await api("auth.test", headers={"authorization": header})
    assert (answer.status, answer.json) == (200, {"ok": False, "error": error})


@pytest.mark.parametrize(
    ("method", "args", "error"),
    [
        ("chat.shout", {"text": "x"}, "unknown_method"),
        ("chat.postMessage", {"text": "x"}, "invalid_arguments"),
        ("chat.postMessage", {"channel": "C0NOWHERE", "text": "x"}, "channel_not_found"),
        ("chat.postMessage", {"channel": "C0OLD", "text": "x"}, "is_archived"),
        ("chat.postMessage", {"channel": "C0OTHER", "text": "x"}, "not_in_channel"),
        ("chat.postMessage", {"channel": "C0PAGER", "text": " "}, "no_text"),
        ("chat.postMessage", {"channel": "C0PAGER", "text": 7}, "invalid_arguments"),
        ("chat.postMessage", {"channel": "C0PAGER", "text": "x" * 40_001}, "msg_too_long"),
        ("chat.update", {"channel": "C0PAGER", "ts": "1.2", "text": "x"}, "message_not_found"),
        ("chat.delete", {"channel": "C0PAGER", "ts": "1.2"}, "message_not_found"),
        ("reactions.add", {"channel": "C0PAGER", "timestamp": "1.2", "name": ":eyes:"}, "invalid_name"),
        ("conversations.info", {"channel": "C0PAGER"}, "invalid_arguments"),
    ],
)
async def test_what_slack_would_refuse_is_refused_with_its_word(api, method, args, error):
    answer = await api(method, **args)
    assert answer.status == 200
    assert (answer.json["ok"], answer.json["error"]) == (False, error)


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"types": "public"}, "invalid_types"),
        ({"limit": "0"}, "invalid_limit"),
        ({"limit": "1001"}, "invalid_limit"),
        ({"cursor": "x"}, "invalid_cursor"),
    ],
)
async def test_a_list_takes_only_arguments_that_mean_something(anonymous, slack, query, error):
    headers = {"authorization": f"Bearer {slack.ready['token']}"}
    answer = await anonymous.ask("GET", "/slack/api/conversations.list", query, headers=headers)
    assert answer.json["error"] == error


@pytest.mark.parametrize(
    ("kind", "content", "error"),
    [
        ("application/json", b"{", "invalid_json"),
        ("application/json", b"[]", "json_not_object"),
        ("text/plain", b"x", "invalid_post_type"),
        (None, b"x", "missing_post_type"),
    ],
)
async def test_a_body_is_json_or_a_form(anonymous, slack, kind, content, error):
    headers = {"authorization": f"Bearer {slack.ready['token']}", "content-type": kind}
    answer = await anonymous.ask("POST", "/slack/api/chat.postMessage", content=content, headers=headers)
    assert answer.json["error"] == error


async def test_a_form_is_as_good_as_json_and_only_json_is_warned_about_its_charset(anonymous, api, slack):
    headers = {
        "authorization": f"Bearer {slack.ready['token']}",
        "content-type": "application/x-www-form-urlencoded",
    }
    body = b"channel=%23pager&text=Down+again"
    answer = await anonymous.ask("POST", "/slack/api/chat.postMessage", content=body, headers=headers)
    assert (answer.json["ok"], answer.json["message"]["text"]) == (True, "Down again")
    assert "warning" not in answer.json
    assert (await post(api)).json["warning"] == "missing_charset"


async def test_a_burst_is_let_through_then_a_channel_takes_one_message_a_second(api, clock):
    assert [(await post(api)).status for _ in range(5)] == [200, 200, 200, 200, 429]
    limited = await post(api)
    assert (limited.json, limited.headers["retry-after"]) == ({"ok": False, "error": "ratelimited"}, "1")
    assert (await post(api, channel="C0ALERTS")).json["ok"]
    clock.advance(1)
    assert [(await post(api)).status for _ in range(2)] == [200, 429]


async def test_messages_are_posted_changed_read_back_and_deleted(slack):
    said = await slack.call("post_message", channel="C0PAGER", text="Down")
    channel, ts = said.value["channel"], said.value["ts"]
    assert said.final_result == f"Posted to C0PAGER ({ts})"
    assert (await slack.call("update_message", channel=channel, ts=ts, text="Up")).error is None
    assert (await slack.call("add_reaction", channel=channel, ts=ts, name="eyes")).error is None
    again = await slack.call("add_reaction", channel=channel, ts=ts, name="eyes")
    assert again.error == "Slack refused the call: already_reacted"
    (message,) = await slack.records("list_messages", channel=channel)
    assert (message["text"], message["reactions"][0]["count"]) == ("Up", 1)
    assert (await slack.call("delete_message", channel=channel, ts=ts)).error is None
    assert await slack.records("list_messages", channel=channel) == []


async def test_a_bot_changes_no_message_of_others(slack):
    said = slack.fake.controls()["message"]({"channel": "C0PAGER", "user": "U0BOB", "text": "Mine"})
    for name, params in (("update_message", {"text": "x"}), ("delete_message", {})):
        trace = await slack.call(name, channel="C0PAGER", ts=said["ts"], **params)
        assert re.search("cant_(update|delete)_message", trace.error)


async def test_the_connection_test_and_the_lists_work_page_by_page(slack):
    assert (await slack.caller.probe(slack.target, slack.secrets)).status == "healthy"
    found = await slack.records("list_channels", types="public_channel,private_channel", limit=2)
    assert [channel["id"] for channel in found] == ["C0PAGER", "C0ALERTS", "C0OLD", "C0OTHER", "G0SECRET"]
    assert len(await slack.records("list_users", limit=1)) == 3
    assert (await slack.call("find_user_by_email", email="bob@example.com")).value["id"] == "U0BOB"
    assert (await slack.call("get_channel", channel="C0PAGER")).value["name"] == "pager"


async def test_history_is_newest_first_and_begins_after_oldest(slack, clock):
    for text in ("one", "two", "three"):
        slack.fake.controls()["message"]({"channel": "C0PAGER", "text": text})
        clock.advance(1)
    everything = await slack.records("list_messages", channel="C0PAGER", limit=1)
    assert [message["text"] for message in everything] == ["three", "two", "one"]
    later = await slack.records("list_messages", channel="C0PAGER", oldest=everything[-1]["ts"])
    assert [message["text"] for message in later] == ["three", "two"]


async def test_a_message_of_ours_mentions_nobody_and_a_person_gets_it_directly(slack):
    trace = await slack.notify("U0BOB", "[critical] <!channel> <@U0ALICE> a & b")
    assert trace.error is None
    (message,) = await slack.records("list_messages", channel="U0BOB")
    assert message["text"] == "[critical] &lt;!channel&gt; &lt;@U0ALICE&gt; a &amp; b"
    assert (message["mrkdwn"], message["link_names"], message["unfurl_links"]) == (False, False, False)


async def test_the_longest_message_we_write_is_taken(slack):
    assert (await slack.notify("C0PAGER", "x" * slack.manifest.notify.max_length)).error is None


@pytest.mark.parametrize(
    ("event", "wanted"),
    [
        ("message", ("slack.message", "C0PAGER", "Hello")),
        ("app_mention", ("slack.app_mention", "C0PAGER", "Hello")),
        ("reaction", ("slack.reaction", "C0PAGER", "reaction_added :eyes:")),
        ("interaction", ("slack.interaction", "C0PAGER", "alice: acknowledge")),
        ("command", ("slack.command", "C0PAGER", "/oncall")),
    ],
)
async def test_what_slack_sends_is_verified_and_becomes_an_event(slack, event, wanted):
    sent = slack.send(event)
    assert slack.receive(sent).dedup
    (kind, subject, title) = slack.summaries(sent)[0]
    assert (kind, subject, title.strip()) == wanted
    with pytest.raises(Unauthenticated):
        slack.receive(slack.send(event, secret="another"))


async def test_a_second_try_of_a_delivery_is_known_by_its_id(slack, clock):
    first = slack.send("message", event_id="Ev1", text="Once")
    clock.advance(60)
    again = slack.send("message", event_id="Ev1", text="Once", retry=1)
    assert again.proof != first.proof
    assert again.headers["X-Slack-Retry-Num"] == "1"
    assert slack.receive(again).dedup == "Ev1"
    clock.advance(400)
    with pytest.raises(Unauthenticated):
        slack.receive(first)


async def test_the_question_about_the_address_is_answered_and_bots_have_a_type_of_their_own(slack):
    assert slack.receive(slack.send("url_verification", challenge="abc")).reply == "abc"
    assert slack.summaries(slack.send("message", bot_id="B1"))[0][0] == "slack.bot_message"


async def test_a_fault_is_told_as_slack_tells_it(slack, sandbox):
    sandbox.faults.add({"service": "slack", "kind": "rate_limit", "seconds": 30})
    trace = await slack.call("test_auth")
    assert (trace.status_code, trace.retry_after, trace.retryable) == (429, 30, True)
    assert "ratelimited" in trace.error


async def test_reset_forgets_messages_and_limits(slack, sandbox, api):
    for _ in range(5):
        await post(api)
    sandbox.reset()
    assert (await post(api)).json["ok"]
    assert len(await slack.records("list_messages", channel="C0PAGER")) == 1
