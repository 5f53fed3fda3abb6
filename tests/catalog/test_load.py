import re

import pytest

from trunkline.catalog.load import ManifestError, load_manifest, parse_manifest
from trunkline.catalog.manifest import AuthMethod, AuthType, Paging, credential_fields
from trunkline.catalog.part_checks import AUTH_WORDS, PAGING_WORDS

GOOD = """\
name: Acme
base_url: "{config.url}"
config:
  url: {label: Address, example: "https://acme.example", pattern: "^https://"}
auth:
  token: {type: bearer_token}
check: list_items
errors: {message: error.message}
maps:
  level: {high: 1, low: 3}
endpoints:
  list_items:
    path: /items
    records: items
  create_item:
    method: POST
    path: "/folders/{folder}/items"
    input_schema:
      type: object
      required: [folder, title]
      properties:
        folder: {type: string}
        title: {type: string}
        level: {enum: [high, low]}
    body: {title: "{title}", level: "{level?|level}"}
streams:
  items: {endpoint: list_items, key: id}
"""


def problems(text, connector_id="acme"):
    try:
        parse_manifest(text.encode(), connector_id)
    except ManifestError as error:
        return [str(problem) for problem in error.problems]
    return []


def with_change(old, new):
    assert GOOD.count(old) == 1, old
    return problems(GOOD.replace(old, new))


def test_a_good_file_loads_with_its_id_and_the_endpoints_names():
    manifest = parse_manifest(GOOD.encode(), "acme")
    assert manifest.id == "acme"
    assert manifest.endpoints["create_item"].name == "create_item"
    assert manifest.endpoints["list_items"].method == "GET"


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("check: list_items", "chek: list_items", 7, "chek: unknown word; did you mean 'check'?"),
        ("name: Acme", "name: Acme\nid: acme", 2, "id: is given by the name of the file"),
        ("    records: items", "    name: list_items", 14, "is given by its key"),
        ("    records: items", "    retry_config: {max: 3}", 14, "retry_config.max: unknown word"),
        ("    records: items", "    paging: {type: x}", 14, "paging.type: Input should be 'none'.*, not 'x'"),
        ("    records: items", "    paging: {type: cursor}", 14, "type 'cursor' needs 'cursor_param'"),
        (
            "    records: items",
            "    paging: {type: link, offset_param: o}",
            14,
            "paging.offset_param: is no word of type 'link'",
        ),
        (
            "    records: items",
            "    paging: {type: keyset, offset_param: o, limit: {param: n, size: 5}}",
            14,
            "keyset follows a cursor",
        ),
        ("    records: items", "    records: 'a..b'", 14, "records: is no path"),
        ("    records: items", "    body: {a: 1}", 14, "body: GET sends no body"),
        ("    records: items", "    max_result_length: '5'", 14, "should be a valid integer, not '5'"),
        ("    records: items", "    response_mapping: {a: '[[x'}", 14, "response_mapping.a: is no path"),
        ("    path: /items", "    path: items", 13, "path: must begin with one '/'"),
        ("    path: /items", "    base_url: https://x", 12, "endpoints.list_items.path: is missing"),
        (
            "check: list_items",
            "check: list_itms",
            7,
            "check: no endpoint 'list_itms'; did you mean 'list_items'?",
        ),
        ("check: list_items", "check: create_item", 7, r"needs parameters \(folder, title\)"),
        ("endpoint: list_items", "endpoint: items", 27, "endpoint: no endpoint 'items'"),
        ("endpoint: list_items", "endpoint: create_item", 27, "'create_item' needs 'folder'"),
        ("key: id}", "key: id, params: {x: 1}}", 27, "params.x: is no parameter of 'list_items'"),
        ("key: id}", "key: id, for_each: {stream: x, params: {}}}", 27, "for_each.stream: no stream 'x'"),
        (
            "key: id}",
            "key: id, for_each: {stream: items, params: {}}}",
            27,
            "goes in a circle: items → items",
        ),
        (
            "key: id}",
            'key: id, cursor: {field: at, start: "0", query: {since: x}}}',
            27,
            "must look up {cursor} somewhere",
        ),
        (
            "key: id}",
            "key: id, paging: {type: keyset, offset_param: o, limit: {param: n, size: 5}}}",
            27,
            "keyset needs the stream's `cursor`",
        ),
        (
            'title: "{title}"',
            'title: "{titel}"',
            25,
            "'{titel}' is not in input_schema.properties; did you mean",
        ),
        ('title: "{title}"', 'title: "{level}"', 25, "list 'level' under input_schema.required"),
        ('title: "{title}"', "title: fixed", 23, "properties.title: is never sent"),
        ('title: "{title}"', 'title: "{title} {config.nope}"', 25, "'{config.nope}' is not in config"),
        ('title: "{title}"', 'title: "{title} {secret.nope}"', 25, "is no secret of auth or webhook"),
        ('title: "{title}"', 'title: "{title} {payload.x}"', 25, "`payload` cannot be looked up here"),
        ('title: "{title}"', 'title: "{title} {"', 25, "stray"),
        ("|level}", "|levels}", 25, "names no table of `maps`"),
        (
            "  level: {high: 1, low: 3}",
            "  level: {high: 1}\n  more: {a: 1}",
            11,
            "maps.more: is never looked up",
        ),
        ("/folders/{folder}/", "/folders/{folder?}/", 17, "is part of the path and cannot be optional"),
        ("[folder, title]", "[folder, title, x]", 20, "'x' is not in properties"),
        ("      type: object\n", "", 18, "must have `type: object`"),
        ('base_url: "{config.url}"', "base_url: ftp://x/{config.url}", 2, "must begin with https://"),
        ('base_url: "{config.url}"', 'base_url: "{config.url}{secret.bearer_token}"', 2, "`secret` cannot"),
        ('pattern: "^https://"', "pattern: '(?=x)'", 4, "is no usable pattern: look-around"),
        ('pattern: "^https://"', "pattern: '^ftp://'", 4, "config.url.example: does not match the pattern"),
        ('pattern: "^https://"', "optional: true", 2, "is needed by every call, but optional"),
        ("{type: bearer_token}", "{type: bearer_token, token_url: x}", 6, "token_url: is no word of type"),
        ("{type: bearer_token}", "{type: oauth2_client_credentials}", 6, "needs 'token_url'"),
        ("{type: bearer_token}", "{type: beaver}", 6, "auth.token.type: Input should be.*, not 'beaver'"),
        (
            "{type: bearer_token}",
            "{type: basic, secrets: {password: {label: x}}}",
            6,
            "auth types use themselves",
        ),
        ("  items: {endpoint", "  Items: {endpoint", 27, "a name is lower-case letters"),
        ("errors: {message: error.message}", "errors: {message: error.}", 8, "errors.message: is no path"),
        ("errors: {message: error.message}", "errors: message", 8, "errors: Input should be"),
    ],
)
def test_each_fault_is_told_with_its_line(old, new, line, said):
    found = with_change(old, new)
    assert any(text.startswith(f"acme.yaml:{line}: ") and re.search(said, text) for text in found), found


