"""Applications for accounts; the demo plays the person who decides on them."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import sql

from outbox import Client
from steps.demo.programs import SCHEMA, SHOP_SCHEMA
from steps.demo.scenario import Counted, Ending, Judged, World, judge_counts
from steps.expected import REFUSED_DOMAIN
from steps.onboarding import Application, Decision, decision
from steps.sandbox.partner_routes import UNAVAILABLE
from steps.shop import Shop

COUNT = 300
UNWANTED = "Mallory"
"""Customers of this name are turned down."""
COOL_OFF = 1.0
PAPERS, ACCOUNTS = "at the identity service: copies kept", "accounts open"
MAILS = "mails delivered"
UNDECIDED: LiteralString = (
    "select saga_id, input ->> 'customer' from {} where type = 'onboarding' and step = 'decision'"
)
TROUBLES: Sequence[Mapping[str, str]] = (
    *[{"document": f"{UNAVAILABLE} passport"}] * 8,
    *[{"customer": f"{UNWANTED} {n}"} for n in range(40)],
    {"customer": UNWANTED, "check_fault": "cancel:error_500:2"},
    {"customer": UNWANTED, "check_fault": "cancel:drop_after:1"},
    *[{"email": f"customer-{n}@{REFUSED_DOMAIN}"} for n in range(3)],
    {"check_fault": "create:drop_after:1"},
    {"check_fault": "create:timeout_after:1"},
    {"check_fault": "create:timeout_before:1"},
    {"check_fault": "create:rate_limit:2"},
    {"check_fault": "create:error_500:2"},
    {"check_fault": "create:drop_after:*"},
)


class Applications(Counted):
    """So many applications, always the same."""

    saga = "onboarding"
    noun = "applications"
    apps: Sequence[str] = ("steps.onboarding:app",)
    prologue = (
        "applications for an account have their papers checked, and wait for a person,\n"
        "whom the demo plays; a second after an account is opened its owner is welcomed."
    )
    epilogue = (
        "An application waits for its decision, and a second between opening and welcome;\n"
        "nobody holds it meanwhile."
    )
    places = "at the identity\nservice, in the accounts and in the mailbox"

    def __init__(self, count: int | None = None) -> None:
        self.inputs = make_applications(COUNT if count is None else count)
        self._client = Client(SCHEMA)
        self._told: set[UUID] = set()

    async def prepare(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Create the tables."""
        await Shop(SHOP_SCHEMA).install(connection)

    def meanwhile(self, connection: psycopg.Connection[Any]) -> None:
        """Decide on what waits."""
        overview = sql.Identifier(SCHEMA, "overview")
        undecided = connection.execute(sql.SQL(UNDECIDED).format(overview)).fetchall()
        for saga_id, customer in undecided:
            if saga_id in self._told:
                continue
            self._told.add(saga_id)
            verdict = "rejected" if customer.startswith(UNWANTED) else "approved"
            said = Decision.model_validate({"verdict": verdict, "by": "the demo"})
            self._client.signal(connection, saga_id, decision, said, key="the demo")

    async def judge(self, connection: psycopg.AsyncConnection[Any], world: World) -> Judged:
        """Compare sagas, papers, accounts and mails with the inputs."""
        expected = {key: expected_end(one) for key, one in self.inputs.items()}
        keys = {str(saga.saga_id): saga.key for saga in world.sagas}
        found: defaultdict[str, Ending] = defaultdict(Ending)

        def of(saga_id: object) -> Ending:
            return found[keys.get(str(saga_id), f"saga {saga_id}")]

        for saga in world.sagas:
            of(saga.saga_id).status = saga.status
        for booking in world.sandbox.bookings():
            of(booking["reference"]).counts[PAPERS] += booking["status"] == "booked"
        for account in await Shop(SHOP_SCHEMA).rows(connection, "account"):
            of(account["saga_id"]).counts[ACCOUNTS] += account["closed_at"] is None
        for saga_id, _ in {(mail.saga_id, mail.message_id) for mail in world.mails}:
            of(saga_id).counts[MAILS] += 1
        return judge_counts([PAPERS, ACCOUNTS, MAILS], expected, found)


def make_applications(count: int) -> dict[str, Application]:
    """Make applications, by key: always the same ones."""
    chance = random.Random(7)
    troubled = dict(zip(chance.sample(range(COUNT), len(TROUBLES)), TROUBLES, strict=True))
    applications = {}
    for number in range(COUNT):
        plain: dict[str, object] = {
            # Some come twice, and queue for themselves.
            "customer": f"customer {chance.randrange(COUNT):04}",
            "account": f"account-{number:04}",
            "document": f"passport {number:04}",
            "email": f"customer-{number:04}@example.com",
            "cool_off": COOL_OFF,
        }
        applications[f"application-{number + 1:04}"] = Application.model_validate(
            {**plain, **troubled.get(number, {})}
        )
    return dict(list(applications.items())[:count])


def expected_end(application: Application) -> Ending:
    """Say how the saga of this application must end."""
    if UNAVAILABLE in application.document or (application.check_fault or "").endswith(":*"):
        return Ending("FAILED")
    end = Ending("COMPLETED")
    if not application.customer.startswith(UNWANTED):
        end.counts.update({PAPERS: 1, ACCOUNTS: 1})
    if not application.email.endswith(f"@{REFUSED_DOMAIN}"):
        end.counts[MAILS] = 1
    return end
