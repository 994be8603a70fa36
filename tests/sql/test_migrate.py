"""Bringing a database's schema up to the program, from wherever it is."""

import asyncio
import os
import re
import shutil
import uuid
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from outbox.errors import SchemaError
from outbox.store import files
from outbox.store.connect import connect
from outbox.store.migrate import Plan, make_plan, migrate, print_sql, require_current
from tests.fixtures import Schema, drop_schema
from tests.sql.catalog import read_catalog
from tests.sql.engine import Engine


@pytest.fixture
def name(database: psycopg.Connection[Any]) -> Iterator[str]:
    """The name of a schema that does not exist yet; dropped afterwards."""
    made = f"other_{uuid.uuid4().hex[:8]}"
    yield made
    drop_schema(database, made)


@pytest.fixture
def dsn(schema: Schema) -> str:
    """Of a database that has a schema already, so that others can be compared with it."""
    return schema.dsn


@pytest.fixture
def database(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


async def run(dsn: str, name: str, **options: bool) -> Plan:
    async with await connect(dsn) as connection:
        return await migrate(connection, name, **options)


async def check(dsn: str, name: str) -> str | None:
    async with await connect(dsn) as connection:
        return await require_current(connection, name)


def change_books(schema: Schema, statement: str, *parameters: object) -> None:
    """What the migrator knows of a schema becomes other than it is."""
    with schema.connect() as connection:
        connection.execute(statement, parameters)


def sources(folder: str) -> set[str]:
    return {file.name for file in files.read_files(folder)}


async def test_a_fresh_schema_gets_everything_and_a_second_time_nothing(
    dsn: str, name: str, database: psycopg.Connection[Any]
) -> None:
    plan = await run(dsn, name)
    assert {file.name for file in plan.migrations} == sources("migrations")
    assert {file.name for file in plan.functions} == sources("functions")
    assert {file.name for file in plan.views} == sources("views")
    before = read_catalog(database, name)
    assert (await run(dsn, name)).is_empty
    assert read_catalog(database, name) == before
    assert await check(dsn, name) is None


def test_a_function_has_a_file_of_its_own_that_is_found_by_its_name() -> None:
    functions = files.read_files("functions")
    names = [file.object_name for file in functions]
    assert len(names) > 100
    assert len(names) == len(set(names)), "the migrator tells files apart by their names"
    for file in functions:
        made = set(re.findall(r"^create or replace function (\w+)", file.text, re.MULTILINE))
        assert made == {file.object_name}


async def test_ten_at_once_migrate_once(
    dsn: str, name: str, schema: Schema, database: psycopg.Connection[Any]
) -> None:
    plans = await asyncio.gather(*[run(dsn, name) for _ in range(10)])
    assert sorted(plan.is_empty for plan in plans) == [False] + [True] * 9
    assert read_catalog(database, name) == read_catalog(database, schema.name)


async def test_what_is_printed_and_run_through_psql_is_the_same(
    dsn: str, name: str, schema: Schema, database: psycopg.Connection[Any]
) -> None:
    psql = shutil.which("psql")
    if psql is None:
        pytest.skip("psql is not installed: apt-get install postgresql-client")
    given = {key: str(value) for key, value in conninfo_to_dict(dsn).items()}
    names = {"dbname": "PGDATABASE"}
    environment = {names.get(key, f"PG{key.upper()}"): value for key, value in given.items()}
    process = await asyncio.create_subprocess_exec(
        *(psql, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-"),
        stdin=PIPE,
        stderr=PIPE,
        env={**os.environ, **environment},
    )
    _, complaints = await process.communicate(print_sql(name).encode())
    assert process.returncode == 0, complaints.decode()
    assert read_catalog(database, name) == read_catalog(database, schema.name)
    assert await check(dsn, name) is None
    assert (await run(dsn, name)).is_empty


async def test_a_schema_that_is_missing_names_the_command(dsn: str, name: str) -> None:
    with pytest.raises(SchemaError, match=f"schema {name} is not installed.*run bin/saga migrate"):
        await check(dsn, name)


async def test_a_schema_that_is_behind_names_the_command(
    schema: Schema, database: psycopg.Connection[Any]
) -> None:
    for file in ("functions/advance", "views/stuck"):
        change_books(schema, "update applied_file set checksum = 'old' where name = %s", file)
        with pytest.raises(SchemaError, match="run bin/saga migrate"):
            await check(schema.dsn, schema.name)
        before = read_catalog(database, schema.name)
        plan = await run(schema.dsn, schema.name)
        assert file in {f.name for f in [*plan.functions, *plan.views]}
        assert plan.migrations == []
        assert read_catalog(database, schema.name) == before
        assert await check(schema.dsn, schema.name) is None


async def test_a_migration_that_was_changed_is_refused(
    schema: Schema,
) -> None:
    file = "migrations/0001_tables"
    change_books(schema, "update applied_file set checksum = 'x' where name = %s", file)
    for attempt in (check, run):
        with pytest.raises(SchemaError, match=r"0001_tables\.sql was changed after it was applied"):
            await attempt(schema.dsn, schema.name)


async def test_a_schema_that_is_ahead_is_left_alone_and_workers_are_warned(
    schema: Schema, database: psycopg.Connection[Any]
) -> None:
    change_books(schema, "insert into applied_file values ('migrations/9999_new', 'x')")
    change_books(schema, "update applied_file set checksum = 'new' where name = 'functions/claim'")
    before = read_catalog(database, schema.name)
    warning = await check(schema.dsn, schema.name)
    assert warning is not None
    assert "is ahead of this program: it has migrations/9999_new" in warning
    with pytest.raises(SchemaError, match="install the newer release"):
        await run(schema.dsn, schema.name)
    assert read_catalog(database, schema.name) == before


async def test_a_database_of_a_later_release_is_not_taken_back(
    schema: Schema, database: psycopg.Connection[Any]
) -> None:
    change_books(schema, "update applied_file set checksum = '999' where name = 'RELEASE'")
    change_books(schema, "update applied_file set checksum = 'new' where name = 'functions/claim'")
    before = read_catalog(database, schema.name)
    warning = await check(schema.dsn, schema.name)
    assert warning is not None
    assert "its SQL is release 999" in warning
    with pytest.raises(SchemaError, match="install the newer release"):
        await run(schema.dsn, schema.name)
    assert read_catalog(database, schema.name) == before


async def test_a_view_that_is_no_longer_there_goes(
    schema: Schema, database: psycopg.Connection[Any]
) -> None:
    change_books(schema, "create view old_view as select 1")
    change_books(schema, "insert into applied_file values ('views/old_view', 'x')")
    assert ("relation", "old_view") in read_catalog(database, schema.name)
    await run(schema.dsn, schema.name)
    async with await connect(schema.dsn) as connection:
        plan = await make_plan(connection, schema.name)
    assert plan.is_empty
    assert ("relation", "old_view") not in read_catalog(database, schema.name)


async def test_a_file_that_fails_leaves_nothing_behind(
    dsn: str,
    name: str,
    database: psycopg.Connection[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy = tmp_path / "sql"
    shutil.copytree(files.sql_directory(), copy)
    (copy / "migrations" / "0002_broken.sql").write_text("create table half (x int); select 1 / 0;")
    monkeypatch.setattr(files, "sql_directory", lambda: copy)
    with pytest.raises(SchemaError, match=r"migrations/0002_broken.sql failed: division by zero"):
        await run(dsn, name)
    assert read_catalog(database, name) == {}
    monkeypatch.undo()
    assert (await run(dsn, name)).migrations


def test_nothing_reaches_outside_its_schema(
    engine: Engine, database: psycopg.Connection[Any]
) -> None:
    """Called from a connection that knows neither this schema nor any of the same names."""
    name = engine.schema.name
    for kind, found in database.execute(
        "select proname, coalesce(array_to_string(proconfig, ' '), '') from pg_proc "
        "where pronamespace = %s::regnamespace and prosecdef",
        (name,),
    ).fetchall():
        assert f"search_path={name}, pg_temp" in found, kind
    database.execute("set search_path to pg_catalog")
    worker = engine.worker()

    def call(text: LiteralString, *parameters: object) -> list[tuple[Any, ...]]:
        statement = sql.SQL(text).format(sql.Identifier(name))
        return database.execute(statement, parameters).fetchall()

    ((started,),) = call("select {}.start('order', '{{}}', 'k')")
    claim: LiteralString = "select command from {}.claim(%s, '{{order}}', '{{1}}', '{{1}}')"
    assert call(claim, worker.id) == [(started,)]
    advance: LiteralString = (
        "select verdict from {}.advance(%s, array[%s::uuid], '{{1}}', '{{rejected}}', "
        "'{{null}}', '{{0.1}}', array['{{}}'::jsonb])"
    )
    assert call(advance, worker.id, started) == [("applied",)]
    for relation in ("overview", "timeline", "pending", "stuck", "manual_intervention"):
        database.execute(sql.SQL("select * from {}").format(sql.Identifier(name, relation)))
    assert call("select * from {}.audit()") == []
    outside = database.execute(
        "select c.oid::regclass from pg_constraint f join pg_class c on c.oid = f.confrelid "
        "where f.connamespace = %s::regnamespace and c.relnamespace <> f.connamespace",
        (name,),
    ).fetchall()
    assert outside == []
