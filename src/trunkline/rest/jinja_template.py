"""Result templates in minijinja, bounded: fuel for instructions, a meter for time and text, a guarded language.

The engine is given no loader, no object but JSON values, and only the functions and filters named here. Which
language is let through is `template_syntax`'s matter.
"""

from contextvars import ContextVar
from types import TracebackType
from typing import Any

import minijinja

from trunkline.rest.json_text import json_size
from trunkline.rest.template_filters import NATIVE, Meter, StoppedError, metered, text_of
from trunkline.rest.template_syntax import METER, guard

MAX_VALUE = 262_144
MAX_DEPTH = 200
_FUEL = 200_000
_MAX_RAW = 33_554_432
_MAX_MESSAGE = 200
_NAME = "result"
_METER: ContextVar[Meter] = ContextVar("meter")
_FILTERS = metered(_METER.get)


class JinjaFailedError(Exception):
    """The template stopped; the text says why and holds no value."""


class JinjaTemplate:
    """A compiled minijinja template. Raises ValueError, with the line, for what is wrong in the source."""

    def __init__(self, source: str) -> None:
        guarded = guard(source, NATIVE | _FILTERS.keys())
        self._environment = _environment(min(_FUEL, _MAX_RAW // max(1, len(source))))
        try:
            with _NoPanic():
                self._environment.add_template(_NAME, guarded)
        except (minijinja.TemplateError, JinjaFailedError) as problem:
            raise ValueError(_told(problem)) from None

    def render(self, value: Any) -> str:
        """Render over a JSON value: an object's keys are names, anything else is `value`."""
        context = value if isinstance(value, dict) else {"value": value}
        size = json_size(context, MAX_DEPTH)
        if size is None:
            raise JinjaFailedError(f"the value nests deeper than {MAX_DEPTH} levels")
        if size > MAX_VALUE:
            raise JinjaFailedError(
                f"the value is larger than {MAX_VALUE} bytes: narrow it with response_filter or response_mapping"
            )
        meter = Meter()
        token = _METER.set(meter)
        try:
            with _NoPanic():
                return self._environment.render_template(_NAME, **{**context, METER: meter.tick})
        except (StoppedError, minijinja.TemplateError, TypeError, ValueError, ArithmeticError) as problem:
            raise JinjaFailedError(_told(problem)) from None
        finally:
            _METER.reset(token)


def _environment(fuel: int) -> minijinja.Environment:
    environment = minijinja.Environment(
        filters=_FILTERS,
        debug=False,
        fuel=fuel,
        undefined_behavior="chainable",
        auto_escape_callback=_no_escape,
        finalizer=_emit,
        keep_trailing_newline=True,
        pycompat=False,
    )
    for name in _UNUSED_FILTERS:
        environment.remove_filter(name)
    for name in ("cycler", "debug", "dict", "joiner", "namespace"):
        environment.remove_global(name)
    return environment


_UNUSED_FILTERS = (
    *(
        "attr",
        "batch",
        "chain",
        "e",
        "escape",
        "filesizeformat",
        "format",
        "groupby",
        "indent",
        "lines",
        "list",
    ),
    *("pluralize", "pprint", "reject", "safe", "select", "slice", "striptags", "wordwrap", "zip"),
)


def _no_escape(_name: str) -> bool:
    return False


def _emit(value: Any) -> str:
    text = text_of(value)
    _METER.get().emit(len(text))
    return text


def _told(problem: Exception) -> str:
    if isinstance(problem, minijinja.TemplateError):
        text = "it takes too many steps" if problem.kind == "OutOfFuel" else problem.detail or problem.kind
        return f"line {problem.line}: {text}"[:_MAX_MESSAGE]
    if isinstance(problem, StoppedError | JinjaFailedError):
        return str(problem)
    return f"a filter does not take these values ({type(problem).__name__})"


class _NoPanic:
    """Turn a panic of the engine, which is no Exception, into a JinjaFailedError."""

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and kind.__name__ == "PanicException":
            raise JinjaFailedError("the template engine gave up") from None
