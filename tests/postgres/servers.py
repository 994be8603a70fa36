"""Where the tests get a Postgres from, and a database of their own in it."""

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker  # type: ignore[import-untyped] # it ships no types
import psycopg
import requests
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from testcontainers.community.postgres import PostgresContainer

from outbox.store.embedded import EmbeddedServer

SETTINGS = {"fsync": "off"}
"""The tests crash servers, not machines."""

POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")


MEMORY = Path("/dev/shm")
ROOM = 4 << 30  # bytes


def make_shared_directory() -> Path:
    """A new directory for the servers that a whole run shares: in memory where there is room, for a
    schema is two hundred files, and every test makes one."""
    parent = None
    with contextlib.suppress(OSError):
        if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
            parent = MEMORY
            for left in MEMORY.glob("outbox-test-*-*"):
                if not _lives(int(left.name.split("-")[2])):
                    remove_shared_directory(left)
    directory = Path(tempfile.mkdtemp(prefix=f"outbox-test-{os.getpid()}-", dir=parent))
    directory.chmod(0o711)
    return directory


def remove_shared_directory(directory: Path) -> None:
    """Removes it, and stops the servers that processes left running in it which were killed."""
    for used in directory.iterdir():
        EmbeddedServer(used, binaries=POSTGRES_15 if used.name == "15" else None).stop()
    shutil.rmtree(directory)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@contextlib.contextmanager
def server_directory() -> Iterator[Path]:
    """A directory for a server's data. Not one of pytest's: as root those are closed to the user
    who runs the server, and their paths are too long for a socket."""
    directory = Path(tempfile.mkdtemp(prefix="outbox-test-"))
    directory.chmod(0o711)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@contextlib.contextmanager
def postgres_server(directory: Path) -> Iterator[str]:
    """The DSN of a server: `OUTBOX_TEST_DSN`, else a container, else one in `directory`, which all
    processes of the test run share."""
    given = os.environ.get("OUTBOX_TEST_DSN")
    if given:
        yield given
    elif docker_answers():
        container = PostgresContainer("postgres:18", driver=None)
        with container.with_command("postgres -c fsync=off -c max_connections=200") as running:
            yield running.get_connection_url()
    else:
        with EmbeddedServer(directory, settings=SETTINGS) as server:
            yield server.dsn


def docker_answers() -> bool:
    """Whether there is a Docker daemon to start a container with."""
    try:
        client = docker.from_env(timeout=2)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except (docker.errors.DockerException, requests.RequestException):
        return False


@contextlib.contextmanager
def fresh_database(server_dsn: str) -> Iterator[str]:
    """The DSN of a new database on a server; dropped afterwards, whoever is still connected, and
    with it its template, if it has one."""
    name = f"outbox_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}_{uuid.uuid4().hex[:8]}"
    dsn = make_conninfo(server_dsn, dbname=name)
    with _database(server_dsn, name):
        try:
            yield dsn
        finally:
            _drop_database(server_dsn, template_of(dsn))


@contextlib.contextmanager
def copied_database(dsn: str, template: str) -> Iterator[str]:
    """The DSN of a new database beside another one, a copy of a third that nobody is connected to;
    dropped afterwards, whoever is still connected."""
    name = f"copy_{uuid.uuid4().hex[:12]}"
    with _database(dsn, name, template):
        yield make_conninfo(dsn, dbname=name)


def template_of(dsn: str) -> str:
    """What the template is called that belongs to a database."""
    return f"{conninfo_to_dict(dsn)['dbname']}_template"


@contextlib.contextmanager
def _database(dsn: str, name: str, template: str = "template1") -> Iterator[None]:
    create = sql.SQL("create database {} template {}")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
    try:
        yield
    finally:
        _drop_database(dsn, name)


def _drop_database(dsn: str, name: str) -> None:
    drop = sql.SQL("drop database if exists {} with (force)")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(drop.format(sql.Identifier(name)))
