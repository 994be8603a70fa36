"""Brings a database's schema up to this program: migrations forward, functions and views as they
are.

Everything runs under one advisory lock, so that any number of migrators may start at once, and in
one transaction, except pgqueuer's own tables, which that library converges itself.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from outbox.errors import SchemaError
from outbox.store.connect import Connection
from outbox.store.files import SqlFile, in_dependency_order, read_files, read_release
from outbox.store.pgqueuer_schema import converge_pgqueuer, pgqueuer_install_sql
from outbox.store.roles import grant_sql, roles_exist, roles_sql

_RELEASE = "RELEASE"
_PATIENCE = 60
# Less than deadlock_timeout, after which Postgres ends whoever waits in a ring.
_BRIEFLY = "set local lock_timeout = '200ms'"
_BOOKS = """
create table if not exists applied_file (
    name text primary key, checksum text not null, applied_at timestamptz not null default now());
comment on table applied_file is 'Which SQL files this schema was made from; kept by the migrator.';
"""


@dataclass
class Plan:
    """What a database lacks. ``gone`` are views that this program has no more. ``ahead`` says how
    the database is ahead of it; then nothing else is planned."""

    migrations: list[SqlFile] = field(default_factory=list)
    functions: list[SqlFile] = field(default_factory=list)
    views: list[SqlFile] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    ahead: str | None = None

    @property
    def is_empty(self) -> bool:
        """Nothing is to be done."""
        return not (self.migrations or self.functions or self.views or self.gone)


async def make_plan(connection: Connection, schema: str) -> Plan:
    """Compares a database with the SQL files.

    Raises:
        SchemaError: a migration that was applied has changed since.
    """
    applied = await _applied(connection, schema)
    release = int(applied.get(_RELEASE, "0"))
    if release > read_release():
        return Plan(ahead=f"its SQL is release {release}, this program's is {read_release()}")
    migrations, functions = read_files("migrations"), read_files("functions")
    views = in_dependency_order(read_files("views"))
    for migration in migrations:
        if applied.get(migration.name, migration.checksum) != migration.checksum:
            raise SchemaError(
                f"{migration.name}.sql was changed after it was applied to schema {schema}: "
                "migrations are immutable, restore the file and write a new one"
            )
    plan = Plan(
        migrations=[m for m in migrations if m.name not in applied],
        functions=[f for f in functions if applied.get(f.name) != f.checksum],
        gone=[n for n in applied if n.startswith("views/") and n not in {v.name for v in views}],
    )
    unknown = {n for n in applied if n.startswith("migrations/")} - {m.name for m in migrations}
    if unknown:
        return Plan(ahead=f"it has {', '.join(sorted(unknown))}")
    if plan.migrations or plan.gone or any(applied.get(v.name) != v.checksum for v in views):
        plan.views = views
    return plan


async def migrate(connection: Connection, schema: str, *, roles: bool = False) -> Plan:
    """Applies what is missing and returns it. Safe to run again, and by many at once.

    Args:
        connection: in autocommit mode, with the right to create the schema.
        schema: the schema's name.
        roles: also create the roles ``<schema>_producer``, ``_worker``, ``_viewer``, ``_operator``.

    Raises:
        SchemaError: an applied migration has changed, or the database is ahead of this program.
    """
    lock = sql.SQL("select {}(hashtextextended({}, 0))")
    key = sql.Literal(f"outbox migrate {schema}")
    await connection.execute(lock.format(sql.SQL("pg_advisory_lock"), key))
    try:
        await connection.execute(
            sql.SQL("create schema if not exists {}").format(sql.Identifier(schema))
        )
        async with connection.transaction():
            await _set_search_path(connection, schema)
            await connection.execute(_BOOKS)
            plan = await make_plan(connection, schema)
            if plan.ahead:
                raise SchemaError(
                    f"schema {schema} is ahead of this program ({plan.ahead}): "
                    "install the newer release"
                )
            await _apply(connection, plan)
        await converge_pgqueuer(connection, schema)
        async with connection.transaction():
            await _set_search_path(connection, schema)
            await connection.execute(_LOCK_DOWN)
        if roles:
            await connection.execute(roles_sql(schema))
        if await roles_exist(connection, schema):
            await connection.execute(grant_sql(schema))
    finally:
        if not connection.broken:
            await connection.execute(lock.format(sql.SQL("pg_advisory_unlock"), key))
    return plan


async def is_installed(connection: Connection, schema: str) -> bool:
    """Whether the schema has been installed in this database, in whatever state."""
    cursor = await connection.execute(
        "select exists (select from pg_tables "
        "where schemaname = %s and tablename = 'applied_file')",
        (schema,),
    )
    row = await cursor.fetchone()
    return bool(row and row[0])


async def require_current(connection: Connection, schema: str) -> str | None:
    """Checks that the database fits this program, as a worker does before it starts.

    Returns:
        A warning when the database is ahead, else None.

    Raises:
        SchemaError: the schema is missing or behind; the message names the command.
    """
    if not await is_installed(connection, schema):
        raise SchemaError(
            f"schema {schema} is not installed in this database: run bin/saga migrate"
        )
    plan = await make_plan(connection, schema)
    if plan.ahead:
        return f"schema {schema} is ahead of this program: {plan.ahead}"
    if not plan.is_empty:
        missing = [f.name for f in (*plan.migrations, *plan.functions, *plan.views)] or plan.gone
        raise SchemaError(
            f"schema {schema} is behind this program (it lacks {', '.join(missing[:5])}"
            f"{' …' if len(missing) > 5 else ''}): run bin/saga migrate"
        )
    return None


def print_sql(schema: str) -> str:
    """All statements of a fresh installation, for a person to read or to run with psql."""
    parts = [
        f"create schema if not exists {schema};",
        f"set search_path to {schema}, pg_temp;",
        "set check_function_bodies to off;",
        _BOOKS.strip(),
    ]
    files = [*read_files("migrations"), *read_files("functions")]
    files += in_dependency_order(read_files("views"))
    for file in files:
        parts.append(f"-- {file.name}.sql\n{file.text.rstrip()}")
        values = f"('{file.name}', '{file.checksum}')"
        parts.append(f"insert into applied_file (name, checksum) values {values};")  # noqa: S608 - ours
    release = f"('{_RELEASE}', '{read_release()}')"
    parts.append(f"insert into applied_file (name, checksum) values {release};")  # noqa: S608 - ours
    parts.append(pgqueuer_install_sql(schema))
    parts.append(_LOCK_DOWN.strip())
    return "\n\n".join(parts) + "\n"


# A function is executable by everyone unless that is revoked; what may be called is granted by
# role.
_LOCK_DOWN = """
do $$ begin
    execute format('revoke all on all routines in schema %I from public', current_schema());
