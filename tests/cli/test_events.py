"""`bin/saga events`, `subscriptions`, `subscribe`, `unsubscribe` and `redeliver`."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from outbox import App, Command, Event, Saga, Subscriber
from tests.cli.conftest import SagaProgram, environment
from tests.engine.bench import Bench, Note, until
from tests.fixtures import Schema
from tests.payments.world import ROOT

saga = Saga("telling", input=Note)


@saga.step(nothing_to_undo="it only tells")
async def tell(cmd: Command[Note]) -> None:
    cmd.emit("note.told", {"text": cmd.input.text})


async def refuse(event: Event) -> None:
    raise ValueError("we [bold]do not[/bold] want it")


@pytest.fixture
def bench(schema: Schema) -> Bench:
    return Bench(schema)


@pytest.fixture
async def told(bench: Bench) -> AsyncIterator[None]:
    """One event that has become a dead letter."""
    app = App([saga], subscribers=[Subscriber("picky", ["note.*"], refuse, attempts=1)])
    async with bench.worker(app) as running:
        await bench.start(saga, "hello", key="k1")
        await until(lambda: bool(running.events("dead_letter")))
        yield


async def test_events_are_listed_with_how_far_they_got(
    saga_program: SagaProgram, told: None
) -> None:
    (event,) = saga_program("events", "--json").json
    assert (event["name"], event["payload"], event["key"], event["dead"]) == (
        "note.told", {"text": "hello"}, "k1", 1,
    )  # fmt: skip
    assert '{"text":"hello"}' in saga_program("events", "--saga", "k1").out
    assert saga_program("events", "--name", "payment.*").out == "no events\n"
    assert saga_program("events", "--name", "note.t*", "--json").json == [event]
    (letter,) = saga_program("events", "--dead", "--json").json
    assert letter["error"] == "ValueError: we [bold]do not[/bold] want it"
    assert "[bold]" in saga_program("events", "--dead").out


async def test_an_event_is_delivered_again_with_a_note(
    saga_program: SagaProgram, bench: Bench, told: None
) -> None:
    number = str(saga_program("events", "--json").json[0]["number"])
    assert saga_program("redeliver", "picky", number).code == 2, "without a note"
    assert "no subscription" in saga_program("redeliver", "nobody", number, "--note", "x").err
    assert saga_program("redeliver", "picky", number, "--note", "mended").code == 0
    assert await bench.rows("select note from redelivery") == [("mended",)]


def test_a_webhook_is_subscribed_and_ended(saga_program: SagaProgram) -> None:
    made = saga_program("subscribe", "shop", "http://127.0.0.1:1/hook?token=abc", "a.*", "b")
    assert made.out.startswith("whsec_")
    listed = saga_program("subscriptions", "--json")
    assert [(s["name"], s["patterns"], s["url"]) for s in listed.json] == [
        ("shop", ["a.*", "b"], "http://127.0.0.1:1/hook")
    ]
    assert made.out.strip() not in listed.out
    assert "shop" in saga_program("subscriptions").out
    wrong = saga_program("subscribe", "shop", "http://a/", "a", OUTBOX_WEBHOOK_SECRET="hunter2")
    assert wrong.code == 2
    assert "whsec_" in wrong.err
    assert "hunter2" not in wrong.err
    assert saga_program("unsubscribe", "shop").out == "shop: ended\n"
    assert saga_program("unsubscribe", "shop").code == 2
    assert saga_program("subscriptions").out == "no subscriptions\n"


def _follow(schema: Schema) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "outbox.cli.saga", "events", "--follow", "--json"],
        env=environment(schema, PYTHONUNBUFFERED="1"), cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


async def test_events_are_followed_as_they_come(bench: Bench) -> None:
    program = _follow(bench.schema)
    lines: list[str] = []
    try:
        assert program.stdout is not None
        async with bench.worker(saga):
            for text in ("one", "two"):
                await bench.settled(await bench.start(saga, text))
                lines.append(program.stdout.readline())
    finally:
        program.terminate()
        program.communicate()
    assert [json.loads(line)["payload"]["text"] for line in lines] == ["one", "two"]
