"""Regular expressions of connector files: linear time only, by the validator's own engine (no look-around)."""

from functools import lru_cache
from typing import Annotated

from pydantic import StringConstraints, TypeAdapter, ValidationError
from pydantic_core import SchemaError

MAX_PATTERN = 256


@lru_cache(maxsize=512)
def _adapter(pattern: str) -> TypeAdapter[str]:
    return TypeAdapter(Annotated[str, StringConstraints(pattern=pattern)])


def pattern_problem(pattern: str) -> str | None:
    """Say what is wrong with a pattern, or None."""
    if len(pattern) > MAX_PATTERN:
        return f"a pattern has at most {MAX_PATTERN} characters"
    try:
        _adapter(pattern)
    except SchemaError as error:
        said = str(error).strip().splitlines()[-1].removeprefix("error: ")
        return f"is no usable pattern: {said}"
    return None


def matches(pattern: str, text: str) -> bool:
    """Tell whether the text holds the pattern; linear in the text."""
    try:
        _adapter(pattern).validate_python(text)
    except ValidationError:
        return False
    return True
