"""Encoded queries, paging and the look of lists of the fake Table API."""

import pytest

TABLE = "/api/now/table/incident"


async def numbers(snow, query: str, **params) -> list[str]:
    answer = await snow.ask("GET", TABLE, {"sysparm_query": query, "sysparm_fields": "number", **params})
    assert answer.status == 200, answer.body
    return [record["number"] for record in answer.json["result"]]


@pytest.fixture
async def people(snow) -> None:
    """Six incidents of their own category, so that queries see nothing else."""
    for place, (title, impact, urgency) in enumerate(
        [
            ("Printer jams", 1, 1),
            ("printer on fire", 2, 2),
            ("Mail lost", 3, 3),
            ("50^50 chance", 2, 1),
            ("", 3, 1),
            ("MAIL slow", 1, 3),
        ]
    ):
        body = {
            "number": f"T{place}",
            "short_description": title,
            "impact": str(impact),
            "urgency": urgency,
            "category": "test",
            "subcategory": "even" if place % 2 == 0 else "odd",
        }
        answer = await snow.ask("POST", TABLE, json=body)
        assert answer.status == 201


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("number=T1", "1"),
        ("number!=T1", "02345"),
        ("short_description=printer jams", "0"),
        ("short_descriptionLIKEmail", "25"),
        ("short_descriptionNOT LIKEmail", "0134"),
        ("short_descriptionCONTAINSfire", "1"),
        ("short_descriptionDOES NOT CONTAINfire", "02345"),
        ("short_descriptionSTARTSWITHprinter", "01"),
        ("short_descriptionENDSWITHlost", "2"),
        ("short_descriptionISEMPTY", "4"),
        ("short_descriptionISNOTEMPTY", "01235"),
        ("short_description=", "4"),
        ("short_descriptionLIKE^^50", "3"),
        ("numberINT0,T5,T9", "05"),
        ("numberNOT INT0,T5,T9", "1234"),
        ("priority=1", "0"),
        ("priority>2", "1245"),
        ("priority>=2^priority<=3", "1345"),
        ("priority<3", "03"),
        ("number=T1^ORnumber=T2", "12"),
        ("number=T1^ORnumber=T2^impact=3", "2"),
        ("number=T1^impact=1", ""),
        ("sys_created_on>=2025-01-01", "012345"),
        ("sys_created_on>2026-01-01 00:00:00", ""),
        ("sys_created_on<=2026-01-01 00:00:00", "012345"),
        ("sys_created_on>yesterday", ""),
        ("opened_by.nameSTARTSWITHtrunk", ""),
    ],
)
async def test_a_condition_selects_what_it_says(snow, query, found):
    assert await numbers(snow, f"category=test^{query}^ORDERBYnumber") == [f"T{digit}" for digit in found]


@pytest.mark.usefixtures("people")
async def test_a_new_query_joins_two_sets_of_conditions(snow):
    assert await numbers(snow, "number=T1^impact=2^NQnumber=T5^ORDERBYnumber") == ["T1", "T5"]


@pytest.mark.usefixtures("people")
async def test_records_are_ordered_by_several_fields_numbers_as_numbers(snow):
    query = "category=test^ORDERBYsubcategory^ORDERBYDESCpriority^ORDERBYnumber"
    assert await numbers(snow, query) == ["T2", "T4", "T0", "T1", "T5", "T3"]


async def test_a_field_of_a_reference_can_be_asked_for_and_compared(snow):
    query = "caller_id.nameSTARTSWITHAna^ORDERBYnumber"
    answer = await snow.get(TABLE, sysparm_query=query, sysparm_fields="caller_id.name,caller_id.email")
    assert answer.json["result"]
    assert all(record["caller_id.name"].startswith("Ana") for record in answer.json["result"])
    assert all("caller_id" not in record for record in answer.json["result"])


async def test_a_condition_on_an_unknown_field_is_ignored_as_the_real_service_does(snow):
    assert len(await numbers(snow, "no_such_field=1")) == 30


async def test_an_instance_can_be_set_to_answer_nothing_for_an_invalid_query(make_sandbox, snow_of):
    snow = snow_of(make_sandbox(servicenow_invalid_query_returns_no_rows=True))
    assert await numbers(snow, "no_such_field=1") == []


@pytest.mark.parametrize(
    "query",
    [
        "opened_at>javascript:gs.daysAgo(1)",
        "opened_atONToday@javascript:gs.beginningOfToday()",
        "opened_atRELATIVEGE@hour@ago@1",
        "JOINincident.caller_id=sys_user.sys_id!active=true",
        "123TEXTQUERY321=mail",
        "sys_class_nameINSTANCEOFtask",
        "^".join(["number=1"] * 501),
        "x" * 40_000,
    ],
)
async def test_what_the_fake_cannot_do_is_refused_not_ignored(snow, query):
    answer = await snow.get(TABLE, sysparm_query=query)
    assert answer.status == 400
    assert answer.json["status"] == "failure"
    assert answer.json["error"]["message"] == "Invalid query"


@pytest.mark.parametrize(
    "params", [{"sysparm_limit": "ten"}, {"sysparm_offset": "-1"}, {"sysparm_limit": "9" * 20}]
)
async def test_a_limit_or_offset_that_is_no_number_is_refused_by_name(snow, params):
    answer = await snow.ask("GET", TABLE, params)
    assert answer.status == 400
    assert next(iter(params)) in answer.json["error"]["detail"]


