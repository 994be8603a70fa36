"""What no statement may do, not even one typed into psql."""

from datetime import timedelta
from uuid import UUID

import psycopg
import pytest

from tests.sql.engine import Engine
from tests.sql.positions import reach

LIVE = ("CREATED", "EXECUTING", "COMPENSATING", "SUSPENDED")
LEGAL = {
    *{("CREATED", "EXECUTING"), ("EXECUTING", "COMPENSATING"), ("EXECUTING", "SUSPENDED")},
    *{("COMPENSATING", "SUSPENDED"), ("SUSPENDED", "EXECUTING"), ("SUSPENDED", "COMPENSATING")},
}
ILLEGAL = sorted({(a, b) for a in LIVE for b in LIVE if a != b} - LEGAL)


def force_status(engine: Engine, saga: UUID, status: str) -> None:
    """Makes a row of that status, which every CHECK admits."""
    undo = status == "COMPENSATING"
    engine.execute(
        "update outbox set status = %s, kind = %s, undoes = %s, reason = %s where id = %s",
        *(status, "compensation" if undo else "action", 1 if undo else None),
        *("why" if status == "SUSPENDED" else None, saga),
    )


@pytest.mark.parametrize(("before", "after"), ILLEGAL)
def test_an_illegal_move_of_a_live_saga_is_refused(engine: Engine, before: str, after: str) -> None:
    saga = engine.start()
    engine.execute("alter table outbox disable trigger outbox_move_is_legal")
    force_status(engine, saga, before)
    engine.execute("alter table outbox enable trigger outbox_move_is_legal")
    with pytest.raises(psycopg.Error, match=f"{saga} cannot go from {before} to {after}") as caught:
        force_status(engine, saga, after)
    assert caught.value.sqlstate == "SG009"
    engine.audits_at_end = False


@pytest.mark.parametrize(
    ("before", "after"), [("COMPLETED", "FAILED"), ("FAILED", "COMPLETED"), ("FAILED", None)]
)
def test_the_end_is_final(engine: Engine, before: str, after: str | None) -> None:
    at = reach(engine, "last" if before == "COMPLETED" else "first")
    at.worker.say(at.held, "done" if before == "COMPLETED" else "rejected")
    with pytest.raises(psycopg.Error, match=f"cannot go from {before} to") as caught:
        engine.execute(
            "update instance set status = %s, ended_at = case when %s::text is not null "
            "then ended_at end, error = '{}'",
            *(after, after),
        )
    assert caught.value.sqlstate == "SG009"


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("update outbox set status = 'COMPLETED'", None),
        ("update outbox set status = 'RUNNING', seq = 9", None),
        ("update outbox set kind = 'question'", "command_kind_is_known"),
        ("update outbox set undoes = 1", "outbox_compensation_names_what_it_undoes"),
        ("update outbox set worker = gen_random_uuid()", None),
        (
            "update outbox set status = 'EXECUTING', worker = gen_random_uuid()",
            "outbox_held_command_has_a_deadline",
        ),
        ("update outbox set kind = 'reconcile'", "outbox_reconcile_remembers_the_action"),
        ("update outbox set root = id", "outbox_line_has_root_and_parent"),
        ("update outbox set awaits = 'godot'", "awaited_is_known"),
        (
            "update outbox set worker = gen_random_uuid(), deadline = now()",
            "outbox_created_is_held_by_nobody",
        ),
        ("update outbox set reason = 'why'", "outbox_suspended_says_why"),
        (
            "update outbox set status = 'EXECUTING', kind = 'compensation', undoes = 1",
            "outbox_compensates_only_when_it_should",
        ),
        ("update instance set status = 'SUSPENDED', ended_at = now()", "instance_status_is_final"),
        ("update instance set status = 'COMPLETED'", "instance_ends_with_a_status"),
        ("update instance set ended_at = now()", "instance_ends_with_a_status"),
        (
            "update instance set status = 'FAILED', ended_at = now()",
            "instance_failed_says_why",
        ),
        ("update instance set key = ''", "instance_key_has_1_to_512_characters"),
        ("update setting set hold = '0'", "setting_intervals_are_positive"),
        ("update setting set max_deaths = 0", "setting_max_deaths_is_positive"),
        ("insert into setting (only_row) values (false)", "setting_is_one_row"),
        ("insert into definition values ('1x', 1, '[]', '{}', '[]')", "definition_type_is_a_name"),
    ],
)
def test_a_wrong_row_is_refused_by_name(
    engine: Engine, change: str, constraint: str | None
) -> None:
    engine.start()
    before = engine.everything()
    with pytest.raises(psycopg.Error) as caught:
        engine.execute(change)
    if constraint is None:
        assert caught.value.sqlstate in ("SG009", "23514")
    else:
        assert (caught.value.diag.constraint_name or "").startswith(constraint)
    assert engine.everything() == before


