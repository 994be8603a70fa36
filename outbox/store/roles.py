"""The database roles and what each may do: the least it needs.

A producer starts sagas and sees what became of its own starts, a worker runs them, a viewer reads
the views, an operator acts on sagas. The functions are SECURITY DEFINER, so no role needs a table
of ours.
"""

from __future__ import annotations

from psycopg import sql

from outbox.store.connect import Connection

_PRODUCER = (
    "start", "start_many", "input_schema", "signal", "start_once_per", "start_debounced",
    "keep_trace",
)  # fmt: skip
_WORKER = (
    "register", "register_worker", "heartbeat", "deregister_worker", "doze", "claim", "advance",
    "recall", "lock_held", "release", "held", "reap", "raise_alerts", "raise_type_alerts", "purge",
    "declare_limits", "due_schedules", "start_ticks", "recalled", "remember", "register_subscriber",
    "has_webhooks", "route_events", "take_delivery", "delivered", "not_delivered",
    "trace_contexts",
)  # fmt: skip
_OPERATOR = (
    "retry", "abort", "cancel", "resolve", "audit", "skip", "amend", "pause", "resume",
    "pause_saga", "resume_saga", "rerun", "act_many", "explain_abort", "past_resolutions",
    "version_in_use", "move_saga", "move_many", "set_limit", "drop_limit", "set_schedule",
    "drop_schedule", "pause_schedule", "resume_schedule", "set_retention", "drop_retention",
    "export_sagas", "purge_exported", "subscribe", "unsubscribe", "redeliver",
)  # fmt: skip
# Views call some of them, which is done as the view's reader.
_LOOK = (
    "find_sagas", "saga_page", "completion_rate_since", "latency_since", "latency_over",
    "errors_since", "throughput_since", "ended_since", "health_of_commands", "health_of_events",
    "health_of_tables", "vacuum_holders", "lines_of", "timeline", "gauges",
)  # fmt: skip
_EXPLAIN = ("explain_abort", "past_resolutions", "input_schema")
_VIEWS = (
    "overview", "timeline", "pending", "stuck", "manual_intervention", "waiting", "paused",
    "live_versions", "limits", "queued", "schedules", "events", "subscriptions", "dead_letters",
    "live", "counts", "running", "workers", "signals", "acts", "deliveries", "relatives",
    "definitions", "completion_rate", "latency", "errors", "health", "queues", "rule_changes",
)  # fmt: skip
_PGQUEUER = ("pgqueuer", "pgqueuer_log", "pgqueuer_statistics", "pgqueuer_schedules")

NAMES = ("producer", "worker", "viewer", "operator")


def roles_sql(schema: str) -> sql.Composed:
    """Creates the four roles (without login: grant them to your users) where they are missing."""
    statements = [
        sql.SQL(
            "do $$ begin create role {role} nologin; "
            "exception when duplicate_object then null; end $$"
        ).format(role=sql.Identifier(f"{schema}_{name}"))
        for name in NAMES
    ]
    return sql.SQL("; ").join(statements)


async def roles_exist(connection: Connection, schema: str) -> bool:
    """Whether the roles of this schema were created."""
    cursor = await connection.execute(
        "select count(*) from pg_roles where rolname = any(%s)",
        ([f"{schema}_{name}" for name in NAMES],),
    )
    row = await cursor.fetchone()
    return row is not None and row[0] == len(NAMES)


def grant_sql(schema: str) -> sql.Composed:
    """Grants each role what it needs; safe to run again."""
    statements: list[sql.Composable] = []

    def grant(template: str, *names: str, to: tuple[str, ...]) -> None:
        for role in to:
            statements.append(
                sql.SQL(template).format(
                    *(sql.Identifier(schema, name) for name in names),
                    schema=sql.Identifier(schema),
                    role=sql.Identifier(f"{schema}_{role}"),
                )
            )

    grant("grant usage on schema {schema} to {role}", to=NAMES)
    # A function that a view calls is called as the view's reader.
    grant("grant execute on routine {} to {role}", "clock", to=NAMES)
    for functions, roles in (
        (_PRODUCER, ("producer", "operator")),
        (_WORKER, ("worker",)),
        (_OPERATOR, ("operator",)),
        (_LOOK, ("viewer", "operator", "worker")),
        (_EXPLAIN, ("viewer",)),
    ):
        for function in functions:
            grant("grant execute on routine {} to {role}", function, to=roles)
    for view in _VIEWS:
        grant("grant select on {} to {role}", view, to=("viewer", "operator", "worker"))
    grant("grant select on {} to {role}", "applied_file", to=("worker", "operator", "viewer"))
    grant("grant select on {} to {role}", "setting", to=("worker", "operator", "viewer"))
    grant("grant update on {} to {role}", "setting", to=("operator",))
    for table in _PGQUEUER:
        grant("grant select, insert, update, delete on {} to {role}", table, to=("worker",))
    grant("grant usage on all sequences in schema {schema} to {role}", to=("worker",))
    return sql.SQL("; ").join(statements)
