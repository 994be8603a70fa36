"""Who changed what holds for many sagas: limits, schedules, retentions, subscriptions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from outbox.viewer.read import Reader, read

Rule = Literal["limit", "schedule", "retention", "subscription"]
RuleAct = Literal["set", "drop", "pause", "resume", "declare"]


@dataclass(frozen=True, slots=True)
class RuleChange:
    """That somebody changed a limit, a schedule, a retention or a subscription.

    ``type`` is the saga type that it is about, ``name`` its own; ``before`` and ``after`` are None
    where there was none, or is none any more.
    """

    number: int
    at: datetime
    rule: Rule
    act: RuleAct
    type: str | None
    name: str | None
    actor: str
    note: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None

    @property
    def differences(self) -> list[tuple[str, Any, Any]]:
        """The fields that differ: each with what it was and what it is; None: it is not there."""
        before, after = self.before or {}, self.after or {}
        return [
            (name, before.get(name), after.get(name))
            for name in sorted(before.keys() | after.keys())
            if before.get(name) != after.get(name)
        ]


async def rule_changes(
    connection: Reader,
    schema: str,
    *,
    rule: Rule | None = None,
    type: str | None = None,
    limit: int = 50,
) -> list[RuleChange]:
    """Who changed what holds for many sagas, the latest first; of one kind of rule, or of what is
    about one saga type."""
    return await read(
        connection, schema, RuleChange,
        "{}.rule_changes where (%s::text is null or rule = %s) and (%s::text is null or type = %s) "
        "order by number desc limit %s",
        (rule, rule, type, type, limit),
    )  # fmt: skip
