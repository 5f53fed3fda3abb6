"""What a sandbox is asked to be: where it listens, which fakes it runs, with which data and credentials."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trunkline.clock import Clock, SystemClock
from trunkline.errors import Invalid

MAX_COUNT = 2_000_000
DEFAULT_COUNT = 1_000


@dataclass(frozen=True)
class SandboxOptions:
    """The settings of one sandbox; checked when it is built.

    Without `incidents_csv` the records are generated: `count` of them, the same for the same `seed`.
    `log_share` is the share of the log's updates applied at start; the rest waits for the replay control.
    `credentials` gives fixed ones (`{"servicenow": {"password": …}}`); what is not given is random per start.
    """

    port: int = 0
    host: str = "127.0.0.1"
    tls: bool = False
    only: str | None = None
    incidents_csv: Path | None = None
    count: int | None = None
    seed: int = 1
    log_share: float = 1.0
    credentials: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    clock: Clock = field(default_factory=SystemClock)
    servicenow_page_cap: int = 10_000
    servicenow_hourly_limit: int | None = None
    servicenow_invalid_query_returns_no_rows: bool = False
    pagerduty_page_cap: int = 100
    pagerduty_minute_limit: int | None = None
    request_limits: Mapping[str, int] = field(default_factory=dict)
    """Requests that a fake takes in its window, by fake, instead of as many as the real service."""

    def check(self, services: Mapping[str, object]) -> None:
        """Refuse what cannot be served, naming the option (raises Invalid)."""
        if self.only is not None and self.only not in services:
            raise Invalid.field(("only",), f"no such fake; there are: {', '.join(services)}")
        if self.incidents_csv is not None and self.count is not None:
            raise Invalid.field(("count",), "give either a file of incidents or a count, not both")
        _check_range("count", self.count, 0, MAX_COUNT)
        _check_range("port", self.port, 0, 65_535)
        _check_range("log_share", self.log_share, 0, 1)
        for name in ("servicenow_page_cap", "servicenow_hourly_limit"):
            _check_range(name, getattr(self, name), 1, 1_000_000_000)
        _check_range("pagerduty_page_cap", self.pagerduty_page_cap, 1, 100)
        _check_range("pagerduty_minute_limit", self.pagerduty_minute_limit, 1, 1_000_000_000)
        for name, limit in self.request_limits.items():
            _check_range(f"request_limits.{name}", limit, 1, 1_000_000_000)

    def credential(self, service: str, name: str, make: Callable[[], str] | None = None) -> str:
        """Return the given credential, or a fresh one."""
        given = self.credentials.get(service, {}).get(name)
        if given:
            return given
        return make() if make else secrets.token_urlsafe(18)


def _check_range(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise Invalid.field((name,), f"must be between {low} and {high}")
