"""The text an endpoint's answer becomes: `Incident {id} is {state}`, or a minijinja template where that is too little.

A text with `{{`, `{%` or `{#` is a minijinja template, any other one has `{path}` look-ups only.
"""

import re
from typing import Any, Protocol

from trunkline.rest.jinja_template import JinjaFailedError, JinjaTemplate
from trunkline.rest.json_text import clean_text, compact_json
from trunkline.rest.paths import MISSING, Gathering, Path

MAX_SOURCE = 16_384
MAX_OUTPUT = 1_048_576
_JINJA = re.compile(r"\{[{%#]")
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


class TemplateError(Exception):
    """The template could not be filled in; the text says why and holds no value."""


class ResultTemplate(Protocol):
    """A compiled result template."""

    def render(self, value: Any, limit: int = 0) -> str:
        """Fill the template in; at most `limit` characters are needed (0: all). Raises TemplateError."""
        ...


def compile_template(source: str) -> ResultTemplate:
    """Compile a template of at most 16,384 characters; raise ValueError saying what is wrong and where."""
    if len(source) > MAX_SOURCE:
        raise ValueError(f"a template has at most {MAX_SOURCE} characters")
    return _Jinja(source) if _JINJA.search(source) else PlaceholderTemplate(source)


class _Jinja:
    """A minijinja template; `limit` does not stop it early."""

    def __init__(self, source: str) -> None:
        self._template = JinjaTemplate(source)

    def render(self, value: Any, limit: int = 0) -> str:  # noqa: ARG002 - the shape of ResultTemplate
        try:
            return self._template.render(value)
        except JinjaFailedError as problem:
            raise TemplateError(str(problem)) from None


class PlaceholderTemplate:
    """A text with `{path}` look-ups.

    A look-up that leads nowhere is empty; what is no string is compact JSON. `{value}` is the whole value when that
    is not an object. A `{` that begins no look-up stands for itself.
    """

    def __init__(self, source: str) -> None:
        self._parts: list[tuple[str, str | None]] = []
        paths: dict[str, Path] = {}
        text, position = "", 0
        for match in _PLACEHOLDER.finditer(source):
            path = _path(match[1])
            text += source[position : match.start() if path else match.end()]
            position = match.end()
            if path is not None:
                paths[path.text] = path
                self._parts.append((text, path.text))
                text = ""
        self._parts.append((text + source[position:], None))
        self._paths = Gathering(paths)

    def render(self, value: Any, limit: int = 0) -> str:
        """Fill the look-ups in, and stop as soon as `limit` characters are there."""
        found = self._paths.of(value)
        if "value" in found and not isinstance(value, dict):
            found["value"] = value
        enough = limit or MAX_OUTPUT
        pieces: list[str] = []
        size = 0
        for text, name in self._parts:
            pieces.append(text)
            if name is not None:
                pieces.append(_text(found[name]))
                size += len(text) + len(pieces[-1])
                if size > enough:
                    break
        result = "".join(pieces)
        if not limit and len(result) > MAX_OUTPUT:
            raise TemplateError(f"the text is longer than {MAX_OUTPUT} characters")
        return result


def _path(text: str) -> Path | None:
    try:
        return Path.compile(text)
    except ValueError:
        return None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return clean_text(value)
    return "" if value is MISSING else compact_json(value)
