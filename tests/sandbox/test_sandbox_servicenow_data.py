"""What fills the fake instance: the real log, replayed; the generator; and files it cannot use."""

import csv
from datetime import datetime
from pathlib import Path

import pytest

from trunkline.errors import Invalid

TABLE = "/api/now/table/incident"
REAL_LOG = Path(__file__).parents[2] / "../shared/data/servicenow_incident_log.csv"


async def test_replaying_the_log_leaves_each_incident_in_its_last_state(make_sandbox, snow_of, log_file, row):
    path = log_file(
        row("INC1", "Closed", "05-03-2016 12:00", 2),
        row("INC2", "New", "29-02-2016 04:40"),
        row("INC1", "New", "29-02-2016 01:23"),
        row("INC1", "Resolved", "01-03-2016 08:00", 1),
    )
    snow = snow_of(make_sandbox(incidents_csv=path))
    answer = await snow.get(TABLE, sysparm_query="ORDERBYnumber")
    first, second = answer.json["result"]
    assert (first["number"], second["number"]) == ("INC1", "INC2")
    assert (first["state"], first["incident_state"], first["active"]) == ("7", "Closed", "false")
    assert first["sys_updated_on"] == first["sys_updated_at"] == "2016-03-05 12:00:00"
    assert first["sys_mod_count"] == "2"
    assert first["sys_created_on"] == first["opened_at"] == "2016-02-29 01:16:00"
    assert (first["sys_created_at"], first["assigned_to"]) == ("", "")
    assert (first["priority"], first["impact"], first["u_symptom"]) == ("2", "2", "Symptom 72")


async def test_names_of_the_log_become_records_that_incidents_refer_to(make_sandbox, snow_of, log_file, row):
    snow = snow_of(make_sandbox(incidents_csv=log_file(row("INC1", "New", "29-02-2016 01:23"))))
    shown = (await snow.get(TABLE, sysparm_display_value="true")).json["result"][0]
    assert shown["caller_id"]["display_value"] == "Caller 1"
    assert shown["assignment_group"]["display_value"] == "Group 56"
    assert shown["urgency"] == "1 - High"
    users = await snow.get("/api/now/table/sys_user", sysparm_query="name=Caller 1")
    assert len(users.json["result"]) == 1


async def test_the_rest_of_the_log_is_applied_on_demand(make_sandbox, snow_of, log_file, row):
    days = range(1, 5)
    path = log_file(*(row("INC1", "New", f"0{day}-03-2016 08:00", day) for day in days))
    sandbox = make_sandbox(incidents_csv=path, log_share=0.5)
    snow = snow_of(sandbox)
    assert (await snow.get(TABLE)).json["result"][0]["sys_mod_count"] == "2"
    replay = "/_sandbox/servicenow/replay"
    snow.prefix = ""
    applied = await snow.ask("POST", replay, json={"rows": 1})
    assert applied.json == {"applied": 1, "position": 3, "total": 4, "remaining": 1}
    rest = await snow.ask("POST", replay, json={"rows": 100})
    assert rest.json == {"applied": 1, "position": 4, "total": 4, "remaining": 0}
    snow.prefix = "/servicenow"
    assert (await snow.get(TABLE)).json["result"][0]["sys_mod_count"] == "4"
    snow.prefix = ""
    assert (await snow.ask("POST", replay, json={"rows": "all"})).status == 422


@pytest.mark.skipif(not REAL_LOG.exists(), reason="the real log lies beside the repository, not in it")
async def test_the_real_log_gives_890_incidents_as_their_last_rows_say(make_sandbox, snow_of):
    snow = snow_of(make_sandbox(incidents_csv=REAL_LOG))
    found: dict[str, dict[str, str]] = {}
    while True:
        query = {"sysparm_query": "ORDERBYnumber", "sysparm_offset": len(found), "sysparm_limit": 250}
        page = (await snow.get(TABLE, **query)).json["result"]
        found.update((record["number"], record) for record in page)
        if not page:
            break
    with REAL_LOG.open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: moment(row["sys_updated_at"]))
    last = {row["number"]: row for row in rows}
    assert len(found) == len(last) == 890
    for number, expected in last.items():
        assert found[number]["incident_state"] == expected["incident_state"]
        assert found[number]["sys_updated_on"] == f"{moment(expected['sys_updated_at']):%Y-%m-%d %H:%M:%S}"
        assert found[number]["sys_mod_count"] == expected["sys_mod_count"]


