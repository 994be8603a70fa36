"""What a person may do to a saga. Each act is a transition, with who, when and why."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, overload
from uuid import UUID

import orjson
from psycopg import AsyncConnection, Connection

from outbox.definition.outcomes import json_problem
from outbox.errors import InputError
from outbox.store.functions import call
from outbox.store.perform import Either, Rows, perform


@dataclass(frozen=True, slots=True)
class Violation:
    """A violated invariant, as the function ``audit`` returns it."""

    saga_id: UUID
    invariant: str
    detail: str


@dataclass(frozen=True, slots=True)
class Acted:
    """What an act on many sagas came to for one of them: ``outcome`` is the status that it led to,
    ``problem`` why it did not apply. ``error`` is the type of the error that the step met last."""

    saga_id: UUID
    key: str
    step: str
    error: str | None
    outcome: str | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class Undoing:
    """What an abort would come to for one command of a saga, as ``explain_abort`` returns it:
    ``what`` is ``finishes`` (it runs now, and ends first), ``undo`` or ``stays``."""

    place: int
    what: str
    step: str
    element: int | None
    ordinal: int
    transactional: bool
    in_doubt: bool
    why: str | None


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a person did about a suspended saga, and what it led to; ``status`` is the saga's
    now."""

    saga_id: UUID
    type: str
    key: str
    step: str
    reason: str | None
    error: dict[str, Any] | None
    act: str
    actor: str
    note: str
    at: datetime
    detail: dict[str, Any] | None
    led_to: str
    status: str


@dataclass(frozen=True, slots=True)
class Needing:
    """A live saga that needs the version that it runs in."""

    saga_id: UUID
    key: str
    status: str
    step: str
    created_at: datetime


ManyAct = Literal["retry", "cancel", "abort", "skip", "resolve", "pause_saga", "resume_saga"]


