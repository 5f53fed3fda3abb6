"""The native wire format's objects, as the contract's OpenAPI document names and limits them.

Fields the contract does not have are marked as ours; all of them are optional.
"""

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from typing_extensions import TypeAliasType

from trunkline.catalog.endpoint import AuthConfig, AuthConfigWithSecrets, EndpointConfig


def _without_nul(text: str) -> str:
    """Refuse U+0000, which PostgreSQL cannot store."""
    if "\0" in text:
        raise ValueError("must not hold the character U+0000")
    return text


def _id(text: str) -> str:
    return str(UUID(text))


Id = Annotated[str, AfterValidator(_id), WithJsonSchema({"type": "string", "format": "uuid"})]
"""A UUID in its usual spelling, as ids are stored."""
NameString = TypeAliasType(
    "NameString", Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_without_nul)]
)
SearchString = TypeAliasType("SearchString", Annotated[str, Field(min_length=1, max_length=200)])
BaseUrl = Annotated[str, Field(max_length=2048)]
SecretText = Annotated[str, Field(min_length=1, max_length=8192)]
ConfigText = Annotated[str, Field(max_length=2048)]
T = TypeVar("T")


class PaginatedResponse(BaseModel, Generic[T]):
    """One slice of a list; `continuation_token` is the next slice's, or null."""

    items: list[T]
    has_more: bool
    continuation_token: int | None = None
    total: int | None = None


class PageQuery(BaseModel):
    """Which slice."""

    limit: Annotated[int, Field(gt=0, le=100)] = 10
    continuation_token: Annotated[int, Field(ge=0, le=2**53)] = 0


class ListIntegrationsQuery(BaseModel):
    """Which integrations, in which order."""

    enabled: bool | None = None
    protocol: str | None = None
    search: SearchString | None = None
    sort_by: str | None = None
    limit: Annotated[int, Field(gt=0, le=100)] = 10
    continuation_token: int = 0
    connector: str | None = Field(None, description="Trunkline's own: only integrations of this connector")


class CredentialsInput(BaseModel):
    """Ours: a connector's way in and what a person entered for it."""

    model_config = ConfigDict(extra="forbid")

    method: str | None = None
    values: Annotated[dict[str, SecretText], Field(max_length=20)] = {}
    configured: list[str] = Field([], description="Ignored: so that what was read can be written back")


class CredentialsShown(BaseModel):
    """Ours: which way in is set up, and which values are stored, for it and for webhooks; never a value."""

    method: str | None
    configured: list[str]


class CreateIntegrationRequest(BaseModel):
    """A new integration: with `endpoints` of its own, or from a `connector`."""

    name: Annotated[
        str,
        Field(
            min_length=2,
            max_length=128,
            description="Slug-like identifier, lowercase alphanumeric + hyphens/underscores.",
        ),
    ]
    display_name: NameString
    protocol: Literal["rest"] = "rest"
    base_url: BaseUrl = ""
    auth: AuthConfigWithSecrets | None = None
    endpoints: Annotated[list[EndpointConfig], Field(max_length=50)] = []
    enabled: bool = True
    connector: str | None = Field(None, max_length=64, description="Trunkline's own: id of a connector")
    config: Annotated[dict[str, ConfigText], Field(max_length=50)] = {}
    credentials: CredentialsInput | None = None


class UpdateIntegrationRequest(BaseModel):
    """A partial update: what is absent or null stays. `endpoints` replaces the list."""

    display_name: NameString | None = None
    protocol: Literal["rest"] | None = None
    base_url: BaseUrl | None = None
    auth: AuthConfigWithSecrets | None = None
    endpoints: Annotated[list[EndpointConfig], Field(max_length=50)] | None = None
    enabled: bool | None = None
    config: Annotated[dict[str, ConfigText | None], Field(max_length=50)] | None = None
    credentials: CredentialsInput | None = None


class IntegrationResponse(BaseModel):
    """An integration as it is shown; no secret, not even masked."""

    id: UUID = Field(description="Integration ID")
    workspace_id: UUID = Field(description="Workspace ID")
    name: str = Field(description="Slug-like identifier")
    display_name: str = Field(description="Human-readable name")
    protocol: Literal["rest", "desktop"] = Field(description="Communication protocol")
    base_url: str = Field("", description="Base URL for REST integrations")
    auth: AuthConfig | None = Field(None, description="Authentication configuration")
    endpoints: list[EndpointConfig] = Field(default_factory=list, description="Configured endpoints")
    enabled: bool = Field(description="Whether the integration is active")
    builtin: bool = Field(False, description="Whether this is a system-provided integration")
    created_at: datetime = Field(description="When the integration was created")
    updated_at: datetime = Field(description="When the integration was last updated")
    last_tested_at: datetime | None = None
    last_test_status: str | None = None
    connector: str | None = None
    config: dict[str, str] = {}
    credentials: CredentialsShown | None = None