end $$;
"""


async def _apply(connection: Connection, plan: Plan) -> None:
    # First of all: whoever waits for a view that is gone is to hold nothing that we wait for.
    if old := [*plan.gone, *(view.name for view in plan.views)]:
        await _drop_views(connection, old)
    for migration in plan.migrations:
        await _run(connection, migration)
    for function in plan.functions:
        await _run(connection, function)
    for file in plan.views:
        await _run(connection, file)
    await _note(connection, _RELEASE, str(read_release()))


async def _drop_views(connection: Connection, names: Sequence[str]) -> None:
    """Drops views, all at once or none. Who reads several in one transaction, and waits for one
    that we have while we wait for one that he has, is let through: else Postgres would end him.

    Raises:
        SchemaError: they are in use all the time.
    """
    views = [sql.Identifier(name.removeprefix("views/")) for name in names]
    drop = sql.SQL("drop view if exists {} cascade").format(sql.SQL(", ").join(views))
    tried_until = time.monotonic() + _PATIENCE
    while True:
        try:
            async with connection.transaction():
                await connection.execute(_BRIEFLY)
                await connection.execute(drop)
            break
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            if time.monotonic() > tried_until:
                raise SchemaError(
                    f"the views cannot be made anew: they were in use for {_PATIENCE} seconds. "
                    "End the transactions that read them (pg_stat_activity has them, with the "
                    "state 'idle in transaction' perhaps), and migrate again: nothing was changed"
                ) from None
            await asyncio.sleep(random.uniform(0.05, 0.3))
    await connection.execute("set local lock_timeout to default")
    await connection.execute("delete from applied_file where name = any(%s)", (list(names),))


async def _run(connection: Connection, file: SqlFile) -> None:
    try:
        await connection.execute(file.text.encode())
    except psycopg.Error as error:
        raise SchemaError(f"{file.name}.sql failed: {error}") from error
    await _note(connection, file.name, file.checksum)


async def _note(connection: Connection, name: str, checksum: str) -> None:
    await connection.execute(
        "insert into applied_file (name, checksum) values (%s, %s) on conflict (name) "
        "do update set checksum = excluded.checksum, applied_at = now() "
        "where applied_file.checksum <> excluded.checksum",
        (name, checksum),
    )


async def _applied(connection: Connection, schema: str) -> dict[str, str]:
    if not await is_installed(connection, schema):
        return {}
    cursor = await connection.execute(
        sql.SQL("select name, checksum from {}.applied_file").format(sql.Identifier(schema))
    )
    return dict(await cursor.fetchall())


async def _set_search_path(connection: Connection, schema: str) -> None:
    await connection.execute(
        "select set_config('search_path', quote_ident(%s) || ', pg_temp', true), "
        "set_config('check_function_bodies', 'off', true)",
        (schema,),
    )
