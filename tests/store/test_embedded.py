"""The embedded server: shared by processes, outliving their deaths, gone after the last."""

import contextlib
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import psycopg.conninfo
import pytest

from outbox.errors import EmbeddedServerError
from outbox.store.embedded import EmbeddedServer
from tests.postgres.servers import POSTGRES_15, SETTINGS, server_directory
from tests.waiting import wait_until

PROGRAM = Path(__file__).with_name("embedded_user.py")
ROOT = Path(__file__).parents[2]
TEST_USER = "nobody"


@dataclass
class User:
    """Another process that uses the server."""

    process: subprocess.Popen[str]
    server_pid: int
    dsn: str

    def leave(self) -> None:
        _output, errors = self.process.communicate("", timeout=60)
        assert self.process.returncode == 0, errors

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


UserFactory = Callable[..., User]


@pytest.fixture
def directory() -> Iterator[Path]:
    with server_directory() as made:
        yield made
        EmbeddedServer(made).stop()


@pytest.fixture
def another_user(directory: Path) -> Iterator[UserFactory]:
    processes: list[subprocess.Popen[str]] = []

    def start(python: str = sys.executable, uid: int | None = None, at: Path = directory) -> User:
        process = subprocess.Popen(
            [python, str(PROGRAM), str(at)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=at,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
            user=uid,
            extra_groups=None if uid is None else [],
        )
        processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        if not line:
            pytest.fail(f"the process ended: {process.communicate()[1]}")
        pid, _, dsn = line.partition(" ")
        return User(process, int(pid), dsn)

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.communicate()


def is_up(dsn: str) -> bool:
    try:
        with psycopg.connect(dsn) as connection:
            return connection.execute("select 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def test_it_starts_with_its_own_database_and_durable_settings(directory: Path) -> None:
    with EmbeddedServer(directory) as server, psycopg.connect(server.dsn) as connection:
        row = connection.execute(
            """
            select current_database(), current_setting('fsync'),
                   current_setting('synchronous_commit'), current_setting('data_checksums'),
                   current_setting('server_encoding'), current_setting('listen_addresses')
            """
        ).fetchone()
    assert row == ("outbox", "on", "on", "on", "UTF8", "")
    assert server.pid is None
    assert not is_up(server.dsn)


def test_it_can_be_used_again_and_keeps_its_data(directory: Path) -> None:
    with (
        EmbeddedServer(directory, settings=SETTINGS) as server,
        psycopg.connect(server.dsn) as connection,
    ):
        connection.execute("create table kept as select 42 as answer")
    with (
        EmbeddedServer(directory, settings=SETTINGS) as server,
        psycopg.connect(server.dsn) as connection,
    ):
        assert connection.execute("select answer from kept").fetchone() == (42,)


def test_nobody_else_may_reach_the_socket(directory: Path) -> None:
    with EmbeddedServer(directory, settings=SETTINGS) as server:
        assert (directory / "socket").stat().st_mode & 0o077 == 0
        assert (directory / "postgres").stat().st_mode & 0o077 == 0
        assert str(directory / "socket") in server.dsn


def test_processes_share_one_server_and_the_last_stops_it(
    directory: Path, another_user: UserFactory
) -> None:
    with EmbeddedServer(directory, settings=SETTINGS) as server:
        other = another_user()
        assert (other.server_pid, other.dsn) == (server.pid, server.dsn)
    assert is_up(other.dsn), "the other still uses it"
    other.leave()
    assert server.pid is None
    assert not is_up(other.dsn)


def test_many_start_it_at_once(directory: Path, another_user: UserFactory) -> None:
    first = subprocess.Popen(
        [sys.executable, str(PROGRAM), str(directory)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    users = [another_user() for _ in range(3)]
    assert first.wait(60) == 0
    assert len({user.server_pid for user in users}) == 1
    assert all(is_up(user.dsn) for user in users)
    for user in users:
        user.leave()
    assert EmbeddedServer(directory).pid is None


def test_a_killed_user_leaves_it_running_for_the_next_who_stops_it(
    directory: Path, another_user: UserFactory
) -> None:
    killed = another_user()
    killed.kill()
    assert is_up(killed.dsn)
    with EmbeddedServer(directory, settings=SETTINGS) as server:
        assert server.pid == killed.server_pid
    assert server.pid is None


def test_a_process_killed_while_it_starts_the_server_leaves_nothing_half_made(
    directory: Path,
) -> None:
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    wait_until(lambda: list(directory.glob("postgres.new.*/PG_VERSION")), message="initdb runs")
    process.kill()
    process.communicate()
    with EmbeddedServer(directory, settings=SETTINGS) as server:
        assert is_up(server.dsn)
    assert sorted(path.name for path in directory.iterdir()) == [
        "postgres",
        "socket",
        "start.lock",
        "users.lock",
    ]


def test_it_recovers_from_a_restart_in_immediate_mode(directory: Path) -> None:
    with EmbeddedServer(directory, settings=SETTINGS) as server:
        before = server.pid
        with psycopg.connect(server.dsn) as connection:
            connection.execute("create table kept as select 42 as answer")
            connection.commit()
            server.restart("immediate")
            with pytest.raises(psycopg.OperationalError):
                connection.execute("select 1")
        assert server.pid not in (None, before)
        with psycopg.connect(server.dsn) as connection:
            assert connection.execute("select answer from kept").fetchone() == (42,)


def test_it_starts_again_after_the_server_itself_was_killed(directory: Path) -> None:
    with EmbeddedServer(directory, settings=SETTINGS) as server:
        with psycopg.connect(server.dsn) as connection:
            connection.execute("create table kept as select 42 as answer")
        before = server.pid
        assert before is not None
        os.kill(before, signal.SIGKILL)
        server.start()
        assert server.pid not in (None, before)
        with psycopg.connect(server.dsn) as connection:
            assert connection.execute("select answer from kept").fetchone() == (42,)


def test_a_lock_file_that_names_somebody_elses_process_is_stale(directory: Path) -> None:
    with EmbeddedServer(directory, settings=SETTINGS) as server:
        server.stop("immediate")
        lock_file = directory / "postgres" / "postmaster.pid"
        lock_file.write_text(f"{os.getpid()}\n{directory / 'postgres'}\n1\n5432\n\n\n")
        (directory / "socket" / ".s.PGSQL.5432.lock").write_text(f"{os.getpid()}\n")
        assert server.pid is None
        server.start()
        assert is_up(server.dsn)


@pytest.mark.parametrize(
    "name",
    ["with space", "with $HOME and \"quotes\" and 'more'", "long " * 30],
    ids=["spaces", "shell characters", "longer than a socket's path"],
)
def test_the_directorys_name_does_not_matter(directory: Path, name: str) -> None:
    with EmbeddedServer(directory / name, settings=SETTINGS) as server:
        assert is_up(server.dsn)
        server.restart()
        assert is_up(server.dsn)
        socket_directory = psycopg.conninfo.conninfo_to_dict(server.dsn)["host"]
    if not str(socket_directory).startswith(str(directory)):
        assert not Path(str(socket_directory)).exists(), "nothing stays in the temporary files"


def test_data_of_another_version_is_refused_with_both_versions(directory: Path) -> None:
    with EmbeddedServer(directory, settings=SETTINGS):
        pass
    version_file = directory / "postgres" / "PG_VERSION"
    version_file.write_text("15\n")
    with pytest.raises(EmbeddedServerError, match=r"data of Postgres 15, but .* is Postgres 18"):
        EmbeddedServer(directory).start()


@pytest.mark.skipif(not POSTGRES_15.exists(), reason=f"no Postgres 15 in {POSTGRES_15}")
def test_other_binaries_can_be_named(directory: Path) -> None:
    with (
        EmbeddedServer(directory, settings=SETTINGS, binaries=POSTGRES_15) as server,
        psycopg.connect(server.dsn) as connection,
    ):
        assert connection.info.server_version // 10000 == 15


def test_a_failing_server_is_shown_with_its_log(directory: Path) -> None:
    with pytest.raises(EmbeddedServerError) as caught:
        EmbeddedServer(directory, settings={"shared_buffers": "much"}).start()
    assert 'invalid value for parameter "shared_buffers": "much"' in str(caught.value)
    assert str(directory / "postgres" / "server.log") in str(caught.value)


def test_a_directory_that_cannot_be_made_is_named(directory: Path) -> None:
    (directory / "file").touch()
    with pytest.raises(EmbeddedServerError, match=str(directory / "file")):
        EmbeddedServer(directory / "file" / "below").start()


def test_the_dsn_of_a_server_never_started_is_an_error(directory: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="was not started"):
        _ = EmbeddedServer(directory).dsn


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
class TestAsRoot:
    def test_the_server_runs_as_the_system_user(self, directory: Path) -> None:
        with EmbeddedServer(directory, settings=SETTINGS) as server:
            owner = Path(f"/proc/{server.pid}").stat().st_uid
        assert pwd.getpwuid(owner).pw_name == "embedded_postgres"

    def test_a_closed_directory_is_opened_for_passing_through_only(self, directory: Path) -> None:
        closed = directory / "closed"
        closed.mkdir(mode=0o700)
        with EmbeddedServer(closed / "data", settings=SETTINGS):
            assert closed.stat().st_mode & 0o777 == 0o701

    def test_an_ordinary_user_runs_it_as_itself_and_root_keeps_it_so(
        self, directory: Path, another_user: UserFactory
    ) -> None:
        account = pwd.getpwnam(TEST_USER)
        python = python_for(account.pw_uid)
        own = directory / "own"
        own.mkdir()
        os.chown(own, account.pw_uid, account.pw_gid)
        user = another_user(python, account.pw_uid, own)
        assert Path(f"/proc/{user.server_pid}").stat().st_uid == account.pw_uid
        user.leave()
        with EmbeddedServer(own, settings=SETTINGS) as server:
            assert Path(f"/proc/{server.pid}").stat().st_uid == account.pw_uid
        another_user(python, account.pw_uid, own).leave()

    def test_an_ordinary_user_is_told_that_roots_data_is_not_its_own(self, directory: Path) -> None:
        account = pwd.getpwnam(TEST_USER)
        python = python_for(account.pw_uid)
        with EmbeddedServer(directory, settings=SETTINGS):
            result = subprocess.run(
                [python, str(PROGRAM), str(directory)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                cwd="/",
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
                user=account.pw_uid,
                extra_groups=[],
            )
        assert result.returncode == 1
        assert f"cannot keep a Postgres server in {directory}" in result.stderr


def python_for(uid: int) -> str:
    """A Python that this user may run, with our packages in its reach; skips where there is none
    (the checkout and the interpreter may both lie in root's home)."""
    version = f"python3.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        with contextlib.suppress(OSError):
            result = subprocess.run(
                [candidate, "-c", "import psycopg, outbox.store.embedded"],
                env={"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
                capture_output=True,
                cwd="/",
                user=uid,
                extra_groups=[],
            )
            if result.returncode == 0:
                return candidate
    return pytest.skip(f"no {version} that can import our packages as {TEST_USER}")
