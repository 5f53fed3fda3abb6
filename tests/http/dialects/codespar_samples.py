"""What codespar's clients configure, and the one shape of its errors."""

from http_asgi import Reply

CONFIGS: dict[str, dict[str, str]] = {
    "pagerduty": {"apiKey": "u+key", "fromEmail": "bot@example.com", "serviceId": "PSVC"},
    "sentry": {"authToken": "sntrys_1", "org": "example", "webhookSecret": "hush"},
    "linear": {"apiKey": "lin_api_1", "teamId": "team-core"},
    "slack": {"botToken": "xoxb-1"},
}


def check_error(reply: Reply, status: int, code: str) -> str:
    """Check the shape that every error has, and return its text."""
    assert (reply.status, reply.json["status"], reply.json["code"]) == (status, status, code), reply.text
    assert reply.headers["x-api-version"] == "v1"
    assert set(reply.json) <= {"error", "code", "status", "details"}
    return str(reply.json["error"])
