"""`bin/saga`: each command, what it prints for people and for programs, and its exit code."""

import json
import signal
import subprocess
import sys
import uuid
from uuid import UUID

import pytest
from psycopg.conninfo import make_conninfo

from outbox.store.migrate import print_sql
from tests.cli.app import approvals, order
from tests.cli.conftest import SagaProgram, environment
from tests.engine.bench import Bench
from tests.fixtures import Schema, drop_schema
from tests.payments.world import ROOT
from tests.waiting import wait_until


def start(run: SagaProgram, end: str, key: str) -> str:
    given = json.dumps({"end": end, "amount": 1})
    return str(run("start", "order", "--input", given, "--key", key, "--json").json["id"])


@pytest.fixture
async def ended(registered: SagaProgram, bench: Bench) -> dict[str, str]:
    """The ids of one saga that went well, one that failed, one that stopped, one that waits."""
    ids = {end: start(registered, end, f"k-{end}") for end in ("well", "refused", "suspended")}
    async with bench.worker(order):
        await bench.all_settled()
    return {**ids, "waiting": start(registered, "well", "k-waiting")}


@pytest.fixture
def bench(schema: Schema) -> Bench:
    return Bench(schema)


def test_register_says_what_it_did(saga_program: SagaProgram) -> None:
    assert saga_program("register", "--json").json == [
        {"type": "order", "version": 1, "is": "registered"}
    ]
    assert saga_program("register").out == "order version 1: unchanged\n"
    assert saga_program("register", "tests.cli.app:nothing").code == 2
    assert "tests.definition.broken" in saga_program("register", "tests.definition.broken:app").err


async def test_wait_tells_how_it_ended_by_its_exit_code(
    registered: SagaProgram, ended: dict[str, str]
) -> None:
    well = registered("wait", ended["well"])
    assert (well.code, well.out) == (0, "COMPLETED\n")
    refused = registered("wait", "k-refused")
    assert (refused.code, refused.out) == (1, "FAILED: we [bold]do not[/bold] want it\n")
    suspended = registered("wait", ended["suspended"], "--json")
    assert suspended.code == 3
    assert suspended.json["status"] == "SUSPENDED"
    assert "thank" in suspended.json["reason"]
    waiting = registered("wait", ended["waiting"], "--timeout", "0.1")
    assert waiting.code == 4
    assert "still CREATED" in waiting.err
    assert registered("wait", str(uuid.uuid4())).code == 2


async def test_list_and_show(registered: SagaProgram, ended: dict[str, str]) -> None:
    found = registered("list", "--json").json
    assert [saga["key"] for saga in found] == ["k-waiting", "k-suspended", "k-refused", "k-well"]
    assert [s["key"] for s in registered("list", "--status", "failed", "--json").json] == [
        "k-refused"
    ]
    assert len(registered("list", "--limit", "2", "--json").json) == 2
    assert registered("list", "--type", "nothing", "--json").json == []
    assert (
        registered("list", "--status", "COMPENSATING").out == "no sagas with status COMPENSATING\n"
    )
    people = registered("list").out
    assert all(saga_id in people for saga_id in ended.values())
    assert "\x1b" not in people, "a pipe gets no colours"

    shown = registered("show", "k-refused")
    assert shown.code == 0
    assert "we [bold]do not[/bold] want it" in shown.out, "text is never taken for markup"
    as_json = registered("show", ended["well"], "--json").json
    assert [t["step"] for t in as_json["timeline"]] == [None, "take", "send", "thank"]
    assert as_json["status"] == "COMPLETED"


