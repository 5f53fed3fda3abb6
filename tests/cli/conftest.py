"""A fake hub, and a command line that talks to it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_fake_hub import KEY, WORKSPACE, FakeHub, Run, start
from typer.testing import CliRunner, Result

from trunkline.cli import app


@pytest.fixture
def fake() -> Iterator[FakeHub]:
    """A hub that knows nothing yet but who the key is."""
    hub = FakeHub()
    server = start(hub)
    yield hub
    server.shutdown()
    server.server_close()


@pytest.fixture
def trunkline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, **options: Any) -> Result:
        result = CliRunner().invoke(app, list(arguments), prog_name="trunkline", **options)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def with_hub(fake: FakeHub, trunkline: Run, tmp_path: Path) -> Run:
    """The command line, where the fake hub left its ready file."""
    folder = tmp_path / "trunkline-data"
    folder.mkdir()
    ready = {"url": fake.url, "workspace_id": WORKSPACE, "api_key": KEY}
    (folder / "ready.json").write_text(json.dumps(ready))
    return trunkline