class Operator:
    """Acts on sagas in one schema. As with ``Client``, a method returns an awaitable for an async
    connection.

    Every act takes a note that says why, and the ``seq`` at which its operator saw the saga (None
    for whatever it is at). Each raises:

        NotFoundError: no saga has this id.
        StaleError: the saga has moved on since.
        NotApplicableError: the act does not fit the status that the saga is in.
        InputError: an argument is impossible, or the note is missing.

    An act that raises has changed nothing.
    """

    def __init__(self, schema: str = "saga") -> None:
        self._retry = call(schema, "select {}.retry(%s, %s, %s)")
        self._abort = call(schema, "select {}.abort(%s, %s, %s)")
        self._resolve = call(schema, "select {}.resolve(%s, %s, %s, %s)")
        self._cancel = call(schema, "select {}.cancel(%s, %s, %s, %s)")
        self._skip = call(schema, "select {}.skip(%s, %s, %s::text::json, %s, %s)")
        self._amend_input = call(
            schema, "select {}.amend(%s, %s, p_input => %s::text::jsonb, p_seq => %s)"
        )
        self._amend_result = call(
            schema, "select {}.amend(%s, %s, p_step => %s, p_result => %s::text::json, p_seq => %s)"
        )
        self._pause_saga = call(schema, "select {}.pause_saga(%s, %s, %s)")
        self._resume_saga = call(schema, "select {}.resume_saga(%s, %s, %s)")
        self._pause = call(schema, "select {}.pause(%s, %s)")
        self._resume = call(schema, "select {}.resume(%s, %s)")
        self._rerun = call(schema, "select {}.rerun(%s, %s, %s, %s, %s)")
        self._act_many = call(
            schema, "select * from {}.act_many(%s, %s, %s::text::jsonb, %s, %s::text::jsonb)"
        )
        self._explain_abort = call(schema, "select * from {}.explain_abort(%s)")
        self._past_resolutions = call(
            schema, "select * from {}.past_resolutions(%s, %s, %s) limit %s"
        )
        self._version_in_use = call(schema, "select * from {}.version_in_use(%s, %s)")
        self._move_saga = call(schema, "select {}.move_saga(%s, %s, %s, %s)")
        self._move_many = call(
            schema,
            "select saga_id, key, step, null, outcome, problem "
            "from {}.move_many(%s, %s, %s, %s, %s, %s)",
        )
        self._audit = call(schema, "select * from {}.audit()")
        self._subscribe = call(schema, "select {}.subscribe(%s, %s, %s, %s, p_note => %s)")
        self._unsubscribe = call(schema, "select {}.unsubscribe(%s, %s)")
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
    def cancel(
        self,
        connection: Connection[Any],
        saga_id: UUID,
        note: str,
        *,
        force: bool = False,
        seq: int | None = None,
    ) -> str: ...

    @overload
    def cancel(
        self,
        connection: AsyncConnection[Any],
        saga_id: UUID,
        note: str,
        *,
        force: bool = False,
        seq: int | None = None,
    ) -> Awaitable[str]: ...
    def cancel(
        self,
        connection: Either,
        saga_id: UUID,
        note: str,
        *,
        force: bool = False,
        seq: int | None = None,
    ) -> str | Awaitable[str]:
        """Undoes a saga that is no longer wanted; past its pivot only with ``force``. A step in
        flight finishes first. Returns the saga's status after it."""
        return perform(connection, self._cancel, (saga_id, note, force, seq), _text)

    @overload
    def skip(
        self,
        connection: Connection[Any],
        saga_id: UUID,
        note: str,
        result: object = None,
        *,
        step: str | None = None,
        seq: int | None = None,
    ) -> str: ...

    @overload
    def skip(
        self,
        connection: AsyncConnection[Any],
        saga_id: UUID,
        note: str,
        result: object = None,
        *,
        step: str | None = None,
        seq: int | None = None,
    ) -> Awaitable[str]: ...
    def skip(
        self,
        connection: Either,
        saga_id: UUID,
        note: str,
        result: object = None,
        *,
        step: str | None = None,
        seq: int | None = None,
    ) -> str | Awaitable[str]:
        """Takes a command as done with this result (JSON), or an undo as undone, without running
        it: one that is suspended, or waits for its next attempt, a signal or a time.

        Args:
            connection: The caller's.
            saga_id: The saga.
            note: Why.
            result: What later steps and the undo see as the step's result; None for none.
            step: Which, where there are several: a step's name, of an element ``"name/place"``.
            seq: As above.

        Returns:
            The saga's status after it.
        """
        return perform(connection, self._skip, (saga_id, note, _json(result), step, seq), _text)

    @overload
    def amend_input(
        self,
        connection: Connection[Any],
        saga_id: UUID,
        note: str,
        input: Mapping[str, Any],
        seq: int | None = None,
    ) -> str: ...

    @overload
    def amend_input(
        self,
        connection: AsyncConnection[Any],
        saga_id: UUID,
        note: str,
        input: Mapping[str, Any],
        seq: int | None = None,
    ) -> Awaitable[str]: ...
    def amend_input(
        self,
        connection: Either,
        saga_id: UUID,
        note: str,
        input: Mapping[str, Any],
        seq: int | None = None,
    ) -> str | Awaitable[str]:
        """Changes a saga's input, which is checked as at its start, and runs what is suspended of
        it again. Refused while anything of it runs. Returns the saga's status after it."""
        given = _dump(dict(input))
        return perform(connection, self._amend_input, (saga_id, note, given, seq), _text)

    @overload
    def amend_result(
        self,
        connection: Connection[Any],
        saga_id: UUID,
        note: str,
        step: str,
        result: object,
        seq: int | None = None,
    ) -> str: ...

    @overload
    def amend_result(
        self,
        connection: AsyncConnection[Any],
        saga_id: UUID,
        note: str,
        step: str,
        result: object,
        seq: int | None = None,
    ) -> Awaitable[str]: ...
    def amend_result(
        self,
        connection: Either,
        saga_id: UUID,
        note: str,
        step: str,
        result: object,
        seq: int | None = None,
    ) -> str | Awaitable[str]:
        """Changes the result of a step that is done (of an element: ``"name/place"``), and runs
        what is suspended of the saga again. Refused while anything of it runs. Returns the saga's
        status after it."""
        given = _dump(result)
        return perform(connection, self._amend_result, (saga_id, note, step, given, seq), _text)

    @overload
    def pause_saga(
        self, connection: Connection[Any], saga_id: UUID, note: str, seq: int | None = None
    ) -> str: ...

    @overload
    def pause_saga(
        self, connection: AsyncConnection[Any], saga_id: UUID, note: str, seq: int | None = None
    ) -> Awaitable[str]: ...
    def pause_saga(
        self, connection: Either, saga_id: UUID, note: str, seq: int | None = None
    ) -> str | Awaitable[str]:
        """Begins nothing more of a saga, once what is in flight of it has ended its attempt.
        Returns its status."""
        return perform(connection, self._pause_saga, (saga_id, note, seq), _text)

    @overload
    def resume_saga(
        self, connection: Connection[Any], saga_id: UUID, note: str, seq: int | None = None
    ) -> str: ...

    @overload
    def resume_saga(
        self, connection: AsyncConnection[Any], saga_id: UUID, note: str, seq: int | None = None
    ) -> Awaitable[str]: ...
    def resume_saga(
        self, connection: Either, saga_id: UUID, note: str, seq: int | None = None
    ) -> str | Awaitable[str]:
        """Lets a saga go on that ``pause_saga`` stopped. Returns its status."""
        return perform(connection, self._resume_saga, (saga_id, note, seq), _text)

    @overload
    def pause(self, connection: Connection[Any], note: str, type: str | None = None) -> int: ...

    @overload
    def pause(
        self, connection: AsyncConnection[Any], note: str, type: str | None = None
    ) -> Awaitable[int]: ...
    def pause(self, connection: Either, note: str, type: str | None = None) -> int | Awaitable[int]:
        """Begins nothing more of a type or, without one, at all. Returns how many commands are in
        flight, which finish their attempts."""
        return perform(connection, self._pause, (note, type), _number)

    @overload
    def resume(self, connection: Connection[Any], note: str, type: str | None = None) -> int: ...

    @overload
    def resume(
        self, connection: AsyncConnection[Any], note: str, type: str | None = None
    ) -> Awaitable[int]: ...
    def resume(
        self, connection: Either, note: str, type: str | None = None
    ) -> int | Awaitable[int]:
        """Ends the pause of a type or, without one, that of everything. Returns how many commands
        are due then."""
        return perform(connection, self._resume, (note, type), _number)

    @overload
    def rerun(
        self,
        connection: Connection[Any],
        saga_id: UUID,
        note: str,
        *,
        key: str | None = None,
        newest: bool = False,
        seq: int | None = None,
    ) -> UUID: ...

    @overload
    def rerun(
        self,
        connection: AsyncConnection[Any],
        saga_id: UUID,
        note: str,
        *,
        key: str | None = None,
        newest: bool = False,
        seq: int | None = None,
    ) -> Awaitable[UUID]: ...
    def rerun(
        self,
        connection: Either,
        saga_id: UUID,
        note: str,
        *,
        key: str | None = None,
        newest: bool = False,
        seq: int | None = None,
    ) -> UUID | Awaitable[UUID]:
        """Starts a new saga with the type, version (or the newest) and input of one that has ended;
        its key is ``<old key>/rerun/<number>`` unless one is given. Returns the new saga's id.

        Raises:
            KeyConflictError: a saga has the key that was given.
        """
        return perform(connection, self._rerun, (saga_id, note, key, newest, seq), _id)

    @overload
    def act_many(
        self,
        connection: Connection[Any],
        act: ManyAct,
        note: str,
        *,
        type: str | None = None,
        step: str | None = None,
        error: str | None = None,
        older_than: timedelta | None = None,
        status: str | None = None,
        limit: int = 1000,
        after: UUID | None = None,
        dry_run: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> list[Acted]: ...

    @overload
    def act_many(
        self,
        connection: AsyncConnection[Any],
        act: ManyAct,
        note: str,
        *,
        type: str | None = None,
        step: str | None = None,
        error: str | None = None,
        older_than: timedelta | None = None,
        status: str | None = None,
        limit: int = 1000,
        after: UUID | None = None,
        dry_run: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> Awaitable[list[Acted]]: ...
    def act_many(
        self,
        connection: Either,
        act: ManyAct,
        note: str,
        *,
        type: str | None = None,
        step: str | None = None,
        error: str | None = None,
        older_than: timedelta | None = None,
        status: str | None = None,
        limit: int = 1000,
        after: UUID | None = None,
        dry_run: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> list[Acted] | Awaitable[list[Acted]]:
        """Does an act to every saga that the filter finds; one that fails stops no other.

        Args:
            connection: The caller's.
            act: Which.
            note: Why.
            type: Only sagas of this type.
            step: Only those that are at this step.
            error: Only those whose step met an error of this type last.
            older_than: Only those that have not moved for so long.
            status: Only lines with this status; of retry, skip and resolve SUSPENDED.
            limit: At most so many, the oldest first. They stay locked until the commit, so
                thousands are better done by some at a time.
            after: Only those behind this one, which was the last of those before.
            dry_run: Say what would happen, and change nothing.
            arguments: ``{"status": …}`` of resolve, ``{"result": …}`` of skip, ``{"force": True}``
                of cancel.
        """
        given = {
            "type": type,
            "step": step,
            "error": error,
            "older_than": None if older_than is None else f"{older_than.total_seconds()} seconds",
            "status": status,
            "limit": limit,
            "after": None if after is None else str(after),
        }
        chosen = orjson.dumps({k: v for k, v in given.items() if v is not None}).decode()
        more = _dump(dict(arguments or {}))
        return perform(connection, self._act_many, (act, note, chosen, dry_run, more), _acted)

    @overload
    def explain_abort(self, connection: Connection[Any], saga_id: UUID) -> list[Undoing]: ...

    @overload
    def explain_abort(
        self, connection: AsyncConnection[Any], saga_id: UUID
    ) -> Awaitable[list[Undoing]]: ...
    def explain_abort(
        self, connection: Either, saga_id: UUID
    ) -> list[Undoing] | Awaitable[list[Undoing]]:
        """What an abort of a saga would undo, in order, and what would stay."""
        return perform(
            connection, self._explain_abort, (saga_id,), lambda rows: [Undoing(*r) for r in rows]
        )

    @overload
    def past_resolutions(
        self,
        connection: Connection[Any],
        *,
        step: str | None = None,
        error: str | None = None,
        words: str | None = None,
        limit: int = 50,
    ) -> list[Resolution]: ...

    @overload
    def past_resolutions(
        self,
        connection: AsyncConnection[Any],
        *,
        step: str | None = None,
        error: str | None = None,
        words: str | None = None,
        limit: int = 50,
    ) -> Awaitable[list[Resolution]]: ...
    def past_resolutions(
        self,
        connection: Either,
        *,
        step: str | None = None,
        error: str | None = None,
        words: str | None = None,
        limit: int = 50,
    ) -> list[Resolution] | Awaitable[list[Resolution]]:
        """What people did about suspended sagas, the latest first: at this step, after an error of
        this type, and with these words in the note or in the error, as a web search takes them."""
        return perform(
            connection,
            self._past_resolutions,
            (step, error, words, limit),
            lambda rows: [Resolution(*r) for r in rows],
        )

    @overload
    def version_in_use(
        self, connection: Connection[Any], type: str, version: int
    ) -> list[Needing]: ...

    @overload
    def version_in_use(
        self, connection: AsyncConnection[Any], type: str, version: int
    ) -> Awaitable[list[Needing]]: ...
    def version_in_use(
        self, connection: Either, type: str, version: int
    ) -> list[Needing] | Awaitable[list[Needing]]:
        """The live sagas of a version: those that nobody would run any more if it went."""
        return perform(
            connection,
            self._version_in_use,
            (type, version),
            lambda rows: [Needing(*r) for r in rows],
        )

    @overload
    def move_saga(
        self,
        connection: Connection[Any],
        saga_id: UUID,
        version: int,
        note: str,
        seq: int | None = None,
    ) -> str: ...

    @overload
    def move_saga(
        self,
        connection: AsyncConnection[Any],
        saga_id: UUID,
        version: int,
        note: str,
        seq: int | None = None,
    ) -> Awaitable[str]: ...
    def move_saga(
        self, connection: Either, saga_id: UUID, version: int, note: str, seq: int | None = None
    ) -> str | Awaitable[str]:
        """Has a saga go on in another version of its type, where its history fits. Returns its
        status."""
        return perform(connection, self._move_saga, (saga_id, version, note, seq), _text)

    @overload
    def move_many(
        self,
        connection: Connection[Any],
        type: str,
        old: int,
        new: int,
        note: str,
        *,
        dry_run: bool = False,
        limit: int = 1000,
    ) -> list[Acted]: ...

    @overload
    def move_many(
        self,
        connection: AsyncConnection[Any],
        type: str,
        old: int,
        new: int,
        note: str,
        *,
        dry_run: bool = False,
        limit: int = 1000,
    ) -> Awaitable[list[Acted]]: ...
    def move_many(
        self,
        connection: Either,
        type: str,
        old: int,
        new: int,
        note: str,
        *,
        dry_run: bool = False,
        limit: int = 1000,
    ) -> list[Acted] | Awaitable[list[Acted]]:
        """Moves the live sagas of a version to another one; one that does not fit stops no
        other."""
        return perform(connection, self._move_many, (type, old, new, note, dry_run, limit), _acted)

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
        *,
        note: str | None = None,
    ) -> str | None: ...
    @overload
    def subscribe(
        self,
        connection: AsyncConnection[Any],
        name: str,
        patterns: Sequence[str],
        url: str,
        secret: str | None = None,
        *,
        note: str | None = None,
    ) -> Awaitable[str | None]: ...
    def subscribe(
        self,
        connection: Either,
        name: str,
        patterns: Sequence[str],
        url: str,
        secret: str | None = None,
        *,
        note: str | None = None,
    ) -> str | Awaitable[str | None] | None:
        """Sends events to a URL from now on, or changes how, and enables it again; returns the
        secret to verify them with, ``whsec_…``, made by the database unless one is given; None of a
        ``mailto:`` URL, whose mails are not signed.

        Raises:
            InputError: the name, a pattern, the URL or the secret is none.
        """
        return perform(
            connection, self._subscribe, (name, list(patterns), url, secret, note), _secret
        )

    @overload
    def unsubscribe(
        self,
        connection: Connection[Any],
        name: str,
        *,
        note: str | None = None,
    ) -> int: ...
    @overload
    def unsubscribe(
        self,
        connection: AsyncConnection[Any],
        name: str,
        *,
        note: str | None = None,
    ) -> Awaitable[int]: ...
    def unsubscribe(
        self,
        connection: Either,
        name: str,
        *,
        note: str | None = None,
    ) -> int | Awaitable[int]:
        """Ends a subscription, a webhook's or a function's; returns how many events it was still
        to be told, which are forgotten.

        Raises:
            NotFoundError: there is no such subscription.
        """
        return perform(connection, self._unsubscribe, (name, note), lambda rows: int(rows[0][0]))

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


def _secret(rows: Rows) -> str | None:
    found: str | None = rows[0][0]
    return found


def _text(rows: Rows) -> str:
    return str(rows[0][0])


def _number(rows: Rows) -> int:
    return int(rows[0][0])


def _id(rows: Rows) -> UUID:
    found: UUID = rows[0][0]
    return found


def _acted(rows: Rows) -> list[Acted]:
    return [Acted(*row) for row in rows]


def _json(value: object) -> str | None:
    return None if value is None else _dump(value)


def _dump(value: object) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError as error:
        raise InputError(f"this cannot be stored as JSON: {json_problem(error)}") from None
