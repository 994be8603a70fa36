"""What a worker makes of its database: missing, behind, ahead, wrong, locked for a while."""

import asyncio
import os
import subprocess
import sys

import psycopg
import pytest

from outbox import Command, Saga
from outbox.errors import SchemaError
from tests.engine.bench import Bench, Note, make_saga, until
from tests.fixtures import Schema
from tests.payments.world import ROOT

APP = "tests.engine.sagas:app"


def make_easy() -> Saga[Note]:
    saga = make_saga()

    @saga.step(nothing_to_undo="it does nothing")
    async def easy(cmd: Command[Note]) -> None: ...

    return saga


def run_worker(**environment: str) -> subprocess.CompletedProcess[str]:
    """A worker that cannot start; both its streams in `stdout`."""
    return subprocess.run(
        [sys.executable, "-m", "outbox.cli.worker", APP],
        env={**os.environ, "OUTBOX_LOG_FORMAT": "json", **environment},
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
        check=False,
    )  # fmt: skip


def only_error(ran: subprocess.CompletedProcess[str]) -> str:
    """The one line that says what is wrong."""
    assert ran.returncode == 2
    assert "Traceback" not in ran.stdout
    (error,) = [line for line in ran.stdout.splitlines() if line.startswith("error: ")]
    return error


def test_a_missing_schema_names_the_command(postgres_dsn: str) -> None:
    error = only_error(run_worker(OUTBOX_DSN=postgres_dsn, OUTBOX_SCHEMA="nowhere"))
    assert "schema nowhere is not installed" in error
    assert "run bin/saga migrate" in error


def test_a_schema_that_is_behind_names_the_command(schema: Schema) -> None:
    with schema.connect() as connection:
        connection.execute("delete from applied_file where name = 'functions/claim'")
    error = only_error(run_worker(OUTBOX_DSN=schema.dsn, OUTBOX_SCHEMA=schema.name))
    assert "behind this program (it lacks functions/claim)" in error
    assert "run bin/saga migrate" in error


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://worker:hunter2@127.0.0.1:1/nowhere",
        "postgresql://worker:hunter2@127.0.0.1:port/nowhere",
        "postgresql://worker:hunter2%zz@127.0.0.1/nowhere",
        "host=127.0.0.1 password=my hunter2",
        "host=127.0.0.1 port=1 password=hunter2",
        "host=no-such-host.invalid password=hunter2",
        "hunter2",
    ],
)
def test_a_wrong_dsn_is_one_line_without_the_password(dsn: str) -> None:
    ran = run_worker(OUTBOX_DSN=dsn)
    assert "OUTBOX_DSN" in only_error(ran)
    assert "hunter2" not in ran.stdout


def test_a_refused_password_is_not_shown(schema: Schema) -> None:
    given = psycopg.conninfo.make_conninfo(schema.dsn, user="nobody_here", password="hunter2")
    ran = run_worker(OUTBOX_DSN=given, OUTBOX_SCHEMA=schema.name)
    assert "nobody_here" in only_error(ran)
    assert "hunter2" not in ran.stdout


async def test_a_schema_ahead_of_the_program_is_a_warning(bench: Bench) -> None:
    await bench.rows(
        "insert into applied_file (name, checksum) values ('migrations/9999_later', 'x')"
    )
    saga = make_easy()
    async with bench.worker(saga) as running:
        assert (await bench.settled(await bench.start(saga))).status == "COMPLETED"
    (warning,) = running.events("schema_ahead")
    assert "9999_later" in warning["message"]


async def test_a_missing_schema_is_an_error_of_ours(bench: Bench) -> None:
    with pytest.raises(SchemaError, match="run bin/saga migrate"):
        async with bench.worker(make_easy(), OUTBOX_SCHEMA="nowhere"):
            raise AssertionError("it became ready")


async def test_a_worker_goes_on_when_its_tables_were_locked_for_a_while(bench: Bench) -> None:
    saga = make_easy()
    async with bench.worker(saga, lease=1.0) as running, bench.connection() as other:
        async with other.transaction():
            await other.execute("lock table outbox")
            late = asyncio.create_task(bench.start(saga))
            await until(lambda: bool(running.told) and _waiting(bench))
        saga_id = await late
        assert (await bench.settled(saga_id)).status == "COMPLETED"
        assert running.task is not None
        assert not running.task.done()


async def _waiting(bench: Bench) -> bool:
    """Whether both the worker and the start wait for the lock, or the start for the worker that
    has met it while it was about to fall asleep."""
    rows = await bench.rows(
        "select count(*) from pg_locks where not granted "
        "and (relation = 'outbox'::regclass or locktype = 'advisory') "
        "and database = (select oid from pg_database where datname = current_database())"
    )
    return int(rows[0][0]) >= 2


async def test_a_worker_whose_connections_are_all_ended_makes_new_ones(bench: Bench) -> None:
    saga = make_easy()
    async with bench.worker(saga) as running:
        async with bench.connection() as other:
            await other.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where application_name like 'outbox %' and datname = current_database() "
                "and pid <> pg_backend_pid()"
            )
        for saga_id in await bench.start_many(saga, 5):
            assert (await bench.settled(saga_id)).status == "COMPLETED"
        assert running.events("database_trouble")
