"""Check connector files as deeply as their first use would: the file, then each endpoint compiled."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trunkline.catalog import strict_yaml
from trunkline.catalog.depth import depth
from trunkline.catalog.load import ManifestError, Problem, load_manifest
from trunkline.catalog.manifest import Manifest
from trunkline.errors import Invalid
from trunkline.rest.endpoint import compile_endpoint


@dataclass(frozen=True)
class Checked:
    """One file: what is wrong with it, or how deep the connector is and what it lacks."""

    path: Path
    problems: list[Problem]
    score: int | None = None
    missing: tuple[str, ...] = ()


def connector_files(paths: Iterable[Path]) -> Iterator[Path]:
    """List the files, and the connector files of the folders.

    Raises:
        Invalid: a path does not exist, or a folder holds no connector file.
    """
    for path in paths:
        if not path.exists():
            raise Invalid(f"{path} does not exist")
        if not path.is_dir():
            yield path
            continue
        found = sorted(file for file in path.iterdir() if file.suffix in {".yaml", ".yml"})
        if not found:
            raise Invalid(f"{path} holds no connector file (NAME.yaml)")
        yield from found


def check_file(path: Path) -> Checked:
    """Check one connector file; never raises for what it says."""
    try:
        manifest = load_manifest(path)
    except ManifestError as error:
        return Checked(path, error.problems)
    problems = sorted(_endpoint_problems(path, manifest))
    if problems:
        return Checked(path, problems)
    found = depth(manifest)
    return Checked(path, [], found.score, tuple(found.missing))


def _endpoint_problems(path: Path, manifest: Manifest) -> Iterator[Problem]:
    for name, endpoint in manifest.endpoints.items():
        try:
            compile_endpoint(endpoint, manifest)
        except Invalid as error:
            document = strict_yaml.read(path.read_bytes())
            for fault in error.fields:
                loc = ("endpoints", name, *fault.loc)
                where = ".".join(str(step) for step in loc)
                yield Problem(path.name, document.line(loc), f"{where}: {fault.msg}")
