"""Every error Trunkline raises on purpose. A docstring is the default message; a `code` is stable.

TrunklineError
├─ Invalid          bad input, with the fields at fault
├─ Unauthenticated  no key, or one that does not hold
├─ Forbidden        a key without the permission
├─ NotFound         absent, or another workspace's
├─ Conflict         clashes with what is stored
├─ Gone             was here, is not any more
├─ TooMany          slow down
├─ RemoteFailed     the service on the other side failed
├─ Unavailable      Trunkline cannot serve this now
└─ Broken           a fault of ours; its text is never shown

Foreign exceptions become these only in `egress.py` and `db.py`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar


class TrunklineError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        super().__init__(self.message)


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field at fault: where (`loc`, as FastAPI writes it), what (`msg`), and a stable `type`."""

    loc: tuple[str | int, ...]
    msg: str
    type: str = "value_error"
    input: Any = None
    ctx: dict[str, Any] | None = None

    def __str__(self) -> str:
        return f"{'.'.join(str(part) for part in self.loc)}: {self.msg}"


class Invalid(TrunklineError):
    """The request is not valid."""

    code = "invalid"

    def __init__(self, message: str | None = None, fields: list[FieldError] | None = None) -> None:
        self.fields = fields or []
        super().__init__(message or "; ".join(str(field) for field in self.fields) or None)

    @classmethod
    def field(cls, loc: tuple[str | int, ...], msg: str, type: str = "value_error") -> "Invalid":
        """Blame one field."""
        return cls(fields=[FieldError(loc, msg, type)])


class Unauthenticated(TrunklineError):
    """Missing or invalid API key."""

    code = "unauthenticated"


class Forbidden(TrunklineError):
    """Insufficient permissions."""

    code = "forbidden"


class NotFound(TrunklineError):
    """Not found."""

    code = "not_found"


class Conflict(TrunklineError):
    """Conflicts with what is stored."""

    code = "conflict"


class Gone(TrunklineError):
    """No longer here."""

    code = "gone"


class TooMany(TrunklineError):
    """Too many requests."""

    code = "too_many_requests"

    def __init__(self, message: str | None = None, retry_after: float = 1.0) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class RemoteFailed(TrunklineError):
    """The remote service failed."""

    code = "remote_failed"

    def __init__(
        self,
        message: str | None = None,
        *,
        kind: str = "failed",
        service: str | None = None,
        status: int | None = None,
        retryable: bool = False,
        retries: int = 0,
        trace: dict[str, Any] | None = None,
    ) -> None:
        self.kind = kind
        self.service = service
        self.status = status
        self.retryable = retryable
        self.retries = retries
        self.trace = trace
        super().__init__(message)


class Unavailable(TrunklineError):
    """Not available right now."""

    code = "unavailable"


class Broken(TrunklineError):
    """Internal error."""

    code = "internal_error"
