"""What is searched of a record: its texts, folded to words, the same on both databases.

Whoever changes what comes out of `fold` or `indexed` lets every index be built anew (docs/search.md): a document can
only be taken out of SQLite's index by the very text it went in with.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

MOST_TEXT = 32 * 1024
"""Characters of a record that are searched; what comes after them is not."""
MOST_WORD = 255
Steps = tuple[str | int, ...]
# Scripts that write no spaces: each sign is a word, and what stands together is searched as a phrase.
SIGNS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
WORD = re.compile(rf"[{SIGNS}]|[^\W_{SIGNS}]+")


def fold(text: str) -> str:
    """Return text without the differences that a search should not see: case, diacritics, forms of one letter."""
    if text.isascii():
        return text.lower()
    parts = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(each for each in parts if not unicodedata.combining(each))
    return unicodedata.normalize("NFC", plain.casefold())


def words(text: str) -> list[str]:
    """Return the words of a text, folded."""
    return WORD.findall(fold(text))


def texts(record: Any, most: int = MOST_TEXT) -> Iterator[tuple[Steps, str]]:
    """Yield every text and number of a record in its order, each with the way to it, until there is enough."""
    waiting: list[tuple[Steps, Any]] = [((), record)]
    while waiting and most > 0:
        steps, value = waiting.pop()
        if isinstance(value, str):
            text = value[:most]
        elif isinstance(value, dict):
            waiting += [((*steps, key), each) for key, each in reversed(value.items())]
            continue
        elif isinstance(value, list):
            waiting += [((*steps, index), value[index]) for index in range(len(value) - 1, -1, -1)]
            continue
        elif value is None or isinstance(value, bool):
            continue
        else:
            text = str(value)
        most -= len(text) + 1
        yield steps, text


def indexed(data: str) -> str:
    """Return what of a stored record goes into the index: words with something between them."""
    found: list[str] = []
    _gather((orjson.loads(data),), found)
    text = " ".join(found)
    if len(text) >= MOST_TEXT:
        text = " ".join([text for _, text in texts(orjson.loads(data))])
    return text if text.isascii() else " ".join(words(text))


def _gather(values: Iterable[Any], found: list[str]) -> None:
    """Add what `texts` yields while there is room for all of it, without the ways to it: several times as fast."""
    for value in values:
        if value.__class__ is str:
            found.append(value)
        elif isinstance(value, dict):
            _gather(value.values(), found)
        elif isinstance(value, list):
            _gather(value, found)
        elif value is not None and not isinstance(value, bool):
            found.append(str(value))
