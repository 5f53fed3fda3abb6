"""`/v1/{workspace_id}/events…`: the log, its stream, replay."""

from fastapi import APIRouter

from trunkline.http.native.route import NativeRoute

router = APIRouter(route_class=NativeRoute)
