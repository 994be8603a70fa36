"""The errors that users see.

::

    OutboxError
    ├── ConfigurationError      a setting or an argument is wrong
    │   └── EmbeddedServerError the embedded Postgres cannot be used
    ├── DefinitionError         a saga type is impossible, or clashes with a registered one
    ├── SchemaError             the database's schema is missing, behind, or was tampered with
    ├── InputError              a saga cannot be started with this input
    │   ├── UnknownTypeError    no such saga type is registered
    │   └── KeyConflictError    the key names a saga with another input
    ├── NotFoundError           no saga has this id
    ├── NotApplicableError      an operator's act does not fit the saga's status
    │   └── StaleError          the saga has moved on since the operator looked
    └── WorkerLostError         this worker was reaped; it registers anew

The database raises them with SQLSTATEs of its own (``SG…``); :func:`from_database` is the one place
that maps those, and the few of Postgres's own that a user's input can cause, to these classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg


class OutboxError(Exception):
    """The base of every error of this package. ``str()`` says what is wrong and what to do."""


class ConfigurationError(OutboxError):
    """A setting or an argument is wrong."""


class EmbeddedServerError(ConfigurationError):
    """The embedded Postgres cannot be installed, started or reached."""


class DefinitionError(OutboxError):
    """A saga type is impossible, or clashes with the registered one."""


class SchemaError(OutboxError):
    """The database's schema is missing, behind this program, or was changed by hand."""


class InputError(OutboxError):
    """A saga cannot be started with this input."""


class UnknownTypeError(InputError):
    """No such saga type, or version of it, is registered."""


class KeyConflictError(InputError):
    """The idempotency key names a saga that was started with another input."""


class NotFoundError(OutboxError):
    """No saga has this id."""


class NotApplicableError(OutboxError):
    """An operator's act does not fit the status that the saga is in; nothing was changed."""


class StaleError(NotApplicableError):
    """The saga has moved on since the operator looked at it; nothing was changed."""


class WorkerLostError(OutboxError):
    """This worker was taken for dead: its commands are somebody else's."""


_BY_SQLSTATE: dict[str, type[OutboxError]] = {
    "SG001": UnknownTypeError,
    "SG002": InputError,
    "SG003": KeyConflictError,
    "SG004": NotFoundError,
    "SG005": NotApplicableError,
    "SG006": StaleError,
    "SG007": WorkerLostError,
    "SG008": DefinitionError,
    "SG009": NotApplicableError,
    "22P02": InputError,  # malformed JSON, or a malformed uuid
    "22P05": InputError,  # \u0000 in JSON
    "22021": InputError,  # a byte sequence that is not UTF-8
    "54000": InputError,  # JSON nested or sized beyond a limit of Postgres
    "54001": InputError,  # … its stack depth
}


def from_database(error: psycopg.Error) -> OutboxError | None:
    """The error of ours that an error of the database stands for, or None."""
    found = _BY_SQLSTATE.get(error.sqlstate or "")
    if found is None:
        return None
    parts = [error.diag.message_primary or str(error), error.diag.message_detail]
    message = ": ".join(part for part in parts if part)
    hint = error.diag.message_hint
    return found(f"{message}. {hint}" if hint else message)


@contextmanager
def translated() -> Iterator[None]:
    """Raises the database's own errors, where they are ours, as the classes above."""
    try:
        yield
    except psycopg.Error as error:
        ours = from_database(error)
        if ours is None:
            raise
        raise ours from error
