"""Events that sagas emit, and the functions of an app that are told of them."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from inspect import iscoroutinefunction
from typing import Any
from uuid import UUID

from outbox.errors import DefinitionError

_EVENT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
_SUBSCRIBER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")
_PATTERN = re.compile(r"[A-Za-z0-9_.*-]{1,100}")
_NAME_LIMIT = 100


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a saga tells, as a subscriber gets it.

    Attributes:
        id: the same however often it is delivered, and no other event's.
        name: what it was emitted as.
        payload: what was emitted, as JSON has it.
        saga_id: of the saga that emitted it.
        type: the saga's type.
        version: the version of the type.
        key: the key that the saga was started with; None: the saga was removed meanwhile.
        step: the step that emitted it.
        seq: the number of the transition that it was committed with; within a saga it rises.
        at: when that was.
        attempt: which attempt to deliver it this is, from 1.
    """

    id: str
    name: str
    payload: Any
    saga_id: UUID
    type: str
    version: int
    key: str | None
    step: str
    seq: int
    at: datetime
    attempt: int


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A function that is told of events: of each at least once, of those of one saga in their order
    and one at a time.

    Args:
        name: what its deliveries are kept under; unique, and to be kept when the function changes.
        patterns: of event names, with ``*`` for anything: ``["payment.*"]``.
        handler: a coroutine function that is given the :class:`Event`. Whatever it raises is a
            failure, and the event is delivered again later.
        timeout: seconds for one call.
        attempts: after so many failures an event becomes a dead letter.
        backoff: seconds before the second attempt, about doubled for each further one.
        backoff_cap: seconds that it waits at most.

    Raises:
        DefinitionError: the name or a pattern is none, the handler is no coroutine function, or a
            number is not positive.
    """

    name: str
    patterns: Sequence[str]
    handler: Callable[[Event], Awaitable[object]]
    timeout: float = 30.0
    attempts: int = 12
    backoff: float = 1.0
    backoff_cap: float = 3600.0

    def __post_init__(self) -> None:
        if not _SUBSCRIBER_NAME.fullmatch(self.name):
            raise DefinitionError(f"{self.name!r} is no name of a subscriber: letters, digits, _.-")
        if isinstance(self.patterns, str) or not self.patterns:
            raise DefinitionError(f'subscriber "{self.name}" needs a list of patterns')
        for pattern in self.patterns:
            if not _PATTERN.fullmatch(pattern):
                raise DefinitionError(f'subscriber "{self.name}": {pattern!r} is no pattern')
        if not (
            iscoroutinefunction(self.handler) or iscoroutinefunction(type(self.handler).__call__)
        ):
            raise DefinitionError(f'subscriber "{self.name}": its handler is no coroutine function')
        if min(self.timeout, self.attempts, self.backoff, self.backoff_cap) <= 0:
            raise DefinitionError(f'subscriber "{self.name}": its numbers are positive')

    @property
    def policy(self) -> tuple[timedelta, int, timedelta, timedelta]:
        """timeout, attempts, backoff and its cap, as the database is told them."""
        seconds = timedelta(seconds=1)
        return (
            self.timeout * seconds,
            self.attempts,
            self.backoff * seconds,
            self.backoff_cap * seconds,
        )


def check_event_name(name: str) -> None:
    """Refuses what is no name of an event.

    Raises:
        ValueError: saying why.
    """
    if len(name) > _NAME_LIMIT or not _EVENT_NAME.fullmatch(name):
        raise ValueError(
            f"{name!r:.120} is no name of an event: words of letters, digits, _ and -, with dots "
            f"between them, at most {_NAME_LIMIT} characters: payment.authorized"
        )
    if name.startswith("alert."):
        raise ValueError(f'event "{name}": names that begin with alert. are the engine\'s own')
