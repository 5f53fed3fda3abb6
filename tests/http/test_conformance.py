"""Our OpenAPI page against the contract's own document, field by field."""

import json
from pathlib import Path
from typing import Any

import pytest

from trunkline.http import native

CONTRACT = Path(__file__).parents[2] / "../shared/contracts/openapi/native.json"
if not CONTRACT.exists():
    pytest.skip("the contract's document is not beside the project", allow_module_level=True)

THEIRS: dict[str, Any] = json.loads(CONTRACT.read_text())
OURS: dict[str, Any] = native.build().openapi()
OPERATIONS = [
    (path, method)
    for path, methods in THEIRS["paths"].items()
    for method in methods
    if method != "parameters"
]
# Prose may differ, and our document may know more fields than theirs.
PROSE = {"title", "description"}


def resolved(document: dict[str, Any], schema: Any) -> Any:
    """Replace references, and drop what is prose, so that two documents can be compared."""
    if isinstance(schema, list):
        return [resolved(document, item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        target = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return resolved(
            document, {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
        )
    found = {}
    for key, value in schema.items():
        if key == "properties":
            found[key] = {name: resolved(document, item) for name, item in value.items()}
        elif key not in PROSE:
            found[key] = value if key in {"default", "enum", "required"} else resolved(document, value)
    return found


def differences(theirs: Any, ours: Any, place: str) -> list[str]:
    """List where our schema is not theirs; properties of ours alone are allowed when not required."""
    if not isinstance(theirs, dict) or not isinstance(ours, dict):
        return [] if theirs == ours else [f"{place}: {theirs!r} became {ours!r}"]
    found: list[str] = []
    for key in theirs.keys() | ours.keys():
        here = f"{place}.{key}"
        if key == "properties":
            for name, schema in theirs.get(key, {}).items():
                found += differences(schema, ours.get(key, {}).get(name), f"{here}.{name}")
        elif key == "anyOf":
            pairs = zip(theirs.get(key) or [], ours.get(key) or [], strict=False)
            if len(theirs.get(key) or []) != len(ours.get(key) or []):
                found.append(f"{here}: {theirs.get(key)} became {ours.get(key)}")
            for index, (one, other) in enumerate(pairs):
                found += differences(one, other, f"{here}[{index}]")
        elif key == "required":
            if sorted(theirs.get(key, [])) != sorted(ours.get(key, [])):
                found.append(f"{here}: {theirs.get(key)} became {ours.get(key)}")
        else:
            found += differences(theirs.get(key), ours.get(key), here)
    return found


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_an_operation_takes_what_the_contract_takes(path: str, method: str):
    theirs, ours = THEIRS["paths"][path][method], OURS["paths"][path][method]
    assert ours["operationId"] == theirs["operationId"]
    mine = {(item["name"], item["in"]): item for item in ours.get("parameters", [])}
    for item in theirs.get("parameters", []):
        own = mine[item["name"], item["in"]]
        assert own.get("required", False) == item.get("required", False)
        assert (
            differences(resolved(THEIRS, item["schema"]), resolved(OURS, own["schema"]), item["name"]) == []
        )
    assert ("requestBody" in ours) == ("requestBody" in theirs)
    if "requestBody" in theirs:
        assert ours["requestBody"]["required"] == theirs["requestBody"]["required"]
        assert (
            differences(
                *(_body(side, document) for side, document in ((theirs, THEIRS), (ours, OURS))), "body"
            )
            == []
        )


def _body(side: dict[str, Any], document: dict[str, Any]) -> Any:
    return resolved(document, side["requestBody"]["content"]["application/json"]["schema"])


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_an_operation_answers_what_the_contract_answers(path: str, method: str):
    theirs, ours = THEIRS["paths"][path][method]["responses"], OURS["paths"][path][method]["responses"]
    for status, answer in theirs.items():
        assert ours[status]["description"] == answer["description"]
        if "content" not in answer:
            continue
        wanted = resolved(THEIRS, answer["content"]["application/json"]["schema"])
        given = resolved(OURS, ours[status]["content"]["application/json"]["schema"])
        assert differences(wanted, given, status) == []


@pytest.mark.parametrize(
    "name", sorted(set(THEIRS["components"]["schemas"]) - {"PaginatedResponse_IntegrationResponse_"})
)
def test_a_schema_has_every_field_type_default_and_limit(name: str):
    ours = OURS["components"]["schemas"]
    key = name if name in ours else f"{name}-Input" if f"{name}-Input" in ours else f"{name}-Output"
    assert (
        differences(resolved(THEIRS, {"$ref": f"/{name}"}), resolved(OURS, {"$ref": f"/{key}"}), name) == []
    )
