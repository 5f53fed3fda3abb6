"""The fake PagerDuty: routes of REST API v2 and Events API v2, their headers, limits and refusals."""

import hmac
import secrets
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from trunkline.sandbox.options import SandboxOptions
from trunkline.sandbox.pagerduty.account import ABILITIES, UNPAID_ABILITIES, Account, Thing
from trunkline.sandbox.pagerduty.errors import (
    FROM_REQUIRED,
    REQUESTER_NOT_FOUND,
    events_refusal,
    invalid,
    not_found,
    rest_refusal,
)
from trunkline.sandbox.pagerduty.events import MAX_EVENT, EventsApi, parse_event
from trunkline.sandbox.pagerduty.incidents import URGENCIES, Incident, Incidents, LogEntry, iso
from trunkline.sandbox.pagerduty.listing import (
    INCIDENT_PARTS,
    ONCALL_PARTS,
    choices,
    page,
    select_incidents,
    time_range,
)
from trunkline.sandbox.pagerduty.webhooks import builders
from trunkline.sandbox.service import (
    Build,
    RefusedError,
    Service,
    accepts,
    base_url,
    json_response,
    media_type,
    parse_object,
    read_body,
)

MAX_BODY = 1024 * 1024
MAX_BULK = 250
MINUTE = 60
DEFAULT_MINUTE_LIMIT = 960
_ACCEPTED = frozenset({"application/json", "application/vnd.pagerduty+json"})
_COLLECTIONS = ("users", "teams", "services", "escalation_policies", "schedules")


