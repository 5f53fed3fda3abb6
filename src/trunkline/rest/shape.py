"""The response pipeline of one endpoint: filter, mapping, result key, result text (native contract 5.2).

A connector's file may map each record of a list instead of the answer (`record_mapping`).

It is compiled once from the endpoint and never raises on an answer. What the contract leaves open is chosen here:
an empty filter, mapping, key or template means none; a mapped source that leads nowhere is null; a `result_key`
that leads nowhere gives null, and as text `null`, or nothing at all where a template would have filled it in.
"""

from dataclasses import dataclass
from typing import Any

from trunkline.catalog.endpoint import EndpointConfig
from trunkline.catalog.manifest import Endpoint
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
    records: "RecordMapping | None"
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
            records=RecordMapping.of(endpoint) if isinstance(endpoint, Endpoint) else None,
            result_key=_path(endpoint.result_key, "result_key") if endpoint.result_key else None,
            template=_template(endpoint.result_template) if endpoint.result_template else None,
            max_length=endpoint.max_result_length,
        )

    def apply(self, raw: Any) -> Stages:
        """Take an answer through all stages; a template that fails is told in `error`, with no final result."""
        filtered = raw if self.selection is None else self.selection.of(raw)
        try:
            mapped = self._mapped(filtered)
        except TypeError as failure:
            return Stages(filtered, None, None, None, f"record_mapping: {failure}")
        value = mapped if self.result_key is None else self.result_key.get(mapped)
        if value is MISSING:
            return Stages(filtered, mapped, None, self._cut("" if self.template else "null"))
        try:
            return Stages(filtered, mapped, value, self._cut(self._text(value)))
        except TemplateError as failure:
            return Stages(filtered, mapped, value, None, f"result_template: {failure}")

    def _mapped(self, value: Any) -> Any:
        if self.records is not None:
            return self.records.apply(value)
        return value if self.mapping is None else _map(value, self.mapping)

    def _text(self, value: Any) -> str:
        if self.template is not None:
            return self.template.render(value, self.max_length)
        return clean_text(value) if isinstance(value, str) else compact_json(value)

    def _cut(self, text: str) -> str:
        return text[: self.max_length] if self.max_length else text


class RecordMapping:
    """What to make of each record of a list: an object of paths into the record, nested as it is written."""

    def __init__(self, records: Path | None, mapping: dict[str, Any]) -> None:
        self._records = records
        self._paths: dict[str, Path] = {}
        self._form = self._read(mapping, ())
        try:
            self._gathering = Gathering(self._paths)
        except ValueError as problem:
            raise Invalid.field(("record_mapping",), str(problem)) from None

    @classmethod
    def of(cls, endpoint: Endpoint) -> "RecordMapping | None":
        """Compile an endpoint's mapping; raise Invalid naming the word or the path at fault."""
        if endpoint.record_mapping is None:
            return None
        return cls(_path(endpoint.records, "records") if endpoint.records else None, endpoint.record_mapping)

    def apply(self, value: Any) -> list[Any]:
        """Map each record; none when null stands for the list. Raises TypeError when there is no list."""
        found = value if self._records is None else self._records.get(value)
        if found is None:
            return []
        if not isinstance(found, list):
            where = self._records.text if self._records else "its top"
            raise TypeError(f"the answer has no list at {where}")
        return [_filled(self._form, self._gathering.of(record)) for record in found]

    def _read(self, mapping: dict[str, Any], loc: tuple[str, ...]) -> dict[str, Any]:
        """Compile the paths, each under a name of its own, and return the object with these names in it."""
        form: dict[str, Any] = {}
        for key, item in mapping.items():
            at = (*loc, key)
            if isinstance(item, dict):
                form[key] = self._read(item, at)
                continue
            if len(self._paths) == MAX_PATHS:
                raise Invalid.field(("record_mapping",), f"at most {MAX_PATHS} paths", "too_long")
            form[key] = str(len(self._paths))
            self._paths[form[key]] = _path(item if isinstance(item, str) else "", "record_mapping", *at)
        return form


def _filled(form: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    filled: dict[str, Any] = {}
    for key, name in form.items():
        if isinstance(name, dict):
            filled[key] = _filled(name, found)
        else:
            filled[key] = None if found[name] is MISSING else found[name]
    return filled


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
