"""What a connector may say: the closed vocabulary, as classes. One `Manifest` serves files and integrations."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from trunkline.catalog.endpoint import AuthFields, EndpointConfig, HttpMethod, NativeAuthType

AuthType = Literal[NativeAuthType, "basic", "none"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ConfigField(_Part):
    """One line of the form that configures an integration. Not for secrets: those belong to `auth`."""

    label: str
    description: str = ""
    example: str | None = None
    pattern: str | None = None
    default: str | None = None
    optional: bool = False


class SecretField(_Part):
    """One more secret of an auth method, looked up as `{secret.name}` in endpoint requests."""

    label: str
    description: str = ""
    optional: bool = False


class AuthMethod(AuthFields):
    """One way in: the native six, `basic` and `none`.

    `token_url` and `exchange_url` may look up `{base_url}` and `{config.x}`; `header_name`, `client_id` and the
    assertion's fields `{config.x}`, filled in by `configure.effective_auth`.
    """

    model_config = ConfigDict(extra="forbid")

    type: AuthType
    label: str = ""
    description: str = ""
    header_format: Annotated[str, Field(pattern=r"^[^{}]*\{secret\}[^{}]*$", max_length=128)] = "{secret}"
    secrets: dict[str, SecretField] = {}


class CredentialField(_Part):
    """One value a person enters to use an auth method. All are sealed; `secret` ones are never shown."""

    name: str
    label: str
    description: str = ""
    secret: bool = True
    optional: bool = False


_CREDENTIALS: dict[str, tuple[CredentialField, ...]] = {
    "basic": (
        CredentialField(name="username", label="User name", secret=False),
        CredentialField(name="password", label="Password"),
    ),
    "api_key_header": (CredentialField(name="api_key", label="API key"),),
    "bearer_token": (CredentialField(name="bearer_token", label="Token"),),
    "oauth2_client_credentials": (
        CredentialField(name="client_id", label="Client id", secret=False),
        CredentialField(name="client_secret", label="Client secret"),
    ),
    "json_token_exchange": (
        CredentialField(name="client_id", label="Client id", secret=False),
        CredentialField(name="client_secret", label="Client secret"),
    ),
    "oauth2_jwt_bearer": (CredentialField(name="private_key", label="Private key (PEM)"),),
    "bearer_token_exchange": (CredentialField(name="exchange_secret", label="Exchange secret"),),
    "none": (),
}


def credential_fields(method: AuthMethod) -> tuple[CredentialField, ...]:
    """List what a person must enter for this auth method; a key that is all there is to it is called as the method is."""
    fields = _CREDENTIALS[method.type]
    if method.type in {"api_key_header", "bearer_token"} and method.label:
        told = {"label": method.label, "description": method.description}
        fields = (fields[0].model_copy(update=told),)
    return fields + _entered(method.secrets)


def _entered(secrets: dict[str, SecretField]) -> tuple[CredentialField, ...]:
    return tuple(CredentialField(name=name, **field.model_dump()) for name, field in secrets.items())


class ErrorRule(_Part):
    """How this API says no, also inside a 200."""

    message: str | None = None
    """Path of the text to show."""
    ok: str | None = None
    """Path whose value must be true, else the call failed."""
    present: str | None = None
    """Path that must be absent or empty, else the call failed."""


class RateLimit(_Part):
    """Which response headers tell how many calls are left and when more are allowed.

    An API without `remaining` tells only when to come back, with its 429.
    """

    remaining: str | None = None
    reset: str
    reset_format: Literal["epoch_seconds", "epoch_ms", "delta_seconds", "iso8601"] = "epoch_seconds"


class PageLimit(_Part):
    """The parameter that sets the page size, and the size to ask for."""

    param: str
    size: Annotated[int, Field(ge=1, le=10_000)]


class Paging(_Part):
    """How a list continues. Which words go with which type is checked at load."""

    type: Literal["none", "cursor", "link", "page", "offset", "keyset"]
    limit: PageLimit | None = None
    cursor_param: str | None = None
    cursor_path: str | None = None
    page_param: str | None = None
    first_page: int = 1
    offset_param: str | None = None
    more_path: str | None = None
    """Path of a boolean that says whether there is another page."""
    last_path: str | None = None
    """Path of a boolean that says that this is the last page."""
    total_path: str | None = None


class Endpoint(EndpointConfig):
    """One callable operation of a connector: the native endpoint and how its request is built.

    `path`, `query`, `body` and `headers` are templates. A parameter that none of them looks up goes where the native
    format has it: with GET and DELETE into the query (where it wins over `query`, which so gives defaults), otherwise
    into the body, unless `body` is given: then exactly that is sent.
    """

    model_config = ConfigDict(extra="forbid")

    method: HttpMethod = "GET"
    description: str = ""
    query: dict[str, Any] = {}
    body: dict[str, Any] | None = None
    records: str | None = None
    """Path of the list of records in the answer."""
    record_mapping: dict[str, Any] | None = None
    """What to make of each record: new key ← path, or an object of them. The list of these is the result."""
    paging: Paging | None = None
    errors: ErrorRule | None = None
    base_url: str | None = None
    """Another host than the connector's; may look up `{config.x}` and `{base_url}`."""
    auth: bool = True
    """False: call without the integration's credentials, for hosts that take none."""


class Cursor(_Part):
    """How a stream asks only for what is new."""

    field: str
    start: str
    query: dict[str, str]
    format: Literal["as_it_is", "epoch_seconds", "epoch_ms"] = "as_it_is"
    """How `{cursor}` is written, where records tell a time in another way than the query asks for it."""
    lag_seconds: Annotated[int, Field(ge=0)] = 0


