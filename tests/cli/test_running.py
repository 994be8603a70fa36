"""`bin/saga limit`, `schedule`, `retention`, `export`, and starts that come later or first."""

import json
import re

import pytest

from tests.cli.conftest import SagaProgram

GOOD = '{"amount": 3}'


def test_a_start_may_come_later_and_first(registered: SagaProgram) -> None:
    for more in (["--at", "2100-01-01T00:00+01:00"], ["--in", "1h30m"], ["--priority", "3"]):
        assert registered("start", "order", "--input", GOOD, *more).code == 0
    listed = registered("psql", "-tAc", "select due_at > clock() from outbox order by id")
    assert listed.out.split() == ["t", "t", "f"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--at", "tomorrow"], "is not an instant"),
        (["--in", "5 parsecs"], "is not a duration"),
        (["--in", "99999999999d"], "is too long"),
        (["--at", "2100-01-01", "--in", "5m"], "either --at or --in"),
        (["--priority", "-1"], "the priority is -1"),
    ],
)
def test_times_that_make_no_sense_are_refused(
    registered: SagaProgram, arguments: list[str], says: str
) -> None:
    ran = registered("start", "order", "--input", GOOD, *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert says in " ".join(ran.err.replace("│", " ").split())


def test_limits_are_set_listed_and_dropped(registered: SagaProgram) -> None:
    assert registered("limit", "list").out == "no limits\n"
    assert registered("limit", "set", "order", "all", "5").code == 0
    assert registered("limit", "set", "order", "fast", "9", "--per", "1s").code == 0
    rows = registered("limit", "list", "--json").json
    assert [(row["name"], row["amount"], row["taken"]) for row in rows] == [
        ("all", 5, 0),
        ("fast", 9, 0),
    ]
    assert registered("changes", "--rule", "schedule").out == "nothing was changed\n"
    assert registered("limit", "drop", "order", "all", "--note", "it is over").code == 0
    again = registered("limit", "drop", "order", "all")
    assert (again.code, 'saga type "order" has no limit "all"' in again.err) == (2, True)
    changed = registered("changes", "--type", "order", "--json").json
    assert [(row["name"], row["act"], row["note"], row["before"]) for row in changed] == [
        ("all", "drop", "it is over", {"amount": 5}),
        ("fast", "set", None, None),
        ("all", "set", None, None),
    ]
    shown = registered("changes", "--limit", "2").out
    assert all(word in shown for word in ("it is over", "gone", "amount 9, per 1"))
    long = '{"amount": 3, "comment": "%s"}' % ("so long that it has to be folded " * 20)
    assert registered("schedule", "set", "n", "order", "0 3 * * *", "--input", long).code == 0
    line, *_ = registered("changes", "--rule", "schedule").out.splitlines()[1:]
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} +schedule +order +n +set", line)


def test_schedules_are_set_listed_paused_and_dropped(registered: SagaProgram) -> None:
    assert registered("schedule", "list").out == "no schedules\n"
    made = registered(
        *("schedule", "set", "nightly", "order", "30 2 * * *"),
        *("--zone", "Europe/Berlin", "--input", GOOD, "--catch-up", "all"),
    )
    assert (made.code, made.err) == (0, "")
    assert registered("schedule", "pause", "nightly").code == 0
    (row,) = registered("schedule", "list", "--json").json
    assert (row["name"], row["zone"], row["catch_up"], row["paused"]) == (
        *("nightly", "Europe/Berlin", "all", True),
    )
    assert registered("schedule", "resume", "nightly").code == 0
    assert registered("schedule", "drop", "nightly").code == 0
    for problem, arguments in {
        'there is no schedule "nightly"': ("drop", "nightly"),
        "is not a cron expression": ("set", "x", "order", "often", "--input", GOOD),
        "malformed JSON": ("set", "x", "order", "* * * * *", "--input", "{"),
        "amount": ("set", "x", "order", "* * * * *"),
    }.items():
        ran = registered("schedule", *arguments)
        assert (ran.code, problem in ran.err) == (2, True), ran.err


def test_an_export_writes_a_line_a_saga_and_removes_what_it_wrote(registered: SagaProgram) -> None:
    assert registered("retention", "set", "order", "90d").code == 0
    assert registered("retention", "drop", "order").code == 0
    for key in ("a", "b"):
        registered("start", "order", "--input", GOOD, "--key", key)
    registered("abort", "a", "--note", "over")
    ran = registered("export", "--before", "2100-01-01", "--type", "order")
    assert ran.err == "1 exported, 0 removed\n"
    told = json.loads(ran.out)
    assert (told["instance"]["key"], told["instance"]["status"]) == ("a", "FAILED")
    assert [act["note"] for act in told["acts"]] == ["over"]
    ran = registered("export", "--before", "2100-01-01", "--purge")
    assert ran.err == "1 exported, 1 removed\n"
    assert registered("export", "--before", "2100-01-01").out == ""
    assert len(registered("list", "--json").json) == 1
