"""Services that post webhooks, for tests: connectors of our own making, and how they sign."""

import hashlib
import hmac
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from http_asgi import Client, Reply

SECRET = "hook-signing-secret-1"
SHOP = """\
name: Shop
base_url: "https://shop.example"
auth: {none: {type: none}}
endpoints:
  ping: {description: Ping., path: /ping}
webhook:
  description: Under Settings, Webhooks.
  secrets: {signing_key: {label: Signing key, optional: true}}
  verify:
    signature: {type: hmac, secret: signing_key, header: x-shop-signature, prefix: "sha256="}
  delivery_id: "{header.x-shop-delivery?}"
  challenge: {when: {payload.type: hello}, answer: "{payload.word}"}
events:
  - when: {header.x-shop-event: order}
    type: shop.order
    subject: "{payload.id?}"
"""
OPEN = """\
name: Open
base_url: "https://open.example"
auth: {none: {type: none}}
endpoints:
  ping: {description: Ping., path: /ping}
webhook:
  description: Anybody.
  verify: {nobody: {type: none}}
"""


def write_connectors(folder: Path) -> Path:
    """Write the connectors of these services into a folder."""
    folder.mkdir()
    (folder / "shop.yaml").write_text(SHOP)
    (folder / "open.yaml").write_text(OPEN)
    return folder


@dataclass
class Shop:
    """An integration with the shop, and the shop itself."""

    client: Client
    integration_id: str
    path: str

    @classmethod
    async def open(cls, client: Client, name: str = "shop", **body: Any) -> "Shop":
        """Create the integration; with its secret unless told otherwise."""
        credentials = {"method": "none", "values": {"signing_key": SECRET}}
        values = {"connector": "shop", "base_url": "", "credentials": credentials, **body}
        made = await client.integration(name=name, **values)
        hook = await client.get(f"/v1/{{ws}}/integrations/{made['id']}/hook")
        assert hook.status == 200, hook.text
        return cls(client, made["id"], hook.json["path"])

    async def post(
        self, body: Any, *, secret: str = SECRET, path: str = "", raw: bytes | None = None, **headers: str
    ) -> Reply:
        """Post a signed request, as the shop does; headers given win."""
        content = json.dumps(body).encode() if raw is None else raw
        signed = {"x_shop_signature": sign(content, secret)} | headers
        stranger = Client(self.client.hub, None, self.client.workspace_id)
        return await stranger.send("POST", path or self.path, raw=content, **signed)

    @property
    def hook(self) -> str:
        return f"/v1/{{ws}}/integrations/{self.integration_id}/hook"


def sign(body: bytes, secret: str = SECRET) -> str:
    """Sign as the shop does."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
