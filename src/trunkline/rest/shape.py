"""The response pipeline of one endpoint: filter, mapping, result key, result text (native contract 5.2).

It is compiled once from the endpoint and never raises on an answer. What the contract leaves open is chosen here:
an empty filter, mapping, key or template means none; a mapped source that leads nowhere is null; a `result_key`
that leads nowhere gives null, and as text `null`, or nothing at all where a template would have filled it in.
"""

from dataclasses import dataclass
from typing import Any

from trunkline.catalog.endpoint import EndpointConfig
from trunkline.errors import Invalid
from trunkline.rest.json_text import clean_text, compact_json
from trunkline.rest.paths import MISSING, Gathering, Path, Selection
from trunkline.rest.result_template import ResultTemplate, TemplateError, compile_template

MAX_PATHS = 1_000


@dataclass(slots=True)
class Stages:
    """What an answer became at each stage; `error` says why the last one failed."""

    after_filter: Any
    after_mapping: Any
    value: Any
    final_result: str | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """The compiled response pipeline of one endpoint."""

    selection: Selection | None
    mapping: Gathering | None
    result_key: Path | None
    template: ResultTemplate | None
    max_length: int

    @classmethod
    def compile(cls, endpoint: EndpointConfig) -> "Shape":
        """Compile the response side of an endpoint; raise Invalid naming the field at fault."""
        if endpoint.max_result_length < 0:
            raise Invalid.field(("max_result_length",), "must not be negative", "greater_than_equal")
        return cls(
            selection=_selection(endpoint.response_filter or []),
            mapping=_mapping(endpoint.response_mapping or {}),
            result_key=_path(endpoint.result_key, "result_key") if endpoint.result_key else None,
            template=_template(endpoint.result_template) if endpoint.result_template else None,
            max_length=endpoint.max_result_length,
        )

    def apply(self, raw: Any) -> Stages:
        """Take an answer through all stages; a template that fails is told in `error`, with no final result."""
        filtered = raw if self.selection is None else self.selection.of(raw)
        mapped = filtered if self.mapping is None else _map(filtered, self.mapping)
        value = mapped if self.result_key is None else self.result_key.get(mapped)
        if value is MISSING:
            return Stages(filtered, mapped, None, self._cut("" if self.template else "null"))
        try:
            return Stages(filtered, mapped, value, self._cut(self._text(value)))
        except TemplateError as failure:
            return Stages(filtered, mapped, value, None, f"result_template: {failure}")

    def _text(self, value: Any) -> str:
        if self.template is not None:
            return self.template.render(value, self.max_length)
        return clean_text(value) if isinstance(value, str) else compact_json(value)

    def _cut(self, text: str) -> str:
        return text[: self.max_length] if self.max_length else text


def _map(value: Any, mapping: Gathering) -> dict[str, Any]:
    return {name: None if item is MISSING else item for name, item in mapping.of(value).items()}


def _selection(texts: list[str]) -> Selection | None:
    if len(texts) > MAX_PATHS:
        raise Invalid.field(("response_filter",), f"at most {MAX_PATHS} paths", "too_long")
    paths = [_path(text, "response_filter", number) for number, text in enumerate(texts)]
    try:
        return Selection(paths) if paths else None
    except ValueError as problem:
        raise Invalid.field(("response_filter",), str(problem)) from None


def _mapping(texts: dict[str, str]) -> Gathering | None:
    if len(texts) > MAX_PATHS:
        raise Invalid.field(("response_mapping",), f"at most {MAX_PATHS} keys", "too_long")
    paths = {name: _path(text, "response_mapping", name) for name, text in texts.items()}
    try:
        return Gathering(paths) if paths else None
    except ValueError as problem:
        raise Invalid.field(("response_mapping",), str(problem)) from None


def _path(text: str, *loc: str | int) -> Path:
    try:
        return Path.compile(text)
    except ValueError as problem:
        raise Invalid.field(loc, str(problem)) from None


def _template(source: str) -> ResultTemplate:
    try:
        return compile_template(source)
    except ValueError as problem:
        raise Invalid.field(("result_template",), str(problem)) from None
