"""Trunkline's own routes for the catalogue: what can be connected, and what each file says."""

from typing import Any

from trunkline.catalog.depth import depth
from trunkline.catalog.manifest import Manifest, credential_fields, webhook_fields
from trunkline.catalog.webhook_checks import event_types
from trunkline.http.native.route import Call, Router

router = Router("Connectors")


def to_wire(manifest: Manifest) -> dict[str, Any]:
    """Show a connector as one line of the catalogue."""
    score = depth(manifest)
    return {
        "id": manifest.id,
        "name": manifest.name,
        "category": manifest.category,
        "description": manifest.description,
        "docs_url": manifest.docs_url,
        "endpoints": len(manifest.endpoints),
        "streams": len(manifest.streams),
        "depth": {"score": score.score, "missing": score.missing},
    }


def describe(manifest: Manifest) -> dict[str, Any]:
    """Show all of a connector: what to fill in, and what it can do."""
    ways = {
        name: {
            "type": method.type,
            "label": method.label,
            "fields": [field.model_dump() for field in credential_fields(method)],
        }
        for name, method in manifest.auth.items()
    }
    return to_wire(manifest) | {
        "config": {name: field.model_dump() for name, field in manifest.config.items()},
        "auth": ways,
        "check": manifest.check,
        "webhook": _webhook(manifest),
        "event_types": event_types(manifest),
        "notify": {"channel": manifest.notify.channel.model_dump()} if manifest.notify else None,
        "endpoints": [item.model_dump(mode="json") for item in manifest.endpoints.values()],
        "streams": {name: item.model_dump(mode="json") for name, item in manifest.streams.items()},
    }


def _webhook(manifest: Manifest) -> dict[str, Any] | None:
    if manifest.webhook is None:
        return None
    return {
        "description": manifest.webhook.description,
        "secrets": [field.model_dump() for field in webhook_fields(manifest.webhook)],
        "verify": list(manifest.webhook.verify),
    }


@router.answers("GET /v1/connectors", "Connector.view", returns=dict[str, Any])
async def list_connectors(call: Call) -> dict[str, Any]:
    """List the catalogue, and what is wrong with files that could not be read."""
    catalog = call.app.catalog
    catalog.refresh()
    return {
        "items": [to_wire(manifest) for manifest in catalog.all()],
        "problems": [str(problem) for problem in catalog.problems],
    }


@router.answers(
    "GET /v1/connectors/{connector_id}",
    "Connector.view",
    returns=dict[str, Any],
    errors={404: "Connector not found."},
)
async def get_connector(call: Call, connector_id: str) -> dict[str, Any]:
    """Show what a connector needs and what it can do."""
    call.app.catalog.refresh()
    return describe(call.app.catalog.get(connector_id))
