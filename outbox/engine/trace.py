"""What the engine asks of a tracer; who traces is elsewhere, and without one nothing of this is
called."""

from __future__ import annotations

import contextvars
from collections.abc import Mapping, Sequence
from typing import Protocol

from outbox.engine.attempt import Attempt
from outbox.engine.hand import HeldCommand


class CallSpan(Protocol):
    """One call of a handler, for one attempt or, where it is a bulk handler, for several."""

    context: contextvars.Context
    """What the handler runs in: its own spans belong under the attempt's."""
    carriers: Sequence[Mapping[str, str]]
    """The W3C trace context of each attempt, for what the handler calls."""

    def end(self, attempts: Sequence[Attempt] | None) -> None:
        """The call has ended. None: it was cancelled, and what it came to is not known."""


class Tracer(Protocol):
    """Makes the spans of attempts and sagas."""

    def begin(self, group: Sequence[HeldCommand]) -> CallSpan:
        """A handler is about to be called for these commands."""

    def end_saga(self, held: HeldCommand, status: str) -> None:
        """A saga has ended by this command's transition."""
