"""Accounts: opened when a person says so, and only then."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from outbox.errors import InputError
from steps.expected import REFUSED_DOMAIN
from steps.onboarding import Application, Decision, app, decision, onboarding
from tests.engine.bench import until
from tests.fixtures import move_clock
from tests.steps.town import Town

pytestmark = pytest.mark.anyio

YES = Decision(verdict="approved", by="ann")
NO = Decision(verdict="rejected", by="bob", reason="We know you.")


def apply(**changes: Any) -> Application:
    plain = {
        "customer": "Carla",
        "account": "carla",
        "document": "passport 7",
        "email": "carla@example.com",
        "cool_off": 0.3,
    }
    return Application.model_validate(plain | changes)


async def decide(town: Town, saga: UUID, said: object, key: str | None = None) -> str:
    """Tells a saga what a person says."""
    async with town.bench.connection() as connection:
        return await town.bench.client.signal(connection, saga, decision, said, key=key)


async def reached(town: Town, step: str) -> None:
    """Waits until a saga stands at a step and nobody holds it."""

    async def stands() -> bool:
        return bool(
            await town.bench.rows(
                "select 1 from outbox where step = %s and awaits is not null", step
            )
        )

    await until(stands)


async def accounts(town: Town) -> list[tuple[str, bool]]:
    """Names of accounts, and whether they are open."""
    return [(row["name"], row["closed_at"] is None) for row in await town.table("account")]


async def test_an_application_that_is_approved_becomes_an_account(town: Town) -> None:
    async with town.worker(app):
        saga = await town.start(onboarding, apply())
        await reached(town, "decision")
        assert await accounts(town) == []
        assert await decide(town, saga, YES) == "delivered"
        status = await town.settled(saga)
    assert (status.status, status.error) == ("COMPLETED", None)
    assert await accounts(town) == [("carla", True)]
    assert town.booked() == {"identity": ["passport 7"]}
    assert [mail.recipient for mail in town.mailbox.received] == ["carla@example.com"]
    steps = [step for _, step, outcome in await town.steps_of(saga) if outcome == "done"]
    assert "regret" not in steps
    assert await town.bench.violations() == []


async def test_an_application_that_is_turned_down_is_forgotten(town: Town) -> None:
    async with town.worker(app):
        saga = await town.start(onboarding, apply())
        await reached(town, "decision")
        await decide(town, saga, NO)
        status = await town.settled(saga)
    assert status.status == "COMPLETED"
    assert await accounts(town) == []
    assert town.booked() == {}
    assert len(town.mailbox.received) == 1
    assert await town.bench.violations() == []


async def test_papers_that_are_refused_are_nobodys_business(town: Town) -> None:
    async with town.worker(app):
        status = await town.settled(await town.start(onboarding, apply(document="unavailable")))
    assert (status.status, status.error["code"]) == ("FAILED", "unavailable")
    assert await accounts(town) == []
    assert town.mailbox.received == []


async def test_an_application_that_nobody_decides_on_lapses(town: Town) -> None:
    async with town.worker(app):
        saga = await town.start(onboarding, apply())
        await reached(town, "decision")
        with town.bench.schema.connect() as connection:
            move_clock(connection, town.bench.schema.name, timedelta(days=4))
        status = await town.settled(saga)
    assert (status.status, status.error["type"]) == ("FAILED", "SignalTimeout")
    assert town.cancelled() == {"identity": 1}
    assert await town.bench.violations() == []


async def test_a_decision_counts_once_and_has_to_be_one(town: Town) -> None:
    async with town.worker(app):
        saga = await town.start(onboarding, apply(check_fault="create:slow:1"))
        with pytest.raises(InputError, match="verdict"):
            await decide(town, saga, {"verdict": "perhaps", "by": "ann"})
        assert await decide(town, saga, YES, key="ticket-1") == "kept"
        assert await decide(town, saga, YES, key="ticket-1") == "repeated"
        assert (await town.settled(saga)).status == "COMPLETED"
    assert await accounts(town) == [("carla", True)]


async def test_a_name_that_is_taken_has_the_second_application_undone(town: Town) -> None:
    async with town.worker(app):
        sagas = [await town.start(onboarding, apply(), f"a-{n}") for n in range(2)]
        for saga in sagas:
            await decide(town, saga, YES)
        ends = [await town.settled(saga) for saga in sagas]
    assert sorted(end.status for end in ends) == ["COMPLETED", "FAILED"]
    assert await accounts(town) == [("carla", True)]
    assert town.cancelled() == {"identity": 1}
    assert len(town.mailbox.received) == 1
    assert await town.bench.violations() == []


async def test_a_customers_second_application_queues_until_the_first_has_ended(town: Town) -> None:
    async with town.worker(app):
        first = await town.start(onboarding, apply(), "a-1")
        await reached(town, "decision")
        wanted = apply(account="carla-2", document="passport 8")
        second = await town.start(onboarding, wanted, "a-2")
        other = await town.start(onboarding, apply(customer="Olaf", account="olaf"), "a-3")
        await decide(town, other, YES)
        assert (await town.settled(other)).status == "COMPLETED"
        assert town.booked() == {"identity": ["passport 7", "passport 7"]}, "Carla's second queues"
        await decide(town, first, NO)
        assert (await town.settled(first)).status == "COMPLETED"
        await decide(town, second, YES)
        assert (await town.settled(second)).status == "COMPLETED"
    assert sorted(await accounts(town)) == [("carla-2", True), ("olaf", True)]
    assert await town.bench.violations() == []


async def test_an_account_that_is_thought_better_of_is_closed(town: Town) -> None:
    async with town.worker(app):
        saga = await town.start(onboarding, apply(cool_off=3600))
        await decide(town, saga, YES)
        await reached(town, "cool_off")
        assert await accounts(town) == [("carla", True)]
        await town.bench.rows("select cancel(%s, 'the customer thought better of it')", saga)
        status = await town.settled(saga)
    assert (status.status, status.state) == ("FAILED", "CANCELLED")
    assert await accounts(town) == [("carla", False)]
    assert town.booked() == {}
    assert town.mailbox.received == []
    assert await town.bench.violations() == []


@pytest.mark.parametrize("said", [YES, NO])
async def test_a_mail_that_is_refused_bothers_nobody(town: Town, said: Decision) -> None:
    async with town.worker(app):
        saga = await town.start(onboarding, apply(email=f"carla@{REFUSED_DOMAIN}"))
        await decide(town, saga, said)
        status = await town.settled(saga)
    assert (status.status, status.error["type"]) == ("COMPLETED", "BestEffort")
    assert await town.bench.violations() == []


@pytest.mark.parametrize("step", ["check", "decision", "cool_off"])
async def test_a_worker_that_dies_is_replaced_and_nobody_notices(town: Town, step: str) -> None:
    async with town.worker(app) as victim:
        saga = await town.start(onboarding, apply(check_fault="create:slow:1", cool_off=2))
        if step == "check":
            await until(lambda: "identity" in town.booked())
        else:
            await reached(town, "decision")
        if step == "cool_off":
            await decide(town, saga, YES)
            await reached(town, step)
        await victim.crash()
    if step != "cool_off":
        assert await decide(town, saga, YES) in ("kept", "delivered")
    async with town.worker(app):
        status = await town.settled(saga)
    assert status.status == "COMPLETED", status.error
    assert await accounts(town) == [("carla", True)]
    assert town.booked() == {"identity": ["passport 7"]}
    assert town.cancelled() == {}
    assert len({mail.message_id for mail in town.mailbox.received}) == 1
    assert await town.bench.violations() == []


async def test_many_applications_at_once_end_as_decided(town: Town) -> None:
    async with town.worker(app):
        sagas = [await town.start(onboarding, apply(account=f"c-{n}"), f"a-{n}") for n in range(20)]
        await asyncio.gather(
            *(decide(town, saga, NO if n % 4 == 0 else YES) for n, saga in enumerate(sagas))
        )
        ends = [await town.settled(saga) for saga in sagas]
    assert {end.status for end in ends} == {"COMPLETED"}
    assert sorted(await accounts(town)) == sorted((f"c-{n}", True) for n in range(20) if n % 4)
    assert len(town.mailbox.received) == 20
    assert await town.bench.violations() == []
