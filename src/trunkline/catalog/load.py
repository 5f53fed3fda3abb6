"""Read one connector file: strict YAML, the vocabulary, then the cross-checks. Every fault at once, by line.

What `rest` alone can judge (input schemas, result templates) is judged by `rest.compile_endpoint`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from trunkline.catalog import strict_yaml
from trunkline.catalog.lookup_checks import Finding, check_lookups
from trunkline.catalog.manifest import Manifest
from trunkline.catalog.part_checks import NAME, check_parts
from trunkline.catalog.strict_yaml import MAX_PROBLEMS, Document, Loc
from trunkline.catalog.vocabulary import unknown_words
from trunkline.catalog.webhook_checks import check_webhooks
from trunkline.errors import FieldError, Invalid


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing to say about a file: `acme.yaml:20: paging.type: …`. A notice does not keep it from loading."""

    file: str
    line: int
    text: str
    level: Literal["error", "notice"] = "error"

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


class ManifestError(Invalid):
    """The connector file is not valid."""

    code = "invalid_connector"

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        fields = [FieldError((item.file, item.line), item.text, "connector_error") for item in problems]
        super().__init__("\n".join(str(problem) for problem in problems), fields)


def load_manifest(path: Path) -> Manifest:
    """Read a connector's file; its name without `.yaml` is the connector's id. Raises ManifestError."""
    try:
        with path.open("rb") as file:
            raw = file.read(strict_yaml.MAX_BYTES + 1)
    except OSError as error:
        raise ManifestError([Problem(path.name, 1, f"cannot be read: {error.strerror}")]) from None
    if path.suffix != ".yaml":
        raise ManifestError([Problem(path.name, 1, "a connector's file ends in .yaml")])
    return parse_manifest(raw, path.stem)


def parse_manifest(raw: bytes, connector_id: str) -> Manifest:
    """Read a connector from the bytes of its file. Raises ManifestError with every problem, by line."""
    document = strict_yaml.read(raw)
    file = f"{connector_id}.yaml"
    found: list[Finding] = []
    manifest = None
    if not NAME.fullmatch(connector_id):
        found.append(((), "the file's name must be lower-case letters, digits and '_', a letter first"))
    if isinstance(document.value, dict):
        manifest = _validate(document.value, connector_id, found)
    elif not document.flaws:
        found.append(((), "the file must hold `name:`, `base_url:` and more; it is empty or no mapping"))
    if manifest is not None:
        found += check_parts(manifest)
        found += check_webhooks(manifest)
        found += check_lookups(manifest)
    problems = _problems(file, document, found)
    if problems or manifest is None:
        raise ManifestError(problems)
    return manifest


def _validate(value: dict[str, Any], connector_id: str, found: list[Finding]) -> Manifest | None:
    unknown = list(unknown_words(value))
    found += unknown
    try:
        return Manifest.model_validate(_named(value, connector_id), strict=True)
    except ValidationError as error:
        known = {loc for loc, _ in unknown}
        found += [
            (_loc(item["loc"], value), _said(item))
            for item in error.errors(include_url=False)
            if tuple(item["loc"]) not in known
        ]
        return None


def _named(value: dict[str, Any], connector_id: str) -> dict[str, Any]:
    """Give the manifest its id and the endpoints their names."""
    named = {**value, "id": connector_id}
    if isinstance(endpoints := value.get("endpoints"), dict):
        named["endpoints"] = {
            name: {**endpoint, "name": name} if isinstance(endpoint, dict) else endpoint
            for name, endpoint in endpoints.items()
        }
    return named


def _loc(loc: tuple[str | int, ...], value: Any) -> Loc:
    """Keep the part of the location that is in the file, and the missing word itself."""
    for index, step in enumerate(loc):
        if not isinstance(value, dict | list):
            return loc[:index]
        holder: Any = value
        try:
            value = holder[step]
        except (KeyError, IndexError, TypeError):
            return loc[: index + 1]
    return loc


def _said(item: Any) -> str:
    if item["type"] == "missing":
        return "is missing"
    text = str(item["msg"])
    given = item.get("input")
    if given is None or isinstance(given, str | int | float):
        shown = repr(given) if given is not None else "empty"
        text += f", not {shown[:60]}"
    return text


def _problems(file: str, document: Document, found: list[Finding]) -> list[Problem]:
    problems = {Problem(file, flaw.line, flaw.text) for flaw in document.flaws}
    for loc, text in found:
        where = ".".join(str(step) for step in loc)
        problems.add(Problem(file, document.line(loc), f"{where}: {text}" if where else text))
    return sorted(problems)[:MAX_PROBLEMS]
