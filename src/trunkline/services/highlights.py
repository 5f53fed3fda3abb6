"""Where in a record the words stand that were searched for: short pieces, marked, safe to be put into a page."""

import re
from collections import defaultdict
from collections.abc import Sequence
from html import escape
from typing import Any

from trunkline.services.search_query import Term
from trunkline.services.words import WORD, Steps, fold, texts

MOST_FIELDS = 3
LENGTH = 160
"""Characters of a piece, before what HTML needs and the marks."""
_BEFORE = 40
_SLOW_TEXT = 4_000  # of a text whose letters must be compared one by one, no more is looked at
_PLAIN_KEY = re.compile(r"[^\s.\[\]{}\"\x00-\x1f\x7f]+")


class Highlighter:
    """Finds the terms of one search in any number of records."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self._beginnings = tuple(term.words[0] for term in terms if term.is_prefix and len(term.words) == 1)
        self._by_first: defaultdict[str, list[Term]] = defaultdict(list)
        for term in terms:
            self._by_first[term.words[0]].append(term)

    def of(self, record: Any) -> list[dict[str, str]]:
        """Return the first fields with something found, each with a piece of its text."""
        found = []
        for steps, text in texts(record):
            spans = self._spans(text)
            if spans:
                found.append({"field": _path(steps), "text": _piece(text, spans)})
                if len(found) == MOST_FIELDS:
                    break
        return found

    def _spans(self, text: str) -> list[tuple[int, int]]:
        folded = fold(text)
        if not any(first in folded for first in self._by_first):
            return []
        if len(folded) == len(text):
            return self._find(folded)
        # Letter by letter: folding made some of them longer, or left them out.
        parts = [fold(letter) for letter in text[:_SLOW_TEXT]]
        origin = [index for index, part in enumerate(parts) for _ in part]
        return [(origin[first], origin[end - 1] + 1) for first, end in self._find("".join(parts))]

    def _find(self, folded: str) -> list[tuple[int, int]]:
        words = [(match[0], match.start(), match.end()) for match in WORD.finditer(folded)]
        spans = []
        for place, (word, first, end) in enumerate(words):
            if self._beginnings and word.startswith(self._beginnings):
                spans.append((first, end))
            for term in self._by_first.get(word, ()):
                last = place + len(term.words) - 1
                if last == place or (
                    last < len(words) and _follow(term, [each[0] for each in words[place : last + 1]])
                ):
                    spans.append((first, words[last][2]))
                    break
        return spans


def _follow(term: Term, words: Sequence[str]) -> bool:
    *before, last = zip(words, term.words, strict=True)
    is_last = last[0].startswith(last[1]) if term.is_prefix else last[0] == last[1]
    return is_last and all(word == wanted for word, wanted in before)


def _piece(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """Cut a text around the first span, at white space where there is some near, and mark what was found."""
    start = max(0, min(spans[0][0] - _BEFORE, len(text) - LENGTH))
    if start:
        start += max(0, text[start : spans[0][0]].find(" ") + 1)
    end = min(len(text), start + LENGTH)
    if end < len(text):
        end = (
            max(text.rfind(" ", start + LENGTH - _BEFORE, end), min(spans[0][1], end))
            if " " in text[start:end]
            else end
        )
    parts = ["…" if start else ""]
    place = start
    for first, last in spans:
        if first >= end:
            break
        if first >= place:
            parts += [escape(text[place:first]), "<mark>", escape(text[first : min(last, end)]), "</mark>"]
            place = min(last, end)
    return "".join([*parts, escape(text[place:end]), "…" if end < len(text) else ""])


def _path(steps: Steps) -> str:
    """Write the way to a value as filters and templates write it."""
    path = ""
    for step in steps:
        if isinstance(step, int):
            path += f"[{step}]"
        elif _PLAIN_KEY.fullmatch(step):
            path += f".{step}" if path else step
        else:
            path += f'["{step}"]'
    return path
