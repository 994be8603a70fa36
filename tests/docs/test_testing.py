"""How users test their own sagas: the page's tests pass as they stand, and the workbench keeps what
its docstrings say."""

import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from pydantic import BaseModel

from outbox import App, AppContext, Command, Event, Retry, Saga, Subscriber
from outbox.errors import ConfigurationError, NotApplicableError, OutboxError
from outbox.testing import Workbench, command
from tests.conftest import SHARED_DIRECTORY
from tests.docs.examples import python_blocks
from tests.test_readme import ROOT, blocks
from tests.waiting import wait_until


class Parcel(BaseModel):
    lines: list[str] = []


class Consent(BaseModel):
    by: str


parcel = Saga("parcel", input=Parcel, deadline=timedelta(days=30))
told: list[Event] = []


@parcel.step(each=lambda cmd: cmd.input.lines)
async def pack(cmd: Command[Parcel], line: str) -> str:
    cmd.emit("line.packed", line)
    return line.upper()


@pack.compensation()
async def unpack(cmd: Command[Parcel], line: str) -> None: ...


consent = parcel.wait_for("consent", result=Consent, timeout=timedelta(days=60))
parcel.sleep("cool_off", timedelta(days=1))


@parcel.step(retry=Retry(attempts=3, base=600, cap=600))
async def send(cmd: Command[Parcel]) -> str:
    if cmd.attempt < 2:
        raise ConnectionError("nobody there")
    return f"{', '.join(map(str, cmd.results(pack)))} by {cmd.result(consent).by}"


@send.compensation()
async def call_back(cmd: Command[Parcel]) -> None: ...


async def hear(event: Event) -> None:
    told.append(event)


app = App([parcel], subscribers=[Subscriber("ear", ["line.*"], hear)])


@pytest.fixture(scope="module")
def bench(postgres_dsn: str) -> Iterator[Workbench]:
    with Workbench(app, dsn=postgres_dsn, schema=f"bench_{uuid.uuid4().hex[:8]}") as bench:
        yield bench


def test_days_pass_while_a_saga_waits(bench: Workbench) -> None:
    saga = bench.start(parcel, Parcel(lines=["a", "b"]))
    bench.wait_at(saga, consent)
    assert bench.signal(saga, consent, Consent(by="ann")) == "delivered"
    bench.wait_at(saga, "cool_off")
    bench.pass_time(timedelta(days=1))
    bench.wait_at(saga, send)
    bench.pass_time(timedelta(minutes=10))
    ended = bench.wait(saga)
    assert (ended.status, ended.output) == ("COMPLETED", "A, B by ann")
    assert bench.history(saga)[-2:] == ["send: retry", "send: done (attempt 2), now COMPLETED"]
    assert {"pack: joined", "consent: done", "cool_off: done"} <= set(bench.history(saga))
    with pytest.raises(NotApplicableError, match="ended"):
        bench.signal(saga, consent, Consent(by="bob"))


def test_a_deadline_passes(bench: Workbench) -> None:
    saga = bench.start(parcel, Parcel(lines=["a"]))
    bench.wait_at(saga, consent)
    bench.pass_time(timedelta(days=31))
    ended = bench.wait(saga)
    assert (ended.status, ended.error["type"]) == ("FAILED", "DeadlineExceeded")
    assert bench.history(saga)[-1] == "undo of pack/0: done, now FAILED"


def test_events_are_delivered(bench: Workbench) -> None:
    saga = bench.start(parcel, Parcel(lines=["x", "y"]))
    bench.wait_at(saga, consent)
    wait_until(lambda: len([event for event in told if event.saga_id == saga]) == 2)


def test_what_does_not_come_is_a_timeout_that_says_where_it_is(bench: Workbench) -> None:
    saga = bench.start(parcel, Parcel())
    bench.wait_at(saga, consent)
    with pytest.raises(TimeoutError, match=r"not settled after 0.1 s: it is EXECUTING at step con"):
        bench.wait(saga, timeout=0.1)
    with pytest.raises(TimeoutError, match=r'not waiting at step "send" .*pack: joined'):
        bench.wait_at(saga, send, timeout=0.1)


def test_a_schema_that_is_there_is_not_taken(bench: Workbench) -> None:
    with (
        pytest.raises(ConfigurationError, match=f"schema {bench.schema} exists in database"),
        Workbench(app, dsn=bench.dsn, schema=bench.schema),
    ):
        pass
    assert bench.status(bench.start(parcel, Parcel())).status in ("CREATED", "EXECUTING")


def test_its_schema_is_gone_at_the_end_and_nothing_else(postgres_dsn: str) -> None:
    @asynccontextmanager
    async def failing(context: AppContext) -> AsyncIterator[Iterable[object]]:
        raise LookupError("no key")
        yield ()

    with (
        pytest.raises(OutboxError, match="could not set up what its handlers need: no key"),
        Workbench(App([parcel], failing), dsn=postgres_dsn, schema="bench_gone"),
    ):
        pytest.fail("its worker cannot begin")
    with psycopg.connect(postgres_dsn) as connection:
        assert connection.execute("select to_regnamespace('bench_gone')").fetchone() == (None,)


def test_the_page_and_the_embedded_server(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(blocks("python")[0])
    (tmp_path / "test_shop.py").write_text("\n\n".join(python_blocks("testing.md")))
    server = Path(os.environ[SHARED_DIRECTORY], "default")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OUTBOX_", "PYTEST_"))}
    # What a settings file says of another database is nothing to a test.
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist"], cwd=tmp_path,
        env={**kept, "PYTHONPATH": str(ROOT), "OUTBOX_DIRECTORY": str(server),
             "OUTBOX_DSN": "host=/nowhere", "OUTBOX_LISTEN_DSN": "host=/nowhere"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    assert "4 passed" in ran.stdout


async def test_a_command_is_what_a_handler_is_given() -> None:
    results = {pack: ["A", "B"], consent: Consent(by="ann")}
    cmd = command(parcel, Parcel(), step=send, attempt=2, results=results, key="k")
    assert await send.handler(cmd) == "A, B by ann"
    assert cmd.idempotency_key == "parcel/k/send"
    one = command(parcel, Parcel(lines=["a"]), element=0, resources=[app])
    assert (one.step, one.resource(App)) == ("pack", app)
    assert await pack.handler(one, "a") == "A"
    assert one.emitted == [("line.packed", "a")]
    with pytest.raises(ValueError, match='step "pack" runs for each of some elements: give a list'):
        command(parcel, Parcel(), results={pack: "A"})
