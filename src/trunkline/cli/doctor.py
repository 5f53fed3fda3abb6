"""`trunkline doctor`: look at this machine, the data directory and the hub, and say the way out of what is wrong.

It changes nothing: no file is made, no table migrated.
"""

import asyncio
import platform
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import typer

import trunkline
from trunkline.catalog.registry import Registry
from trunkline.cli import output
from trunkline.cli.reach import Address, AsJson, find_hub
from trunkline.client import Trunkline
from trunkline.clock import SystemClock
from trunkline.db.revision import revision
from trunkline.egress.allowlist import AllowList
from trunkline.errors import Invalid, TrunklineError, Unauthenticated, Unavailable
from trunkline.settings import Settings
from trunkline.vault import KeyRing

Level = Literal["ok", "warn", "fail"]
_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}
_LEAST_FREE_MB = 100
_FEW_FREE_MB = 1024
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is, and the way out if it is not well."""

    check: str
    level: Level
    text: str
    way_out: str = ""


def doctor(
    *,
    data_dir: Annotated[
        Path | None, typer.Option(help="The hub's data directory, else TRUNKLINE_DATA_DIR.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Address of the hub, else TRUNKLINE_URL.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check this machine, the data directory and the hub."""
    findings = list(examine(data_dir, url))
    if as_json:
        output.show_json({"findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            _show(finding)
    if any(finding.level == "fail" for finding in findings):
        raise typer.Exit(output.ExitCode.FAILED)


def _show(finding: Finding) -> None:
    output.say(f"{finding.level:<4}  {finding.check:<12}  {finding.text}", _STYLES[finding.level])
    if finding.way_out:
        output.say(f"      {'':<12}  {finding.way_out}", "dim")


def examine(data_dir: Path | None, url: str | None) -> Iterator[Finding]:
    """Look at everything, in the order in which one would fix it."""
    yield _python()
    yield _clock()
    try:
        settings = Settings.load(data_dir=data_dir)
    except Invalid as error:
        yield Finding("settings", "fail", str(error), "Correct or unset these variables.")
        return
    yield Finding("settings", "ok", "every TRUNKLINE_ variable can be read")
    yield _data_dir(settings.data_dir)
    yield _disk(settings.data_dir)
    yield _master_key(settings)
    yield _attempt(
        "database", lambda: _database(settings), "Start the database, or correct TRUNKLINE_DATABASE_URL."
    )
    yield _attempt("egress", lambda: _egress(settings), "Correct TRUNKLINE_EGRESS_ALLOW.")
    yield from _connectors(settings)
    yield from _hub(settings, url)


def _attempt(check: str, look: Callable[[], Finding], way_out: str) -> Finding:
    try:
        return look()
    except TrunklineError as error:
        return Finding(check, "fail", error.message, way_out)


def _python() -> Finding:
    return Finding("python", "ok", f"{platform.python_version()} on {platform.system()}, {sys.executable}")


def _clock() -> Finding:
    now = SystemClock().now()
    installed = datetime.fromtimestamp(Path(trunkline.__file__).stat().st_mtime, UTC)
    text = f"{now:%Y-%m-%d %H:%M:%S} UTC"
    if now < installed - timedelta(minutes=1):
        way_out = (
            "Set the clock: it is before this program was installed, so expiry dates and signatures fail."
        )
        return Finding("clock", "fail", text, way_out)
    return Finding("clock", "ok", text)


def _data_dir(path: Path) -> Finding:
    if not path.exists():
        return Finding(
            "data dir", "warn", f"{path} does not exist yet", "`trunkline up` or `trunkline init` makes it."
        )
    if not path.is_dir():
        return Finding("data dir", "fail", f"{path} is no directory", "Choose another with --data-dir.")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & _OTHERS:
        return Finding("data dir", "warn", f"{path} is open to others (mode {mode:o})", f"chmod 700 {path}")
    return Finding("data dir", "ok", f"{path} (mode {mode:o})")


def _disk(path: Path) -> Finding:
    place = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free // 1024**2
    text = f"{free:,} MiB free at {place}"
    if free < _LEAST_FREE_MB:
        return Finding("disk", "fail", text, "Free some space: writes are about to be refused.")
    return Finding("disk", "warn" if free < _FEW_FREE_MB else "ok", text)


def _master_key(settings: Settings) -> Finding:
    if not settings.master_key and not settings.key_file.exists():
        return Finding(
            "master key", "warn", f"{settings.key_file} does not exist yet", "The first start makes it."
        )
    source = "TRUNKLINE_MASTER_KEY" if settings.master_key else str(settings.key_file)
    way_out = f"Correct {source}; without it no stored secret can be opened."
    if not settings.master_key and settings.key_file.stat().st_mode & _OTHERS:
        text = f"{source} can be read by others"
        return Finding("master key", "fail", text, f"chmod 600 {source}, then `trunkline key rotate`")
    return _attempt(
        "master key",
        lambda: Finding("master key", "ok", f"{source}, key {KeyRing.load(settings).first_id}"),
        way_out,
    )


def _database(settings: Settings) -> Finding:
    kind = "PostgreSQL" if settings.database_url else "SQLite"
    found = revision(settings)
    if not found.known:
        text = f"{kind} was made by a newer Trunkline (revision {found.current})"
        return Finding("database", "fail", text, "Install that version, or restore an older backup.")
    if found.current is None:
        return Finding("database", "warn", f"{kind} has no tables yet", "The first start makes them.")
    if found.current != found.newest:
        text = f"{kind} is at revision {found.current}, not yet {found.newest}"
        return Finding(
            "database", "warn", text, "The next start of the hub brings it up to date; make a backup first."
        )
    return Finding("database", "ok", f"{kind} at revision {found.current}, the newest")


def _egress(settings: Settings) -> Finding:
    opened = AllowList.parse(settings.egress_allow)
    count = len(opened.hosts) + len(opened.networks)
    if any(network.prefixlen == 0 for network, _ in opened.networks):
        return Finding(
            "egress", "warn", "every address is open", "Name single hosts in TRUNKLINE_EGRESS_ALLOW."
        )
    return Finding("egress", "ok", f"{count} private hosts or networks are open to calls")


def _connectors(settings: Settings) -> Iterator[Finding]:
    registry = Registry(settings.connectors_dir)
    for problem in registry.problems:
        if problem.level == "error":
            yield Finding("connectors", "fail", str(problem), "`trunkline connector check` tells more.")
        else:
            yield Finding("connectors", "warn", str(problem))
    yield Finding("connectors", "ok", f"{len(registry.all())} connectors can be used")


def _hub(settings: Settings, url: str | None) -> Iterator[Finding]:
    try:
        address = find_hub(url, None, None, settings.data_dir)
    except Unauthenticated as error:
        yield Finding("hub", "warn", error.message, "Give a key in TRUNKLINE_API_KEY to have it checked.")
        return
    except Unavailable:
        yield _port(settings)
        return
    except TrunklineError as error:
        yield Finding("hub", "fail", error.message)
        return
    try:
        yield from asyncio.run(_ask(address))
    except Unavailable as error:
        yield Finding("hub", "warn", error.message, "Start it with `trunkline up`.")
        yield _port(settings)
    except TrunklineError as error:
        yield Finding(
            "hub", "fail", f"{address.url}: {error.message}", "Give a key that holds in TRUNKLINE_API_KEY."
        )


async def _ask(address: Address) -> list[Finding]:
    async with Trunkline(address.url, address.api_key) as hub:
        ready = await hub.ready()
        version = str((await hub.description()).get("info", {}).get("version"))
        me = await hub.me()
    state = Finding("hub", "ok", f"{address.url} is ready")
    if not ready:
        state = Finding(
            "hub", "fail", f"{address.url} says it is not ready", f"Ask why: {address.url}/readyz"
        )
    own = trunkline.__version__
    if version == own:
        same = Finding("version", "ok", own)
    else:
        same = Finding(
            "version", "warn", f"the hub is {version}, this is {own}", "Use one version on both sides."
        )
    return [state, same, Finding("API key", "ok", f"{me['key_id']} ({me['role']}) of {me['workspace_name']}")]


def _port(settings: Settings) -> Finding:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    place = f"{settings.host} port {settings.port}"
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            way_out = "Stop what listens there, or choose another with --port."
            return Finding("port", "fail", f"{place}: {error.strerror}", way_out)
    return Finding("port", "ok", f"{place} is free")
