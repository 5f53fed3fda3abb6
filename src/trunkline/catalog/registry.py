"""The connectors at hand: those of the package and those of one more folder, reloaded when a file changes."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from trunkline.catalog.load import ManifestError, Problem, load_manifest
from trunkline.catalog.manifest import Manifest
from trunkline.catalog.vocabulary import did_you_mean
from trunkline.errors import NotFound

BUILT_IN = Path(__file__).resolve().parent.parent / "connectors"
LOOK_EVERY_SECONDS = 1.0

_Stamp = tuple[int, int, int]


class Registry:
    """Connectors by id. A file of `extra` replaces the built-in one of the same id, and a notice says so.

    A file that stops being valid keeps its last good version in use; `problems` says what is wrong with it.
    Safe to use from several threads.
    """

    def __init__(
        self,
        extra: Path | None = None,
        *,
        built_in: Path = BUILT_IN,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folders = [built_in] if extra is None else [built_in, extra]
        self._extra = extra
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._looked_at: float | None = None
        self._stamps: dict[Path, _Stamp] = {}
        self._loaded: dict[Path, Manifest] = {}
        self._faults: dict[Path, list[Problem]] = {}
        self._manifests: dict[str, Manifest] = {}
        self.problems: list[Problem] = []
        self.version = 0
        """Grows with every change, for caches of what is made from manifests."""
        self.refresh()

    def get(self, connector_id: str) -> Manifest:
        """Return one connector. Raises NotFound, naming the nearest id."""
        self.refresh()
        manifests = self._manifests
        if connector_id not in manifests:
            found = did_you_mean(connector_id, sorted(manifests))
            raise NotFound(f"No connector '{connector_id[:64]}'{found}")
        return manifests[connector_id]

    def all(self) -> list[Manifest]:
        """List every connector, by id."""
        self.refresh()
        manifests = self._manifests
        return [manifests[connector_id] for connector_id in sorted(manifests)]

    def refresh(self) -> None:
        """Reload what changed on disk; looks at most once a second, so it may be called on every request."""
        now = self._monotonic()
        if self._looked_at is not None and now - self._looked_at < LOOK_EVERY_SECONDS:
            return
        with self._lock:
            self._looked_at = now
            stamps = {path: stamp for folder in self._folders for path, stamp in _stamps(folder)}
            if stamps != self._stamps or self.version == 0:
                self._reload(stamps)

    def _reload(self, stamps: dict[Path, _Stamp]) -> None:
        for path in [path for path in self._stamps if path not in stamps]:
            self._loaded.pop(path, None)
            self._faults.pop(path, None)
        for path, stamp in stamps.items():
            if self._stamps.get(path) != stamp:
                self._load(path)
        self._stamps = stamps
        manifests: dict[str, Manifest] = {}
        notices: list[Problem] = []
        for path in stamps:
            if (manifest := self._loaded.get(path)) is None:
                continue
            if manifest.id in manifests:
                text = f"replaces the built-in connector '{manifest.id}'"
                notices.append(Problem(path.name, 1, text, level="notice"))
            manifests[manifest.id] = manifest
        self._manifests = manifests
        faults = [problem for path in sorted(self._faults) for problem in self._faults[path]]
        self.problems = [*self._missing_folder(), *faults, *notices]
        self.version += 1

    def _load(self, path: Path) -> None:
        try:
            self._loaded[path] = load_manifest(path)
            self._faults.pop(path, None)
        except ManifestError as error:
            self._faults[path] = error.problems

    def _missing_folder(self) -> list[Problem]:
        if self._extra is None or self._extra.is_dir():
            return []
        return [Problem(str(self._extra), 1, "is no folder; no connectors are read from it")]


def _stamps(folder: Path) -> list[tuple[Path, _Stamp]]:
    found = []
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix in {".yaml", ".yml"})
    except OSError:
        return []
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            continue
        found.append((path, (stat.st_mtime_ns, stat.st_size, stat.st_ino)))
    return found
