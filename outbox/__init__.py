"""Sagas on Postgres: each state transition and its next command in one commit, and no broker."""

from outbox.client import Client, SagaStatus, Started
from outbox.definition.command import Command
from outbox.definition.event import Event, Subscriber
from outbox.definition.limit import Limit, Rate
from outbox.definition.outcomes import Happened, NotDone, Rejected, RetryAfter, Unknown
from outbox.definition.registry import App, AppContext
from outbox.definition.retry import Retry
from outbox.definition.saga import Saga
from outbox.definition.step import Step
from outbox.errors import OutboxError
from outbox.operator import Operator
from outbox.rules import Rules
from outbox.settings import Settings
from outbox.store.database import database

__all__ = [
    "App",
    "AppContext",
    "Client",
    "Command",
    "Event",
    "Happened",
    "Limit",
    "NotDone",
    "Operator",
    "OutboxError",
    "Rate",
    "Rejected",
    "Retry",
    "RetryAfter",
    "Rules",
    "Saga",
    "SagaStatus",
    "Settings",
    "Started",
    "Step",
    "Subscriber",
    "Unknown",
    "database",
]
