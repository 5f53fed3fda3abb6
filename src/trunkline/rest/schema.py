"""An endpoint's `input_schema`: compiled once without fetching anything, checked in bounded time.

A schema says how parameters must look; nothing is filled in or converted. Errors never hold a parameter's value.
"""

from dataclasses import dataclass
from itertools import islice
from typing import Any

import jsonschema_rs

from trunkline.errors import FieldError, Invalid
from trunkline.rest.json_text import json_size
from trunkline.rest.schema_limits import measure, pattern_options

MAX_ERRORS = 20
MAX_PARAMS_DEPTH = 200
_MAX_WORK = 40_000_000  # weight times bytes; about a second
_MAX_EXPLAINED = 80_000  # listing errors costs a hundred times as much as finding the first
_MAX_MESSAGE = 300
_DEFAULT_DRAFT = "json-schema.org/draft/2020-12/schema"
_DRAFTS: dict[str, type[jsonschema_rs.Validator]] = {
    "json-schema.org/draft-04/schema": jsonschema_rs.Draft4Validator,
    "json-schema.org/draft-06/schema": jsonschema_rs.Draft6Validator,
    "json-schema.org/draft-07/schema": jsonschema_rs.Draft7Validator,
    "json-schema.org/draft/2019-09/schema": jsonschema_rs.Draft201909Validator,
    _DEFAULT_DRAFT: jsonschema_rs.Draft202012Validator,
}
_Kind = jsonschema_rs.ValidationErrorKind


@dataclass(frozen=True, slots=True)
class InputSchema:
    """A compiled schema of call parameters. Make it with `InputSchema.compile`."""

    validator: jsonschema_rs.Validator | None
    weight: int = 0
    branching: bool = False

    @classmethod
    def compile(cls, schema: dict[str, Any]) -> "InputSchema":
        """Compile a JSON Schema (2020-12 unless `$schema` names another draft); `{}` checks nothing.

        Raises Invalid with a loc that begins with `input_schema` for a schema that is no schema, larger than
        64 KiB, refers outside itself, or could take unbounded time.
        """
        if not schema:
            return cls(None)
        if schema.get("type", "object") != "object":
            raise Invalid.field(
                ("input_schema", "type"), "parameters are an object: leave type out or say 'object'"
            )
        draft = _draft(schema)
        measured = measure(schema)
        try:
            validator = draft(schema, pattern_options=pattern_options(), mask="the value", offline=True)
        except ValueError as problem:
            raise _refused(problem) from None
        return cls(validator, measured.weight, measured.branching)

    def check(self, params: dict[str, Any]) -> list[FieldError]:
        """List what is wrong with parameters, at most 20 errors with a loc that begins with `params`."""
        if self.validator is None:
            return []
        size = json_size(params, MAX_PARAMS_DEPTH)
        if size is None:
            return [FieldError(("params",), f"nested deeper than {MAX_PARAMS_DEPTH} levels", "too_deep")]
        if size * self.weight > _MAX_WORK:
            return [FieldError(("params",), "too large to check against this input_schema", "too_long")]
        try:
            return [] if self.validator.is_valid(params) else self._explain(self.validator, params, size)
        except ValueError:
            return [FieldError(("params",), "holds text that is not valid Unicode", "value_error")]

    def _explain(
        self, validator: jsonschema_rs.Validator, params: dict[str, Any], size: int
    ) -> list[FieldError]:
        if size * self.weight <= _MAX_EXPLAINED:
            errors = (field for error in validator.iter_errors(params) for field in _fields(error, params))
            return list(islice(errors, MAX_ERRORS))
        if self.branching:
            return [FieldError(("params",), "does not match the input_schema; too large to say where")]
        try:
            validator.validate(params)
        except jsonschema_rs.ValidationError as error:
            return _fields(error, params)[:MAX_ERRORS]
        return []


def _draft(schema: dict[str, Any]) -> type[jsonschema_rs.Validator]:
    named = schema.get("$schema", f"https://{_DEFAULT_DRAFT}")
    draft = _DRAFTS.get(str(named).removeprefix("https://").removeprefix("http://").removesuffix("#"))
    if draft is None:
        raise Invalid.field(("input_schema", "$schema"), "is none of the drafts 4, 6, 7, 2019-09 and 2020-12")
    return draft


def _refused(problem: ValueError) -> Invalid:
    if isinstance(problem, jsonschema_rs.ValidationError):
        return Invalid.field(("input_schema", *problem.instance_path), _clip(problem.message))
    return Invalid.field(("input_schema",), "is no JSON that can be compiled")


def _fields(error: jsonschema_rs.ValidationError, params: Any) -> list[FieldError]:
    loc = ("params", *error.instance_path)
    kind = error.kind
    if isinstance(kind, _Kind.Required):
        return [FieldError((*loc, kind.property), "Field required", "missing")]
    extra = _extra(error, params)
    if extra:
        return [FieldError((*loc, name), "Extra field not permitted", "extra_forbidden") for name in extra]
    if isinstance(kind, _Kind.PropertyNames):
        return [FieldError(loc, "has a property name that is not allowed", "propertyNames")]
    return [FieldError(loc, _clip(error.message), kind.name)]


def _extra(error: jsonschema_rs.ValidationError, params: Any) -> list[str]:
    """Name the properties that should not be there."""
    kind = error.kind
    if isinstance(kind, _Kind.AdditionalProperties | _Kind.UnevaluatedProperties):
        return kind.unexpected[:MAX_ERRORS]
    if isinstance(kind, _Kind.FalseSchema) and error.schema_path[-1:] == ["additionalProperties"]:
        for step in error.instance_path:  # of no declared properties at all, the engine names none
            params = params[step]
        return list(islice(params, MAX_ERRORS))
    return []


def _clip(text: str) -> str:
    return text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]}…"
