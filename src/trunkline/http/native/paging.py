"""The native list envelope: the continuation token is an offset (our choice; the contract names an integer)."""

from collections.abc import Sequence
from typing import Any


def page_of(
    items: Sequence[Any], total: int | None, offset: int, *, more: bool | None = None
) -> dict[str, Any]:
    """Wrap a slice that begins at `offset`; the next token is null when nothing follows, which `total` tells or `more`."""
    end = offset + len(items)
    if more is None:
        more = bool(items) and total is not None and end < total
    return {
        "items": items,
        "has_more": more,
        "continuation_token": end if more else None,
        "total": total,
    }
