"""The native contract's endpoint and auth objects, word for word (contracts: Platform API, 3.1-3.4).

A connector file and a POSTed integration share these classes.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

HttpMethod = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
NativeAuthType = Literal[
    "api_key_header",
    "bearer_token",
    "oauth2_client_credentials",
    "json_token_exchange",
    "oauth2_jwt_bearer",
    "bearer_token_exchange",
]
HeaderName = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$")]


class RetryConfig(BaseModel):
    """Retry configuration for an endpoint."""

    max_retries: int = 2
    retry_on_status: list[int] = [429, 502, 503, 504]


class RequestTransform(BaseModel):
    """Transforms the outbound request body before sending; `inject` targets the outermost object."""

    inject: dict[str, str] = Field(default_factory=dict, max_length=20)
    wrap_params_key: Annotated[str, Field(max_length=128)] | None = None


class EndpointConfig(BaseModel):
    """Configuration for a single integration endpoint."""

    name: str
    description: str
    method: HttpMethod = "POST"
    path: str
    input_schema: dict[str, Any] = {}
    response_mapping: dict[str, str] | None = None
    response_filter: list[str] | None = None
    result_template: str | None = None
    result_key: str | None = None
    max_result_length: int = 0
    retry_config: RetryConfig = RetryConfig()
    result_delivery: Literal["interrupt", "queue"] = "interrupt"
    headers: dict[str, str] = {}
    body_format: Literal["json", "form"] = "json"
    request_transform: RequestTransform | None = None


class ExchangeHeaderMapping(BaseModel):
    """One header on a token-exchange request, sourced from a request param.

    The same param values form the per-call cache key, so distinct users get distinct cached tokens.
    """

    header_name: HeaderName
    param_name: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9_\-]+$")]
    consume: bool = True
    required: bool = True


class AuthFields(BaseModel):
    """What every auth type but its `type` may carry: never a secret."""

    header_name: str | None = None
    token_url: str | None = None
    client_id: str | None = None
    scopes: list[str] | None = None
    token_request_client_id_field: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    token_request_client_secret_field: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    token_response_path: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    assertion_issuer: str | None = None
    assertion_subject: str | None = None
    assertion_audience: str | None = None
    token_lifetime_seconds: int = 3600
    assertion_scopes_in_jwt: bool = False
    exchange_url: Annotated[str, Field(max_length=2048)] | None = None
    exchange_secret_header: HeaderName = "X-API-KEY"
    exchange_secret_format: Annotated[
        str, Field(min_length=8, max_length=128, pattern=r"^[^{}]*\{secret\}[^{}]*$")
    ] = "{secret}"
    exchange_param_headers: list[ExchangeHeaderMapping] = Field(default_factory=list, max_length=20)
    exchange_token_field: Annotated[str, Field(min_length=1, max_length=256)] = "token"
    exchange_expires_in_field: Annotated[str, Field(max_length=256)] | None = None
    exchange_default_ttl_seconds: Annotated[int, Field(ge=120)] = 3600


class AuthConfig(AuthFields):
    """Authentication as answers show it: no secret, no path to one."""

    type: NativeAuthType


class SecretInput(BaseModel):
    """An inline secret value, at most 8,192 characters."""

    value: Annotated[str, Field(min_length=1, max_length=8192)]


class AuthConfigWithSecrets(AuthConfig):
    """Authentication as requests send it; secrets are write-only, unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")

    api_key_value: SecretInput | None = None
    bearer_token_value: SecretInput | None = None
    client_secret_value: SecretInput | None = None
    private_key_value: SecretInput | None = None
    exchange_secret_value: SecretInput | None = None

    def secrets(self) -> dict[str, str]:
        """Return the secrets that were sent, by their stored name (`api_key`, `client_secret`, …)."""
        return {
            name.removesuffix("_value"): value.value
            for name, value in self
            if name.endswith("_value") and isinstance(value, SecretInput)
        }