class PagerDuty(Service):
    """One account with an account-level REST key and one Events integration."""

    name = "pagerduty"

    def __init__(self, options: SandboxOptions) -> None:
        super().__init__(options)
        self._token = self.credential("token")
        self._routing_key = self.credential("routing_key", lambda: secrets.token_hex(16))
        self._secret = self.credential("webhook_secret")
        self._window = (0.0, 0)
        self._start()

    def _start(self) -> None:
        self._account = Account(self._options.seed)
        self._incidents = Incidents(self._account, self._clock, self._options.seed)
        self._events = EventsApi(
            self._incidents, next(iter(self._account.things["services"])), self._routing_key
        )

    def reset(self) -> None:
        self._start()
        self._window = (0.0, 0)

    def ready(self, base_url: str) -> dict[str, str]:
        first = next(iter(self._account.things["users"].values()))
        return {
            "url": base_url,
            "token": self._token,
            "from_email": first.fields["email"],
            "events_url": base_url,
            "routing_key": self._routing_key,
            "service_id": next(iter(self._account.things["services"])),
            "webhook_secret": self._secret,
        }

    def webhooks(self) -> dict[str, Build]:
        return builders(self._account, self._incidents, self._secret)

    def routes(self) -> list[BaseRoute]:
        routes: list[BaseRoute] = [
            Route("/v2/enqueue", self._enqueue, methods=["POST"]),
            Route("/v2/change/enqueue", self._enqueue_change, methods=["POST"]),
            Route("/incidents", self._rest(self._list), methods=["GET"]),
            Route("/incidents", self._rest(self._create), methods=["POST"]),
            Route("/incidents", self._rest(self._manage), methods=["PUT"]),
            Route("/incidents/{id}", self._rest(self._get), methods=["GET"]),
            Route("/incidents/{id}", self._rest(self._update), methods=["PUT"]),
            Route("/incidents/{id}/notes", self._rest(self._notes), methods=["GET"]),
            Route("/incidents/{id}/notes", self._rest(self._add_note), methods=["POST"]),
            Route("/incidents/{id}/log_entries", self._rest(self._log_entries), methods=["GET"]),
            Route("/log_entries", self._rest(self._all_log_entries), methods=["GET"]),
            Route("/oncalls", self._rest(self._oncalls), methods=["GET"]),
            Route("/abilities", self._rest(self._abilities), methods=["GET"]),
            Route("/abilities/{id}", self._rest(self._ability), methods=["GET"]),
            Route("/users/me", self._rest(self._me), methods=["GET"]),
        ]
        for name in _COLLECTIONS:
            routes += [
                Route(f"/{name}", self._rest(self._things), methods=["GET"]),
                Route(f"/{name}/{{id}}", self._rest(self._thing), methods=["GET"]),
            ]
        return routes

    def refusal(self, refused: RefusedError, path: str) -> Response:
        return events_refusal(refused) if path.startswith("/v2/") else rest_refusal(refused)

    def rate_limit_headers(self, seconds: int) -> dict[str, str]:
        limit = self._options.pagerduty_minute_limit or DEFAULT_MINUTE_LIMIT
        return _limit_headers(limit, 0, seconds) | {"Retry-After": str(seconds)}

    def _rest(self, handler: Callable[[Request], Any]) -> Callable[[Request], Any]:
        """Guard a handler of the REST API: token, version, limit; and its JSON answer."""

        async def guarded(request: Request) -> Response:
            self._check_token(request)
            _check_accept(request)
            headers = self._count()
            answer = await handler(request)
            response = answer if isinstance(answer, Response) else json_response(answer)
            response.headers.update(headers)
            return response

        return guarded

    def _check_token(self, request: Request) -> None:
        scheme, _, rest = request.headers.get("authorization", "").partition(" ")
        given = ""
        if scheme.lower() == "token":
            given = rest.strip().removeprefix("token=").strip('"')
        elif scheme.lower() == "bearer":
            given = rest.strip()
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            raise RefusedError(401)

    def _count(self) -> dict[str, str]:
        """Count the request in its minute; refused beyond the limit only where the options set one."""
        enforced = self._options.pagerduty_minute_limit
        if enforced is None:
            return _limit_headers(DEFAULT_MINUTE_LIMIT, DEFAULT_MINUTE_LIMIT - 1, MINUTE)
        now = self._clock.monotonic()
        started, used = self._window
        if not used or now - started >= MINUTE:
            started, used = now, 0
        left = max(1, int(started + MINUTE - now))
        if used >= enforced:
            raise RefusedError(429, headers=self.rate_limit_headers(left))
        self._window = (started, used + 1)
        return _limit_headers(enforced, enforced - used - 1, left)

    def _requester(self, request: Request) -> Thing:
        """Return the user of the From header, which an account-level key must send with every write."""
        email = request.headers.get("from", "").strip()
        if not email:
            text = 'You must specify a user\'s email address in the "From" header to perform this action'
            raise RefusedError(400, text, code=FROM_REQUIRED)
        user = self._account.user_by_email(email)
        if user is None:
            raise RefusedError(400, "Requester User Not Found", code=REQUESTER_NOT_FOUND, detail=[])
        return user

    async def _list(self, request: Request) -> dict[str, Any]:
        everything = list(self._incidents.by_id.values())
        found = select_incidents(request, everything, self._clock.now())
        show = self._shown(request)
        return page(request, "incidents", found, show, cap=self._options.pagerduty_page_cap)

    def _shown(self, request: Request) -> Callable[[Incident], Any]:
        """Return how an incident is shown: ready JSON, or with what `include[]` asks for."""
        base, wanted = base_url(request), choices(request, "include", INCIDENT_PARTS)
        if not wanted:
            return lambda incident: self._incidents.fragment(incident, base)
        return lambda incident: self._account.include(base, self._incidents.document(incident, base), wanted)

    async def _get(self, request: Request) -> dict[str, Any]:
        return self._wrapped(request, self._incidents.get(request.path_params["id"]))

    def _wrapped(self, request: Request, incident: Incident) -> dict[str, Any]:
        return {"incident": self._shown(request)(incident)}

    async def _create(self, request: Request) -> Response:
        user = self._requester(request)
        wanted = await _wrapped_body(request, "incident")
        title, key = wanted.get("title"), wanted.get("incident_key")
        if not isinstance(title, str) or not title.strip():
            raise invalid("Title cannot be empty")
        if key is not None and not (isinstance(key, str) and 0 < len(key) <= 255):
            raise invalid("Incident key must be a text of at most 255 characters")
        urgency = wanted.get("urgency", "high")
        if urgency not in URGENCIES:
            raise invalid("Urgency must be one of high, low")
        service = wanted.get("service")
        service_id = service.get("id") if isinstance(service, dict) else None
        if not isinstance(service_id, str) or service_id not in self._account.things["services"]:
            raise invalid("Service cannot be empty" if service_id is None else "Service not found")
        details = wanted.get("body")
        incident = self._incidents.open(service_id, title, key, actor=("users", user.id))
        incident.urgency = urgency
        incident.details = details.get("details") if isinstance(details, dict) else None
        return json_response(self._wrapped(request, incident), 201)

    async def _update(self, request: Request) -> dict[str, Any]:
        user = self._requester(request)
        incident = self._incidents.get(request.path_params["id"])
        self._incidents.update(incident, await _wrapped_body(request, "incident"), ("users", user.id))
        return self._wrapped(request, incident)

    async def _manage(self, request: Request) -> dict[str, Any]:
        """Update several incidents; the first one refused ends it, the ones before it stay changed."""
        user = self._requester(request)
        body = await _body(request)
        wanted = body.get("incidents")
        if not isinstance(wanted, list) or not all(isinstance(item, dict) for item in wanted):
            raise invalid("Incidents must be a list")
        if not 0 < len(wanted) <= MAX_BULK:
            raise invalid(f"Between 1 and {MAX_BULK} incidents can be managed at once")
        changes = [(self._incidents.get(str(item.get("id"))), item) for item in wanted]
        for incident, change in changes:
            self._incidents.update(incident, change, ("users", user.id))
        base = base_url(request)
        return {"incidents": [self._incidents.fragment(incident, base) for incident, _ in changes]}

    async def _notes(self, request: Request) -> dict[str, Any]:
        incident = self._incidents.get(request.path_params["id"])
        base = base_url(request)
        return {"notes": [self._incidents.note_document(note, base) for note in incident.notes]}

    async def _add_note(self, request: Request) -> Response:
        user = self._requester(request)
        incident = self._incidents.get(request.path_params["id"])
        content = (await _wrapped_body(request, "note")).get("content")
        if not isinstance(content, str) or not content.strip() or len(content) > 25_000:
            raise invalid("Content cannot be empty")
        note = self._incidents.add_note(incident, content, user.id)
        return json_response({"note": self._incidents.note_document(note, base_url(request))}, 201)

    async def _log_entries(self, request: Request) -> dict[str, Any]:
        return self._entries_page(request, self._incidents.get(request.path_params["id"]).entries)

    async def _all_log_entries(self, request: Request) -> dict[str, Any]:
        since, until = time_range(request, self._clock.now())
        entries = [
            entry
            for incident in self._incidents.by_id.values()
            for entry in incident.entries
            if since <= entry.at <= until
        ]
        entries.sort(key=lambda entry: entry.at, reverse=True)
        return self._entries_page(request, entries)

    def _entries_page(self, request: Request, entries: list[LogEntry]) -> dict[str, Any]:
        base = base_url(request)
        return page(
            request, "log_entries", entries, lambda entry: self._incidents.entry_document(entry, base)
        )

    async def _oncalls(self, request: Request) -> dict[str, Any]:
        base, account = base_url(request), self._account
        wanted = choices(request, "escalation_policy_ids", ())
        oncalls = [
            {
                "escalation_policy": account.reference(base, "escalation_policies", policy.id),
                "escalation_level": level,
                "schedule": account.reference(base, *rule["targets"][0]),
                "user": account.reference(
                    base, *account.things["schedules"][rule["targets"][0][1]].refs["users"][0]
                ),
                "start": iso(self._clock.now().replace(hour=0, minute=0, second=0)),
                "end": None,
            }
            for policy in account.things["escalation_policies"].values()
            for level, rule in enumerate(policy.refs["escalation_rules"], 1)
            if not wanted or policy.id in wanted
        ]
        parts = choices(request, "include", ONCALL_PARTS)
        return page(request, "oncalls", oncalls, lambda oncall: account.include(base, oncall, parts))

    async def _abilities(self, request: Request) -> dict[str, Any]:
        del request
        return {"abilities": list(ABILITIES)}

    async def _ability(self, request: Request) -> Response:
        name = request.path_params["id"]
        if name in UNPAID_ABILITIES:
            raise RefusedError(402, "Payment Required", detail=[f"Account does not have the {name} ability"])
        if name not in ABILITIES:
            raise not_found()
        return Response(status_code=204)

    async def _me(self, request: Request) -> Response:
        del request
        text = "Only user-level tokens have a user; this is an account-level access token"
        return json_response({"error": text}, 400)

    async def _things(self, request: Request) -> dict[str, Any]:
        collection = request.url.path.rsplit("/", 1)[-1]
        base, query = base_url(request), request.query_params.get("query", "").casefold()
        found = [
            thing
            for thing in self._account.things[collection].values()
            if query in thing.name.casefold() or query in thing.fields.get("email", "")
        ]
        found.sort(key=lambda thing: thing.name)
        return page(request, collection, found, lambda thing: self._account.document(base, collection, thing))

    async def _thing(self, request: Request) -> dict[str, Any]:
        collection = request.url.path.rsplit("/", 2)[-2]
        thing = self._account.things[collection].get(request.path_params["id"])
        if thing is None:
            raise not_found()
        return {thing.kind: self._account.document(base_url(request), collection, thing)}

    async def _enqueue(self, request: Request) -> Response:
        return json_response(self._events.enqueue(await _event(request)), 202)

    async def _enqueue_change(self, request: Request) -> Response:
        return json_response(self._events.enqueue_change(await _event(request)), 202)


