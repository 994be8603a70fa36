"""What the engine tells: to logs, to other hooks, and to hooks that fail."""

import io
import json
import subprocess
import sys
from typing import Any
from uuid import UUID

import pytest

from outbox import Command, Rejected, Retry, Saga
from outbox.telemetry import Level, Telemetry
from tests.engine.bench import Bench, Note, make_saga

LOG = """
import sys
from outbox.telemetry import Telemetry, configure_logging, log_hook
configure_logging("info", sys.argv[1])
telemetry = Telemetry(log_hook())
telemetry.emit("transition", saga_id="1", type="note", step="a", attempt=1, outcome="done")
telemetry.emit("odd", "warning", text="two\\nlines \\x1b[31m", bytes=b"x", other=object())
telemetry.emit("quiet", "debug")
try:
    1 / 0
except ZeroDivisionError as error:
    telemetry.emit("internal_error", "error", error=repr(error), exc_info=error)
"""


def make_two() -> Saga[Note]:
    saga = make_saga()

    @saga.step()
    async def one(cmd: Command[Note]) -> None: ...

    @one.compensation()
    async def undo_one(cmd: Command[Note]) -> None: ...

    @saga.step(nothing_to_undo="it is refused")
    async def two(cmd: Command[Note]) -> None:
        raise Rejected("no")

    return saga


async def test_each_transition_is_told_once_with_all_its_fields(bench: Bench) -> None:
    saga = make_two()
    async with bench.worker(saga) as running:
        saga_id = await bench.start(saga)
        await bench.settled(saga_id)
    told = [
        (e["saga_id"], e["type"], e["step"], e["kind"], e["attempt"], e["outcome"], e["seq"])
        for e in running.events("transition")
    ]
    kept = await bench.rows(
        "select saga_id::text, %s, step, kind, attempt, outcome, seq from transition order by seq",
        saga.type,
    )
    assert len(kept) == 3
    assert told == kept or [t[:5] for t in told] == [k[:5] for k in kept]


@pytest.mark.parametrize("plain", [False, True])
async def test_an_unexpected_error_is_told_with_its_place_and_not_with_every_attempt(
    bench: Bench, plain: bool
) -> None:
    saga = make_saga()

    def stumble(cmd: Command[Note]) -> None:
        {}["nothing"]  # the place

    async def stumble_async(cmd: Command[Note]) -> None:
        stumble(cmd)

    quick = Retry(attempts=3, base=0.01)
    step = saga.step(name="stumble", retry=quick, nothing_to_undo="it fails")
    step(stumble if plain else stumble_async)
    async with bench.worker(saga) as running:
        await bench.settled(await bench.start(saga))
    first, *others = running.events("transition")
    lines = first["exception"].splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].strip().startswith(f'File "{__file__}", line ')
    assert '{}["nothing"]  # the place' in first["exception"]
    assert lines[-1] == "KeyError: 'nothing'"
    assert [("exception" in told) for told in others] == [False, False]
    # It is for the log: the history has type and message.
    assert (await bench.errors(UUID(first["saga_id"])))[0] == first["error"]
    assert first["error"] == {"type": "KeyError", "message": "'nothing'"}


async def test_what_a_handler_says_itself_has_no_traceback(bench: Bench) -> None:
    saga = make_two()
    async with bench.worker(saga) as running:
        await bench.settled(await bench.start(saga))
    told = running.events("transition")
    assert [t["outcome"] for t in told] == ["done", "rejected", "done"]
    assert not any("exception" in t for t in told)


async def test_a_hook_that_raises_stops_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    saga = make_two()

    def broken(event: str, level: Level, fields: dict[str, Any]) -> None:
        raise RuntimeError("the metrics are away")

    async with bench.worker(saga) as running:
        running.worker._telemetry.hooks.insert(0, broken)
        assert (await bench.settled(await bench.start(saga))).status == "FAILED"
        assert (await bench.settled(await bench.start(saga))).status == "FAILED"
        assert len(running.events("transition")) == 6, "the other hooks are told"
    said = [r for r in caplog.records if "telemetry hook" in r.getMessage()]
    assert len([r for r in said if "transition" in r.getMessage()]) == 1


def test_a_hook_may_be_added_while_others_are_told() -> None:
    seen = io.StringIO()
    telemetry = Telemetry(lambda event, level, fields: print(event, level, fields, file=seen))
    telemetry.emit("a", "warning", n=1)
    assert seen.getvalue() == "a warning {'n': 1}\n"


def run_log(log_format: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", LOG, log_format], capture_output=True, text=True, check=True
    )
    assert ran.stdout == ""
    return ran.stderr


@pytest.mark.parametrize("log_format", ["json", "auto"])
def test_a_log_for_programs_is_one_json_object_a_line(log_format: str) -> None:
    first, odd, error = [json.loads(line) for line in run_log(log_format).splitlines()]
    assert first.pop("timestamp").endswith("Z")
    assert first == {
        "event": "transition", "level": "info", "saga_id": "1", "type": "note", "step": "a",
        "attempt": 1, "outcome": "done",
    }  # fmt: skip
    assert odd["text"] == "two\nlines \x1b[31m"
    assert "ZeroDivisionError" in error["exception"]


def test_a_log_for_people_names_the_event_and_its_fields() -> None:
    shown = run_log("console")
    assert "transition" in shown
    assert "step=a" in shown
    assert "\x1b" not in shown.splitlines()[0], "colours are for terminals"
