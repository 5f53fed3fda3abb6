"""The documentation's examples run: commands, requests, connector files and Python, against a real hub and sandbox.

The conventions, for whoever writes a page:
- `console`: each `$ ` line is run by bash, in order, in one folder; what follows it is its output, where `…` stands
  for anything. It must end with 0, or with what a comment `# exit code N` says.
- `http`: a request; the `json` block after it is part of its answer (`"…"` stands for anything, and so does any number
  with a decimal point). A success is expected, or the status in the block's info line: `json 422`.
- `yaml`: a whole connector file. `python`: run as it stands, with `api_key` given.
- `text` is no example. `<!-- not run: why -->` before a block keeps it from all that.
"""

import ast
import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import docs_pages as docs
import trunkline.sandbox
from docs_pages import Block
from trunkline.cli.checking import check_file

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("docs")]
SECONDS = 30
HUB, SANDBOX = "127.0.0.1:8700", "127.0.0.1:8099"
CAPTURED = {
    "integrations": "integration_id",
    "people": "person_id",
    "api-keys": "key_id",
    "routes": "route_id",
    "datasets": "dataset_id",
    "runs": "run_id",
    "uploads": "upload_id",
}


def _pages_with(*kinds: str) -> list[Any]:
    pages = [
        page
        for page in docs.PAGES
        if any(block.kind in kinds and block.is_run for block in docs.blocks(page))
    ]
    return [pytest.param(page, id=page.name) for page in pages]


