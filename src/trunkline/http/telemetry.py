"""What operators watch: Prometheus metrics and the access log."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import Scope

from trunkline import __version__, log
from trunkline.services.backlog import Backlog

_LOG = log.get("trunkline.http")
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

_BACKLOG = {
    "unread_seconds": "How long the oldest webhook has waited to be read.",
    "unrouted_events": "Events that no route was looked up for yet.",
    "overdue_seconds": "How long the delivery has waited that is due for longest.",
}


class Telemetry:
    """Counters of one process. Labels name routes, never tenants, so that they stay few."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._seconds = Histogram(
            "trunkline_http_request_duration_seconds",
            "Time from the request's headers to the end of the answer.",
            ["method", "route", "status"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._under_way = Gauge(
            "trunkline_http_requests_in_progress", "Requests under way.", registry=self.registry
        )
        self._faults = Counter(
            "trunkline_http_faults_total", "Requests that met a fault of ours.", registry=self.registry
        )
        Gauge("trunkline_info", "Version.", ["version"], registry=self.registry).labels(__version__).set(1)
        self._backlog = {
            name: Gauge(f"trunkline_{name}", text, registry=self.registry) for name, text in _BACKLOG.items()
        }
        self._labelled: dict[tuple[str, str, int], Any] = {}

    def began(self) -> None:
        self._under_way.inc()

    def ended(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a finished request and log it."""
        self._under_way.dec()
        route = scope.get("route_path", "other")
        key = (scope["method"] if route != "other" else "other", route, status)
        series = self._labelled.get(key)
        if series is None:
            series = self._labelled[key] = self._seconds.labels(key[0], key[1], str(status))
        series.observe(seconds)
        log.request(
            "trunkline.http",
            request_id=scope["request_id"],
            method=scope["method"],
            route=route,
            status=status,
            duration_ms=round(seconds * 1000, 2),
            workspace_id=scope.get("workspace_id"),
        )

    def fault(self, scope: Scope) -> None:
        """Log the exception at hand with its request."""
        self._faults.inc()
        _LOG.exception("fault", request_id=scope["request_id"], route=scope.get("route_path", "other"))

    def behind(self, backlog: Backlog) -> None:
        """Note how far behind the steps from a webhook to a message are."""
        for name, gauge in self._backlog.items():
            gauge.set(getattr(backlog, name))

    def render(self) -> bytes:
        """Return the metrics in Prometheus's text format."""
        return generate_latest(self.registry)
