"""Postgres for every test, and a few helpers. What each fixture gives stands in its docstring."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from outbox.store.embedded import EmbeddedServer
from tests.fixtures import schema as schema
from tests.postgres.pgbouncer import PgBouncer, find_pgbouncer
from tests.postgres.proxy import CommitDroppingProxy
from tests.postgres.servers import (
    POSTGRES_15,
    SETTINGS,
    fresh_database,
    make_shared_directory,
    postgres_server,
    remove_shared_directory,
    server_directory,
)

SHARED_DIRECTORY = "OUTBOX_TEST_DIRECTORY"
"""Environment variable by which the processes of one test run find their common server."""

ServerFactory = Callable[..., EmbeddedServer]
PgBouncerFactory = Callable[..., PgBouncer]


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        os.environ[SHARED_DIRECTORY] = str(make_shared_directory())


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        remove_shared_directory(Path(os.environ.pop(SHARED_DIRECTORY)))


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share what is made once a module, such as a server, run in one process."""
    for item in items:
        if shares_with_its_module(item) and item.get_closest_marker("xdist_group") is None:
            item.add_marker(
                pytest.mark.xdist_group(str(item.path.relative_to(item.config.rootpath)))
            )


def shares_with_its_module(item: pytest.Item) -> bool:
    """Whether a test uses a fixture of module scope."""
    definitions = item._fixtureinfo.name2fixturedefs.values()  # type: ignore[attr-defined]
    return any(one.scope == "module" for found in definitions for one in found)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """An empty database of this process, on the server that the whole test run shares."""
    with (
        postgres_server(Path(os.environ[SHARED_DIRECTORY], "default")) as server_dsn,
        fresh_database(server_dsn) as dsn,
    ):
        yield dsn


@pytest.fixture(scope="session")
def pg15_dsn() -> Iterator[str]:
    """The same on Postgres 15; skips where Debian's package postgresql-15 is not installed."""
    if not POSTGRES_15.exists():
        pytest.skip(f"Postgres 15 is not installed in {POSTGRES_15}")
    directory = Path(os.environ[SHARED_DIRECTORY], "15")
    with (
        EmbeddedServer(directory, settings=SETTINGS, binaries=POSTGRES_15) as server,
        fresh_database(server.dsn) as dsn,
    ):
        yield dsn


@pytest.fixture
def server_factory() -> Iterator[ServerFactory]:
    """Starts servers that belong to the test alone, which may stop, kill and restart them:
    `server_factory(settings=…, binaries=…)`, both optional; started, without fsync."""
    with contextlib.ExitStack() as stack:

        def start(
            *, settings: dict[str, str] | None = None, binaries: Path | None = None
        ) -> EmbeddedServer:
            directory = stack.enter_context(server_directory())
            server = EmbeddedServer(
                directory, settings={**SETTINGS, **(settings or {})}, binaries=binaries
            )
            stack.callback(server.stop)
            return stack.enter_context(server)

        yield start


@pytest.fixture
def proxy(postgres_dsn: str) -> Iterator[CommitDroppingProxy]:
    """A proxy before `postgres_dsn`; nothing is armed."""
    with CommitDroppingProxy(postgres_dsn) as running:
        yield running


@pytest.fixture
def pgbouncer_factory() -> Iterator[PgBouncerFactory]:
    """Starts PgBouncers: `pgbouncer_factory(dsn, {setting: value})`. Skips where it is not
    installed; in CI (`CI=true`) that is a failure."""
    if find_pgbouncer() is None:
        missing = "PgBouncer is not installed: apt-get install pgbouncer"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    with contextlib.ExitStack() as stack:

        def start(upstream: str, settings: dict[str, str] | None = None) -> PgBouncer:
            return stack.enter_context(PgBouncer(upstream, settings))

        yield start
