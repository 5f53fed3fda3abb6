"""YAML, read strictly, with the line of every value. Knows nothing of connectors.

Plain scalars mean what YAML 1.2 says and nothing older parsers made of them: no yes/no/on/off, dates, octal or
sexagesimal numbers; those are refused, with the way out. No anchors, aliases, merge keys, tags or second document.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_BYTES = 256 * 1024
MAX_DEPTH = 40
MAX_PROBLEMS = 100

Loc = tuple[str | int, ...]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})", re.ASCII)
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,17})?(?:[eE][-+]?[0-9]{1,3})?", re.ASCII)
_NUMBER_LIKE = re.compile(
    r"[-+]?(?:[0-9][0-9_,]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?|\.[0-9]+|0[oxb][0-9a-fA-F_]+|\.(?:inf|nan))"
    r"|[-+]?[0-9]+(?::[0-5]?[0-9])+(?:\.[0-9]*)?"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt\s].*)?",
    re.ASCII | re.IGNORECASE,
)
_BOOLEAN_LIKE = frozenset({"yes", "no", "on", "off", "true", "false", "null"})
_WORDS: Mapping[str, Any] = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(frozen=True, slots=True, order=True)
class Flaw:
    """One thing wrong: the line (from 1), and what."""

    line: int
    text: str


@dataclass(slots=True)
class Document:
    """The value of a file, the line of each part of it, and everything that is wrong with how it is written."""

    value: Any = None
    lines: dict[Loc, int] = field(default_factory=dict)
    flaws: list[Flaw] = field(default_factory=list)

    def line(self, loc: Loc) -> int:
        """Return the line of a part, or of the nearest thing around it."""
        for end in range(len(loc), -1, -1):
            if loc[:end] in self.lines:
                return self.lines[loc[:end]]
        return 1


def read(raw: bytes) -> Document:
    """Read one document of at most 256 KiB and 40 levels. Never raises for what the text says."""
    document = Document()
    if len(raw) > MAX_BYTES:
        document.flaws.append(Flaw(1, f"the file is larger than {MAX_BYTES // 1024} KiB"))
        return document
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        document.flaws.append(Flaw(line, "is not UTF-8"))
        return document
    _Reader(document, text).read()
    document.flaws = sorted(set(document.flaws))
    return document


class _StopReading(Exception):  # noqa: N818 - ends the reading, is no error
    """What follows cannot be read sensibly."""


class _Reader:
    def __init__(self, document: Document, text: str) -> None:
        self.document = document
        self.text = text

    def read(self) -> None:
        try:
            events = yaml.parse(self.text, Loader=_LOADER)
            self._document(events)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self._flaw(mark.line + 1 if mark else 1, _said(error))
        except yaml.YAMLError:
            self._flaw(self._control_line(), "holds a character that YAML does not allow")
        except _StopReading:
            pass

    def _document(self, events: Iterator[Any]) -> None:
        seen = False
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if seen:
                    self._stop(event, "a file holds one document; remove this '---'")
                if event.tags:
                    self._flaw_at(event, "tags are not used here")
                seen = True
                self.document.value = self._node(next(events), events, ())

    def _node(self, event: Any, events: Iterator[Any], loc: Loc) -> Any:
        if len(loc) > MAX_DEPTH:
            self._stop(event, f"is nested deeper than {MAX_DEPTH} levels")
        self.document.lines.setdefault(loc, event.start_mark.line + 1)
        if isinstance(event, yaml.AliasEvent):
            self._flaw_at(event, "aliases are not used here; write the value out")
            return None
        if event.anchor is not None:
            self._flaw_at(event, "anchors are not used here; write the value out")
        if event.tag is not None:
            self._flaw_at(event, "tags are not used here; write a plain value")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._list(events, loc)
        return self._object(event, events, loc)

    def _list(self, events: Iterator[Any], loc: Loc) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(self._node(event, events, (*loc, len(items))))
        return items

    def _object(self, start: Any, events: Iterator[Any], loc: Loc) -> dict[str, Any]:
        items: dict[str, Any] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self._key(event)
            if key in items:
                self._flaw_at(
                    event, f"'{key}' is here twice; line {self.document.line((*loc, key))} has it first"
                )
            self.document.lines[*loc, key] = event.start_mark.line + 1
            value = next(events)
            if start.flow_style and _is_empty(value):
                self._flaw_at(value, f"'{key}' has no value; a look-up must be quoted: \"{{{key}}}\"")
            items[key] = self._node(value, events, (*loc, key))
        return items

    def _key(self, event: Any) -> str:
        if isinstance(event, yaml.AliasEvent) or not isinstance(event, yaml.ScalarEvent):
            self._stop(event, "a key must be plain text")
        if event.anchor is not None or event.tag is not None:
            self._flaw_at(event, "anchors and tags are not used here")
        if event.value == "<<" and not event.style:
            self._flaw_at(event, "merge keys are not used here; write the values out")
        return str(event.value)

    def _scalar(self, event: Any) -> Any:
        text = str(event.value)
        if event.style:
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INTEGER.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
        if text.lower() in _BOOLEAN_LIKE:
            self._flaw_at(event, f"'{text}' is ambiguous; write true, false or null, or quote it: \"{text}\"")
        elif _NUMBER_LIKE.fullmatch(text):
            self._flaw_at(event, f"'{text[:40]}' is read as different values by different parsers; quote it")
        return text

    def _control_line(self) -> int:
        for number, line in enumerate(self.text.split("\n"), start=1):
            if not line.replace("\t", "").replace("\r", "").isprintable():
                return number
        return 1

    def _flaw_at(self, event: Any, text: str) -> None:
        self._flaw(event.start_mark.line + 1, text)

    def _flaw(self, line: int, text: str) -> None:
        self.document.flaws.append(Flaw(line, text))
        if len(self.document.flaws) >= MAX_PROBLEMS:
            raise _StopReading

    def _stop(self, event: Any, text: str) -> None:
        self._flaw_at(event, text)
        raise _StopReading


def _is_empty(event: Any) -> bool:
    return isinstance(event, yaml.ScalarEvent) and event.value == "" and not event.style


def _said(error: yaml.MarkedYAMLError) -> str:
    parts = [part for part in (error.context, error.problem) if part]
    text = ": ".join(parts) or "cannot be read as YAML"
    if "\t" in text or "cannot start any token" in text:
        text += "; quote the value, or indent with spaces"
    return text
