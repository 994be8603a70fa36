"""How a worker ends: in order, in a hurry, and with handlers that do not."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from outbox import Client
from outbox.store.embedded import EmbeddedServer
from tests.engine import sagas
from tests.fixtures import Schema
from tests.payments.world import ROOT, WorkerProcess
from tests.waiting import wait_until

APP = "tests.engine.sagas:app"


class Wishes:
    """Worker processes on a schema, and what their handlers wrote down."""

    def __init__(self, schema: Schema, directory: Path) -> None:
        self.schema = schema
        self.directory = directory
        self.workers: list[WorkerProcess] = []
        with schema.connect() as connection:
            connection.execute(sagas.PREPARE.encode())

    def worker(self, **settings: str) -> WorkerProcess:
        """A worker, ready."""
        environment = {
            "OUTBOX_DSN": self.schema.dsn,
            "OUTBOX_SCHEMA": self.schema.name,
            "OUTBOX_LEASE": "60",
            "OUTBOX_LOG_FORMAT": "json",
            **settings,
        }
        log = self.directory / f"worker-{len(self.workers)}.log"
        started = WorkerProcess(environment, log, APP)
        self.workers.append(started)
        return started.ready()

    def start(self, key: str, what: str = "") -> None:
        with psycopg.connect(self.schema.dsn, autocommit=True) as connection:
            Client(self.schema.name).start(connection, sagas.wish, {"what": what}, key=key)

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with self.schema.connect() as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def happened(self, key: str) -> list[str]:
        found = self.rows("select what from happened where key = %s order by id", key)
        return [what for (what,) in found]

    def status(self, key: str) -> str:
        ((status,),) = self.rows("select status from overview where key = %s", key)
        return str(status)

    def give_the_word(self, key: str) -> None:
        self.rows("insert into word values (%s)", key)


@pytest.fixture
def wishes(schema: Schema, tmp_path: Path) -> Iterator[Wishes]:
    made = Wishes(schema, tmp_path)
    yield made
    for worker in made.workers:
        if worker.process.poll() is None:
            worker.kill()
        assert "Traceback" not in worker.log.read_text()


def begun(wishes: Wishes, key: str, times: int = 1) -> Callable[[], bool]:
    return lambda: wishes.happened(key).count("begun") >= times


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_asked_to_end_finishes_what_runs_and_gives_the_rest_back(
    wishes: Wishes, number: signal.Signals
) -> None:
    first = wishes.worker(OUTBOX_CONCURRENCY="1")
    wishes.start("running", "wait")
    wait_until(begun(wishes, "running"))
    wishes.start("next")
    first.process.send_signal(number)
    wait_until(lambda: bool(first.events("worker_stopping")))
    wishes.give_the_word("running")
    assert first.process.wait(20) == 0
    assert wishes.happened("running") == ["begun", "ended"]
    assert wishes.happened("next") == []
    # Its step is committed; the saga's next one and the other saga are nobody's, long before the
    # lease of a minute has run out.
    assert wishes.rows("select step, worker, attempt from pending where key = 'running'") == [
        ("freeze", None, 1)
    ]
    assert wishes.rows("select 1 from worker") == []
    wishes.worker()
    wait_until(lambda: wishes.status("running") == wishes.status("next") == "COMPLETED")
    assert wishes.happened("running") == ["begun", "ended"]


def test_what_runs_beyond_the_grace_is_in_doubt_and_not_counted(wishes: Wishes) -> None:
    first = wishes.worker(OUTBOX_SHUTDOWN_GRACE="0.1")
    wishes.start("a", "wait")
    wait_until(begun(wishes, "a"))
    assert first.terminate() == 0
    assert wishes.rows("select outcome, error ->> 'type' from transition where step = 'grant'") == [
        ("in_doubt", "WorkerShutdown")
    ]
    # The step has but one attempt, and this was none.
    assert wishes.rows("select attempt, failures, worker from outbox") == [(1, 0, None)]
    wishes.give_the_word("a")
    wishes.worker()
    wait_until(lambda: wishes.status("a") == "COMPLETED")


def test_a_second_signal_ends_at_once(wishes: Wishes) -> None:
    first = wishes.worker(OUTBOX_SHUTDOWN_GRACE="600")
    wishes.start("a", "wait")
    wait_until(begun(wishes, "a"))
    first.process.terminate()
    wait_until(lambda: bool(first.events("worker_stopping")))
    first.process.terminate()
    assert first.process.wait(10) == 128 + signal.SIGTERM
    assert wishes.status("a") == "EXECUTING"
    assert wishes.happened("a") == ["begun"]


def test_a_worker_whose_threads_are_stuck_ends_by_itself_though_they_do_not(
    wishes: Wishes,
) -> None:
    first = wishes.worker(OUTBOX_THREADS="2")
    wishes.start("a", "freeze")
    assert first.process.wait(20) == 1
    assert first.events("worker_exhausted")
    assert wishes.rows("select 1 from outbox where worker is not null") == []


def test_an_idle_worker_ends_at_once(wishes: Wishes) -> None:
    assert wishes.worker().terminate(10) == 0


@pytest.mark.parametrize("signals", [1, 2])
def test_no_embedded_server_outlives_its_last_worker(tmp_path: Path, signals: int) -> None:
    directory = Path(os.environ["OUTBOX_TEST_DIRECTORY"], f"embedded-{signals}")
    log = tmp_path / "log"
    environment = {
        "OUTBOX_DIRECTORY": str(directory), "OUTBOX_LOG_FORMAT": "json",
        "OUTBOX_SHUTDOWN_GRACE": "600",
    }  # fmt: skip
    worker = WorkerProcess(environment, log, APP).ready()
    server = EmbeddedServer(directory)
    assert server.pid is not None
    if signals == 2:
        run_saga(directory, "start", "wish", "--input", '{"what": "wait"}')
        wait_until(lambda: "claimed" in pending(directory))
    worker.process.terminate()
    if signals == 2:
        wait_until(lambda: bool(worker.events("worker_stopping")))
        worker.process.terminate()
    assert worker.process.wait(30) == (0 if signals == 1 else 143)
    assert server.pid is None


def run_saga(directory: Path, *arguments: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "outbox.cli.saga", *arguments],
        env={**os.environ, "OUTBOX_DIRECTORY": str(directory), "OUTBOX_APPS": APP},
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return ran.stdout


def pending(directory: Path) -> list[str]:
    found = run_saga(directory, "list", "--json")
    return ["claimed" if saga["step"] == "grant" and saga["status"] == "EXECUTING" else ""
            for saga in json.loads(found)]  # fmt: skip
