"""The native list envelope: the continuation token is an offset (our choice; the contract names an integer)."""

from collections.abc import Sequence
from typing import Any


def page_of(items: Sequence[Any], total: int, offset: int) -> dict[str, Any]:
    """Wrap a slice that begins at `offset`; the next token is null when nothing follows."""
    end = offset + len(items)
    more = bool(items) and end < total
    return {
        "items": items,
        "has_more": more,
        "continuation_token": end if more else None,
        "total": total,
    }