def test_every_problem_of_a_file_is_reported_at_once_sorted_by_line():
    text = GOOD.replace("check: list_items", "check: nope").replace('"{title}"', '"{nope}"')
    text = text.replace("key: id", "key: 'a..'")
    assert [int(found.split(":")[1]) for found in problems(text)] == [7, 23, 25, 27]


def test_writing_and_vocabulary_faults_come_together():
    text = GOOD.replace("name: Acme", "name: Acme\nodd: yes")
    assert len(problems(text)) == 2


def test_unused_config_is_refused():
    text = GOOD.replace("config:\n", "config:\n  spare: {label: Spare}\n")
    assert problems(text) == [
        "acme.yaml:4: config.spare: is never looked up; remove it, or write '{config.spare}' somewhere"
    ]


@pytest.mark.parametrize("connector_id", ["Acme", "9acme", "ac-me", "", "a" * 65])
def test_the_files_name_must_be_an_id(connector_id):
    assert "file's name must be" in problems(GOOD, connector_id)[0]


@pytest.mark.parametrize("text", ["", "- a", "text", "42"])
def test_a_file_that_is_no_mapping_is_refused(text):
    assert "is empty or no mapping" in problems(text)[0]


def test_a_file_is_read_from_disk(tmp_path):
    path = tmp_path / "acme.yaml"
    path.write_text(GOOD)
    assert load_manifest(path).name == "Acme"


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(ManifestError, match=r"gone\.yaml:1: cannot be read"):
        load_manifest(tmp_path / "gone.yaml")
    path = tmp_path / "acme.yml"
    path.write_text(GOOD)
    with pytest.raises(ManifestError, match=r"ends in \.yaml"):
        load_manifest(path)


def test_every_paging_and_auth_type_has_its_words():
    from typing import get_args

    assert set(PAGING_WORDS) == set(get_args(Paging.model_fields["type"].annotation))
    assert set(AUTH_WORDS) == set(get_args(AuthType))


def test_a_key_that_is_all_there_is_to_enter_is_called_as_its_way_in_is():
    bot = AuthMethod(type="api_key_header", label="Bot token", description="Under Bot.")
    [field] = credential_fields(bot)
    assert (field.name, field.label, field.description) == ("api_key", "Bot token", "Under Bot.")
    [plain] = credential_fields(AuthMethod(type="bearer_token"))
    assert plain.label == "Token"
    pair = credential_fields(AuthMethod(type="basic", label="User name and password"))
    assert [field.label for field in pair] == ["User name", "Password"]