def moment(text: str) -> datetime:
    return datetime.strptime(text, "%d-%m-%Y %H:%M")  # noqa: DTZ007 - both sides are UTC


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("u_symptom", "symptom", (1, "u_symptom")),
        ("29-02-2016 04:40", "31-02-2016 04:40", (3, "sys_updated_at")),
        ("29-02-2016 04:40", "2016-02-29 04:40", (3, "sys_updated_at")),
        ("29-02-2016 04:40", "?", (3, "sys_updated_at")),
        ("INC2,New,TRUE,0", "INC2,New,TRUE,many", (3, "reassignment_count")),
        ("INC2,New,TRUE", "INC2,New,maybe", (3, "active")),
        ("INC2,New", "?,New", (3, "number")),
        ("INC2,New,", "INC2,", (3, "closed_at")),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_line_and_column(  # noqa: PLR0917 - fixtures and a case
    make_sandbox, log_file, row, old, new, place
):
    path = log_file(row("INC1", "New", "29-02-2016 01:23"), row("INC2", "New", "29-02-2016 04:40"))
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(Invalid, match="log.csv:{}: column {}: ".format(*place)):
        make_sandbox(incidents_csv=path)


def test_a_file_that_is_missing_or_no_text_is_named(make_sandbox, tmp_path):
    with pytest.raises(Invalid, match=r"none\.csv: No such file"):
        make_sandbox(incidents_csv=tmp_path / "none.csv")
    (tmp_path / "log.csv").write_bytes(b"number\xff\xfe")
    with pytest.raises(Invalid, match=r"log\.csv: is no UTF-8 text"):
        make_sandbox(incidents_csv=tmp_path / "log.csv")


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"count": -1}, "count"),
        ({"count": 10**9}, "count"),
        ({"count": 1, "incidents_csv": Path("log.csv")}, "count"),
        ({"only": "nonsense"}, "only"),
        ({"log_share": 1.5}, "log_share"),
        ({"port": 70_000}, "port"),
        ({"pagerduty_page_cap": 0}, "pagerduty_page_cap"),
    ],
)
def test_an_option_out_of_range_is_named(make_sandbox, options, name):
    with pytest.raises(Invalid, match=f"^{name}: "):
        make_sandbox(**options)


async def test_the_same_seed_gives_the_same_incidents_and_another_seed_others(make_sandbox, snow_of):
    lists = [
        (await snow_of(make_sandbox(seed=seed, count=50)).get(TABLE, sysparm_limit=50)).body
        for seed in (7, 7, 8)
    ]
    assert lists[0] == lists[1] != lists[2]


async def test_generated_incidents_are_spread_over_months_with_some_of_one_moment(make_sandbox, snow_of):
    snow = snow_of(make_sandbox(count=2_000))
    query = {"sysparm_fields": "sys_updated_on,opened_at,state,active", "sysparm_limit": 2_000}
    records = (await snow.get(TABLE, **query)).json["result"]
    moments = [record["sys_updated_on"] for record in records]
    assert len({moment[:7] for moment in moments}) >= 6
    assert max(moments.count(moment) for moment in set(moments)) >= 15
    assert all(record["opened_at"] <= record["sys_updated_on"] for record in records)
    assert all((record["active"] == "false") == (record["state"] in {"7", "8"}) for record in records)


async def test_a_reset_brings_back_the_first_state_with_the_same_credentials(sandbox, snow, control):
    before = (await snow.get(TABLE)).body
    await snow.ask("POST", TABLE, json={"short_description": "new"})
    await control.ask("POST", "/reset", json={})
    assert (await snow.get(TABLE)).body == before
