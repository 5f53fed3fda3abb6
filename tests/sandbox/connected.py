"""A connector of ours in front of a fake, in process: its calls, its messages, its webhooks."""

from types import SimpleNamespace
from urllib.parse import parse_qsl, unquote, urlsplit

from multidict import CIMultiDict, CIMultiDictProxy

from trunkline.catalog.configure import effective_auth, render_base_url, with_defaults
from trunkline.catalog.load import load_manifest
from trunkline.catalog.registry import BUILT_IN
from trunkline.catalog.template import MESSAGE, Template
from trunkline.egress import Reply
from trunkline.rest.caller import RestCaller, Target, compile_endpoint
from trunkline.rest.event_rules import Rules
from trunkline.rest.signatures import compile_webhook
from trunkline.settings import Settings

ORIGIN = "http://127.0.0.1:8000"


class IntoTheSandbox:
    """Egress that hands requests to the sandbox."""

    def __init__(self, client):
        self.client = client

    async def request(self, method, url, *, headers=None, body=None, limits=None, follow_redirects=False):
        parts = urlsplit(url)
        given = {
            "user-agent": "Trunkline",
            **{name.lower(): value for name, value in (headers or {}).items()},
        }
        answer = await self.client.ask(
            method, unquote(parts.path), parse_qsl(parts.query), content=body, headers=given
        )
        return Reply(
            answer.status,
            CIMultiDictProxy(CIMultiDict(answer.headers)),
            answer.body,
            url,
            1.0,
            len(answer.body),
        )


class Connected:
    """One integration of a connector with the fake of the same name."""

    def __init__(self, client, name, auth, credentials, config=()):
        self.sandbox, self.clock = client.sandbox, client.sandbox.clock
        self.fake = self.sandbox.services[name]
        self.ready = self.sandbox.ready(ORIGIN)[name]
        self.manifest = load_manifest(BUILT_IN / f"{name}.yaml")
        self.secrets = {secret: self.ready[key] for secret, key in credentials.items()}
        config = {"url": self.ready["url"], **{key: self.ready[key] for key in config}}
        self.config = with_defaults(self.manifest, config)
        self.target = Target(
            "workspace",
            "integration",
            self.manifest.name,
            render_base_url(self.manifest, config),
            effective_auth(self.manifest, auth, config),
            self.config,
            self.manifest,
        )
        self.caller = RestCaller(IntoTheSandbox(client), self.clock, Settings())

    async def call(self, name, /, **params):
        """Make one call, without repeating it; return its trace."""
        endpoint = compile_endpoint(self.manifest.endpoints[name], self.manifest)
        return await self.caller.call(self.target, endpoint, params, self.secrets, once=True)

    async def records(self, name, /, **params):
        """Walk every page of a list."""
        endpoint = compile_endpoint(self.manifest.endpoints[name], self.manifest)
        found = []
        async for records, trace in self.caller.pages(self.target, endpoint, params, self.secrets):
            assert trace.error is None, trace.error
            found += records
        return found

    async def notify(self, channel, text, *, outside_window=False):
        """Send a text as a message of the connector."""
        part = self.manifest.notify.window if outside_window else self.manifest.notify
        escaped = "".join(self.manifest.notify.escape.get(character, character) for character in text)
        template = Template.compile(part.params, namespaces=MESSAGE, maps=self.manifest.maps)
        scope = {"channel": channel, "event": {"text": escaped, "nonce": "n1"}, "config": self.config}
        return await self.call(part.endpoint, **template.render(scope))

    def send(self, event, /, **options):
        """Have the fake make a webhook; the option `secret` signs it with another one."""
        secret = options.pop("secret", None)
        return self.fake.webhooks()[event](options, self.clock.now(), secret)

    def receive(self, sent):
        """Take a webhook in: verify it, read its events."""
        webhook = compile_webhook(self.manifest.webhook, self.config)
        headers = {name.lower(): value for name, value in (sent.headers | sent.proof).items()}
        verified = webhook.verify(headers, sent.body, {}, self.secrets, self.clock.now())
        events = Rules(self.manifest).read_request(sent.body, headers, self.config)
        return SimpleNamespace(dedup=verified.dedup, reply=verified.reply, events=events)

    def summaries(self, sent):
        """Take a webhook in and return type, subject and title of its events."""
        return [(event.type, event.subject, event.title) for event in self.receive(sent).events]
