import re
from pathlib import Path

from trunkline.catalog.load import parse_manifest
from trunkline.catalog.part_checks import AUTH_WORDS, PAGING_WORDS
from trunkline.catalog.template import NAMESPACES
from trunkline.catalog.vocabulary import did_you_mean, parts

PAGE = (Path(__file__).parents[2] / "docs" / "connectors.md").read_text()


def test_every_word_of_the_vocabulary_is_explained():
    explained = set(re.findall(r"`([a-z_0-9]+)`", PAGE))
    words = {word for part in parts().values() for word in part} | set(PAGING_WORDS) | set(AUTH_WORDS)
    assert words - explained == set()


def test_every_look_up_of_requests_is_explained():
    later = {"connection", "payload", "header", "incident"}
    assert [name for name in NAMESPACES - later if f"`{{{name}" not in PAGE] == []


def test_the_vocabulary_stays_closed():
    words = {word for part in parts().values() for word in part}
    assert len(parts()) <= 22
    assert len(words) <= 126  # docs/decisions.md, 20 and 45


def test_the_example_of_the_page_is_a_good_connector():
    example = PAGE.split("```yaml\n")[1].split("```")[0]
    assert parse_manifest(example.encode(), "acme").streams["orders"].key == "id"


def test_the_paging_table_says_what_the_checks_say():
    for kind, (needed, allowed) in PAGING_WORDS.items():
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{kind}` |"))
        _, _, needs, may, _ = row.split("|")
        assert set(re.findall(r"`(\w+)`", needs)) - {"cursor"} == needed
        assert set(re.findall(r"`(\w+)`", may)) == allowed


def test_a_near_word_is_proposed_and_few_are_listed():
    assert did_you_mean("pagin", ["paging", "path"]) == "; did you mean 'paging'?"
    assert did_you_mean("zzz", ["paging", "path"]) == "; known here: paging, path"
    assert did_you_mean("zzz", []) == ""