class ForEach(_Part):
    """Call the stream's endpoint once for each record of a parent stream, named `{parent.…}`."""

    stream: str
    params: dict[str, str]


class Stream(_Part):
    """A list of records that can be pulled."""

    endpoint: str
    key: str
    description: str = ""
    params: dict[str, Any] = {}
    """Parameters of the endpoint that every call of this stream sends."""
    cursor: Cursor | None = None
    paging: Paging | None = None
    for_each: ForEach | None = None
    record_mapping: dict[str, Any] | None = None
    """What to keep of each record, as an endpoint's. `key` and `cursor.field` look into the record as it came."""
    deleted: dict[str, str | int | bool] | None = None
    """Paths and the values that a record has once it is deleted: it is taken out, and nothing is asked about it any more."""


class Verify(_Part):
    """One way in which a webhook of this service proves where it comes from. Which words go with which type is checked.

    The first way whose secret the integration has is the one that counts; `none` stands alone.
    """

    type: Literal["hmac", "token", "ed25519", "standard", "none"]
    secret: str | None = None
    """Which of the webhook's secrets."""
    header: str | None = None
    """The header with the signature or the token; may look up `{config.x}`."""
    prefix: str = ""
    """What stands before a signature that counts, in a header that may hold several; may look up `{config.x}`."""
    signed: str = "{body}"
    """What is signed: looks up `{body}` and `{timestamp}`."""
    timestamp: str | None = None
    """Where the time of the request stands: `{header.x}` or `{payload.x}`; epoch seconds or milliseconds, or ISO 8601."""
    tolerance_seconds: Annotated[int, Field(ge=1, le=3600)] = 300


class Challenge(_Part):
    """A question the service asks before it sends events. It is answered only when it is verified.

    With a `token` it is a GET request that proves itself by that token, which must equal the secret.
    """

    when: dict[str, Any]
    """Look-ups (`payload.type`, `query.hub.mode`) and the value each must have."""
    answer: str | dict[str, Any]
    """A text is answered as plain text, an object as JSON."""
    token: str | None = None
    secret: str | None = None


class Webhook(_Part):
    """What this service sends by itself, to an address that the integration has."""

    description: str = ""
    """Where a person enters the address, and finds the secret."""
    verify: dict[str, Verify]
    secrets: dict[str, SecretField] = {}
    """Entered with the credentials; each is optional, but without one that `verify` names all is refused."""
    delivery_id: str | None = None
    """What tells one delivery from another, such as `{header.x-request-id}`."""
    challenge: Challenge | None = None
    answer: str | dict[str, Any] | None = None
    """What the service must hear, with status 200, once a webhook is stored: a text or an object. Else 202 and the id."""


def webhook_fields(webhook: Webhook | None) -> tuple[CredentialField, ...]:
    """List what a person may enter so that webhooks can be verified; all of it is optional."""
    fields = _entered(webhook.secrets) if webhook else ()
    return tuple(field.model_copy(update={"optional": True}) for field in fields)


Texts = str | Annotated[list[str], Field(min_length=1, max_length=20)]


class EventRule(_Part):
    """What one kind of webhook means. The first rule whose `when` holds is used.

    The values are templates over `payload`, `header`, `config` and, with `each`, `item`. Of a list of them the first that
    finds something counts.
    """

    when: dict[str, Any] = {}
    """Look-ups and the value each must have; a list: one of them; `null`: absent; `"*"`: anything but absent."""
    each: str | None = None
    """Path of a list in the payload: one event for each entry, looked up as `{item.x}`."""
    type: str
    title: Texts | None = None
    subject: Texts | None = None
    project: Texts | None = None
    severity: Texts | None = None
    """critical, high, medium, low or info."""
    dedup_key: Texts | None = None
    action: Texts | None = None
    """What it does to the trouble of that dedup_key: trigger, acknowledge or resolve; nothing when absent."""
    url: Texts | None = None
    time: Texts | None = None


class Window(_Part):
    """The hours in which a service takes free text, and what it takes outside them."""

    event: str
    """Type of the event by which a person opens the window; its subject is the channel."""
    hours: Annotated[int, Field(ge=1)]
    refused: dict[str, Any]
    """Paths in an answer and the values that say that the window is closed."""
    endpoint: str
    params: dict[str, Any]


class Notify(_Part):
    """How a message is sent here. `params` looks up `{channel}`, `{event.x}` and `{config.x}`."""

    endpoint: str
    params: dict[str, Any]
    channel: ConfigField
    """What the channel of a route is here."""
    max_length: Annotated[int, Field(ge=100)]
    """Most characters of `{event.text}`; a longer one is cut, with its link kept."""
    escape: dict[str, str] = {}
    """Texts to replace in `{event.text}` and `{event.title}`, so that no event can mention people or write markup."""
    channel_seconds: Annotated[float, Field(ge=0)] = 0
    """Least time between two messages to one channel."""
    per_second: Annotated[float, Field(gt=0)] | None = None
    """Most messages a second through one integration."""
    window: Window | None = None


class Manifest(_Part):
    """A connector: what a service is and can do."""

    id: str
    name: str
    category: str = "other"
    description: str = ""
    docs_url: str | None = None
    base_url: str = ""
    """Empty only where nothing is called: for webhooks of any service."""
    config: dict[str, ConfigField] = {}
    auth: dict[str, AuthMethod] = {}
    check: str | None = None
    errors: ErrorRule | None = None
    rate_limit: RateLimit | None = None
    headers: dict[str, str] = {}
    endpoints: dict[str, Endpoint] = {}
    streams: dict[str, Stream] = {}
    webhook: Webhook | None = None
    events: list[EventRule] = []
    notify: Notify | None = None
    maps: dict[str, dict[str, Any]] = {}
