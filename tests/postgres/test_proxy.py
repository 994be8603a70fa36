"""The proxy does what the tests that use it rely on."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.postgres.proxy import CommitDroppingProxy
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def table(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn) as connection:
        connection.execute("drop table if exists proxied; create table proxied (id int)")
        connection.execute(
            """
            create or replace function advance(value int) returns int language sql
            return value
            """
        )


def stored(dsn: str) -> list[int]:
    with psycopg.connect(dsn) as connection:
        return [row[0] for row in connection.execute("select id from proxied order by id")]


def test_it_forwards_queries_errors_copies_pipelines_and_cancels(
    proxy: CommitDroppingProxy, postgres_dsn: str
) -> None:
    proxy.drop_after_statement(b"never said")
    with psycopg.connect(proxy.dsn, autocommit=True) as connection:
        for number in range(10):
            row = connection.execute("select %s::int", [number], prepare=True).fetchone()
            assert row == (number,)
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("select 1 / 0")
        cursor = connection.cursor()
        with cursor.copy("copy proxied from stdin") as copy:
            for number in range(100):
                copy.write_row([number])
        with cursor.copy("copy proxied to stdout") as copy:
            assert len(list(copy.rows())) == 100
        with connection.pipeline():
            cursors = [connection.execute("select %s::int", [number]) for number in range(20)]
            assert [cursor.fetchone() for cursor in cursors] == [(n,) for n in range(20)]
        rows = connection.execute("select repeat('x', 1000) from generate_series(1, 2000)")
        assert len(rows.fetchall()) == 2000
    assert len(stored(postgres_dsn)) == 100
    assert proxy.struck == []


@pytest.mark.parametrize("prepare", [False, True])
def test_a_commit_is_executed_and_its_answer_lost(
    proxy: CommitDroppingProxy, postgres_dsn: str, prepare: bool
) -> None:
    with psycopg.connect(proxy.dsn) as connection:
        connection.execute("insert into proxied values (%s)", [1], prepare=prepare)
        connection.commit()
        proxy.drop_after_commit()
        connection.execute("insert into proxied values (%s)", [2], prepare=prepare)
        with pytest.raises(psycopg.OperationalError):
            connection.commit()
    assert stored(postgres_dsn) == [1, 2]
    assert proxy.struck == ["after commit"]
    with psycopg.connect(proxy.dsn) as connection:
        connection.execute("insert into proxied values (3)")
    assert stored(postgres_dsn) == [1, 2, 3], "it struck once"


def test_a_commit_in_a_pipeline_is_executed_and_its_answer_lost(
    proxy: CommitDroppingProxy, postgres_dsn: str
) -> None:
    proxy.drop_after_commit()
    with psycopg.connect(proxy.dsn, autocommit=True) as connection:  # noqa: SIM117 - order matters
        with pytest.raises(psycopg.OperationalError):
            with connection.pipeline(), connection.transaction():
                connection.execute("insert into proxied values (%s)", [1])
    assert stored(postgres_dsn) == [1]


def test_a_rollback_is_no_commit(proxy: CommitDroppingProxy, postgres_dsn: str) -> None:
    proxy.drop_after_commit()
    with psycopg.connect(proxy.dsn) as connection:
        connection.execute("insert into proxied values (1)")
        connection.rollback()
        assert connection.execute("select 1").fetchone() == (1,)
        connection.rollback()
    assert proxy.struck == []


@pytest.mark.parametrize("prepare", [False, True])
def test_a_statement_is_executed_and_its_answer_lost(
    proxy: CommitDroppingProxy, postgres_dsn: str, prepare: bool
) -> None:
    call = "with call as (select Advance(%s)) insert into proxied select * from call returning id"
    with psycopg.connect(proxy.dsn, autocommit=True) as connection:
        assert connection.execute(call, [1], prepare=prepare).fetchone() == (1,)
        assert connection.execute(call, [2], prepare=prepare).fetchone() == (2,)
        proxy.drop_after_statement(b"advance")
        connection.execute("select 1")
        with pytest.raises(psycopg.OperationalError):
            connection.execute(call, [3], prepare=prepare)
    assert stored(postgres_dsn) == [1, 2, 3]
    assert proxy.struck == ["after advance"]


def test_a_statement_that_fails_is_answered_and_the_next_one_lost(
    proxy: CommitDroppingProxy, postgres_dsn: str
) -> None:
    proxy.drop_after_statement(b"proxied")
    with psycopg.connect(proxy.dsn, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("insert into proxied values (1 / %s)", [0])
        with pytest.raises(psycopg.OperationalError):
            connection.execute("insert into proxied values (%s)", [1])
    assert stored(postgres_dsn) == [1]


@pytest.mark.parametrize("prepare", [False, True])
def test_a_statement_never_reaches_the_server(
    proxy: CommitDroppingProxy, postgres_dsn: str, prepare: bool
) -> None:
    with psycopg.connect(proxy.dsn, autocommit=True) as connection:
        connection.execute("insert into proxied values (%s)", [1], prepare=prepare)
        proxy.drop_before(b"INSERT INTO proxied")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("insert into proxied values (%s)", [2], prepare=prepare)
    assert stored(postgres_dsn) == [1]
    assert proxy.struck == ["before INSERT INTO proxied"]


def test_faults_can_be_rare_and_be_disarmed(proxy: CommitDroppingProxy, postgres_dsn: str) -> None:
    proxy.drop_after_commit(times=None, probability=0.3)
    acknowledged = 0
    for number in range(50):
        try:
            with psycopg.connect(proxy.dsn) as connection:
                connection.execute("insert into proxied values (%s)", [number])
            acknowledged += 1
        except psycopg.OperationalError:
            continue
    assert stored(postgres_dsn) == list(range(50)), "every commit was executed"
    assert len(proxy.struck) == 50 - acknowledged
    assert 0 < acknowledged < 50
    proxy.disarm()
    for _ in range(10):
        with psycopg.connect(proxy.dsn) as connection:
            connection.execute("insert into proxied values (0)")


async def test_it_serves_async_connections(proxy: CommitDroppingProxy, postgres_dsn: str) -> None:
    proxy.drop_after_commit()
    with pytest.raises(psycopg.OperationalError):
        async with await psycopg.AsyncConnection.connect(proxy.dsn) as connection:
            await connection.execute("insert into proxied values (1)")
    assert stored(postgres_dsn) == [1]


def test_connections_can_be_severed_and_refused(proxy: CommitDroppingProxy) -> None:
    with psycopg.connect(proxy.dsn) as connection:
        proxy.refuse()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(proxy.dsn)
    proxy.refuse(False)
    with psycopg.connect(proxy.dsn) as connection:
        connection.execute("select 1")


def test_a_cancel_request_reaches_the_server(proxy: CommitDroppingProxy, postgres_dsn: str) -> None:
    with (
        psycopg.connect(proxy.dsn, autocommit=True) as connection,
        psycopg.connect(postgres_dsn, autocommit=True) as observer,
        ThreadPoolExecutor() as executor,
    ):
        pid = connection.info.backend_pid
        query = executor.submit(connection.execute, "select pg_sleep(60)")

        def is_running() -> bool:
            activity = "select state from pg_stat_activity where pid = %s"
            return observer.execute(activity, [pid]).fetchone() == ("active",)

        wait_until(is_running)
        connection.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            query.result(timeout=20)
