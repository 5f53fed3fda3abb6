"""`/v1/{workspace_id}/routes…`: which events go where."""

from fastapi import APIRouter

from trunkline.http.native.route import NativeRoute

router = APIRouter(route_class=NativeRoute)