class TestEndpointRequest(BaseModel):
    """What to call the endpoint with."""

    __test__ = False

    params: dict[str, Any] = {}


class TestEndpointResponse(BaseModel):
    """What each stage of the response pipeline made of the answer."""

    __test__ = False

    status_code: int | None = Field(None, description="HTTP status code from the endpoint")
    duration_ms: float = Field(0, description="Request duration in milliseconds")
    retries: int = Field(0, description="Number of retry attempts")
    raw_response: Any = Field(None, description="Raw response body from the endpoint")
    after_filter: Any = Field(None, description="Response after filter transformations")
    after_mapping: Any = Field(None, description="Response after field mapping")
    final_result: str | None = Field(None, description="Final processed result")
    error: str | None = Field(None, description="Error message if the request failed")


class CallQuery(BaseModel):
    """How much to tell of a call."""

    trace: bool = Field(False, description="Add the trace: exchanges, stages, timing; secrets redacted")


class CallResponse(BaseModel):
    """What an endpoint call came to."""

    status_code: int | None
    duration_ms: float
    retries: int
    final_result: str | None
    data: Any = Field(description="The value after response_filter, response_mapping and result_key")
    error: str | None
    trace: dict[str, Any] | None = None


class TestConnectionResponse(BaseModel):
    """The outcome of knocking at a service with the stored credentials."""

    __test__ = False

    status: Literal["healthy", "auth_failed", "unreachable", "timeout", "ssl_error", "misconfigured"]
    tested_at: datetime
    auth_resolved: bool = False
    duration_ms: float = 0
    http_status: int | None = None
    message: str = ""


class ApiKeyQuery(PageQuery):
    """Which keys."""

    limit: Annotated[int, Field(gt=0, le=20)] = 10
    mine_only: bool = False


class CreateApiKeyRequest(BaseModel):
    """A new key; `duration_days` null (ours) makes one without end."""

    duration_days: Annotated[int, Field(ge=1, le=90)] | None
    name: NameString | None = None
    permissions: Annotated[list[Annotated[str, Field(max_length=128)]], Field(max_length=128)] = []
    role: Annotated[str, Field(max_length=64)] = "member"
    person_id: Id | None = Field(None, description="Trunkline's own: whose key this is")


class RotateApiKeyRequest(BaseModel):
    """How long the new secret holds."""

    duration_days: Annotated[int, Field(ge=1, le=90)] | None


class CreateApiKeyResponse(BaseModel):
    """A key and, this once, its text."""

    api_key: str
    created_by_credential_id: UUID | None
    created_by_entity_id: UUID | None
    expires_at: datetime | None
    key_id: str
    name: str | None
    permissions: list[str]
    role: str


class ApiKeyResponse(BaseModel):
    """A key as it is listed."""

    id: UUID
    workspace_id: UUID
    key_id: str
    name: str | None
    role: str
    permissions: list[str]
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    created_by_credential_id: UUID | None
    created_by_entity_id: UUID | None
    person_id: UUID | None = None


class MeResponse(BaseModel):
    """Who the caller is, and what it may do."""

    workspace_id: UUID
    workspace_name: str
    credential_id: UUID
    key_id: str
    person_id: UUID | None
    name: str | None
    role: str
    permissions: list[str]
    expires_at: datetime | None


class WorkspaceResponse(BaseModel):
    """A workspace."""

    id: UUID
    name: str
    created_at: datetime


class WorkspaceRequest(BaseModel):
    """A workspace's name."""

    name: NameString


class NewWorkspaceResponse(WorkspaceResponse):
    """A new workspace and, this once, the text of its owner's key."""

    api_key: str


class PersonRequest(BaseModel):
    """Somebody to add."""

    email: Annotated[
        str,
        Field(max_length=320, pattern=r"^[^@\s]{1,64}@[^@\s]{1,255}$"),
        AfterValidator(_without_nul),
    ]
    name: NameString
    role: Annotated[str, Field(max_length=64)] = "member"


class RoleRequest(BaseModel):
    """Another role for somebody."""

    role: Annotated[str, Field(max_length=64)]


class PersonResponse(BaseModel):
    """A person and their role here."""

    id: UUID
    email: str
    name: str
    role: str
    created_at: datetime
