"""Whatever dies, and however often: every payment ends as its input says, nothing happens twice."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from tests.conftest import PgBouncerFactory, ServerFactory
from tests.payments.world import World, all_is_well, make_payment, make_payments
from tests.postgres.proxy import CommitDroppingProxy
from tests.waiting import wait_until


def transitions(world: World) -> int:
    ((count,),) = world.rows("select count(*) from transition")
    return int(count)


def test_payments_end_as_they_must(world: World) -> None:
    world.start(make_payments(100))
    worker = world.worker()
    world.wait_until_settled()
    assert worker.terminate() == 0
    all_is_well(world)
    ((left,),) = world.rows("select count(*) from worker")
    assert left == 0, "an orderly end leaves no registration behind"
    logged = worker.events("transition")
    ((written,),) = world.rows("select count(*) from transition")
    assert len(logged) == written
    assert all({"saga_id", "type", "step", "attempt", "outcome"} <= set(e) for e in logged)


@pytest.mark.timeout(240)
def test_workers_killed_again_and_again(world: World) -> None:
    # A command that saw five workers die would be suspended; these are not to blame for it.
    world.rows("update setting set max_deaths = 100 returning 1")
    dice = random.Random(7)
    world.start(make_payments(500))
    running = [world.worker() for _ in range(3)]
    before = 0
    for _ in range(6):
        # Kills are spread over the work, however fast this machine is.
        goal = before + 250

        def went_on(goal: int = goal) -> bool:
            return transitions(world) >= goal or world.unsettled() == 0

        wait_until(went_on, 60)
        before = transitions(world)
        victim = running.pop(dice.randrange(len(running)))
        victim.kill()
        running.append(world.worker())
    world.wait_until_settled(120)
    all_is_well(world)
    ((deaths,),) = world.rows(
        "select count(*) from transition where error ->> 'type' = 'WorkerDied'"
    )
    assert deaths > 0, "the kills hit nothing"


@pytest.mark.timeout(240)
def test_postgres_restarted_in_immediate_mode(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    server = server_factory(settings={"fsync": "on"})
    with World(server.dsn, tmp_path) as world:
        world.rows("update setting set max_deaths = 100 returning 1")
        world.start(make_payments(500))
        workers = [world.worker() for _ in range(2)]
        for round_ in range(1, 5):
            wait_until(
                lambda goal=round_ * 350: transitions(world) >= goal or not world.unsettled(), 60
            )
            server.restart("immediate")
        world.wait_until_settled(120)
        all_is_well(world)
        assert [w.process.poll() for w in workers] == [None, None], "a worker gave up"
        assert any(w.events("database_trouble") for w in workers)


@pytest.mark.timeout(180)
def test_connections_dropped_right_after_commit(
    postgres_dsn: str, proxy: CommitDroppingProxy, tmp_path: Path
) -> None:
    with World(postgres_dsn, tmp_path, worker_dsn=proxy.dsn) as world:
        world.start(make_payments(200))
        proxy.drop_after_commit(None, probability=0.2)
        proxy.drop_after_statement(b"advance", None, probability=0.1)
        proxy.drop_after_statement(b"claim", None, probability=0.2)
        proxy.drop_before(b"advance", None, probability=0.05)
        workers = [world.worker() for _ in range(2)]
        world.wait_until_settled(120)
        all_is_well(world)
        assert len(proxy.struck) > 20
        assert [w.process.poll() for w in workers] == [None, None], "a worker gave up"


def test_a_worker_stopped_past_its_lease_commits_nothing_when_it_goes_on(world: World) -> None:
    world.start({f"slow-{n}": make_payment(n, sandbox_fault="confirm:slow:1") for n in range(10)})
    sleeper = world.worker().ready()
    wait_until(
        lambda: world.rows("select from pending where standing = 'claimed' and step = 'authorize'"),
        message="an authorization is under way",
    )
    os.kill(sleeper.process.pid, signal.SIGSTOP)
    other = world.worker().ready()
    world.wait_until_settled()
    before = transitions(world)
    os.kill(sleeper.process.pid, signal.SIGCONT)
    wait_until(lambda: sleeper.events("worker_lost"), message="the sleeper learns that it was lost")
    wait_until(lambda: sleeper.events("outcome_refused"), message="its late outcomes were refused")
    assert transitions(world) == before
    all_is_well(world)
    # It goes on as a new worker.
    assert other.terminate() == 0
    world.start({"after": make_payment(99)})
    world.wait_until_settled()
    all_is_well(world)


@pytest.mark.timeout(120)
def test_through_pgbouncer_in_transaction_mode(
    postgres_dsn: str, pgbouncer_factory: PgBouncerFactory, tmp_path: Path
) -> None:
    bouncer = pgbouncer_factory(postgres_dsn)
    with World(
        postgres_dsn, tmp_path, worker_dsn=bouncer.dsn, OUTBOX_PREPARED_STATEMENTS="false"
    ) as world:
        world.start(make_payments(100))
        workers = [world.worker() for _ in range(2)]
        world.wait_until_settled(60)
        all_is_well(world)
        assert [w.terminate() for w in workers] == [0, 0]
