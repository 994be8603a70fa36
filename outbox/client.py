"""Starting sagas, and asking what became of them, on a connection that the caller holds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, LiteralString, overload
from uuid import UUID

import orjson
from psycopg import AsyncConnection, Connection, sql
from psycopg.sql import Composed
from pydantic import BaseModel, ValidationError

from outbox.definition.flow import Wait
from outbox.definition.outcomes import has_nul, json_problem, storable
from outbox.definition.saga import Saga
from outbox.errors import InputError, NotFoundError
from outbox.store.columns import columns_of
from outbox.store.functions import call
from outbox.store.perform import Either, Rows, perform
from outbox.trace_context import current_trace

Input = BaseModel | Mapping[str, Any]
Delivery = Literal["delivered", "kept", "repeated"]

_FIRST_POLL, _LONGEST_POLL = 0.02, 0.5


@dataclass(frozen=True, slots=True)
class Started:
    """A saga that was started; ``created`` is False when its key had been used already."""

    id: UUID
    key: str
    created: bool


@dataclass(frozen=True, slots=True)
class SagaStatus:
    """Where a saga stands. ``output`` and ``error`` are JSON; ``reason`` says why it is
    suspended."""

    id: UUID
    type: str
    version: int
    key: str
    status: str
    state: str
    step: str | None
    seq: int | None
    reason: str | None
    output: Any
    error: Any
    created_at: datetime
    ended_at: datetime | None

    @property
    def is_settled(self) -> bool:
        """Whether no worker will move it on: it has ended, or waits for a person."""
        return self.status in ("COMPLETED", "FAILED", "SUSPENDED")


class Client:
    """Starts sagas and finds them, in one schema.

    Every method takes a psycopg connection, sync or async, and works in its transaction: what a
    method returns for a sync connection it returns as an awaitable for an async one. An error
    aborts that transaction, as any error of a statement does.
    """

    def __init__(self, schema: str = "saga") -> None:
        self._start = _Start(schema, "start_many(%s, %s::text[]::jsonb[], %s::text[], %s, %s, %s)")
        self._start_once_per = _Start(schema, "start_once_per(%s, %s::text::jsonb, %s, %s, %s, %s)")
        self._start_debounced = _Start(schema, "start_debounced(%s, %s::text::jsonb, %s, %s, %s)")
        self._signal = call(schema, "select {}.signal(%s, %s, %s::text::json, %s)")
        status = sql.SQL("select {} from {}.overview where ").format(
            columns_of(SagaStatus, id="saga_id"), sql.Identifier(schema)
        )
        self._status = status + sql.SQL("saga_id = %s")
        self._find = status + sql.SQL("type = %s and key = %s")

    @overload
    def start(
        self,
        connection: Connection[Any],
        saga: Saga[Any] | str,
        input: Input,
        *,
        key: str | None = None,
        due_at: datetime | None = None,
        priority: int = 0,
    ) -> Started: ...

    @overload
    def start(
        self,
        connection: AsyncConnection[Any],
        saga: Saga[Any] | str,
        input: Input,
        *,
        key: str | None = None,
        due_at: datetime | None = None,
        priority: int = 0,
    ) -> Awaitable[Started]: ...

    def start(
        self,
        connection: Either,
        saga: Saga[Any] | str,
        input: Input,
        *,
        key: str | None = None,
        due_at: datetime | None = None,
        priority: int = 0,
    ) -> Started | Awaitable[Started]:
        """Starts a saga, or finds the one with this key, in the caller's transaction.

        Args:
            saga: the saga, or the name of its type; then its newest registered version is started.
            input: an instance of its model, or what that model is made from.
            key: names this business transaction among all of its type; default the saga's id, so
                that every call starts another.
            due_at: not to be run before.
            priority: 0 is the lowest; each point counts as a minute (``setting.priority_step``) of
                having waited already.

        Raises:
            InputError: the input is not what the saga accepts.
            UnknownTypeError: the type, or this version of it, is not registered.
            KeyConflictError: the key names a saga with another input.
        """
        parameters = self._parameters(saga, [(key, input)], due_at, priority)
        return perform(connection, *self._start(parameters), lambda rows: _started(rows)[0])

    @overload
    def start_many(
        self,
        connection: Connection[Any],
        saga: Saga[Any] | str,
        sagas: Iterable[tuple[str | None, Input]],
        *,
        due_at: datetime | None = None,
        priority: int = 0,
    ) -> list[Started]: ...

    @overload
    def start_many(
        self,
        connection: AsyncConnection[Any],
        saga: Saga[Any] | str,
        sagas: Iterable[tuple[str | None, Input]],
        *,
        due_at: datetime | None = None,
        priority: int = 0,
    ) -> Awaitable[list[Started]]: ...

    def start_many(
        self,
        connection: Either,
        saga: Saga[Any] | str,
        sagas: Iterable[tuple[str | None, Input]],
        *,
        due_at: datetime | None = None,
        priority: int = 0,
    ) -> list[Started] | Awaitable[list[Started]]:
        """As ``start``, for many (key, input) pairs in one statement: all of them, or none."""
        parameters = self._parameters(saga, sagas, due_at, priority)
        return perform(connection, *self._start(parameters), _started)

    @overload
    def start_once_per(
        self,
        connection: Connection[Any],
        saga: Saga[Any] | str,
        input: Input,
        *,
        key: str,
        period: timedelta,
        priority: int = 0,
    ) -> Started: ...

    @overload
    def start_once_per(
        self,
        connection: AsyncConnection[Any],
        saga: Saga[Any] | str,
        input: Input,
        *,
        key: str,
        period: timedelta,
        priority: int = 0,
    ) -> Awaitable[Started]: ...

    def start_once_per(
        self,
        connection: Either,
        saga: Saga[Any] | str,
        input: Input,
        *,
        key: str,
        period: timedelta,
        priority: int = 0,
    ) -> Started | Awaitable[Started]:
        """Starts a saga at most once in a period for each key; in between, finds the one that was
        started last, whatever the input.

        Args:
            key: what is to start once in a period; the saga's own is ``<key>/<instant>``.
            period: counted from the last start.

        Raises:
            as ``start``.
        """
        _check_key(key)
        type_, version = (saga.type, saga.version) if isinstance(saga, Saga) else (saga, None)
        parameters = (type_, dump_input(saga, input), key, period, version, priority)
        return perform(
            connection, *self._start_once_per(parameters), lambda rows: _started(rows)[0]
        )

    @overload
    def start_debounced(
        self,
        connection: Connection[Any],
        saga: Saga[Any] | str,
        input: Input,
        *,
        key: str,
        quiet: timedelta,
        longest: timedelta | None = None,
    ) -> Started: ...

    @overload
    def start_debounced(
        self,
        connection: AsyncConnection[Any],
        saga: Saga[Any] | str,
        input: Input,
        *,
        key: str,
        quiet: timedelta,
        longest: timedelta | None = None,
    ) -> Awaitable[Started]: ...

    def start_debounced(
        self,
        connection: Either,
        saga: Saga[Any] | str,
        input: Input,
        *,
        key: str,
        quiet: timedelta,
        longest: timedelta | None = None,
    ) -> Started | Awaitable[Started]:
        """Starts a saga once a burst of starts with its key is over, with the burst's last input.

        Until a worker takes the saga each such start replaces its input and puts it off; after that
        it makes a new one.

        Args:
            key: what the burst is about; the saga's own is ``<key>/<instant>``.
            quiet: how long there has to be no other start.
            longest: no longer than this after the burst's first start; default without bound.

        Raises:
            as ``start``.
        """
        _check_key(key)
        type_ = saga.type if isinstance(saga, Saga) else saga
        parameters = (type_, dump_input(saga, input), key, quiet, longest)
        return perform(
            connection, *self._start_debounced(parameters), lambda rows: _started(rows)[0]
        )

    @overload
    def signal(
        self,
        connection: Connection[Any],
        saga_id: UUID,
        signal: Wait[Any, Any] | str,
        payload: object = None,
        *,
        key: str | None = None,
    ) -> Delivery: ...

    @overload
    def signal(
        self,
        connection: AsyncConnection[Any],
        saga_id: UUID,
        signal: Wait[Any, Any] | str,
        payload: object = None,
        *,
        key: str | None = None,
    ) -> Awaitable[Delivery]: ...

    def signal(
        self,
        connection: Either,
        saga_id: UUID,
        signal: Wait[Any, Any] | str,
        payload: object = None,
        *,
        key: str | None = None,
    ) -> Delivery | Awaitable[Delivery]:
        """Tells a saga what it waits for, in the caller's transaction.

        Args:
            signal: the step that waits for it, or the signal's name.
            payload: a pydantic model, or what JSON knows; checked where the step is given.
            key: names this telling; the same key counts once. Default: every call counts.

        Returns:
            ``"delivered"``: a step was waiting, and goes on; ``"kept"`` for the step that will;
            ``"repeated"``: this key was told before, and nothing happened.

        Raises:
            NotFoundError: no saga has this id.
            NotApplicableError: the saga has ended.
            InputError: no step of it waits for this signal, or not for this payload.
        """
        name = signal if isinstance(signal, str) else signal.signal
        json = dump_payload(signal, payload)
        return perform(
            connection, self._signal, (saga_id, name, json, key), lambda rows: rows[0][0]
        )

    @overload
    def status(self, connection: Connection[Any], saga_id: UUID) -> SagaStatus: ...

    @overload
    def status(self, connection: AsyncConnection[Any], saga_id: UUID) -> Awaitable[SagaStatus]: ...

    def status(self, connection: Either, saga_id: UUID) -> SagaStatus | Awaitable[SagaStatus]:
        """Where a saga stands.

        Raises:
            NotFoundError: no saga has this id.
        """

        def parse(rows: Rows) -> SagaStatus:
            if not rows:
                raise NotFoundError(f"no saga has the id {saga_id}")
            return SagaStatus(*rows[0])

        return perform(connection, self._status, (saga_id,), parse)

    @overload
    def find(self, connection: Connection[Any], type: str, key: str) -> SagaStatus | None: ...

    @overload
    def find(
        self, connection: AsyncConnection[Any], type: str, key: str
    ) -> Awaitable[SagaStatus | None]: ...

    def find(
        self, connection: Either, type: str, key: str
    ) -> SagaStatus | Awaitable[SagaStatus | None] | None:
        """The saga of this type with this key, or None."""
        return perform(
            connection,
            self._find,
            (type, key),
            lambda rows: SagaStatus(*rows[0]) if rows else None,
        )

    @overload
    def wait(
        self, connection: Connection[Any], saga_id: UUID, *, timeout: float = 60.0
    ) -> SagaStatus: ...

    @overload
    def wait(
        self, connection: AsyncConnection[Any], saga_id: UUID, *, timeout: float = 60.0
    ) -> Awaitable[SagaStatus]: ...

    def wait(
        self, connection: Either, saga_id: UUID, *, timeout: float = 60.0
    ) -> SagaStatus | Awaitable[SagaStatus]:
        """Waits until a saga has ended or is suspended. Not in the transaction that starts it,
        which no worker sees before its commit.

        Args:
            timeout: seconds.

        Raises:
            TimeoutError: it still runs.
            NotFoundError: no saga has this id.
        """
        if isinstance(connection, AsyncConnection):
            return self._wait_async(connection, saga_id, timeout)
        end, pause = time.monotonic() + timeout, _FIRST_POLL
        while not (status := self.status(connection, saga_id)).is_settled:
            _check_time(status, end, timeout)
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_POLL)
        return status

    async def _wait_async(
        self, connection: AsyncConnection[Any], saga_id: UUID, timeout: float
    ) -> SagaStatus:
        end, pause = time.monotonic() + timeout, _FIRST_POLL
        while not (status := await self.status(connection, saga_id)).is_settled:
            _check_time(status, end, timeout)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_POLL)
        return status

    def _parameters(
        self,
        saga: Saga[Any] | str,
        sagas: Iterable[tuple[str | None, Input]],
        due_at: datetime | None,
        priority: int,
    ) -> tuple[Any, ...]:
        pairs = [(key, dump_input(saga, input)) for key, input in sagas]
        for key, _ in pairs:
            _check_key(key)
        type_, version = (saga.type, saga.version) if isinstance(saga, Saga) else (saga, None)
        return (type_, [i for _, i in pairs], [k for k, _ in pairs], version, due_at, priority)


class _Start:
    """A statement that starts sagas; in a caller's span, it keeps that with them."""

    def __init__(self, schema: str, function: LiteralString) -> None:
        # Each is a name and placeholders of ours.
        kept = "{}.keep_trace(s.id, %s, %s, s.created)"
        self._plain = call(schema, f"select * from {{}}.{function}")  # noqa: S608
        self._traced = call(
            schema,
            f"select s.id, s.key, s.created, {kept} from {{}}.{function} as s",  # noqa: S608
        )

    def __call__(self, parameters: tuple[Any, ...]) -> tuple[Composed, tuple[Any, ...]]:
        if (trace := current_trace()) is None:
            return self._plain, parameters
        return self._traced, (*trace, *parameters)


