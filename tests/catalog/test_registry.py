import os

import pytest

from trunkline.catalog.registry import Registry
from trunkline.clock import ManualClock
from trunkline.errors import NotFound

ACME = 'name: {name}\nbase_url: "https://acme.example"\n'


class Folder:
    """A folder of connectors whose files always get a new time stamp."""

    def __init__(self, path):
        self.path = path
        self.ticks = 0

    def write(self, connector_id, text):
        path = self.path / f"{connector_id}.yaml"
        path.write_text(text)
        self.ticks += 1
        os.utime(path, ns=(self.ticks, self.ticks))


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def registry(folder, clock):
    return Registry(folder.path, monotonic=clock.monotonic)


def test_the_built_in_connectors_load_without_a_problem():
    registry = Registry()
    assert registry.problems == []
    assert [manifest.id for manifest in registry.all()] == sorted(manifest.id for manifest in registry.all())
    assert registry.all()


def test_an_unknown_connector_is_not_found_and_the_nearest_is_named(folder, clock):
    folder.write("acme", ACME.format(name="Acme"))
    registry = Registry(folder.path, monotonic=clock.monotonic)
    with pytest.raises(NotFound, match="No connector 'acne'; did you mean 'acme'"):
        registry.get("acne")


def test_new_changed_and_removed_files_are_seen(registry, folder, clock):
    folder.write("acme", ACME.format(name="First"))
    clock.advance(1)
    assert registry.get("acme").name == "First"
    folder.write("acme", ACME.format(name="Other"))
    clock.advance(1)
    assert registry.get("acme").name == "Other"
    (folder.path / "acme.yaml").unlink()
    clock.advance(1)
    with pytest.raises(NotFound):
        registry.get("acme")


def test_the_disk_is_looked_at_once_a_second_at_most(registry, folder, clock):
    folder.write("acme", ACME.format(name="First"))
    clock.advance(0.5)
    with pytest.raises(NotFound):
        registry.get("acme")
    clock.advance(0.5)
    assert registry.get("acme")


def test_an_unchanged_file_is_not_read_again(registry, folder, clock):
    folder.write("acme", ACME.format(name="First"))
    clock.advance(1)
    first, version = registry.get("acme"), registry.version
    folder.write("other", ACME.format(name="Other"))
    clock.advance(1)
    assert registry.get("acme") is first
    assert registry.version == version + 1


def test_a_file_that_breaks_keeps_its_last_good_version(registry, folder, clock):
    folder.write("acme", ACME.format(name="Good"))
    clock.advance(1)
    registry.refresh()
    folder.write("acme", "name: yes\n")
    clock.advance(1)
    assert registry.get("acme").name == "Good"
    assert [problem.level for problem in registry.problems] == ["error", "error"]
    assert str(registry.problems[0]).startswith("acme.yaml:1: ")
    folder.write("acme", ACME.format(name="Mended"))
    clock.advance(1)
    assert registry.get("acme").name == "Mended"
    assert registry.problems == []


def test_one_bad_file_does_not_hurt_its_neighbours(folder, clock):
    folder.write("bad", ": [")
    folder.write("acme", ACME.format(name="Acme"))
    registry = Registry(folder.path, monotonic=clock.monotonic)
    assert registry.get("acme")
    assert [problem.file for problem in registry.problems] == ["bad.yaml"]


def test_a_file_of_the_extra_folder_replaces_the_built_in_one_with_a_notice(folder, clock):
    built_in = Registry().all()[0].id
    folder.write(built_in, ACME.format(name="Mine"))
    registry = Registry(folder.path, monotonic=clock.monotonic)
    assert registry.get(built_in).name == "Mine"
    (notice,) = registry.problems
    assert (notice.level, notice.text) == ("notice", f"replaces the built-in connector '{built_in}'")


def test_a_missing_extra_folder_is_a_problem_not_a_crash(tmp_path):
    registry = Registry(tmp_path / "gone")
    assert registry.all()
    assert "is no folder" in registry.problems[0].text
