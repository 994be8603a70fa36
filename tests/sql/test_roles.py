"""What each role may do, and that it may do nothing else."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.fixtures import Schema, fresh_schema
from tests.sql.conftest import running_engine
from tests.sql.engine import Engine

ROLES = ("producer", "worker", "viewer", "operator")
TABLES = (
    *("instance", "outbox", "transition", "worker", "act", "alert", "definition", "type_alert"),
    *("definition_step", "setting", "applied_file", "pause", "rerun"),
    *("saga_limit", "gate", "ticket", "slot", "knock", "rate_use", "schedule", "once_per"),
    *("debounce", "retention", "failure"),
    *("once_result", "event", "subscription", "delivery", "lane", "redelivery", "trace_context"),
    "rule_change",
)
VIEWS = (
    *("overview", "timeline", "pending", "stuck", "manual_intervention"),
    *("waiting", "paused", "live_versions"),
    *("limits", "queued", "schedules"),
    *("events", "subscriptions", "dead_letters"),
    *("live", "counts", "running", "workers", "signals", "acts", "deliveries", "relatives"),
    *("definitions", "completion_rate", "latency", "errors", "health", "queues"),
    "rule_changes",
)
NOBODY = uuid.UUID(int=0)

CALLS = {
    "start": ("producer", "operator"),
    "keep_trace": ("producer", "operator"),
    "trace_contexts": ("worker",),
    "start_many": ("producer", "operator"),
    "input_schema": ("producer", "operator", "viewer"),
    "signal": ("producer", "operator"),
    "cancel": ("operator",),
    "gauges": ("worker", "viewer", "operator"),
    "register": ("worker",),
    "register_worker": ("worker",),
    "heartbeat": ("worker",),
    "deregister_worker": ("worker",),
    "doze": ("worker",),
    "claim": ("worker",),
    "advance": ("worker",),
    "recall": ("worker",),
    "lock_held": ("worker",),
    "release": ("worker",),
    "held": ("worker",),
    "reap": ("worker",),
    "raise_alerts": ("worker",),
    "raise_type_alerts": ("worker",),
    "purge": ("worker",),
    "recalled": ("worker",),
    "remember": ("worker",),
    "register_subscriber": ("worker",),
    "has_webhooks": ("worker",),
    "route_events": ("worker",),
    "take_delivery": ("worker",),
    "delivered": ("worker",),
    "not_delivered": ("worker",),
    "subscribe": ("operator",),
    "unsubscribe": ("operator",),
    "redeliver": ("operator",),
    "retry": ("operator",),
    "abort": ("operator",),
    "resolve": ("operator",),
    "audit": ("operator",),
    "skip": ("operator",),
    "amend": ("operator",),
    "pause": ("operator",),
    "resume": ("operator",),
    "pause_saga": ("operator",),
    "resume_saga": ("operator",),
    "rerun": ("operator",),
    "act_many": ("operator",),
    "explain_abort": ("operator", "viewer"),
    "past_resolutions": ("operator", "viewer"),
    "version_in_use": ("operator",),
    "move_saga": ("operator",),
    "move_many": ("operator",),
    "start_once_per": ("producer", "operator"),
    "start_debounced": ("producer", "operator"),
    "declare_limits": ("worker",),
    "due_schedules": ("worker",),
    "start_ticks": ("worker",),
    "set_limit": ("operator",),
    "drop_limit": ("operator",),
    "set_schedule": ("operator",),
    "drop_schedule": ("operator",),
    "pause_schedule": ("operator",),
    "resume_schedule": ("operator",),
    "set_retention": ("operator",),
    "drop_retention": ("operator",),
    "export_sagas": ("operator",),
    "purge_exported": ("operator",),
    **dict.fromkeys(
        (
            *("timeline", "find_sagas", "saga_page", "completion_rate_since", "latency_since"),
            *("latency_over", "errors_since", "throughput_since", "ended_since"),
            *("health_of_commands", "health_of_events", "health_of_tables", "vacuum_holders"),
            "lines_of",
        ),
        ("viewer", "operator", "worker"),
    ),
    "clock": ROLES,
}


@pytest.fixture
def shared(postgres_dsn: str) -> Iterator[Schema]:
    """A schema with its roles."""
    with fresh_schema(postgres_dsn, roles=True) as made:
        yield made


@pytest.fixture
def engine(shared: Schema) -> Iterator[Engine]:
    with running_engine(shared) as made:
        yield made


@contextmanager
def as_role(engine: Engine, role: str) -> Iterator[psycopg.Connection[Any]]:
    with engine.schema.connect() as connection:
        connection.execute(
            sql.SQL("set role {}").format(sql.Identifier(f"{engine.schema.name}_{role}"))
        )
        yield connection


def test_each_function_may_be_called_by_its_roles_only(engine: Engine) -> None:
    rows = engine.rows(
        "select p.proname as name, r.role from pg_proc p, unnest(%s::text[]) as r(role) "
        "where p.pronamespace = %s::regnamespace and p.prorettype <> 'trigger'::regtype "
        "and p.proname not like 'fn_pgqueuer%%' "
        "and has_function_privilege(%s || '_' || r.role, p.oid, 'execute')",
        *(list(ROLES), engine.schema.name, engine.schema.name),
    )
    may = {(row.name, row.role) for row in rows}
    assert may == {(name, role) for name, roles in CALLS.items() for role in roles}


@pytest.mark.parametrize("role", ROLES)
def test_no_role_reads_or_writes_a_table_beyond_what_it_needs(engine: Engine, role: str) -> None:
    rows = engine.rows(
        "select t.name, p.privilege from unnest(%s::text[]) as t(name), "
        "unnest('{select,insert,update,delete,truncate}'::text[]) as p(privilege) "
        "where has_table_privilege(%s, t.name, p.privilege)",
        *([*TABLES, *VIEWS], f"{engine.schema.name}_{role}"),
    )
    reads = () if role == "producer" else (*VIEWS, "setting", "applied_file")
    allowed = {(name, "select") for name in reads}
    if role == "operator":
        allowed.add(("setting", "update"))
    assert {(row.name, row.privilege) for row in rows} == allowed


def test_a_producer_starts_sagas_and_sees_nothing(engine: Engine) -> None:
    with as_role(engine, "producer") as producer:
        first = producer.execute("select start('order', '{}', 'k')").fetchone()
        assert producer.execute("select start('order', '{}', 'k')").fetchone() == first
        with pytest.raises(psycopg.Error, match='unknown saga type "ordre"'):
            producer.execute("select start('ordre', '{}')")
        for table in (*TABLES, *VIEWS):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                producer.execute(sql.SQL("select * from {}").format(sql.Identifier(table)))
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            producer.execute("select * from claim(%s, '{order}', '{1}', '{1}')", (NOBODY,))


def test_a_worker_runs_sagas_through_the_functions_only(engine: Engine) -> None:
    saga = engine.start()
    with as_role(engine, "worker") as connection:
        worker = engine.worker()
        (held,) = worker.claim(1, connection)
        assert held.command == saga
        for statement in (
            "update outbox set fence = 0",
            "insert into transition select * from transition",
            "select input from instance",
            "update setting set max_deaths = 1",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select abort(%s, 'why')", (saga,))
        assert connection.execute("select count(*) from pgqueuer_schedules").fetchone() == (0,)


def test_a_worker_brings_events_on_their_way(engine: Engine) -> None:
    saga = engine.start()
    with as_role(engine, "operator") as operator:
        operator.execute("select subscribe('shop', '{*}', 'https://shop.example/hooks')")
    with as_role(engine, "worker") as connection:
        (held,) = engine.worker().claim(1, connection) or engine.worker().claim(1)
        told = ['[{"name": "a.b", "payload": 1}]']
        connection.execute(
            "select * from advance((select worker from pending), %s, %s::int[], '{done}', "
            "array[null]::json[], '{1}', p_events => %s::json[])",
            ([held.command], [held.fence], told),
        )
        connection.execute(
            "select register_subscriber('audit', '{*}', '1s', 3, '1s', '1s'), has_webhooks()"
        )
        lanes = connection.execute("select subscription from route_events()").fetchall()
        assert sorted(lanes) == [("audit",), ("shop",)]
        taken = connection.execute(
            "select fence, number, secrets from take_delivery('shop', %s, '1s')", (saga,)
        ).fetchone()
        assert taken is not None
        assert taken[2][0].startswith("whsec_")
        done = connection.execute(
            "select delivered('shop', %s, %s, %s)", (saga, taken[1], taken[0])
        ).fetchone()
        assert done == (True,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select secrets from subscription")


def test_a_viewer_reads_the_views(engine: Engine) -> None:
    saga = engine.start(key="k")
    with as_role(engine, "viewer") as viewer:
        for view in VIEWS:
            viewer.execute(sql.SQL("select * from {}").format(sql.Identifier(view)))
        assert viewer.execute("select saga_id, key from overview").fetchall() == [(saga, "k")]
        assert viewer.execute("select key from find_sagas()").fetchall() == [("k",)]
        assert viewer.execute("select what from explain_abort(%s)", (saga,)).fetchall() == []
        for statement in ("select start('order', '{}')", "select abort(%(saga)s, 'why')"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                viewer.execute(statement, {"saga": saga})


def test_an_operator_acts_under_its_own_name(engine: Engine) -> None:
    saga = engine.start()
    with as_role(engine, "operator") as operator:
        assert operator.execute("select status from overview").fetchall() == [("CREATED",)]
        operator.execute("update setting set stuck_after = '1 hour'")
        assert operator.execute("select abort(%s, 'why')", (saga,)).fetchone() == ("FAILED",)
        assert operator.execute("select * from audit()").fetchall() == []
    assert engine.value("select actor from act") == engine.value("select session_user")


@pytest.mark.parametrize("role", ROLES)
def test_nobody_moves_the_clock(engine: Engine, role: str) -> None:
    replace = (
        "create or replace function {}.clock() returns timestamptz language sql "
        "as $$ select '2000-01-01'::timestamptz $$"
    )
    with (
        as_role(engine, role) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(sql.SQL(replace).format(sql.Identifier(engine.schema.name)))


def test_the_public_may_do_nothing(engine: Engine) -> None:
    public = engine.rows(
        "select p.proname from pg_proc p, aclexplode(coalesce(p.proacl, "
        "acldefault('f', p.proowner))) as a where p.pronamespace = %s::regnamespace "
        "and a.grantee = 0 and p.proname not like 'fn_pgqueuer%%'",
        engine.schema.name,
    )
    assert public == []
    assert not engine.rows(
        "select 1 from pg_class c, aclexplode(c.relacl) as a "
        "where c.relnamespace = %s::regnamespace and a.grantee = 0",
        engine.schema.name,
    )
