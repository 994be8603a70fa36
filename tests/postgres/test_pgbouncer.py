"""The PgBouncer that the tests use pools transactions."""

import psycopg

from tests.conftest import PgBouncerFactory


def test_it_gives_each_transaction_whatever_connection_is_free(
    pgbouncer_factory: PgBouncerFactory, postgres_dsn: str
) -> None:
    bouncer = pgbouncer_factory(postgres_dsn, {"default_pool_size": "1"})
    with (
        psycopg.connect(bouncer.dsn, prepare_threshold=None) as one,
        psycopg.connect(bouncer.dsn, prepare_threshold=None) as other,
    ):
        pids = []
        for connection in (one, other, one):
            pids.append(connection.execute("select pg_backend_pid()").fetchone())
            connection.commit()
    assert len(set(pids)) == 1


def test_it_can_go_away_and_come_back(
    pgbouncer_factory: PgBouncerFactory, postgres_dsn: str
) -> None:
    bouncer = pgbouncer_factory(postgres_dsn)
    bouncer.stop()
    bouncer.start()
    with psycopg.connect(bouncer.dsn, prepare_threshold=None) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
