"""Sagas on Postgres: each state transition and its next command in one commit, and no broker."""

from outbox.definition.command import Command
from outbox.definition.outcomes import Rejected, RetryAfter
from outbox.definition.registry import App, AppContext
from outbox.definition.retry import Retry
from outbox.definition.saga import Saga, Step
from outbox.errors import OutboxError

__all__ = [
    "App",
    "AppContext",
    "Command",
    "OutboxError",
    "Rejected",
    "Retry",
    "RetryAfter",
    "Saga",
    "Step",
]
