"""Ready files: what a hub or a sandbox leaves on disk about where it answers. They hold secrets: mode 600."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from trunkline.errors import Invalid


def read_ready(path: Path) -> dict[str, str] | None:
    """Read what a hub left about itself, or None when there is no such file.

    Raises:
        Invalid: the file cannot be read or is not what a hub writes.
    """
    try:
        ready = orjson.loads(path.read_bytes())
        return {name: str(ready[name]) for name in ("url", "workspace_id", "api_key")}
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid(f"{path} is not the ready file of a hub; start it anew with `trunkline up`") from error


def write_ready(path: Path, value: Any) -> None:
    """Write JSON with mode 600; a reader sees the whole file or none.

    Raises:
        Invalid: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # made with mode 600
        with os.fdopen(handle, "wb") as file:
            file.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        Path(name).replace(path)
    except OSError as error:
        raise Invalid(f"{path} cannot be written: {error.strerror}") from error


def forget_ready(files: Iterable[Path]) -> None:
    """Remove ready files of an earlier run: whoever waits for one must not find a dead address.

    Raises:
        Invalid: a file cannot be removed.
    """
    for path in files:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise Invalid(f"{path} cannot be removed: {error.strerror}") from error
