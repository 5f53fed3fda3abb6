"""`/v1/{workspace_id}/integrations/{integration_id}/hook`: the address a service posts its webhooks to."""

from fastapi import APIRouter

from trunkline.http.native.route import NativeRoute

router = APIRouter(route_class=NativeRoute)
