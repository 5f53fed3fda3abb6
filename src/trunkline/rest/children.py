"""Child calls: a stream that is pulled once for each record of its parent (`for_each`)."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from trunkline.catalog.manifest import ForEach
from trunkline.catalog.template import CHILD, Template
from trunkline.errors import RemoteFailed


class ChildCalls:
    """The compiled `for_each` of a stream. Raises ValueError for a look-up outside `{parent.…}` and `{config.…}`."""

    def __init__(self, for_each: ForEach, maps: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.stream = for_each.stream
        self._template = Template.compile(for_each.params, namespaces=CHILD, maps=maps)

    def params(
        self, parents: Iterable[Any], config: Mapping[str, str] | None = None
    ) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Give for each parent record the parameters of its call; RemoteFailed for a record without a field."""
        for parent in parents:
            try:
                yield parent, self._template.render({"parent": parent, "config": config or {}})
            except LookupError as missing:
                text = f"a record of '{self.stream}' cannot be followed: {missing}"
                raise RemoteFailed(text, kind="paging") from None
