"""Payments, from the shipped file."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
from pydantic import ValidationError

from steps import ledger
from steps.demo.errors import DemoError
from steps.demo.programs import LEDGER_SCHEMA
from steps.demo.scenario import STATUSES, Counted, Judged, World
from steps.demo.verdict import Found, IntentFound, compare
from steps.expected import CLOSED_MERCHANT, expected_end
from steps.model import Payment

COUNTED = (
    STATUSES,
    {
        "create": "at the provider: intents created",
        "authorize": "at the provider: authorized",
        "decline": "at the provider: declined",
        "cancel": "at the provider: canceled",
    },
    {"debits": "in the ledger: debits", "credits": "in the ledger: credits"},
    {"mails": "mails delivered"},
)


class Payments(Counted):
    """Some of a file of payments.

    Args:
        source: JSON Lines of ``{"key": ..., "input": ...}``.
        count: only the first so many; ``None`` means all.

    Raises:
        DemoError: the file cannot be read, or a line is not a payment with a key of its own.
    """

    saga = "payment"
    noun = "payments"
    apps: Sequence[str] = ("steps.payment:app",)
    prologue = (
        "payments go through the payment saga; some are declined, some meet faults.\n"
        "A Postgres, a payment provider and a mail server run for them, until the end."
    )
    epilogue = (
        "All payments start at once, so latency is mostly the queue. The slowest met\n"
        "timeouts in every attempt, and are undone when no effect can land any more."
    )
    places = "in the engine, at the\nprovider, in the ledger and in the mailbox"

    def __init__(self, source: Path, count: int | None) -> None:
        self._lines, self.inputs = _read(source, count)

    def lines(self) -> str:
        """The file's lines, as they are."""
        return self._lines

    async def prepare(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Close an account, to see a refusal."""
        await open_books(connection)

    async def judge(self, connection: psycopg.AsyncConnection[Any], world: World) -> Judged:
        """Compare sagas, provider, ledger and mails with the inputs."""
        keys = {str(saga.saga_id): saga.key for saga in world.sagas}
        found: defaultdict[str, Found] = defaultdict(Found)

        def of(saga_id: object) -> Found:
            return found[keys.get(str(saga_id), f"saga {saga_id}")]

        for saga in world.sagas:
            of(saga.saga_id).status = saga.status
        for effect in world.sandbox.effects():
            effects = of(effect["saga_id"]).effects
            effects[effect["operation"]] = effects.get(effect["operation"], 0) + 1
        for intent in world.sandbox.intents():
            seen = IntentFound(intent["status"], intent["amount"], intent["currency"])
            of(intent["metadata"].get("saga_id")).intents.append(seen)
        for entry in await ledger.entries(connection, LEDGER_SCHEMA):
            of(entry.saga_id).entries.append(entry)
        for mail in world.mails:
            of(mail.saga_id).mails[mail.message_id] = mail.recipient
        expected, actual = _tally_expected(self.inputs.values()), _tally_found(found.values())
        sections = [
            [(label, expected[name], actual[name]) for name, label in section.items()]
            for section in COUNTED
        ]
        return Judged(sections, compare(self.inputs, found))


async def open_books(connection: psycopg.AsyncConnection[Any]) -> None:
    """Create the ledger's tables, and close an account, to see a refusal."""
    await ledger.install(connection, LEDGER_SCHEMA)
    await ledger.close_merchant(
        connection, LEDGER_SCHEMA, CLOSED_MERCHANT, "the demo wants to see a refusal"
    )


def _read(source: Path, count: int | None) -> tuple[str, Mapping[str, Payment]]:
    try:
        lines = source.read_text(encoding="utf-8").splitlines()[:count]
    except (OSError, UnicodeDecodeError) as error:
        raise DemoError(f"cannot read {source}: {error}") from error
    payments: dict[str, Payment] = {}
    for number, line in enumerate(lines, start=1):
        try:
            document = json.loads(line)
            key = str(document["key"])
            payment = Payment.model_validate(document["input"])
        except (ValidationError, ValueError, LookupError, TypeError) as error:
            raise DemoError(
                f'{source}, line {number}: not {{"key": ..., "input": a payment}}: {error!r}'
            ) from error
        if key in payments:
            raise DemoError(f"{source}, line {number}: the key {key} is there already")
        payments[key] = payment
    if not payments:
        raise DemoError(f"{source} holds no payment")
    return "".join(f"{line}\n" for line in lines), payments


def _tally_expected(payments: Iterable[Payment]) -> Counter[str]:
    tally: Counter[str] = Counter()
    for payment in payments:
        end = expected_end(payment)
        tally.update([end.status])
        tally.update(end.effects)
        tally.update(debits=end.debits, credits=end.credits, mails=end.mails)
    return tally


def _tally_found(found: Iterable[Found]) -> Counter[str]:
    tally: Counter[str] = Counter()
    for one in found:
        tally.update([one.status or "no saga"])
        tally.update(one.effects)
        tally.update(debits=one.count("debit"), credits=one.count("credit"), mails=len(one.mails))
    return tally