def test_suspended_and_compensating_rows_are_checked(engine: Engine) -> None:
    at = reach(engine, "after the pivot")
    with pytest.raises(psycopg.errors.CheckViolation, match="outbox_suspended_is_held_by_nobody"):
        engine.execute("update outbox set status = 'SUSPENDED', reason = 'why'")
    at.worker.say(at.held, "rejected")
    with pytest.raises(psycopg.errors.CheckViolation, match="outbox_compensates_only_when"):
        engine.execute("update outbox set status = 'COMPENSATING', reason = null")
    with pytest.raises(psycopg.errors.CheckViolation, match="outbox_suspended_says_why"):
        engine.execute("update outbox set reason = null")


STATES = ("CREATED", "EXECUTING", "COMPENSATING", "SUSPENDED", "COMPLETED", "FAILED")
HISTORY = {
    *{("EXECUTING", to) for to in STATES if to != "CREATED"},
    *{("COMPENSATING", to) for to in ("COMPENSATING", "FAILED", "SUSPENDED")},
    *{("SUSPENDED", to) for to in ("EXECUTING", "COMPENSATING", "COMPLETED", "FAILED")},
    ("CREATED", "FAILED"),
    ("COMPLETED", "COMPENSATING"),
    ("COMPLETED", "FAILED"),
}
STAYS_BY_AN_ACT = {("CREATED", "CREATED"), ("SUSPENDED", "SUSPENDED")}


def test_history_takes_no_illegal_transition(engine: Engine) -> None:
    saga = engine.start()
    insert = (
        "insert into transition (saga_id, seq, ordinal, kind, step, attempt, outcome, "
        "from_status, to_status, state, fence, at) "
        "values (%s, 1, 1, %s, 'reserve', 1, 'done', %s, %s, 'X', 1, now())"
    )
    for kind in ("action", "act"):
        for pair in [(a, b) for a in STATES for b in STATES]:
            if pair in HISTORY or (kind == "act" and pair in STAYS_BY_AN_ACT):
                with engine.connection.transaction(force_rollback=True):
                    engine.execute(insert, saga, kind, *pair)
            else:
                with pytest.raises(
                    psycopg.errors.CheckViolation,
                    match=r"transition_is_legal|status_can_be_reached|status_can_be_left",
                ):
                    engine.execute(insert, saga, kind, *pair)


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("seq = 0", "transition_seq_is_positive"),
        ("kind = 'question'", "transition_kind_is_known"),
        ("outcome = 'fine', error = '{}'", "transition_outcome_is_known"),
        ("outcome = 'retry'", "transition_failure_says_why"),
    ],
)
def test_history_takes_no_wrong_row(engine: Engine, change: str, constraint: str) -> None:
    at = reach(engine, "nothing to undo")
    with pytest.raises(psycopg.errors.CheckViolation, match=constraint):
        engine.execute(f"update transition set {change}")  # noqa: S608
    at.worker.say(at.held, "retry", after=timedelta())


def test_a_definition_that_could_not_be_undone_is_refused(engine: Engine) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="step_before_the_pivot_says_how"):
        engine.execute("update definition_step set nothing_to_undo = null where name = 'inspect'")
    with pytest.raises(psycopg.Error, match="has no steps") as caught:
        engine.execute("select register('empty', 1, '[]', '{}')")
    assert caught.value.sqlstate == "SG008"