async def test_pages_carry_the_total_and_links_to_their_neighbours(snow):
    answer = await snow.get(TABLE, sysparm_limit=10, sysparm_offset=10, sysparm_query="ORDERBYnumber")
    assert len(answer.json["result"]) == 10
    assert answer.headers["x-total-count"] == "30"
    rels = dict(reversed(part.split(";rel=")) for part in answer.headers["link"].split(","))
    assert set(rels) == {'"first"', '"prev"', '"next"', '"last"'}
    assert rels['"next"'].startswith("<http://127.0.0.1:8000/servicenow/api/now/table/incident?")
    assert "sysparm_offset=20" in rels['"next"']
    assert "sysparm_query=ORDERBYnumber" in rels['"next"']
    assert "sysparm_offset=0>" in rels['"prev"']


async def test_the_last_page_links_no_further_and_beyond_it_is_empty(snow):
    answer = await snow.get(TABLE, sysparm_limit=10, sysparm_offset=20)
    assert 'rel="next"' not in answer.headers["link"]
    beyond = await snow.get(TABLE, sysparm_limit=10, sysparm_offset=300)
    assert beyond.json == {"result": []}


async def test_count_and_links_can_be_left_out(snow):
    answer = await snow.get(TABLE, sysparm_no_count="true", sysparm_suppress_pagination_header="true")
    assert "x-total-count" not in answer.headers
    assert "link" not in answer.headers


async def test_a_page_is_never_larger_than_the_cap(make_sandbox, snow_of):
    snow = snow_of(make_sandbox(servicenow_page_cap=7))
    answer = await snow.get(TABLE, sysparm_limit=1_000)
    assert len(answer.json["result"]) == 7
    assert "sysparm_offset=7" in answer.headers["link"]


async def test_paging_by_key_reads_every_record_once_even_where_many_share_a_moment(
    make_sandbox, snow_of, clock
):
    snow = snow_of(make_sandbox(count=0))
    for place in range(25):
        if place % 10 == 0:
            clock.advance(1)
        await snow.ask("POST", TABLE, json={"short_description": str(place)})
    seen, cursor, offset = [], "1970-01-01 00:00:00", 0
    while True:
        query = f"sys_updated_on>={cursor}^ORDERBYsys_updated_on^ORDERBYsys_id"
        page = (await snow.get(TABLE, sysparm_query=query, sysparm_limit=4, sysparm_offset=offset)).json[
            "result"
        ]
        seen += [record["sys_id"] for record in page]
        if len(page) < 4:
            break
        moved = page[-1]["sys_updated_on"] != cursor
        cursor, offset = page[-1]["sys_updated_on"], 0 if moved else offset + 4
    assert len(set(seen)) == 25


async def test_a_change_is_seen_by_the_next_query_of_the_same_text(snow):
    query = "active=true^ORDERBYsys_updated_on^ORDERBYsys_id"
    before = await numbers(snow, query, sysparm_limit=100)
    answer = await snow.get(TABLE, sysparm_query=f"number={before[0]}")
    sys_id = answer.json["result"][0]["sys_id"]
    await snow.ask("PATCH", f"{TABLE}/{sys_id}", json={"state": "8"})
    assert await numbers(snow, query, sysparm_limit=100) == before[1:]


async def test_display_values_stand_alone_or_beside_the_values(snow):
    one = {"sysparm_limit": 1, "sysparm_query": "assigned_toISNOTEMPTY^ORDERBYnumber"}
    plain = (await snow.get(TABLE, **one)).json["result"][0]
    shown = (await snow.get(TABLE, **one, sysparm_display_value="true")).json["result"][0]
    both = (await snow.get(TABLE, **one, sysparm_display_value="all")).json["result"][0]
    bare = (await snow.get(TABLE, **one, sysparm_exclude_reference_link="true")).json["result"][0]
    user = plain["assigned_to"]
    assert user["link"] == f"http://127.0.0.1:8000/servicenow/api/now/table/sys_user/{user['value']}"
    assert set(shown["assigned_to"]) == {"display_value", "link"}
    assert " " in shown["assigned_to"]["display_value"]
    assert both["assigned_to"] == {**user, "display_value": shown["assigned_to"]["display_value"]}
    assert bare["assigned_to"] == user["value"]
    assert both["priority"] == {"display_value": shown["priority"], "value": plain["priority"]}
    assert shown["priority"].startswith(f"{plain['priority']} - ")


async def test_only_the_fields_asked_for_come_and_unknown_ones_are_left_out(snow):
    answer = await snow.get(TABLE, sysparm_limit=1, sysparm_fields="number, state ,nonsense")
    assert set(answer.json["result"][0]) == {"number", "state"}


async def test_the_aggregate_api_counts_and_groups(snow):
    stats = "/api/now/stats/incident"
    total = await snow.get(stats, sysparm_count="true")
    assert total.json == {"result": {"stats": {"count": "30"}}}
    grouped = (await snow.get(stats, sysparm_count="true", sysparm_group_by="active")).json["result"]
    assert {group["groupby_fields"][0]["value"] for group in grouped} == {"true", "false"}
    assert sum(int(group["stats"]["count"]) for group in grouped) == 30
    sums = (await snow.get(stats, sysparm_sum_fields="sys_mod_count", sysparm_max_fields="number")).json
    assert int(sums["result"]["stats"]["sum"]["sys_mod_count"]) >= 30
    assert sums["result"]["stats"]["max"]["number"] == "INC0010030"
    assert (await snow.get(stats)).status == 400
