"""Who calls: Basic credentials and OAuth tokens (RFC 6749 grants password, client_credentials, refresh_token)."""

import base64
import binascii
import hmac
import secrets
from dataclasses import dataclass
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response

from trunkline.clock import Clock
from trunkline.sandbox.options import SandboxOptions
from trunkline.sandbox.service import RefusedError, json_response, media_type, read_body

ACCESS_SECONDS = 1_799
REFRESH_SECONDS = 8_640_000
MAX_FORM = 64 * 1024
MAX_TOKENS = 10_000


@dataclass(frozen=True)
class User:
    """A user of the instance."""

    name: str
    may_write: bool = True


@dataclass(frozen=True)
class _Grant:
    user: User
    ends_at: float


class GrantError(Exception):
    """A token request that is refused, with its RFC 6749 code."""

    def __init__(self, status: int, code: str, description: str) -> None:
        self.status = status
        self.code = code
        self.description = description
        super().__init__(description)


class Accounts:
    """The users, the one registered OAuth client, and the tokens given out."""

    def __init__(self, options: SandboxOptions) -> None:
        self.clock: Clock = options.clock
        self.username = options.credential("servicenow", "username", lambda: "trunkline.integration")
        self.password = options.credential("servicenow", "password")
        self.readonly_username = options.credential(
            "servicenow", "readonly_username", lambda: "trunkline.reader"
        )
        self.readonly_password = options.credential("servicenow", "readonly_password")
        self.client_id = options.credential("servicenow", "client_id", lambda: secrets.token_hex(16))
        self.client_secret = options.credential("servicenow", "client_secret")
        self._users = {
            self.username: (self.password, User(self.username)),
            self.readonly_username: (self.readonly_password, User(self.readonly_username, may_write=False)),
        }
        self._basic: dict[str, User] = {}
        self._access: dict[str, _Grant] = {}
        self._refresh: dict[str, _Grant] = {}

    def forget_tokens(self) -> None:
        self._access.clear()
        self._refresh.clear()

    def revoke_access(self) -> int:
        """End every access token now, as an administrator could; refresh tokens stay."""
        count = len(self._access)
        self._access.clear()
        return count

    def caller(self, request: Request) -> User:
        """Return who is calling (raises RefusedError 401)."""
        header = request.headers.get("authorization", "")
        known = self._basic.get(header)
        if known is not None:
            return known
        scheme, _, rest = header.partition(" ")
        user = None
        if scheme.lower() == "basic":
            user = self._from_basic(rest)
            if user is not None:
                self._basic[header] = user
        elif scheme.lower() == "bearer":
            grant = self._access.get(rest.strip())
            user = grant.user if grant and grant.ends_at > self.clock.monotonic() else None
        if user is None:
            raise RefusedError(
                401,
                "User Not Authenticated",
                detail="Required to provide Auth information",
                headers={"WWW-Authenticate": 'BASIC realm="Service-now"'},
            )
        return user

    def _from_basic(self, encoded: str) -> User | None:
        try:
            name, _, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return self._sign_in(name, password)

    def _sign_in(self, name: str, password: str) -> User | None:
        expected, user = self._users.get(name, (None, None))
        if expected is None or not hmac.compare_digest(expected.encode(), password.encode()):
            return None
        return user

    async def token(self, request: Request) -> Response:
        """Answer POST /oauth_token.do."""
        try:
            return json_response(
                self._grant(await self._form(request), request), headers={"Cache-Control": "no-store"}
            )
        except GrantError as error:
            body = {"error": error.code, "error_description": error.description}
            return json_response(body, error.status, {"Cache-Control": "no-store"})

    @staticmethod
    async def _form(request: Request) -> dict[str, str]:
        raw = await read_body(request, MAX_FORM)
        if media_type(request) != "application/x-www-form-urlencoded":
            raise GrantError(400, "invalid_request", "send application/x-www-form-urlencoded")
        try:
            fields = parse_qs(raw.decode(), keep_blank_values=True, max_num_fields=50)
        except ValueError as error:
            raise GrantError(400, "invalid_request", "the form cannot be read") from error
        repeated = [name for name, values in fields.items() if len(values) > 1]
        if repeated:
            raise GrantError(400, "invalid_request", f"{repeated[0]} is repeated")
        return {name: values[0] for name, values in fields.items()}

    def _grant(self, form: dict[str, str], request: Request) -> dict[str, str | int]:
        self._check_client(form, request)
        kind = form.get("grant_type")
        if kind == "password":
            user = self._sign_in(form.get("username", ""), form.get("password", ""))
            if user is None:
                raise GrantError(400, "invalid_grant", "access_denied")
            return self._issue(user, secrets.token_urlsafe(48))
        if kind == "refresh_token":
            token = form.get("refresh_token", "")
            grant = self._refresh.get(token)
            if grant is None or grant.ends_at <= self.clock.monotonic():
                raise GrantError(400, "invalid_grant", "the refresh token is not known or has ended")
            return self._issue(grant.user, token)
        if kind == "client_credentials":
            return self._issue(User(self.username), None)
        code = "unsupported_grant_type" if kind else "invalid_request"
        raise GrantError(400, code, "grant_type must be password, refresh_token or client_credentials")

    def _check_client(self, form: dict[str, str], request: Request) -> None:
        """Check the client, from the form or from a Basic header (RFC 6749 section 2.3.1)."""
        client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
        scheme, _, rest = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic" and not client_id:
            try:
                client_id, _, secret = base64.b64decode(rest.strip(), validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                client_id = ""
        right = hmac.compare_digest(client_id.encode(), self.client_id.encode())
        if not hmac.compare_digest(secret.encode(), self.client_secret.encode()) or not right:
            raise GrantError(401, "invalid_client", "the client is not known or its secret is wrong")

    def _issue(self, user: User, refresh: str | None) -> dict[str, str | int]:
        now = self.clock.monotonic()
        access = secrets.token_urlsafe(48)
        _bound(self._access)[access] = _Grant(user, now + ACCESS_SECONDS)
        answer: dict[str, str | int] = {
            "access_token": access,
            "scope": "useraccount",
            "token_type": "Bearer",
            "expires_in": ACCESS_SECONDS,
        }
        if refresh is not None:
            _bound(self._refresh).setdefault(refresh, _Grant(user, now + REFRESH_SECONDS))
            answer["refresh_token"] = refresh
        return answer


def _bound(grants: dict[str, _Grant]) -> dict[str, _Grant]:
    """Drop the oldest tokens of a table that is full."""
    while len(grants) >= MAX_TOKENS:
        del grants[next(iter(grants))]
    return grants
