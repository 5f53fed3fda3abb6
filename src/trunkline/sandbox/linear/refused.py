"""How the API says no inside GraphQL: the codes and texts of the real service."""

from typing import Any

from graphql import GraphQLError


def error_of(message: str, code: str, status: int, kind: str, shown: str | None = None) -> dict[str, Any]:
    """Return an error as the service writes one."""
    extensions = {"type": kind, "code": code, "statusCode": status, "userError": status < 500}
    if shown is not None:
        extensions["userPresentableMessage"] = shown
    return {"message": message, "extensions": extensions}


def _raised(message: str, code: str, shown: str) -> GraphQLError:
    return GraphQLError(
        message, extensions=error_of(message, code, 400, "invalid input", shown)["extensions"]
    )


def bad_input(shown: str, message: str = "Argument Validation Error") -> GraphQLError:
    """Input that the schema allows and the service does not."""
    return _raised(message, "INVALID_INPUT", shown)


def not_found(kind: str) -> GraphQLError:
    return _raised(f"Entity not found: {kind}", "INPUT_ERROR", f"Could not find referenced {kind}.")
