"""The acts of the command line, as a person calls them."""

import json

import pytest

from tests.cli.app import order
from tests.cli.conftest import SagaProgram
from tests.engine.bench import Bench
from tests.fixtures import Schema


@pytest.fixture
def bench(schema: Schema) -> Bench:
    return Bench(schema)


def start(run: SagaProgram, end: str, key: str) -> str:
    given = json.dumps({"end": end, "amount": 7})
    return str(run("start", "order", "--input", given, "--key", key, "--json").json["id"])


@pytest.fixture
async def suspended(registered: SagaProgram, bench: Bench) -> list[str]:
    """Two sagas that wait for a person."""
    ids = [start(registered, "suspended", key) for key in ("one", "two")]
    async with bench.worker(order):
        await bench.all_settled()
    return ids


NOTE = ("--note", "the printer has paper")


async def test_acts_on_many_are_tried_and_then_done(
    registered: SagaProgram, suspended: list[str]
) -> None:
    chosen = ("--type", "order", "--error", "ValueError", "--older-than", "0 s")
    tried = registered("retry", *chosen, "--dry-run", *NOTE, "--json")
    assert tried.code == 0
    assert [(row["key"], row["step"], row["outcome"]) for row in tried.json] == [
        ("one", "thank", "EXECUTING"),
        ("two", "thank", "EXECUTING"),
    ]
    assert {row["status"] for row in registered("list", "--json").json} == {"SUSPENDED"}
    assert registered("retry", *chosen, "--older-than", "1 hour", *NOTE).out == (
        "applied to 0 of 0\n"
    )
    assert registered("skip", "two", "--result", '"by hand"', *NOTE).code == 0
    assert registered("show", "two", "--json").json["output"] == "by hand"
    done = registered("retry", *chosen, *NOTE)
    assert (done.code, done.out.splitlines()[-1]) == (0, "applied to 1 of 1")


async def test_one_saga_is_amended_rerun_and_looked_up(
    registered: SagaProgram, suspended: list[str]
) -> None:
    amended = registered("amend", "one", "--input", '{"end": "well", "amount": 8}', *NOTE)
    assert amended.out == f"{suspended[0]}: SUSPENDED -> EXECUTING\n"
    explained = registered("explain", "two", "--json").json
    assert [(row["what"], row["step"]) for row in explained] == [
        ("undo", "take"),
        ("stays", "thank"),
        ("stays", "send"),
    ]
    assert registered("resolve", "two", "failed", *NOTE).code == 0
    again = registered("rerun", "two", *NOTE)
    assert registered("show", again.out.strip(), "--json").json["key"] == "two/rerun/1"
    (found,) = registered("history", "printer", "--step", "thank", "--json", "--limit", "1").json
    assert (found["act"], found["note"], found["led_to"]) == ("resolve", NOTE[1], "FAILED")
    assert registered("history", "nothing", "like", "it").out == "nothing like it was found\n"


async def test_pauses_and_versions(registered: SagaProgram, suspended: list[str]) -> None:
    assert registered("pause", "--type", "order", *NOTE).out == (
        "order: paused; 0 in flight finish their attempt\n"
    )
    assert registered("pause", "one", *NOTE).out == f"{suspended[0]}: SUSPENDED -> SUSPENDED\n"
    assert registered("pause", "--type", "order", *NOTE).code == 2
    assert [row["key"] for row in registered("paused", "--json").json] == [None, "one"]
    assert registered("resume", "--type", "order", *NOTE).code == 0
    assert registered("resume", "one", *NOTE).code == 0
    assert registered("paused").out == "nothing is paused\n"
    (version,) = registered("versions", "--json").json
    assert (version["type"], version["live"], version["suspended"]) == ("order", 2, 2)
    moved = registered("move", "2", "--saga", "one", *NOTE)
    assert moved.code == 2
    assert 'unknown saga type "order" version 2' in moved.err
    assert registered("waiting").out == "nothing waits\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("retry",), "name a saga, or say which"),
        (("retry", "one", "--type", "order"), "not both"),
        (("cancel", "one", "--dry-run"), "is past its pivot"),
        (("retry", "--type", "order", "--older-than", "long"), "--older-than is a duration"),
        (("skip", "one", "--result", "{"), "--result is not JSON"),
        (("amend", "one"), "give --input, or --step and --result"),
        (("amend", "one", "--input", "3"), "must be a JSON object"),
        (("pause",), "name a saga, or give --type or --all"),
        (("move", "2"), "give --saga, or --type and --from"),
        (("retry", "one", "--seq", "1"), "you saw seq 1"),
    ],
)
async def test_what_is_not_meant_is_one_line(
    registered: SagaProgram, suspended: list[str], arguments: tuple[str, ...], says: str
) -> None:
    ran = registered(*arguments, *NOTE)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err
    assert len(ran.err.splitlines()) == 1
