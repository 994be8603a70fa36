"""A standby that runs a long query keeps the primary from vacuuming, and is named."""

import os
import subprocess
from pathlib import Path

import psycopg
import pytest

from outbox.store.embedded import EmbeddedServer
from outbox.store.postgres_binaries import PostgresBinaries
from tests.conftest import ServerFactory
from tests.fixtures import fresh_schema
from tests.postgres.servers import SETTINGS, server_directory
from tests.sql.conftest import running_engine
from tests.waiting import wait_until

FEEDBACK = {"hot_standby_feedback": "on", "wal_receiver_status_interval": "1s"}


def copy(primary: EmbeddedServer, directory: Path) -> None:
    """Makes a standby's data of a running primary, for whoever runs that."""
    program = PostgresBinaries.find().directory / "pg_basebackup"
    if not program.exists():
        pytest.skip(f"{program} is not there")
    data = directory / "postgres"
    subprocess.run(
        [program, "-D", data, "-R", "-c", "fast", "-d", primary.dsn + " application_name=report"],
        check=True,
        capture_output=True,
    )
    owner = (primary.directory / "postgres").stat()
    for path in (data, *data.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def test_a_standby_that_holds_vacuum_back_is_named(server_factory: ServerFactory) -> None:
    replicating = {"wal_level": "replica", "max_wal_senders": "4"}
    primary = server_factory(settings=replicating)
    with server_directory() as directory, fresh_schema(primary.dsn) as schema:
        copy(primary, directory)
        settings = {**SETTINGS, **replicating, **FEEDBACK}
        with (
            EmbeddedServer(directory, settings=settings) as standby,
            running_engine(schema) as engine,
        ):
            seen = "select kind, name, remedy from vacuum_holders('1 minute', 100)"
            with psycopg.connect(standby.dsn) as reader:
                reader.execute("set transaction isolation level repeatable read")
                reader.execute("select 1")
                wait_until(
                    lambda: engine.value("select max(backend_xmin::text) from pg_stat_replication")
                )
                for n in range(200):
                    engine.start("single", key=str(n))
                (held,) = wait_until(lambda: engine.rows(seen))
                assert (held.kind, held.name) == ("standby", "report")
                assert "hot_standby_feedback" in held.remedy
            wait_until(lambda: not engine.rows(seen))
