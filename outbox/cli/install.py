"""``bin/saga migrate``, ``register`` and ``psql``: what a database needs before sagas run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import psycopg
import typer

from outbox.cli import shell
from outbox.cli.shell import AsJson, friendly, load_apps, opened, print_json, settings_of
from outbox.errors import ConfigurationError
from outbox.store.connect import Connection, connect, describe_dsn
from outbox.store.database import database
from outbox.store.functions import Functions
from outbox.store.migrate import Plan, make_plan, migrate, print_sql
from outbox.worker import register

# So many files of a kind are named one by one; a fresh installation has hundreds.
_NAMED = 20


def migrate_command(
    show_sql: Annotated[
        bool, typer.Option("--print-sql", help="Print the statements of a fresh installation.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit 1 if something is to be done.")
    ] = False,
    roles: Annotated[
        bool, typer.Option("--roles", help="Also create the database roles and their grants.")
    ] = False,
) -> None:
    """Installs the schema, or brings it up to this program. Safe to run again, and by many."""
    settings = settings_of()
    schema = settings.schema_name
    if show_sql:
        with friendly():
            print(print_sql(schema), end="")
        return

    async def work(dsn: str) -> int:
        async with await connect(dsn) as connection:
            if check:
                plan = await make_plan(connection, schema)
                if plan.ahead:
                    print(f"ahead of this program: {plan.ahead}")
                    return shell.NO
                for line in _describe(plan):
                    print(line)
                print("up to date" if plan.is_empty else "behind: run bin/saga migrate")
                return shell.OK if plan.is_empty else shell.NO
            try:
                plan = await migrate(connection, schema, roles=roles)
            except psycopg.errors.InsufficientPrivilege as error:
                what = "the schema, and roles" if roles else "the schema"
                raise ConfigurationError(
                    f"{error.diag.message_primary}: migrate as a login that may make {what} (the "
                    "database's owner, as a rule), and always as the same one, which then owns it"
                ) from None
            for line in _describe(plan):
                print(line)
            print(f"schema {schema} is up to date in {describe_dsn(dsn)}")
            return shell.OK

    with friendly(), database(settings) as dsn:
        shell.run(work(dsn))


def register_command(
    apps: Annotated[
        list[str] | None, typer.Argument(help="As module:app; default OUTBOX_APPS.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Registers saga types, so that sagas of them can be started before a worker runs."""
    settings = settings_of()

    async def work(connection: Connection) -> int:
        found = load_apps(apps or [], settings)
        done = await register(connection, Functions(settings.schema_name), found)
        if as_json:
            print_json([{"type": t, "version": v, "is": how} for (t, v), how in done.items()])
        else:
            for (type_, version), how in done.items():
                print(f"{type_} version {version}: {how}")
        return shell.OK

    shell.with_connection(settings, work)


def psql_command(arguments: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    """Opens psql on the database, the schema in its search_path; more arguments go to psql."""
    settings = settings_of()
    with friendly(), opened(settings) as dsn:
        shell.run_psql(dsn, settings, arguments or [])


def _describe(plan: Plan) -> Iterator[str]:
    for file in plan.migrations:
        yield f"{file.name}.sql"
    for kind, files in (("functions", plan.functions), ("views", plan.views)):
        if len(files) > _NAMED:
            yield f"{len(files)} {kind}"
        else:
            yield from (f"{file.name}.sql" for file in files)
    for name in plan.gone:
        yield f"{name}.sql: gone"
