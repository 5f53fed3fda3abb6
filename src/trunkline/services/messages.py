"""An event as a message that people read: its text, escaped for the service it goes to, cut to what that takes. Pure."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from trunkline.catalog.manifest import Notify
from trunkline.services.events import Event

_MORE = "…"
# Written as %XX these mean something else in an address; every other sign means the same.
_MEANINGFUL = frozenset("%&=#?/:;+@,!$'()")
_SCHEME_LENGTH = len("https://")
_ADDRESS = re.compile(r"https?://[^\s\x00-\x20\x7f]{1,2000}", re.IGNORECASE)

NONCE_LENGTH = 25
"""What services take that know a repeat by a short text: 100 random bits of the delivery's id."""


def scope(event: Event, delivery_id: str, notify: Notify | None = None) -> dict[str, Any]:
    """Return what `{event.x}` looks up; what the event does not have is absent.

    With `notify`, `text` and `title` are escaped and `text` is cut; without, they are as they are.
    """
    escape = notify.escape if notify else {}
    values = {
        "text": text(event, escape, notify.max_length if notify else None),
        "title": _escaped(headline(event), escape),
        "type": event.type,
        "severity": event.severity,
        "project": event.project,
        "subject": event.subject,
        "url": event.url,
        "id": event.id,
        "delivery_id": delivery_id,
        "nonce": delivery_id.replace("-", "")[:NONCE_LENGTH],
        "time": event.time.isoformat().replace("+00:00", "Z"),
        "source": event.source,
        "data": event.data,
    }
    return {name: value for name, value in values.items() if value is not None}


def headline(event: Event) -> str:
    """Return the event's title on one line, or its type."""
    return " ".join((event.title or "").split()) or event.type


def text(event: Event, escape: Mapping[str, str], max_length: int | None) -> str:
    """Write the message: severity and title, type and project, link. Too long a title is cut; the link is kept whole."""
    start = _escaped(f"[{event.severity}] ", escape) if event.severity else ""
    about = " · ".join(part for part in (event.type, event.project) if part)
    link = _link(event.url, escape)
    new_line = _escaped("\n", escape)
    if max_length is None:
        return f"{start}{headline(event)}\n{about}{link}"
    if len(link) > max_length // 2:
        link = ""  # half a link leads nowhere
    below = new_line + _cut(_units(about, escape), max_length // 4) + link
    return start + _cut(_units(headline(event), escape), max_length - len(start) - len(below)) + below


def _link(url: str | None, escape: Mapping[str, str]) -> str:
    """Write the address so that it stays one, and writes no markup either."""
    if url is None or not _ADDRESS.fullmatch(url):
        return ""
    host_ends = next((at for at, sign in enumerate(url) if at > _SCHEME_LENGTH and sign in "/?#"), len(url))
    path = "".join(
        f"%{ord(sign):02X}" if sign in escape and sign.isascii() and sign not in _MEANINGFUL else sign
        for sign in url[host_ends:]
    )
    return _escaped("\n" + url[:host_ends] + path, escape)


def _escaped(plain: str, escape: Mapping[str, str]) -> str:
    return "".join(_units(plain, escape))


def _units(plain: str, escape: Mapping[str, str]) -> Iterator[str]:
    """Yield the text in pieces that may be cut apart, each escaped; what is replaced is not looked at again."""
    if not escape:
        return iter(plain)
    longest_first = sorted(escape, key=len, reverse=True)
    marks = re.compile("|".join(map(re.escape, longest_first)) + "|.", re.DOTALL)
    return (escape.get(found[0], found[0]) for found in marks.finditer(plain))


def _cut(units: Iterator[str], room: int) -> str:
    """Join the pieces that fit; when some do not, end with a mark."""
    kept: list[str] = []
    length = 0
    for unit in units:
        if length + len(unit) > room:
            while kept and length + len(_MORE) > room:
                length -= len(kept.pop())
            return "".join(kept) + _MORE
        kept.append(unit)
        length += len(unit)
    return "".join(kept)
