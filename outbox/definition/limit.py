"""How many sagas of a type run at once, or begin in a period."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from outbox.definition.argument import check_kind
from outbox.errors import DefinitionError

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class Limit:
    """At most so many sagas of a type run at once, across all workers.

    Args:
        amount: how many.
        per: counts apart what differs at this path of the input, such as ``"customer"`` or
            ``"order.merchant"``; default all of the type together. What has nothing there is not
            counted.
        counts_waiting: also counts what waits for a signal, an instant, another saga or a person.
        name: the limit's, by which ``set_limit`` and ``drop_limit`` change it; default ``per``, or
            ``"all"``.
    """

    amount: int
    per: str | None = None
    counts_waiting: bool = False
    name: str = ""

    def describe(self) -> dict[str, Any]:
        """As the database registers it."""
        return {
            "name": self.name or self.per or "all",
            "amount": self.amount,
            "per": None,
            "path": self.per,
            "counts_waiting": self.counts_waiting,
        }


@dataclass(frozen=True)
class Rate:
    """At most so many sagas of a type begin in any period of this length, across all workers.

    Args:
        amount: how many.
        per: the period.
        name: the limit's, by which ``set_limit`` and ``drop_limit`` change it.
    """

    amount: int
    per: timedelta
    name: str = "rate"

    def describe(self) -> dict[str, Any]:
        """As the database registers it."""
        return {
            "name": self.name,
            "amount": self.amount,
            "per": f"{self.per.total_seconds()} seconds",
            "path": None,
            "counts_waiting": False,
        }


def check_limits(owner: str, limits: Sequence[Limit | Rate]) -> None:
    """Refuses limits that make no sense.

    Raises:
        DefinitionError: naming the limit.
    """
    if not isinstance(limits, Sequence) or not all(
        isinstance(limit, Limit | Rate) for limit in limits
    ):
        raise DefinitionError(f"{owner}: limits={limits!r} is not a list of Limit(…) and Rate(…)")
    for limit in limits:
        check_kind(owner, "amount", limit.amount, int, f"a whole number, in {limit}")
        if isinstance(limit, Rate):
            check_kind(owner, "per", limit.per, timedelta, f"a timedelta, in {limit}")
        elif limit.per is not None:
            check_kind(owner, "per", limit.per, str, f"a path in the input, in {limit}")
    names = [limit.describe()["name"] for limit in limits]
    for limit, name in zip(limits, names, strict=True):
        if not _NAME.fullmatch(name):
            raise DefinitionError(
                f"{owner}: {limit} needs a name of letters, digits, _ . -: name=…, not {name!r}"
            )
        if limit.amount < 1:
            raise DefinitionError(
                f"{owner}: {limit} would let no saga begin; to stop a type, pause it"
            )
        if isinstance(limit, Rate) and limit.per <= timedelta():
            raise DefinitionError(f"{owner}: {limit} has a period that is not positive")
        if names.count(name) > 1:
            raise DefinitionError(f'{owner}: two limits are named "{name}": give one a name=…')