@dataclass
class Place:
    """Where examples run: a folder whose hub and sandbox stand for the usual addresses."""

    folder: Path
    hub: dict[str, str]
    sandbox: dict[str, Any]
    names: dict[str, str] = field(default_factory=dict)

    def real(self, text: str) -> str:
        """Replace the addresses and `<credential>`s of an example with those of this run."""
        address = self.sandbox["control_url"].split("/")[2]
        text = text.replace(HUB, self.hub["url"].removeprefix("http://"))
        text = text.replace(SANDBOX, address).replace("localhost:8099", address)
        values = self.sandbox["servicenow"] | {"token": self.sandbox["pagerduty"]["token"]} | self.hub
        return re.sub(r"<(\w+)>", lambda found: values.get(found[1], found[0]), text)

    def named(self, text: str) -> str:
        """Replace `{integration_id}` and the like with what an earlier answer said."""
        known = self.names | {"workspace_id": self.hub["workspace_id"]}
        return re.sub(r"\{(\w+)\}", lambda found: known.get(found[1], found[0]), text)

    def send(self, block: Block) -> tuple[int, Any]:
        """Send the request of an `http` block."""
        head, _, body = self.real(block.text).partition("\n\n")
        line, *given = head.splitlines()
        method, path = self.named(line).split(" ")
        headers = dict(text.split(": ", 1) for text in given) | {
            "authorization": f"Bearer {self.hub['api_key']}"
        }
        request = urllib.request.Request(
            self.hub["url"] + path, self.named(body).encode() or None, headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                status, raw = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, raw = error.code, error.read()
        value = json.loads(raw) if raw else None
        noun = path.partition("?")[0].rpartition("/")[2]
        if method == "POST" and status == 201 and noun in CAPTURED:
            self.names[CAPTURED[noun]] = value["key_id" if noun == "api-keys" else "id"]
        return status, value

    def has_integration(self, name: str) -> None:
        """Make an integration of this name unless another page made it: no page needs another to run first."""
        service = self.sandbox["servicenow"]
        body = {
            "name": name,
            "display_name": name,
            "connector": "servicenow",
            "config": {"url": service["url"]},
            "credentials": {"values": {key: service[key] for key in ("username", "password")}},
        }
        text = f"POST /v1/{{workspace_id}}/integrations\n\n{json.dumps(body)}"
        status, answer = self.send(Block(Path("none"), 1, "http", "", text, is_run=True))
        assert status in {201, 409}, answer


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A folder in which `trunkline up` and `trunkline sandbox` are running."""
    folder = tmp_path_factory.mktemp("docs")
    with ExitStack() as stack:
        stack.enter_context(
            _running(folder, "sandbox", "--port", "0", "--count", "30", "--ready-file", "sandbox.json")
        )
        sandbox = _read_when_there(folder / "sandbox.json")
        allow = sandbox["control_url"].split("/")[2]
        stack.enter_context(_running(folder, "up", "--port", "0", TRUNKLINE_EGRESS_ALLOW=allow))
        yield Place(folder, _read_when_there(folder / "trunkline-data" / "ready.json"), sandbox)


@contextmanager
def _running(folder: Path, *words: str, **environment: str) -> Iterator[None]:
    log = (folder / f"{words[0]}.log").open("wb")
    command = [sys.executable, "-P", "-m", "trunkline", *words]
    process = subprocess.Popen(command, cwd=folder, env=os.environ | environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(SECONDS)
        log.close()


def _read_when_there(path: Path) -> dict[str, Any]:
    give_up_at = time.monotonic() + SECONDS
    while not path.exists():
        assert time.monotonic() < give_up_at, f"{path.name} was not written"
        time.sleep(0.02)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize("page", _pages_with("console"))
def test_commands_do_what_the_page_shows(page: Path, place: Place):
    if "curl" in page.read_text() and shutil.which("curl") is None:
        pytest.skip("this page's commands need curl")
    shown = [
        item
        for block in docs.blocks(page)
        if block.kind == "console" and block.is_run
        for item in _steps(block)
    ]
    script = "".join(f"{command}\nprintf '\\n\\x1e%s\\n' $?\n" for command, _, _ in shown)
    environment = os.environ | _variables(page, place)
    done = subprocess.run(
        ["bash", "-c", place.real(script)],
        cwd=place.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    results = re.findall(r"(.*?)\n\x1e(\d+)\n", done.stdout, re.DOTALL)
    assert len(results) == len(shown), done.stdout
    for (command, code, output), (said, status) in zip(shown, results, strict=True):
        assert int(status) == code, f"{command}\n{said}"
        assert _matches(place.real(output), said), f"{command}\n{said}\ninstead of\n{output}"


def _variables(page: Path, place: Place) -> dict[str, str]:
    """Return what commands find in their environment: our own program, and what the sandbox page's variables mean."""
    tickets, pager = place.sandbox["servicenow"], place.sandbox["pagerduty"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    (place.folder / ".curlrc").write_text("silent\nshow-error\nfail-with-body\n")
    values = {"PATH": path, "TERM": "dumb", "CURL_HOME": str(place.folder)}
    if page.name == "sandbox.md":
        values |= {"URL": tickets["url"], "USER": tickets["username"], "PASSWORD": tickets["password"]}
        values |= {"ID": tickets["client_id"], "SECRET": tickets["client_secret"]}
        values |= {
            "EVENTS": pager["events_url"],
            "PAGER": pager["url"],
            "TOKEN": pager["token"],
            "SERVICE": pager["service_id"],
        }
        values |= {"KEY": pager["routing_key"]}
        sentry, linear, github = (place.sandbox[name] for name in ("sentry", "linear", "github"))
        values |= {"SENTRY": sentry["url"], "SENTRY_TOKEN": sentry["token"]}
        values |= {"LINEAR": linear["url"], "LINEAR_KEY": linear["api_key"]}
        values |= {"GITHUB": github["url"], "GITHUB_TOKEN": github["token"]}
        for name in ("slack", "discord", "telegram", "whatsapp"):
            values |= {name.upper(): place.sandbox[name]["url"]}
            values |= {f"{name.upper()}_TOKEN": place.sandbox[name]["token"]}
        values |= {"CHANNEL": place.sandbox["discord"]["channel_id"]}
        values |= {"NUMBER_ID": place.sandbox["whatsapp"]["phone_number_id"]}
    return values


def _steps(block: Block) -> Iterator[tuple[str, int, str]]:
    """Yield each command of a block, its exit code, and the output shown."""
    for chunk in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        lines = chunk.splitlines()
        length = next(n for n in range(1, len(lines) + 1) if _is_whole("\n".join(lines[:n])))
        command = "\n".join(lines[:length])
        code = re.search(r"# exit code (\d+)$", command)
        yield command, int(code[1]) if code else 0, "\n".join(lines[length:])


def _is_whole(command: str) -> bool:
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return False
    return not command.endswith("\\")


def _matches(shown: str, said: str) -> bool:
    """Tell whether the lines shown are in the output, in order; `…` stands for anything, spaces for spaces."""
    pattern = r".*?".join(
        r"\s+".join(r"\S*".join(map(re.escape, word.split("…"))) for word in line.split())
        for line in shown.splitlines()
        if line.strip() not in {"", "…"}
    )
    return re.search(pattern, said, re.DOTALL) is not None


@pytest.mark.parametrize("page", _pages_with("http"))
def test_requests_are_answered_as_the_page_shows(page: Path, place: Place):
    place.names.clear()
    status, answer = 0, None
    for block in docs.blocks(page):
        if block.kind == "http" and block.is_run:
            assert status in {0, *range(200, 300)}, f"{block}: the request before it: {status} {answer}"
            status, answer = place.send(block)
        elif block.kind == "json" and block.is_run:
            wanted = int(block.note) if block.note else status if 200 <= status < 300 else 200
            assert (status, _differences(json.loads(place.real(block.text)), answer)) == (wanted, []), str(
                block
            )
            status = 0
    assert status in {0, *range(200, 300)}, answer


def _differences(shown: Any, said: Any, where: str = "answer") -> list[str]:
    """List where an answer is not what is shown; it may say more."""
    if isinstance(shown, dict) and isinstance(said, dict):
        absent = [f"{where}.{key} is absent" for key in shown.keys() - said.keys()]
        return absent + [
            text
            for key in shown.keys() & said.keys()
            for text in _differences(shown[key], said[key], f"{where}.{key}")
        ]
    if isinstance(shown, list) and isinstance(said, list):
        if shown[-1:] == ["…"]:
            shown, said = shown[:-1], said[: len(shown) - 1]
        if len(shown) != len(said):
            return [f"{where} has {len(said)} items, not {len(shown)}"]
        pairs = enumerate(zip(shown, said, strict=True))
        return [text for n, (one, other) in pairs for text in _differences(one, other, f"{where}[{n}]")]
    if isinstance(shown, str) and isinstance(said, str) and "…" in shown:
        pattern = ".*".join(map(re.escape, shown.split("…")))
        return [] if re.fullmatch(pattern, said, re.DOTALL) else [f"{where} is {said!r}, not {shown!r}"]
    is_same = shown in ("…", said) or (isinstance(shown, float) and isinstance(said, float | int))
    return [] if is_same else [f"{where} is {said!r}, not {shown!r}"]


@pytest.mark.parametrize("page", _pages_with("yaml"))
def test_connector_files_on_a_page_are_valid(page: Path, tmp_path: Path):
    for number, block in enumerate(docs.blocks(page)):
        if block.kind == "yaml" and block.is_run:
            file = tmp_path / f"example_{number}.yaml"
            file.write_text(block.text)
            assert check_file(file).problems == [], str(block)


@pytest.mark.parametrize("page", _pages_with("python"))
def test_python_on_a_page_runs(page: Path, place: Place):
    for block in docs.blocks(page):
        if block.kind == "python" and block.is_run:
            names = {name: getattr(trunkline.sandbox, name) for name in trunkline.sandbox.__all__}
            names["api_key"] = place.hub["api_key"]
            place.has_integration("now")
            code = compile(place.real(block.text), str(block), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            result = eval(code, names)
            if result is not None:
                asyncio.run(result)


def test_every_block_is_of_a_kind_that_is_checked():
    kinds = {"console", "http", "json", "yaml", "python", "text"}
    odd = [
        str(block)
        for page in docs.PAGES
        for block in docs.blocks(page)
        if block.is_run and block.kind not in kinds
    ]
    assert odd == []