async def test_acts(registered: SagaProgram, ended: dict[str, str], bench: Bench) -> None:
    suspended = ended["suspended"]
    assert registered("retry", "k-suspended").code == 2, "it needs a note"
    tried = registered("retry", "k-suspended", "--note", "there is paper")
    assert (tried.code, tried.out) == (0, f"{suspended}: SUSPENDED -> EXECUTING\n")
    assert registered("retry", ended["waiting"], "--note", "why").code == 2
    assert registered("abort", ended["waiting"]).code == 2, "it needs a note"
    assert registered("abort", ended["waiting"], "--note", "not wanted").code == 0
    async with bench.worker(order):
        await bench.all_settled()
    nonsense = registered("resolve", suspended, "nonsense", "--note", "by hand")
    assert nonsense.code == 2
    assert "NONSENSE" in nonsense.err
    resolved = registered("resolve", suspended, "completed", "--note", "by hand")
    assert (resolved.code, resolved.out) == (0, f"{suspended}: SUSPENDED -> COMPLETED\n")
    assert registered("abort", ended["well"], "--note", "too late").code == 2


async def test_signal(registered: SagaProgram, bench: Bench) -> None:
    registered("register", "tests.cli.app:approvals")
    id_ = registered("start", "approval", "--input", "{}", "--key", "a-1", "--json").json["id"]
    told = registered("signal", "a-1", "approve", "--payload", '{"by": "ann"}', "--key", "once")
    assert (told.code, told.out) == (0, "kept\n")
    assert registered("signal", id_, "approve", "--key", "once").out == "repeated\n"
    bad = registered("signal", id_, "approve", "--payload", "{")
    assert (bad.code, "is not JSON" in bad.err) == (2, True)
    wrong = registered("signal", id_, "aprove")
    assert wrong.code == 2
    assert "They wait for: approve" in wrong.err
    async with bench.worker(approvals):
        assert (await bench.settled(UUID(id_))).status == "COMPLETED"
    late = registered("signal", id_, "approve")
    assert "has ended: it is COMPLETED since" in late.err


async def test_audit(registered: SagaProgram, ended: dict[str, str], schema: Schema) -> None:
    clean = registered("audit")
    assert (clean.code, clean.out) == (0, "clean: no invariant is violated\n")
    assert registered("audit", "--json").json == []
    with schema.connect() as connection:
        connection.execute("delete from outbox where id = %s", (ended["waiting"],))
    violated = registered("audit")
    assert violated.code == 1
    assert ended["waiting"] in violated.out
    (violation,) = registered("audit", "--json").json
    assert violation["saga_id"] == ended["waiting"]


@pytest.mark.parametrize("command", ["show", "wait", "retry"])
@pytest.mark.parametrize("given", [str(uuid.UUID(int=0)), "nothing", "\udcff", "'; drop"])
def test_what_is_unknown_is_named(registered: SagaProgram, command: str, given: str) -> None:
    note = ("--note", "why") if command == "retry" else ()
    ran = registered(command, given, *note)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: ")
    assert len(ran.err.splitlines()) == 1


def test_migrate_is_safe_to_repeat_and_check_says_what_is_to_be_done(
    saga_program: SagaProgram, schema: Schema
) -> None:
    assert saga_program("migrate", "--check").out == "up to date\n"
    fresh = f"{schema.name}_b"
    try:
        behind = saga_program("migrate", "--check", OUTBOX_SCHEMA=fresh)
        assert behind.code == 1
        first, *_, functions, views, last = behind.out.splitlines()
        assert first == "migrations/0001_tables.sql"
        assert functions.endswith(" functions")
        assert (views.endswith(" views"), last) == (True, "behind: run bin/saga migrate")
        missing = saga_program("list", OUTBOX_SCHEMA=fresh)
        assert missing.code == 2
        assert "run bin/saga migrate" in missing.err
        assert saga_program("migrate", OUTBOX_SCHEMA=fresh).code == 0
        again = saga_program("migrate", OUTBOX_SCHEMA=fresh)
        assert again.code == 0
        assert again.out.startswith(f"schema {fresh} is up to date")
    finally:
        with schema.connect() as connection:
            drop_schema(connection, fresh)


