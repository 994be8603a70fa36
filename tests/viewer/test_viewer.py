"""The reading layer: what its values say of sagas, and that it agrees with what acts then do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from uuid import UUID

import orjson
import psycopg
import pytest

from outbox import Saga
from outbox.definition.registry import describe_steps
from outbox.errors import NotFoundError
from outbox.store.connect import Connection, connect
from outbox.viewer import fleet, interventions, rates, saga, sagas
from outbox.viewer.acts import ActName
from outbox.viewer.plan import PlanStep, flat, plan_of
from outbox.viewer.pulse import pulse
from outbox.viewer.sagas import SagaFilter
from tests.fixtures import fresh_schema
from tests.sql.conftest import running_engine
from tests.sql.engine import Engine
from tests.sql.lined import both_suspended, branched
from tests.sql.positions import reach, suspend
from tests.sql.sagas import Order, act

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def shared(postgres_dsn: str) -> Iterator[Engine]:
    """The schema that the tests of this module share."""
    with fresh_schema(postgres_dsn) as schema, running_engine(schema) as made:
        yield made


@pytest.fixture
def engine(shared: Engine) -> Iterator[Engine]:
    """The shared schema, with the types registered and nothing else in it."""
    yield shared
    assert shared.audit() == []
    shared.execute(
        "truncate outbox, instance, transition, worker, act, failure, pause, rerun, child, signal, "
        "event, delivery, lane, subscription, schedule, ticket, slot, gate, saga_limit; "
        "update setting set pauses = false"
    )


@pytest.fixture
async def connection(engine: Engine) -> AsyncIterator[Connection]:
    async with await connect(engine.schema.dsn) as opened:
        yield opened


async def test_sagas_are_found_in_pages_and_by_key_or_id(
    engine: Engine, connection: Connection
) -> None:
    schema = engine.schema.name
    keys = {engine.start("entry", key=f"page-{n}"): f"page-{n}" for n in range(5)}
    started = sorted(keys)  # within one millisecond ids are in no order
    wanted = SagaFilter(type="entry", statuses=("CREATED",), key_prefix="page-", younger_than=HOUR)
    first = await sagas.find_sagas(connection, schema, wanted, limit=3)
    assert [row.saga_id for row in first.rows] == started[:1:-1]
    assert first.next == started[2]
    assert first.searched_to is not None
    assert abs(first.searched_to - first.rows[-1].created_at) < timedelta(seconds=1)
    second = await sagas.find_sagas(connection, schema, wanted, first.next, 3)
    assert [row.key for row in second.rows] == [keys[started[1]], keys[started[0]]]
    assert (second.next, second.searched_to) == (None, None)

    engine.start("order", key="page-1")
    assert [(r.type, r.key) for r in await sagas.search(connection, schema, " page-1 ")] == [
        ("order", "page-1"), ("entry", "page-1"),
    ]  # fmt: skip
    found = await sagas.search(connection, schema, str(started[0]))
    assert [row.key for row in found] == [keys[started[0]]]
    assert len(await sagas.search(connection, schema, "page-")) == 6
    for nothing in ("", "  ", "nobody's", "a\0b", "%", str(UUID(int=1))):
        assert await sagas.search(connection, schema, nothing) == []
    assert await sagas.find_id(connection, schema, "page-0") in started
    assert await sagas.find_id(connection, schema, str(started[0])) == started[0]
    like_an_id = "6f1c1b1e-0b5e-4a57-9d3f-1d3c8a2b7e10"
    named = engine.start("order", like_an_id, number=1)
    assert await sagas.find_id(connection, schema, like_an_id) == named
    with pytest.raises(NotFoundError, match="several sagas have the key 'page-1'"):
        await sagas.find_id(connection, schema, "page-1")
    with pytest.raises(NotFoundError, match="no saga has the id or key"):
        await sagas.find_id(connection, schema, "nobody's")
    assert await sagas.rows_of(connection, schema, []) == []


async def test_reading_within_the_callers_transaction_changes_nothing_about_it(
    engine: Engine, connection: Connection
) -> None:
    async with connection.transaction():
        await connection.execute("select 1")
        await sagas.find_sagas(connection, engine.schema.name)
        row = await (await connection.execute("show transaction_isolation")).fetchone()
    assert row == ("read committed",)


async def test_one_saga_whole(engine: Engine, connection: Connection) -> None:
    schema = engine.schema.name
    at = suspend(engine)
    engine.retry(at.saga, "the printer has paper")
    seen = await saga.whole(connection, schema, at.saga)
    assert (seen.overview.status, seen.overview.step) == ("EXECUTING", "mail")
    assert [moment.seq for moment in seen.timeline] == list(range(len(seen.timeline)))
    refused = next(m for m in seen.timeline if m.outcome == "rejected")
    assert refused.error_detail == {"type": "Boom", "message": "it broke"}
    assert [(a.act, a.note) for a in seen.operator_acts] == [("retry", "the printer has paper")]
    (line,) = seen.lines
    assert (line.name, line.standing, line.status) == ("mail", "due", "EXECUTING")
    assert [step.name for step in seen.plan] == [
        "reserve", "inspect", "charge", "book", "mail", "archive",
    ]  # fmt: skip
    assert (seen.signals, seen.events, seen.relatives, seen.pauses) == ([], [], [], [])
    engine.act("pause_saga", at.saga, "wait")
    seen = await saga.whole(connection, schema, at.saga)
    assert [pause.note for pause in seen.pauses] == ["wait"]
    engine.act("cancel", at.saga, "no more", p_force=True)
    new = engine.start()
    engine.abort(new)
    again = engine.act("rerun", new, "once more")
    (relative,) = (await saga.whole(connection, schema, new)).relatives
    assert (relative.relation, relative.other) == ("rerun as", again)
    assert relative.saga is not None
    assert relative.saga.status == "CREATED"
    with pytest.raises(NotFoundError, match="no saga has the id"):
        await saga.whole(connection, schema, UUID(int=0))


POSITIONS = [
    "new", "first", "pivot", "after the pivot", "compensation", "suspended", "undo suspended",
    "between attempts", "two lines suspended", "lines run", "paused", "completed", "failed",
]  # fmt: skip


def bring(engine: Engine, position: str) -> UUID:
    match position:
        case "new":
            return engine.start()
        case "suspended":
            return suspend(engine).saga
        case "undo suspended":
            return suspend(engine, "compensation").saga
        case "between attempts":
            at = reach(engine, "first")
            at.worker.say(at.held, "retry", after="1 hour")
            return at.saga
        case "two lines suspended":
            return both_suspended(engine)[0]
        case "lines run":
            found, worker = branched(engine)
            worker.claim()
            return found
        case "paused":
            found = engine.start()
            engine.act("pause_saga", found, "wait")
            return found
        case "completed":
            at = reach(engine, "last")
            at.worker.say(at.held, "done")
            return at.saga
        case "failed":
            found = engine.start()
            engine.abort(found)
            return found
        case _:
            return reach(engine, position).saga


TRIED: dict[ActName, str] = {
    "retry": "select retry(%(saga)s, 'why')",
    "skip": "select skip(%(saga)s, 'why', p_step => %(choice)s)",
    "amend": "select amend(%(saga)s, 'why', '{}')",
    "cancel": "select cancel(%(saga)s, 'why')",
    "abort": "select abort(%(saga)s, 'why')",
    "resolve": "select resolve(%(saga)s, 'COMPLETED', 'why')",
    "pause": "select pause_saga(%(saga)s, 'why')",
    "resume": "select resume_saga(%(saga)s, 'why')",
    "rerun": "select rerun(%(saga)s, 'why')",
    "signal": "select signal(%(saga)s, 'approved')",
}


@pytest.mark.parametrize("position", POSITIONS)
async def test_the_acts_that_apply_are_those_that_the_database_accepts(
    engine: Engine, connection: Connection, position: str
) -> None:
    found = bring(engine, position)
    offered = (await saga.whole(connection, engine.schema.name, found)).acts_that_apply
    assert {act.name for act in offered} == TRIED.keys()
    for offer in offered:
        assert offer.applies == (offer.why_not is None)
        choice = offer.choices[0] if offer.choices else None
        refused = None
        try:
            with engine.connection.transaction(force_rollback=True):
                engine.connection.execute(
                    TRIED[offer.name].encode(), {"saga": found, "choice": choice}
                )
        except psycopg.Error as error:
            refused = str(error.diag.message_primary)
        assert (refused is None) == offer.applies, f"{offer}, and the database said {refused}"


async def test_a_plan_is_a_tree(engine: Engine) -> None:
    made = Saga("tree", input=Order)
    made.step(name="first", pivot=True)(act)
    with made.parallel("both") as group:
        made.step(name="left")(act)
        with group.branch():
            with made.choice("which") as choice:
                with choice.when(lambda cmd: cmd.input.number > 1):
                    made.step(name="many")(act)
                with choice.otherwise():
                    made.step(name="one")(act)
            made.step(name="after")(act)
    made.wait_for("approval", name="approved")
    plan = plan_of(_steps(made))

    def shape(steps: list[PlanStep]) -> list[object]:
        return [
            (step.name, [shape(branch) for branch in step.branches]) if step.branches else step.name
            for step in steps
        ]

    assert shape(plan) == [
        "first",
        ("both", [["left"], [("which", [["many"], ["one"]]), "after"]]),
        "approved",
    ]
    assert [step.name for step in flat(plan)] == [
        "first", "both", "left", "which", "many", "one", "after", "approved",
    ]  # fmt: skip
    assert {step.name for step in flat(plan) if step.optional} == {"many", "one"}
    assert plan[-1].signal == "approval"
    assert plan_of([]) == []


async def test_everything_is_seen_at_once(engine: Engine, connection: Connection) -> None:
    schema = engine.schema.name
    suspend(engine)
    reach(engine, "first")
    counts = await sagas.counts(connection, schema)
    seen = await pulse(connection, schema, HOUR)
    assert seen.live == counts.live
    assert seen.total() == counts.living() > 0
    assert seen.total("SUSPENDED") == counts.living("SUSPENDED") > 0
    assert counts.living("SUSPENDED", "order") <= counts.living(type="order")
    by_page = await sagas.find_sagas(
        connection, schema, SagaFilter(statuses=("SUSPENDED",)), limit=1000
    )
    assert len(by_page.rows) == seen.total("SUSPENDED"), "the list agrees with the counts"
    assert seen.findings is not None
    assert any(f.finding == "suspended" for f in seen.findings)
    assert (await pulse(connection, schema, with_health=False)).findings is None
    assert sum(flow.started for flow in seen.throughput) >= seen.total()
    assert {w.standing for w in seen.workers} <= {"alive", "dead", "draining"}
    running = await fleet.running(connection, schema)
    assert len(running) == sum(w.in_hand for w in seen.workers)
    assert sum(q.claimed for q in seen.queues) == len(running)


async def test_the_queue_for_people_has_pages(engine: Engine, connection: Connection) -> None:
    schema = engine.schema.name
    both_suspended(engine)
    for _ in range(3):
        suspend(engine)
    everything = (await interventions.interventions(connection, schema, limit=1000)).rows
    paged: list[tuple[UUID, UUID | None]] = []
    after = None
    while True:
        page = await interventions.interventions(connection, schema, after=after, limit=2)
        paged += [(row.saga_id, row.line) for row in page.rows]
        if page.next is None:
            break
        after = page.next
    assert paged == [(row.saga_id, row.line) for row in everything]
    assert [row.since for row in everything] == sorted(row.since for row in everything)
    only = await interventions.interventions(connection, schema, type="lined", step="left")
    assert {row.name for row in only.rows} == {"left"}
    engine.retry(everything[-1].saga_id, "there is paper again")
    (past,) = await interventions.past_resolutions(connection, schema, words='"paper again"')
    assert past.note == "there is paper again"


async def test_what_holds_for_all_is_read(engine: Engine, connection: Connection) -> None:
    schema = engine.schema.name
    engine.execute("select set_limit('order', 'few', 5)")
    engine.execute("select set_schedule('daily', 'order', '0 3 * * *', 'UTC', '{}')")
    engine.execute("select subscribe('shop', '{*}', 'https://shop.example/hooks?token=secret')")
    (limit,) = await fleet.limits(connection, schema, "order")
    assert (limit.name, limit.amount, limit.per) == ("few", 5, None)
    assert await fleet.limits(connection, schema, "nothing") == []
    engine.execute("select drop_limit('order', 'few')")
    assert [s.name for s in await fleet.schedules(connection, schema)] == ["daily"]
    (told,) = await fleet.subscriptions(connection, schema)
    assert (told.name, told.url) == ("shop", "https://shop.example/hooks")
    assert {v.type for v in await fleet.versions(connection, schema)} >= {"order", "entry"}
    (definition,) = await fleet.definitions(connection, schema, "order", 1)
    assert definition.steps[0]["name"] == "reserve"
    engine.execute("select pause('tea', 'entry')")
    assert [
        (p.type, p.note) for p in await fleet.paused(connection, schema) if p.saga_id is None
    ] == [("entry", "tea")]
    engine.execute("select resume('done', 'entry')")
    assert await fleet.queued(connection, schema) == []
    await fleet.stuck(connection, schema)
    await fleet.waiting(connection, schema)
    for reading in (rates.completion, rates.latency, rates.errors, rates.throughput):
        await reading(connection, schema)  # type: ignore[operator]
    assert await rates.latency_over(connection, schema, HOUR, HOUR, "nothing") == []


def _steps(made: Saga[Order]) -> list[dict[str, object]]:
    return orjson.loads(describe_steps(made))  # type: ignore[no-any-return]
