"""Workers are killed again and again under sagas that use the whole language, within limits, while
somebody is told of what they do."""

import contextlib
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from outbox import App, Client
from outbox.errors import NotApplicableError
from outbox.rules import Rules
from outbox.store.connect import connect
from outbox.store.functions import Functions
from outbox.worker import register, register_subscribers
from tests.engine.everything import Job, app, everything, expected_keys, part
from tests.fixtures import Schema
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
FAILS_AT = (None, None, None, "begin", "reserve", "part_two", "left", "right_too", "asked", "end")
SAGAS = 90


def make_jobs() -> dict[str, Job]:
    """Jobs by key: most complete, the others fail at every kind of step."""
    return {
        f"job-{n}": Job(
            elements=n % 6,
            waits=n % 4 == 0,
            fails_at=FAILS_AT[n % len(FAILS_AT)],
            refused=n % 5 == 0,
            customer=f"customer-{n % 7}",
        )
        for n in range(SAGAS)
    }


def fails(job: Job) -> bool:
    return job.fails_at is not None and (job.fails_at != "reserve" or job.elements > 1)


class Crew:
    """Worker processes that may be killed."""

    def __init__(self, schema: Schema, directory: Path) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("OUTBOX_")}
        self._environment = {
            **kept,
            "OUTBOX_DSN": schema.dsn,
            "OUTBOX_SCHEMA": schema.name,
            "OUTBOX_LEASE": "2",
            "OUTBOX_POLL": "0.2",
            "OUTBOX_CONCURRENCY": "20",
        }
        self._log = (directory / "workers.log").open("wb")
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self.running.append(
            subprocess.Popen(
                [sys.executable, "-m", "outbox.cli.worker", "tests.engine.everything:app"],
                env=self._environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stderr=self._log,
            )
        )

    def kill(self, number: int) -> None:
        victim = self.running.pop(number)
        victim.kill()
        victim.wait()

    def end(self) -> None:
        for _ in list(self.running):
            self.kill(0)
        self._log.close()


@pytest.mark.timeout(240)
async def test_every_saga_ends_as_its_input_says_whatever_dies(
    schema: Schema, tmp_path: Path
) -> None:
    jobs = make_jobs()
    with psycopg.connect(
        schema.dsn, autocommit=True, options=f"-c search_path={schema.name}"
    ) as connection:

        def value(statement: Any) -> Any:
            row = connection.execute(statement).fetchone()
            return row and row[0]

        connection.execute("create table effect (key text, did text, primary key (key, did))")
        connection.execute("update setting set max_deaths = 100, grace = '0.1 s', hold = '1 s'")
        connection.execute(
            "create table heard (n bigint generated always as identity, id text primary key, "
            "saga_id uuid, seq integer)"
        )
        async with await connect(schema.dsn) as admin:
            await register(admin, Functions(schema.name), [App([everything, part])])
            await register_subscribers(admin, schema.name, [app])
        rules = Rules(schema.name)
        rules.set_limit(connection, "everything", "all", 30)
        rules.set_limit(connection, "everything", "customer", 2, key="customer")
        client = Client(schema.name)
        started = client.start_many(connection, everything, list(jobs.items()))
        for n, saga in enumerate(started):
            if jobs[saga.key].waits and n % 3:
                client.signal(connection, saga.id, "go")
        crew = Crew(schema, tmp_path)
        dice = random.Random(11)
        try:
            for _ in range(3):
                crew.start()
            for goal in range(200, 1401, 200):
                wait_until(
                    lambda goal=goal: (
                        value("select count(*) from transition") >= goal
                        or not value(
                            "select count(*) from outbox where awaits is distinct from 'signal'"
                        )
                    ),
                    60,
                )
                for saga in started:
                    if jobs[saga.key].waits and dice.random() < 0.2 and not fails(jobs[saga.key]):
                        with contextlib.suppress(NotApplicableError):  # it has ended
                            client.signal(connection, saga.id, "go", key="second")
                crew.kill(dice.randrange(len(crew.running)))
                crew.start()
            for saga in started:
                with contextlib.suppress(NotApplicableError):
                    client.signal(connection, saga.id, "go", key="last")
            wait_until(lambda: value("select count(*) from outbox") == 0, 120)
            waits = "select count(*) from delivery where status <> 'delivered'"
            wait_until(lambda: value(waits) == 0, 30)
        finally:
            crew.end()
        assert connection.execute("select * from audit()").fetchall() == []
        ends = dict(
            connection.execute("select key, status from instance where type = 'everything'")
        )
        assert ends == {key: "FAILED" if fails(job) else "COMPLETED" for key, job in jobs.items()}
        done = {key for (key,) in connection.execute("select key from effect where did = 'done'")}
        undone = {
            key for (key,) in connection.execute("select key from effect where did = 'undone'")
        }
        kept = set().union(*(expected_keys(k, job) for k, job in jobs.items() if not fails(job)))
        assert done - undone == kept
        deaths = value("select count(*) from transition where error ->> 'type' = 'WorkerDied'")
        assert deaths > 0, "the kills hit nothing"
        assert value("select count(*) from ticket") == value("select count(*) from slot") == 0
        _check_what_was_heard(connection)


def _check_what_was_heard(connection: psycopg.Connection[Any]) -> None:
    """All that was emitted, and of each saga in its order."""
    heard = connection.execute("select saga_id, seq from heard order by saga_id, n").fetchall()
    emitted = connection.execute("select saga_id, seq from event order by saga_id, seq").fetchall()
    assert heard == emitted
    assert len(heard) > SAGAS * 5