def _limit_headers(limit: int, remaining: int, reset: int) -> dict[str, str]:
    return {
        "ratelimit-limit": str(limit),
        "ratelimit-remaining": str(remaining),
        "ratelimit-reset": str(reset),
    }


def _check_accept(request: Request) -> None:
    """Refuse another media type or another version than 2; an absent Accept means the current one."""
    accept = request.headers.get("accept", "")
    version = accept.partition("version=")[2].partition(",")[0].partition(";")[0].strip()
    if not accepts(request, _ACCEPTED) or version not in {"", "2"}:
        raise RefusedError(406, "Not Acceptable", detail=["Accept application/vnd.pagerduty+json;version=2"])


async def _event(request: Request) -> dict[str, Any]:
    raw = await read_body(request, MAX_EVENT)
    if media_type(request) != "application/json":
        raise RefusedError(400, detail=["Content-Type must be application/json"])
    return parse_event(raw)


async def _body(request: Request) -> dict[str, Any]:
    raw = await read_body(request, MAX_BODY)
    if media_type(request) not in _ACCEPTED:
        raise invalid("params must be a Hash", "Content-Type must be application/json")
    return parse_object(raw, invalid("params must be a Hash"))


async def _wrapped_body(request: Request, name: str) -> dict[str, Any]:
    """Return the object inside its wrapper, which the service insists on."""
    wrapped = (await _body(request)).get(name)
    if not isinstance(wrapped, dict):
        raise invalid(f"{name} must be a Hash")
    return wrapped
