"""Help for writing connector files: the JSON Schema that editors check with, and a first file to begin from."""

import json
from typing import Any

from trunkline.catalog.manifest import Manifest

_NEW = """\
# yaml-language-server: $schema=connector.schema.json
name: {name}
category: other
description: What this service is, in one sentence.
base_url: "{{config.url}}"
config:
  url:
    label: Address
    example: {base_url}
    default: {base_url}
    pattern: "^https?://[^\\\\s?#@]+$"

auth:
{auth}
# A call without parameters that needs valid credentials: the call behind "Test connection".
check: list_items

# Where the text of a refusal is. `ok` and `present` find refusals inside a 200.
errors: {{message: error.message}}

endpoints:
  list_items:
    description: List items.
    path: /items
    records: items
    input_schema:
      type: object
      additionalProperties: false
      properties:
        limit: {{type: integer, minimum: 1, maximum: 100, description: How many at most.}}
  get_item:
    description: Get one item.
    path: "/items/{{id}}"
    input_schema:
      type: object
      additionalProperties: false
      required: [id]
      properties:
        id: {{type: string, minLength: 1, description: The item's id.}}

streams:
  items:
    description: Every item.
    endpoint: list_items
    key: id
"""

_AUTH = {
    "bearer_token": "  token:\n    type: bearer_token\n",
    "api_key_header": "  api_key:\n    type: api_key_header\n    header_name: X-API-Key\n",
    "basic": "  password:\n    type: basic\n",
    "oauth2_client_credentials": (
        "  oauth:\n    type: oauth2_client_credentials\n" + '    token_url: "{base_url}/oauth/token"\n'
    ),
    "none": "  none:\n    type: none\n",
}
AUTH_CHOICES = tuple(_AUTH)


def new_manifest_text(name: str, base_url: str, auth: str = "bearer_token") -> str:
    """Write a first connector file, valid as it is. Raises KeyError for an auth not in AUTH_CHOICES."""
    return _NEW.format(name=json.dumps(name), base_url=json.dumps(base_url), auth=_AUTH[auth])


def json_schema() -> dict[str, Any]:
    """Describe connector files as JSON Schema, for editors."""
    schema = Manifest.model_json_schema()
    _forget(schema, "id")
    _forget(schema["$defs"]["Endpoint"], "name")
    for part in (schema, *schema["$defs"].values()):
        if "properties" in part:
            part["additionalProperties"] = False
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Trunkline connector"
    return schema


def _forget(schema: dict[str, Any], name: str) -> None:
    del schema["properties"][name]
    schema["required"] = [word for word in schema["required"] if word != name]
