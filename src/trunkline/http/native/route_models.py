"""What `/v1/{workspace_id}/routes…` takes and shows. All of it is Trunkline's own: the contract has no routes."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from trunkline.http.native.models import Id, NameString, PageQuery, _without_nul
from trunkline.services.matching import MAX_CONDITIONS, MAX_PATTERN

Project = Annotated[str, Field(max_length=256), AfterValidator(_without_nul)]
EventType = Annotated[str, Field(min_length=1, max_length=MAX_PATTERN)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NotifyTarget(_Strict):
    """A message into a channel, through one integration or through the oldest enabled one of a connector."""

    type: Literal["notify"]
    channel: Annotated[str, Field(min_length=1, max_length=256)]
    connector: Annotated[str, Field(max_length=64)] | None = None
    integration_id: Id | None = None


class EndpointTarget(_Strict):
    """A call of an endpoint; `params` look up `{event.…}`."""

    type: Literal["endpoint"]
    integration_id: Id
    endpoint: Annotated[str, Field(min_length=1, max_length=128)]
    params: Annotated[dict[str, Any], Field(max_length=100)] = {}


class WebhookTarget(_Strict):
    """A signed POST of the event to an address."""

    type: Literal["webhook"]
    url: Annotated[str, Field(min_length=1, max_length=2048)]
    previous_secret_until: datetime | str | None = Field(
        None, description="Ignored: so that what was read can be written back"
    )


Target = Annotated[NotifyTarget | EndpointTarget | WebhookTarget, Field(discriminator="type")]


class Condition(_Strict):
    """What must hold of an event: the value at a path, compared."""

    path: Annotated[str, Field(min_length=1, max_length=512)]
    operator: Annotated[str, Field(max_length=32)] = "equals"
    value: Any = None


Conditions = Annotated[list[Condition], Field(max_length=MAX_CONDITIONS)]


class CreateRouteRequest(BaseModel):
    """A new route. A dry run needs no target."""

    event_type: EventType
    target: Target | None = None
    name: NameString | None = None
    project_id: Project | None = None
    conditions: Conditions = []
    enabled: bool = True


class UpdateRouteRequest(BaseModel):
    """A partial update: what is absent or null stays; an empty `project_id` means any project."""

    event_type: EventType | None = None
    target: Target | None = None
    name: NameString | None = None
    project_id: Project | None = None
    conditions: Conditions | None = None
    enabled: bool | None = None


class DryRunQuery(BaseModel):
    """Whether to store anything."""

    dry_run: bool = Field(False, description="Store nothing; show which of the newest events would match")


class ListRoutesQuery(PageQuery):
    """Which routes."""

    enabled: bool | None = None


class RouteResponse(BaseModel):
    """A route as it is shown; never with its secret."""

    id: UUID
    workspace_id: UUID
    name: str
    event_type: str
    project_id: str | None
    conditions: list[Condition]
    target: Target
    enabled: bool
    disabled_reason: str | None
    created_at: datetime
    updated_at: datetime


class ChangedRouteResponse(RouteResponse):
    """A route that was just made or changed, and, this once, its new signing secret."""

    signing_secret: str | None
    warning: str | None
    """What is not wrong, but should be known."""
