"""What a person may do to a saga. Each act is a transition, with who, when and why."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload
from uuid import UUID

from psycopg import AsyncConnection, Connection

from outbox.store.functions import call
from outbox.store.perform import Either, Rows, perform


@dataclass(frozen=True, slots=True)
class Violation:
    """A violated invariant, as the function ``audit`` returns it."""

    saga_id: UUID
    invariant: str
    detail: str


class Operator:
    """Acts on sagas in one schema. As with ``Client``, a method returns an awaitable for an async
    connection.

    Every act takes a note that says why, and the ``seq`` at which its operator saw the saga (None
    for
    whatever it is at). Each raises:

        NotFoundError: no saga has this id.
        StaleError: the saga has moved on since.
        NotApplicableError: the act does not fit the status that the saga is in.
    """

    def __init__(self, schema: str = "saga") -> None:
        self._retry = call(schema, "select {}.retry(%s, %s, %s)")
        self._abort = call(schema, "select {}.abort(%s, %s, %s)")
        self._resolve = call(schema, "select {}.resolve(%s, %s, %s, %s)")
        self._audit = call(schema, "select * from {}.audit()")
        self._subscribe = call(schema, "select {}.subscribe(%s, %s, %s, %s)")
        self._unsubscribe = call(schema, "select {}.unsubscribe(%s)")
        self._redeliver = call(schema, "select {}.redeliver(%s, %s, %s)")

    @overload
    def retry(
        self, connection: Connection[Any], saga_id: UUID, note: str, seq: int | None = None
    ) -> str: ...
    @overload
    def retry(
        self, connection: AsyncConnection[Any], saga_id: UUID, note: str, seq: int | None = None
    ) -> Awaitable[str]: ...
    def retry(
        self, connection: Either, saga_id: UUID, note: str, seq: int | None = None
    ) -> str | Awaitable[str]:
        """Runs a suspended saga's failed command again, now; returns the saga's status after it."""
        return perform(connection, self._retry, (saga_id, note, seq), _text)

    @overload
    def abort(
        self, connection: Connection[Any], saga_id: UUID, note: str, seq: int | None = None
    ) -> str: ...
    @overload
    def abort(
        self, connection: AsyncConnection[Any], saga_id: UUID, note: str, seq: int | None = None
    ) -> Awaitable[str]: ...
    def abort(
        self, connection: Either, saga_id: UUID, note: str, seq: int | None = None
    ) -> str | Awaitable[str]:
        """Undoes everything that declares a compensation, the pivot's included; a step in flight
        finishes first. Returns the saga's status after it."""
        return perform(connection, self._abort, (saga_id, note, seq), _text)

    @overload
    def resolve(
        self,
        connection: Connection[Any],
        saga_id: UUID,
        status: Literal["COMPLETED", "FAILED"],
        note: str,
        seq: int | None = None,
    ) -> str: ...
    @overload
    def resolve(
        self,
        connection: AsyncConnection[Any],
        saga_id: UUID,
        status: Literal["COMPLETED", "FAILED"],
        note: str,
        seq: int | None = None,
    ) -> Awaitable[str]: ...
    def resolve(
        self,
        connection: Either,
        saga_id: UUID,
        status: Literal["COMPLETED", "FAILED"],
        note: str,
        seq: int | None = None,
    ) -> str | Awaitable[str]:
        """Closes a suspended saga that was settled by hand."""
        return perform(connection, self._resolve, (saga_id, status, note, seq), _text)

    @overload
    def audit(self, connection: Connection[Any]) -> list[Violation]: ...
    @overload
    def audit(self, connection: AsyncConnection[Any]) -> Awaitable[list[Violation]]: ...
    def audit(self, connection: Either) -> list[Violation] | Awaitable[list[Violation]]:
        """Every violated invariant of every saga, in one snapshot; none if all is well."""
        return perform(connection, self._audit, (), lambda rows: [Violation(*row) for row in rows])

    @overload
    def subscribe(
        self,
        connection: Connection[Any],
        name: str,
        patterns: Sequence[str],
        url: str,
        secret: str | None = None,
    ) -> str: ...
    @overload
    def subscribe(
        self,
        connection: AsyncConnection[Any],
        name: str,
        patterns: Sequence[str],
        url: str,
        secret: str | None = None,
    ) -> Awaitable[str]: ...
    def subscribe(
        self,
        connection: Either,
        name: str,
        patterns: Sequence[str],
        url: str,
        secret: str | None = None,
    ) -> str | Awaitable[str]:
        """Sends events to a URL from now on, or changes how, and enables it again; returns the
        secret to verify them with, ``whsec_…``, made by the database unless one is given.

        Raises:
            InputError: the name, a pattern, the URL or the secret is none.
        """
        return perform(connection, self._subscribe, (name, list(patterns), url, secret), _text)

    @overload
    def unsubscribe(self, connection: Connection[Any], name: str) -> int: ...
    @overload
    def unsubscribe(self, connection: AsyncConnection[Any], name: str) -> Awaitable[int]: ...
    def unsubscribe(self, connection: Either, name: str) -> int | Awaitable[int]:
        """Ends a subscription, a webhook's or a function's; returns how many events it was still
        to be told, which are forgotten.

        Raises:
            NotFoundError: there is no such subscription.
        """
        return perform(connection, self._unsubscribe, (name,), lambda rows: int(rows[0][0]))

    @overload
    def redeliver(
        self, connection: Connection[Any], subscription: str, event: int, note: str
    ) -> None: ...
    @overload
    def redeliver(
        self, connection: AsyncConnection[Any], subscription: str, event: int, note: str
    ) -> Awaitable[None]: ...
    def redeliver(
        self, connection: Either, subscription: str, event: int, note: str
    ) -> Awaitable[None] | None:
        """Delivers an event, by its number, to a subscription once more.

        Raises:
            NotFoundError: that event was never on its way to that subscription.
            NotApplicableError: it still is, or the subscription is disabled.
        """
        return perform(connection, self._redeliver, (subscription, event, note), lambda _: None)


def _text(rows: Rows) -> str:
    return str(rows[0][0])
