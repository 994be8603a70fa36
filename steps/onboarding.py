"""An account for a new customer: checked by a partner, decided on by a person.

1. *check*: a partner checks the applicant's papers, and keeps a copy. Undone by having the copy
   deleted, which the applicant may demand when nothing comes of it.
2. *decision*: a person says yes or no, within three days; without an answer the application
   lapses, and is undone.
3. Yes: *provision* opens the account, in the transaction that records the step; *cool_off* leaves
   the applicant time to think better of it, in which no worker holds the saga; *welcome* is a mail.
   No: *regret* is a mail, and *forget* has the copy deleted. An application that was turned down
   has come to its proper end: the saga is COMPLETED, not FAILED.

A customer has one application under way at a time, also while it waits for its decision (the limit
``counts_waiting``); another one queues until the first has come to its end.

There is no pivot: an account can be closed as long as the saga lives, so that a cancel in the
cool-off time undoes everything. A pivot could not stand in an alternative anyway: the saga would
have one in some cases and none in others.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

import psycopg
from pydantic import BaseModel, ConfigDict, Field

from outbox import App, Command, Limit, Saga
from steps.mail import Mailer
from steps.partners import Booking, Partners, reference_of
from steps.shop import Shop
from steps.surroundings import FORWARD, UNDO, surroundings

IDENTITY = "identity"


class Application(BaseModel):
    """Who wants an account."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    customer: Annotated[str, Field(min_length=1, max_length=100)]
    account: Annotated[str, Field(min_length=1, max_length=100, description="its name, unique")]
    document: Annotated[
        str, Field(min_length=1, max_length=100, description="passport or the like")
    ]
    email: Annotated[str, Field(max_length=254)]
    cool_off: Annotated[
        float, Field(gt=0, description="seconds between the account's opening and its welcome")
    ] = 86_400.0
    check_fault: str | None = None


class Decision(BaseModel):
    """What a person says of an application."""

    verdict: Literal["approved", "rejected"]
    by: Annotated[str, Field(min_length=1)]
    reason: str = ""


onboarding = Saga(
    "onboarding",
    input=Application,
    version=1,
    limits=[Limit(1, per="customer", counts_waiting=True)],
)


@onboarding.step(state="CHECKED", retry=FORWARD, timeout=5)
async def check(cmd: Command[Application]) -> Booking:
    """Have the papers checked."""
    return await cmd.resource(Partners).book(
        IDENTITY,
        cmd.input.document,
        reference=reference_of(cmd.saga_id),
        idempotency_key=cmd.idempotency_key,
        fault=cmd.input.check_fault,
    )


@check.compensation(retry=UNDO, timeout=5)
async def delete_copy(cmd: Command[Application]) -> None:
    """Have the partner delete what it keeps."""
    await cmd.resource(Partners).cancel_all(
        IDENTITY, cmd.find_result(check), reference_of(cmd.saga_id)
    )


decision = onboarding.wait_for(
    "decision", result=Decision, timeout=timedelta(days=3), on_timeout="fail", state="DECIDED"
)

with onboarding.choice("verdict") as verdict:
    with verdict.when(lambda cmd: cmd.result(decision).verdict == "approved"):

        @onboarding.step(state="OPENED", retry=FORWARD, timeout=5, transactional=True)
        async def provision(cmd: Command[Application], tx: psycopg.AsyncConnection[Any]) -> None:
            """Open the account."""
            await cmd.resource(Shop).open_account(
                tx, cmd.saga_id, name=cmd.input.account, customer=cmd.input.customer
            )

        @provision.compensation(retry=UNDO, timeout=5, transactional=True)
        async def close(cmd: Command[Application], tx: psycopg.AsyncConnection[Any]) -> None:
            """Close it."""
            await cmd.resource(Shop).close_account(tx, cmd.saga_id)

        onboarding.sleep("cool_off", lambda cmd: timedelta(seconds=cmd.input.cool_off))

        @onboarding.step(
            best_effort=True, nothing_to_undo="a mail was sent", retry=FORWARD, timeout=5
        )
        async def welcome(cmd: Command[Application]) -> str:
            """Welcome the customer."""
            return await _mail(cmd, "Welcome", f"Your account {cmd.input.account} is open.\n")

    with verdict.otherwise():

        @onboarding.step(
            best_effort=True, nothing_to_undo="a mail was sent", retry=FORWARD, timeout=5
        )
        async def regret(cmd: Command[Application]) -> str:
            """Say no."""
            reason = cmd.result(decision).reason or "We cannot open an account for you."
            return await _mail(cmd, "Your application", f"{reason}\n")

        @onboarding.step(
            state="FORGOTTEN", nothing_to_undo="a copy less is no harm", retry=UNDO, timeout=5
        )
        async def forget(cmd: Command[Application]) -> None:
            """Have the partner delete its copy."""
            await cmd.resource(Partners).cancel(IDENTITY, cmd.result(check).id)


async def _mail(cmd: Command[Application], subject: str, text: str) -> str:
    return await cmd.resource(Mailer).send(
        cmd.input.email,
        subject,
        text,
        saga_id=cmd.saga_id,
        idempotency_key=cmd.idempotency_key,
    )


app = App(sagas=[onboarding], lifespan=surroundings)