def dump_input(saga: Saga[Any] | str, input: Input) -> str:
    """An input as JSON text, checked against the saga's model where the saga is given.

    Raises:
        InputError: it is not what the model accepts, or cannot be stored as JSON.
    """
    try:
        if isinstance(saga, Saga):
            input = saga.input.model_validate(input)
        # Without defaults, so that the same input from SQL or from Python is the same input.
        plain: Any = (
            input.model_dump(mode="json", exclude_unset=True, by_alias=True, round_trip=True)
            if isinstance(input, BaseModel)
            else dict(input)
        )
        json = orjson.dumps(plain)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, p['loc'])) or 'input'}: {p['msg']} (got {p['input']!r:.60})"
            for p in error.errors()
        )
        name = saga.type if isinstance(saga, Saga) else saga
        raise InputError(f'invalid input for saga type "{name}": {problems}') from None
    except (TypeError, ValueError) as error:
        raise InputError(f"the input cannot be stored as JSON: {json_problem(error)}") from None
    if has_nul(json):
        raise InputError("the input contains a NUL character, which Postgres cannot store")
    return json.decode()


def dump_payload(signal: Wait[Any, Any] | str, payload: object) -> str | None:
    """A signal's payload as JSON text, checked against what its step waits for where that is given.

    Raises:
        InputError: it is not what the step waits for, or cannot be stored as JSON.
    """
    if payload is None:
        return None
    plain = (
        payload.model_dump(mode="json", by_alias=True)
        if isinstance(payload, BaseModel)
        else payload
    )
    name = signal if isinstance(signal, str) else signal.signal
    try:
        json = orjson.dumps(plain) if isinstance(signal, str) else signal.check(plain)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, p['loc'])) or 'payload'}: {p['msg']} (got {p['input']!r:.60})"
            for p in error.errors()
        )
        raise InputError(f'invalid payload for signal "{name}": {problems}') from None
    except (TypeError, ValueError) as error:
        raise InputError(f"the payload cannot be stored as JSON: {json_problem(error)}") from None
    if has_nul(json):
        raise InputError("the payload contains a NUL character, which Postgres cannot store")
    return json.decode()


def _check_key(key: str | None) -> None:
    if key is not None and storable(key) != key:
        raise InputError(f"the key {key!r} contains what Postgres cannot store")


def _started(rows: Rows) -> list[Started]:
    return [Started(*row[:3]) for row in rows]


def _check_time(status: SagaStatus, end: float, timeout: float) -> None:
    if time.monotonic() >= end:
        raise TimeoutError(
            f"saga {status.id} is still {status.status} after {timeout:g} s, at step {status.step}"
        )
