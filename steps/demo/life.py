"""What goes on in a demo that stays: a trickle of sagas of every type, some of which meet trouble,
and some of which wait for whoever looks."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from pydantic import BaseModel

from outbox import Client, Operator, Rules, Saga
from steps.demo.programs import SCHEMA
from steps.demo.scenarios.onboarding import make_applications
from steps.demo.scenarios.order import make_orders
from steps.demo.scenarios.travel import make_journeys
from steps.expected import CLOSED_MERCHANT, REFUSED_DOMAIN
from steps.make_payments import NEVER_ANSWERED, RECOVERING, UNDO_TROUBLED, plain_payment
from steps.model import Payment
from steps.onboarding import onboarding
from steps.order import order
from steps.payment import payment
from steps.sandbox.cards import DECLINED_CARDS
from steps.travel import travel

APPS = ("steps.payment:app", "steps.order:app", "steps.travel:app", "steps.onboarding:app")
ON_CALL = "on-call@shop.example"
"""Who gets a mail when a saga needs a person."""
LEAST_WAITING, MOST_WAITING = 3, 8
"""So many sagas of a kind are left for people; no more until somebody has decided."""
LOOK_SECONDS = 3.0
COOL_OFF = 20.0
SUSPENDED: LiteralString = "select count(*) from {} where type = 'payment'"
UNDECIDED: LiteralString = "select count(*) from {} where type = 'onboarding'"


@dataclass(slots=True)
class _Kind:
    """A type, how its inputs are made, and how many seconds lie between two of them."""

    saga: Saga[Any]
    prefix: str
    make: Callable[[], BaseModel | None]
    pace: float
    due: float


class Life:
    """Starts sagas from now and then; no two runs start the same.

    Args:
        now: when it begins, by a monotonic clock.
    """

    def __init__(self, now: float | None = None) -> None:
        now = time.monotonic() if now is None else now
        self._chance = random.Random()
        self._client = Client(SCHEMA)
        # Keys of a demo that was started twice a second apart differ all the same.
        self._number = 0
        self._orders = list(make_orders(300).values())
        self._journeys = list(make_journeys(400).values())
        self._applications = list(make_applications(300).values())
        self._suspended = self._undecided = 0
        self._looked = float("-inf")
        self._kinds = (
            _Kind(payment, "sale", self._payment, 1.5, now),
            _Kind(order, "basket", lambda: self._chance.choice(self._orders), 7.0, now + 1),
            _Kind(travel, "trip", lambda: self._chance.choice(self._journeys), 9.0, now + 2),
            _Kind(onboarding, "applicant", self._application, 12.0, now + 3),
        )

    def prepare(self, connection: psycopg.Connection[Any]) -> None:
        """Set what people would have set: a limit, a schedule, and who is told of alerts."""
        Operator(SCHEMA).subscribe(
            connection, "on-call", ["alert.*"], f"mailto:{ON_CALL}", note="somebody has to know"
        )
        rules = Rules(SCHEMA)
        rules.set_limit(connection, "travel", "at-once", 10, note="more than the airline likes")
        rules.set_schedule(
            connection, "subscription", "payment", "* * * * *",
            zone="Europe/Berlin", input=Payment.model_validate(plain_payment(self._chance)),
            note="a customer who pays every minute",
        )  # fmt: skip

    def go_on(self, connection: psycopg.Connection[Any]) -> int:
        """Start what is due; called a few times a second.

        Args:
            connection: in autocommit.

        Returns:
            How many sagas were started.
        """
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._suspended = _count(connection, SUSPENDED, "manual_intervention")
            self._undecided = _count(connection, UNDECIDED, "live")
        started = 0
        for kind in self._kinds:
            if now < kind.due:
                continue
            # Not by the clock's beat, which would look like a machine's.
            kind.due = now + kind.pace * self._chance.uniform(0.3, 1.7)
            made = kind.make()
            if made is None:
                continue
            self._number += 1
            key = f"{kind.prefix}-{datetime.now():%H%M%S}-{self._number}"
            self._client.start(connection, kind.saga, made, key=key)
            started += 1
        return started

    def _payment(self) -> Payment:
        return Payment.model_validate({**plain_payment(self._chance), **self._trouble()})

    def _trouble(self) -> Mapping[str, str]:
        """What this payment meets: three in four meet nothing."""
        if self._suspended < LEAST_WAITING:
            return self._refused_mail()
        dice = self._chance.random()
        if dice < 0.07:
            return {"payment_method": self._chance.choice(sorted(DECLINED_CARDS))}
        if dice < 0.10:
            return {"merchant": CLOSED_MERCHANT}
        if dice < 0.12:
            return {
                "merchant": CLOSED_MERCHANT,
                "sandbox_fault": self._chance.choice(UNDO_TROUBLED),
            }
        if dice < 0.19:
            return {"sandbox_fault": self._chance.choice(RECOVERING)}
        if dice < 0.21:
            return {"sandbox_fault": self._chance.choice(NEVER_ANSWERED)}
        if dice < 0.25 and self._suspended < MOST_WAITING:
            return self._refused_mail()
        return {}

    def _refused_mail(self) -> Mapping[str, str]:
        self._suspended += 1
        return {"email": f"customer-{self._number}@{REFUSED_DOMAIN}"}

    def _application(self) -> BaseModel | None:
        if self._undecided >= MOST_WAITING:
            return None
        self._undecided += 1
        return self._chance.choice(self._applications).model_copy(
            update={
                "customer": f"customer {self._chance.randrange(6):04}",  # some queue for themselves
                "account": f"account-{datetime.now():%H%M%S}-{self._number}",
                "cool_off": COOL_OFF,
            }
        )


def _count(connection: psycopg.Connection[Any], query: LiteralString, view: str) -> int:
    found = connection.execute(sql.SQL(query).format(sql.Identifier(SCHEMA, view))).fetchone()
    return int(found[0]) if found else 0
