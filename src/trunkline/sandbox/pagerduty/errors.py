"""How the REST API says no: statuses, codes and texts of the real service."""

from starlette.responses import Response

from trunkline.sandbox.service import RefusedError, json_response

INVALID_INPUT = 2001
ARGUMENTS_CAUSED_ERROR = 2002
BAD_RANGE = 2004
AUTHENTICATION_FAILED = 2006
FROM_REQUIRED = 2016
REQUESTER_NOT_FOUND = 1008
ALREADY_RESOLVED = 1001
RATE_LIMITED = 2020
NOT_FOUND = 2100

_BY_STATUS = {
    401: ("Authentication failed", AUTHENTICATION_FAILED),
    404: ("Not Found", NOT_FOUND),
    429: ("Rate Limit Exceeded", RATE_LIMITED),
}


def invalid(*errors: str) -> RefusedError:
    """Input that is refused, each fault as one text."""
    return RefusedError(400, "Invalid Input Provided", code=INVALID_INPUT, detail=list(errors))


def clash(*errors: str) -> RefusedError:
    """Input that clashes with what is stored."""
    return RefusedError(400, "Arguments Caused Error", code=ARGUMENTS_CAUSED_ERROR, detail=list(errors))


def not_found() -> RefusedError:
    return RefusedError(404, "Not Found", code=NOT_FOUND)


def rest_refusal(refused: RefusedError) -> Response:
    """Render a refusal of the REST API."""
    message, code = _BY_STATUS.get(refused.status, (refused.message, refused.code))
    error: dict[str, object] = {"message": message}
    if code is not None:
        error["code"] = code
    if refused.detail:
        error["errors"] = refused.detail
    return json_response({"error": error}, refused.status, refused.headers)


def events_refusal(refused: RefusedError) -> Response:
    """Render a refusal of the Events API."""
    status = "throttle exceeded" if refused.status == 429 else "invalid event"
    message = "Event object is invalid" if refused.status == 400 else refused.message
    body = {"status": status, "message": message, "errors": refused.detail or [refused.message]}
    return json_response(body, refused.status, refused.headers)
