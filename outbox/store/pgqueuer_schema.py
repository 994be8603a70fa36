"""pgqueuer's tables, inside our schema."""

from __future__ import annotations

from pgqueuer.adapters.drivers.psycopg import PsycopgDriver
from pgqueuer.adapters.persistence.qb import (
    QueryBuilderEnvironment,
    QueryQueueBuilder,
    QuerySchedulerBuilder,
)
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.domain.settings import DBSettings
from pgqueuer.domain.types import Channel

from outbox.store.connect import Connection


def pgqueuer_settings(schema: str) -> DBSettings:
    """pgqueuer's names, all given, since it would else read ``TRIGGER`` or ``CHANNEL`` from the
    environment."""
    return DBSettings(
        prefix="",
        db_schema=schema,
        channel=Channel(f"{schema}_pgqueuer"),
        function="fn_pgqueuer_changed",
        statistics_table="pgqueuer_statistics",
        queue_status_type="pgqueuer_status",
        queue_table="pgqueuer",
        queue_table_log="pgqueuer_log",
        trigger="tg_pgqueuer_changed",
        schedules_table="pgqueuer_schedules",
    )


def pgqueuer_queries(connection: Connection, schema: str) -> Queries:
    """pgqueuer's queries over a connection (autocommit), for its tables in our schema."""
    settings = pgqueuer_settings(schema)
    return Queries(
        PsycopgDriver(connection),
        qbe=QueryBuilderEnvironment(settings),
        qbq=QueryQueueBuilder(settings),
        qbs=QuerySchedulerBuilder(settings),
    )


def pgqueuer_install_sql(schema: str) -> str:
    """The statements that install pgqueuer's tables."""
    return QueryBuilderEnvironment(pgqueuer_settings(schema)).build_install_query(
        create_schema=False
    )


async def converge_pgqueuer(connection: Connection, schema: str) -> int:
    """Installs or upgrades pgqueuer's tables; returns how many statements that took. Must run
    outside a transaction: a value added to an enum cannot be used in the transaction that added
    it."""
    queries = pgqueuer_queries(connection, schema)
    if not await queries.schema_is_installed():
        await connection.execute(pgqueuer_install_sql(schema).encode())
        return 1
    return len((await queries.apply_upgrade()).statements)
