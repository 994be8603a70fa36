"""Every step of the payment saga, failing in every way: what the provider, the ledger and the
mailbox show afterwards is what they must.

All cases run at once in one world, since they mostly wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg
import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from psycopg import sql

import outbox
from steps.demo.mailbox import Mailbox
from steps.demo.verdict import Found
from steps.expected import CLOSED_MERCHANT
from steps.model import Payment
from tests.payments.world import World, make_payment
from tests.postgres.proxy import CommitDroppingProxy
from tests.waiting import wait_until

CREATE, AUTHORIZE, LEDGER, MAIL = "create_intent", "authorize", "update_ledger", "send_confirmation"


@dataclass(frozen=True)
class Case:
    """A payment that fails in one way at one point, and what must come of it.

    ``undone`` are the compensations in the order in which they must have run, ``last`` is the final
    outcome of the step that failed.
    """

    payment: Payment
    status: str
    effects: dict[str, int] = field(default_factory=dict)
    undone: tuple[str, ...] = ()
    debits: int = 0
    mails: int = 0
    last: tuple[str, str] | None = None


def provider(fault: str) -> Payment:
    return make_payment(sandbox_fault=fault)


CREATED = {"create": 1, "cancel": 1}
AUTHORIZED = {"create": 1, "authorize": 1, "cancel": 1}
PAID = {"create": 1, "authorize": 1}

CASES = {
    "create rejected": Case(
        make_payment(currency="xxx"), "FAILED", {}, (), last=(CREATE, "rejected")
    ),
    "create exhausted": Case(
        provider("create:drop_before:*"), "FAILED", {}, (CREATE,), last=(CREATE, "in_doubt")
    ),
    "create timeout": Case(
        provider("create:timeout_after:*"), "FAILED", CREATED, (CREATE,), last=(CREATE, "in_doubt")
    ),
    "create dropped": Case(
        provider("create:drop_after:*"), "FAILED", CREATED, (CREATE,), last=(CREATE, "in_doubt")
    ),
    "create dropped once": Case(
        provider("create:drop_after:1"), "COMPLETED", PAID, debits=1, mails=1
    ),
    "create answered by a stored 500": Case(
        provider("create:error_500_after:*"),
        "FAILED",
        CREATED,
        (CREATE,),
        last=(CREATE, "in_doubt"),
    ),
    "create rate limited, then dropped": Case(
        # The first drop leaves doubt, so the 429 after it must not raise the key's revision: a
        # second # intent would be created.
        provider("create:drop_after:1;create:rate_limit:1"),
        "COMPLETED",
        PAID,
        debits=1,
        mails=1,
    ),
    "authorize rejected": Case(
        make_payment(payment_method="pm_card_chargeDeclined"),
        "FAILED",
        {**CREATED, "decline": 1},
        (CREATE,),
        last=(AUTHORIZE, "rejected"),
    ),
    "authorize exhausted": Case(
        provider("confirm:drop_before:*"),
        "FAILED",
        CREATED,
        (AUTHORIZE, CREATE),
        last=(AUTHORIZE, "in_doubt"),
    ),
    "authorize timeout": Case(
        provider("confirm:timeout_after:*"),
        "FAILED",
        AUTHORIZED,
        (AUTHORIZE, CREATE),
        last=(AUTHORIZE, "in_doubt"),
    ),
    "authorize dropped": Case(
        provider("confirm:drop_after:*"),
        "FAILED",
        AUTHORIZED,
        (AUTHORIZE, CREATE),
        last=(AUTHORIZE, "in_doubt"),
    ),
    "authorize dropped once": Case(
        provider("confirm:drop_after:1"), "COMPLETED", PAID, debits=1, mails=1
    ),
    "ledger rejected": Case(
        make_payment(merchant=CLOSED_MERCHANT),
        "FAILED",
        AUTHORIZED,
        (AUTHORIZE, CREATE),
        last=(LEDGER, "rejected"),
    ),
    "ledger exhausted": Case(
        make_payment(merchant="broken"),
        "FAILED",
        AUTHORIZED,
        (AUTHORIZE, CREATE),
        last=(LEDGER, "rejected"),
    ),
    "ledger timeout": Case(
        make_payment(merchant="hangs"),
        "FAILED",
        AUTHORIZED,
        (AUTHORIZE, CREATE),
        last=(LEDGER, "rejected"),
    ),
    "mail rejected": Case(
        make_payment(email="a@refused.example"),
        "SUSPENDED",
        PAID,
        debits=1,
        last=(MAIL, "rejected"),
    ),
    "mail exhausted": Case(
        make_payment(email="a@busy.example"), "SUSPENDED", PAID, debits=1, last=(MAIL, "in_doubt")
    ),
    "mail timeout": Case(
        make_payment(email="a@hangs.example"), "SUSPENDED", PAID, debits=1, last=(MAIL, "in_doubt")
    ),
    "mail dropped": Case(
        make_payment(email="a@drops.example"),
        "SUSPENDED",
        PAID,
        debits=1,
        mails=1,
        last=(MAIL, "in_doubt"),
    ),
    "undo dropped": Case(
        make_payment(
            merchant=CLOSED_MERCHANT, sandbox_fault="cancel:drop_after:1;cancel:error_500:1"
        ),
        "FAILED",
        AUTHORIZED,
        (AUTHORIZE, CREATE),
        last=(LEDGER, "rejected"),
    ),
    "undo times out": Case(
        make_payment(merchant=CLOSED_MERCHANT, sandbox_fault="cancel:timeout_after:1"),
        "FAILED",
        AUTHORIZED,
        (AUTHORIZE, CREATE),
        last=(LEDGER, "rejected"),
    ),
}


class BadMailbox(Mailbox):
    """A mail server that is busy, hangs, or drops the connection after it took the mail."""

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.endswith("@busy.example"):
            return "451 4.3.2 come back later"
        if address.endswith("@hangs.example"):
            await asyncio.Event().wait()
        return await super().handle_RCPT(server, session, envelope, address, options)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        answer = await super().handle_DATA(server, session, envelope)
        if any(address.endswith("@drops.example") for address in envelope.rcpt_tos):
            assert server.transport is not None
            server.transport.abort()
        return answer


def break_the_ledger(world: World) -> None:
    """Two merchants whose entries cannot be posted: one's fail, the other's never end."""
    with psycopg.connect(world.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("set search_path to {}").format(sql.Identifier(world.ledger)))
        connection.execute("""
            create function trouble() returns trigger language plpgsql as $$ begin
                if new.merchant = 'broken' then raise exception 'the ledger is broken'; end if;
                perform pg_sleep(60);
                return new;
            end $$;
            create trigger trouble before insert on entry for each row
                when (new.merchant in ('broken', 'hangs')) execute function trouble();
        """)


@pytest.fixture(scope="module")
def finished(
    postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[World, dict[str, Found]]]:
    """The world after all cases have run, and what there is of each."""
    with World(
        postgres_dsn,
        tmp_path_factory.mktemp("failures"),
        mailbox=BadMailbox(),
        # Longer than the steps' own timeouts, so that it is those that end the attempts.
        PAYMENT_PROVIDER_TIMEOUT="30",
        PAYMENT_SMTP_TIMEOUT="30",
    ) as world:
        break_the_ledger(world)
        world.start({name: case.payment for name, case in CASES.items()})
        world.worker()
        world.wait_until_settled(120)
        yield world, world.found()


pytestmark = [pytest.mark.xdist_group("failure points"), pytest.mark.timeout(200)]


@pytest.mark.parametrize("name", CASES)
def test_a_payment_that_fails_there_ends_as_it_must(
    finished: tuple[World, dict[str, Found]], name: str
) -> None:
    (world, found), case = finished, CASES[name]
    of_it = found.get(name, Found())
    assert world.saga(name).status == case.status
    assert of_it.effects == case.effects
    assert of_it.count("debit") == case.debits
    assert of_it.count("credit") == 0
    assert len(of_it.mails) == case.mails
    history = world.steps_of(name)
    undone = [
        step for kind, step, outcome in history if (kind, outcome) == ("compensation", "done")
    ]
    assert tuple(undone) == case.undone
    if case.last is not None:
        step, outcome = case.last
        assert [o for kind, s, o in history if kind == "action" and s == step][-1] == outcome


def test_the_audit_of_all_of_them_is_clean(finished: tuple[World, dict[str, Found]]) -> None:
    assert finished[0].violations() == []


def test_a_timeout_is_an_outcome_of_its_own(finished: tuple[World, dict[str, Found]]) -> None:
    world, _ = finished
    errors = world.rows(
        "select t.error ->> 'type' from transition t join instance i on i.id = t.saga_id "
        "where i.key = 'authorize timeout' and t.step = 'authorize' and t.kind = 'action'"
    )
    assert errors == [("Timeout",)] * 5


def test_an_operator_retries_aborts_and_the_money_comes_back(
    finished: tuple[World, dict[str, Found]],
) -> None:
    world, _ = finished
    operator = outbox.Operator(world.schema)
    world.start({"handed over": CASES["mail rejected"].payment})
    world.wait_until_settled(60)
    with psycopg.connect(world.dsn, autocommit=True) as connection:
        saga = world.saga("handed over")
        assert operator.retry(connection, saga.id, "the address was corrected?") == "EXECUTING"
        again = outbox.Client(world.schema).wait(connection, saga.id, timeout=30)
        assert again.status == "SUSPENDED"
        assert operator.abort(connection, saga.id, "the customer called") == "COMPENSATING"
        ended = outbox.Client(world.schema).wait(connection, saga.id, timeout=30)
    assert ended.status == "FAILED"
    of_it = world.found()["handed over"]
    assert of_it.effects == {"create": 1, "authorize": 1, "cancel": 1}
    debit, credit = sorted(of_it.entries, key=lambda entry: entry.direction, reverse=True)
    assert (debit.direction, credit.direction) == ("debit", "credit")
    assert credit.reverses == debit.id
    undone = [s for k, s, o in world.steps_of("handed over") if (k, o) == ("compensation", "done")]
    assert undone == [LEDGER, AUTHORIZE, CREATE]
    assert world.violations() == []


def test_the_ledger_entry_whose_commit_was_not_answered_is_posted_once(
    postgres_dsn: str, proxy: CommitDroppingProxy, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("commit")
    with World(postgres_dsn, directory, worker_dsn=proxy.dsn) as world:
        worker = world.worker().ready()
        # Whatever else commits in a transaction of several statements is cut too, and tried again.
        proxy.drop_after_commit(None)
        world.start({"one": make_payment()})
        wait_until(lambda: worker.events("database_trouble"), 30)
        proxy.disarm()
        world.wait_until_settled(30)
        assert proxy.struck
        assert world.mismatches() == []
        assert world.violations() == []