def test_who_may_not_is_told_what_it_takes(saga_program: SagaProgram, schema: Schema) -> None:
    login = f"{schema.name}_login"
    with schema.connect() as connection:
        connection.execute(f"create role {login} login".encode())
    dsn = make_conninfo(schema.dsn, user=login)
    try:
        listed = saga_program("list", OUTBOX_DSN=dsn)
        assert listed.err.startswith(f"error: permission denied for schema {schema.name}: grant")
        migrated = saga_program("migrate", OUTBOX_DSN=dsn, OUTBOX_SCHEMA=f"{schema.name}_b")
        assert migrated.err.startswith("error: permission denied for database ")
        assert "migrate as a login that may make the schema" in migrated.err
        assert (listed.code, migrated.code) == (2, 2)
    finally:
        with schema.connect() as connection:
            connection.execute(f"drop role {login}".encode())


def test_what_print_sql_prints_psql_installs(saga_program: SagaProgram, schema: Schema) -> None:
    fresh = f"{schema.name}_b"
    printed = saga_program("migrate", "--print-sql", OUTBOX_SCHEMA=fresh)
    assert printed.out == print_sql(fresh)
    try:
        installed = saga_program(
            "psql", "-qX", "-v", "ON_ERROR_STOP=1", "-f", "-", stdin=printed.out
        )
        assert (installed.code, installed.err) == (0, "")
        assert saga_program("migrate", "--check", OUTBOX_SCHEMA=fresh).out == "up to date\n"
        assert saga_program("register", OUTBOX_SCHEMA=fresh).code == 0
        assert saga_program("audit", OUTBOX_SCHEMA=fresh).code == 0
    finally:
        with schema.connect() as connection:
            drop_schema(connection, fresh)


def test_psql_sees_the_schema_and_passes_its_exit_code_on(registered: SagaProgram) -> None:
    ran = registered("psql", "-At", "-c", "select type from definition")
    assert (ran.code, ran.out) == (0, "order\n")
    assert registered("psql", "-c", "select nonsense").code == 1


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"OUTBOX_LEASE": "soon"}, "OUTBOX_LEASE"),
        ({"OUTBOX_SCHEMA": "a-b"}, "OUTBOX_SCHEMA"),
        ({"OUTBOX_TYPE_CONCURRENCY": "payment"}, "OUTBOX_TYPE_CONCURRENCY is not JSON, such as"),
        ({"OUTBOX_TYPE_CONCURRENCY": '{"payment": 0}'}, "OUTBOX_TYPE_CONCURRENCY"),
        ({"OUTBOX_LOG_FORMAT": "xml"}, "OUTBOX_LOG_FORMAT"),
        ({"OUTBOX_DSN": "host=127.0.0.1 port=1 password=hunter2"}, "Check OUTBOX_DSN"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(
    saga_program: SagaProgram, variables: dict[str, str], says: str
) -> None:
    ran = saga_program("list", **variables)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err
    assert len(ran.err.splitlines()) == 1
    assert "hunter2" not in ran.err


def test_help_names_every_command_and_the_exit_codes(saga_program: SagaProgram) -> None:
    shown = saga_program("--help")
    assert shown.code == 0
    for name in ("migrate", "register", "start", "list", "show", "wait", "retry", "abort",
                 "resolve", "audit", "psql", "cancel", "skip", "amend", "pause", "resume", "rerun",
                 "explain-abort", "history", "waiting", "paused", "versions", "move"):  # fmt: skip
        assert f"  {name} " in shown.out
        assert saga_program(name, "--help").code == 0
    assert "3 the saga is suspended" in " ".join(shown.out.split())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_without_a_traceback(
    registered: SagaProgram, schema: Schema, number: signal.Signals
) -> None:
    saga_id = start(registered, "well", "a")
    waiting = subprocess.Popen(
        [sys.executable, "-m", "outbox.cli.saga", "wait", saga_id],
        env=environment(schema), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # A shell starts what is to run behind it with interrupts ignored, which would be inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip

    def is_waiting() -> bool:
        with schema.connect() as connection:
            found = connection.execute(
                "select 1 from pg_stat_activity "
                "where application_name = 'outbox' and query like %s",
                (f"%{schema.name}%overview%",),
            )
            return found.fetchone() is not None

    wait_until(is_waiting)
    waiting.send_signal(number)
    out, err = waiting.communicate(timeout=20)
    assert waiting.returncode == 128 + number
    assert b"Traceback" not in out + err
