"""What a measured stretch cost the server: processor, log, row writes."""

from __future__ import annotations

from collections.abc import Mapping

import psutil
import psycopg

from tests.bench.server import Connection, Database, value

PAGE = 8192


class ServerProcess:
    """The server's processes on this machine, found through a connection to it.

    Args:
        connection: to the server.
    """

    def __init__(self, connection: Connection) -> None:
        self._postmaster: psutil.Process | None = None
        try:
            parent = psutil.Process(value(connection, "select pg_backend_pid()")).parent()
        except psutil.NoSuchProcess:
            return
        if parent is not None and "postgres" in parent.name():
            self._postmaster = parent

    def cpu_seconds(self) -> float:
        """Processor time of all of them so far, the ended ones too; 0 for a server elsewhere."""
        if self._postmaster is None:
            return 0.0
        own = self._postmaster.cpu_times()
        total = own.user + own.system + own.children_user + own.children_system
        for child in self._postmaster.children():
            try:
                times = child.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        return float(total)


class Log:
    """The write-ahead log from a point on.

    Args:
        connection: to the server; it stays open.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._from = value(connection, "select pg_current_wal_flush_lsn()")
        self._images = self._full_page_images()

    def bytes_written(self) -> tuple[float, float]:
        """Bytes since then: with full-page images, and without.

        Without: summed record by record where `pg_walinspect` can be had, else each image is taken
        for a page of 8 KB, which is a little too much, for images leave out a page's hole.
        """
        written = value(
            self._connection, "select pg_current_wal_flush_lsn() - %s::pg_lsn", self._from
        )
        try:
            self._connection.execute("create extension if not exists pg_walinspect")
            records = value(
                self._connection,
                "select coalesce(sum(record_size), 0) "
                "from pg_get_wal_stats(%s::pg_lsn, pg_current_wal_flush_lsn())",
                self._from,
            )
        except psycopg.Error:
            records = written - (self._full_page_images() - self._images) * PAGE
        return float(written), float(records)

    def _full_page_images(self) -> int:
        return int(value(self._connection, "select wal_fpi from pg_stat_wal"))


def row_writes(database: Database) -> Mapping[str, int]:
    """Rows inserted, updated and deleted so far, by table; complete once the writers have left."""
    with database.connect() as connection:
        rows = connection.execute(
            "select relname, n_tup_ins + n_tup_upd + n_tup_del from pg_stat_user_tables "
            "where schemaname in ('saga', 'ledger')"
        ).fetchall()
    return {str(name): int(writes) for name, writes in rows}


def hot_share(database: Database) -> float:
    """The share of the outbox's updates that touched no index."""
    with database.connect() as connection:
        return float(
            value(
                connection,
                "select coalesce(n_tup_hot_upd::float / nullif(n_tup_upd, 0), 0) "
                "from pg_stat_user_tables where schemaname = 'saga' and relname = 'outbox'",
            )
        )
