"""`/v1/{workspace_id}/deliveries…`: what was sent, attempt by attempt; sending again."""

from fastapi import APIRouter

from trunkline.http.native.route import NativeRoute

router = APIRouter(route_class=NativeRoute)
