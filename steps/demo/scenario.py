"""What the demo runs, and by what it is judged."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson
import psycopg

from steps.demo.facts import SagaFound
from steps.demo.mailbox import Mail
from steps.sandbox.process import SandboxProcess

Section = Sequence[tuple[str, int, int]]
"""Rows of the final table: what, how many of it must be, how many there are."""
STATUSES = {
    "COMPLETED": "completed",
    "FAILED": "failed and undone",
    "SUSPENDED": "suspended, for a person",
}


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One thing that is not as it must be; ``str()`` says it."""

    key: str
    what: str
    expected: object
    found: object

    def __str__(self) -> str:
        return f"{self.key}: {self.what}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True, slots=True)
class World:
    """What there is at the end, beside the database."""

    sagas: Sequence[SagaFound]
    sandbox: SandboxProcess
    mails: Sequence[Mail]


@dataclass(frozen=True, slots=True)
class Judged:
    """A scenario's verdict."""

    sections: Sequence[Section]
    mismatches: Sequence[Mismatch]


@dataclass(frozen=True, slots=True)
class End:
    """The end of the demo.

    Args:
        sagas: every one.
        violations: of the engine's invariants, each in words.
        sections: of the final table.
        mismatches: where something is not as the inputs say.
    """

    sagas: Sequence[SagaFound]
    violations: Sequence[str]
    sections: Sequence[Section]
    mismatches: Sequence[Mismatch]


class Scenario(Protocol):
    """Sagas of one type, and how they must end.

    Attributes:
        saga: the type.
        noun: what its inputs are, in the plural.
        apps: what the workers run.
        inputs: by key; instances of the saga's model.
        prologue: what is going to happen, after "1,000 ".
        epilogue: what the times in the table mean.
        places: where it was looked, at the end of a sentence.
    """

    saga: str
    noun: str
    apps: Sequence[str]
    inputs: Mapping[str, Any]
    prologue: str
    epilogue: str
    places: str

    def lines(self) -> str:
        """The inputs as JSON Lines of ``{"key": ..., "input": ...}``."""
        ...

    async def prepare(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Set up what has to be there before the workers."""
        ...

    def companions(
        self, environment: Mapping[str, str], directory: Path
    ) -> AbstractContextManager[Mapping[str, str]]:
        """What runs beside the workers, and the environment variables that tell them of it."""
        ...

    def meanwhile(self, connection: psycopg.Connection[Any]) -> None:
        """What people do while the sagas run; called a few times a second."""
        ...

    async def judge(self, connection: psycopg.AsyncConnection[Any], world: World) -> Judged:
        """Compare what there is with what the inputs say."""
        ...


@dataclass(slots=True)
class Ending:
    """How a saga must end, or has ended: its status, and how many there are of what."""

    status: str | None = None
    counts: Counter[str] = field(default_factory=Counter)


class Counted:
    """What scenarios have in common that judge by counting."""

    inputs: Mapping[str, Any]

    def lines(self) -> str:
        """The inputs as JSON Lines."""
        documents = (
            {"key": key, "input": input.model_dump(mode="json", exclude_unset=True)}
            for key, input in self.inputs.items()
        )
        return "".join(f"{orjson.dumps(document).decode()}\n" for document in documents)

    async def prepare(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Nothing."""

    def companions(
        self, environment: Mapping[str, str], directory: Path
    ) -> AbstractContextManager[Mapping[str, str]]:
        """Nothing."""
        return contextlib.nullcontext({})

    def meanwhile(self, connection: psycopg.Connection[Any]) -> None:
        """Nothing."""


def judge_counts(
    labels: Sequence[str], expected: Mapping[str, Ending], found: Mapping[str, Ending]
) -> Judged:
    """Compare endings, saga by saga.

    Args:
        labels: what is counted, in the order of the table.
        expected: by key.
        found: by key; what belongs to no saga, under any other key.
    """
    mismatches = []
    for key in expected.keys() | found.keys():
        must, has = expected.get(key, Ending()), found.get(key, Ending())
        if must.status != has.status:
            mismatches.append(Mismatch(key, "the saga's status", must.status, has.status))
        mismatches += [
            Mismatch(key, label, must.counts[label], has.counts[label])
            for label in labels
            if must.counts[label] != has.counts[label]
        ]
    statuses = [
        (words, _how_many(expected, status), _how_many(found, status))
        for status, words in STATUSES.items()
    ]
    counts = [
        (
            label,
            sum(one.counts[label] for one in expected.values()),
            sum(one.counts[label] for one in found.values()),
        )
        for label in labels
    ]
    return Judged([statuses, counts], sorted(mismatches, key=str))


def _how_many(endings: Mapping[str, Ending], status: str) -> int:
    return sum(one.status == status for one in endings.values())
