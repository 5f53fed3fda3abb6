"""What somebody searches for, read from what they typed, and as either database wants to be asked.

Nothing typed can be wrong but too much of it: what is no word, phrase or prefix only separates.
"""

import re
from dataclasses import dataclass

from trunkline.errors import Invalid
from trunkline.services.words import MOST_WORD, SIGNS, words

MOST_CHARACTERS = 1_000
MOST_TERMS = 32
MOST_PREFIXES = 2
_SHORTEST_PREFIX = 2
_PART = re.compile(r'"([^"]*)"?|([^\s"]+)')
_SIGN = re.compile(f"[{SIGNS}]")
_PLACE = ("query", "q")


@dataclass(frozen=True, slots=True)
class Term:
    """A word, several that must follow each other, or with `is_prefix` such that begin like the last of them."""

    words: tuple[str, ...]
    is_prefix: bool = False

    def to_fts5(self) -> str:
        """Write it for SQLite. Words hold letters and digits only, so quotes are all the care it takes."""
        return f'"{" ".join(self.words)}"' + (" *" if self.is_prefix else "")

    def to_tsquery(self, then: str = " <-> ") -> str:
        """Write it for PostgreSQL; with " & ", its words may stand anywhere."""
        quoted = [f"'{word}'" for word in self.words]
        if self.is_prefix:
            quoted[-1] += ":*"
        return f"({then.join(quoted)})"


def parse(text: str) -> list[Term]:
    """Return what is searched for: words, "phrases", and beginnings* of words.

    Raises:
        Invalid: there is no word in it, or too much.
    """
    if len(text) > MOST_CHARACTERS:
        raise _wrong(f"has more than {MOST_CHARACTERS:,} characters")
    terms: dict[Term, None] = {}
    for part in _PART.finditer(text):
        found = tuple(words(part[0]))
        if found:
            terms[Term(found, _is_prefix(part[0], found[-1]))] = None
    if not terms:
        raise _wrong("has no word to search for")
    if len(terms) > MOST_TERMS:
        raise _wrong(f"has more than {MOST_TERMS} words and phrases")
    if sum(term.is_prefix for term in terms) > MOST_PREFIXES:
        raise _wrong(f"has more than {MOST_PREFIXES} beginnings with *")
    return list(terms)


def loose(text: str) -> list[Term]:
    """Return the words of a text that is searched by its meaning, only so that they can be marked.

    Raises:
        Invalid: there is no word in it, or too much.
    """
    if len(text) > MOST_CHARACTERS:
        raise _wrong(f"has more than {MOST_CHARACTERS:,} characters")
    found = dict.fromkeys(words(text))
    if not found:
        raise _wrong("has no word to search for")
    return [Term((word,)) for word in found]


def _is_prefix(text: str, last: str) -> bool:
    if len(last) > MOST_WORD:
        raise _wrong(f"has a word of more than {MOST_WORD} characters")
    if not text.endswith("*") or _SIGN.match(last):
        return False
    if len(last) < _SHORTEST_PREFIX:
        raise _wrong(f"has a * after fewer than {_SHORTEST_PREFIX} characters")
    return True


def _wrong(what: str) -> Invalid:
    return Invalid.field(_PLACE, what)
