"""What holds for whole types of sagas: limits, recurring starts, how long they are kept."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from datetime import timedelta
from typing import Any, Literal, overload

from croniter import croniter
from psycopg import AsyncConnection, Connection
from pydantic import BaseModel

from outbox.client import dump_input
from outbox.errors import InputError
from outbox.store.functions import call
from outbox.store.perform import Either, Rows, perform

CatchUp = Literal["none", "last", "all"]


class Rules:
    """Changes what holds for whole types of sagas, in one schema. As with ``Client``, a method
    returns an awaitable for an async connection.

    Every change is kept, with who, when, the ``note`` that says why, and what it was before: see
    the view ``rule_changes``.
    """

    def __init__(self, schema: str = "saga") -> None:
        self._set_limit = call(schema, "select {}.set_limit(%s, %s, %s, %s, %s, %s, %s)")
        self._drop_limit = call(schema, "select {}.drop_limit(%s, %s, %s)")
        self._set_schedule = call(
            schema, "select {}.set_schedule(%s, %s, %s, %s, %s::text::jsonb, %s, %s)"
        )
        self._drop_schedule = call(schema, "select {}.drop_schedule(%s, %s)")
        self._pause_schedule = call(schema, "select {}.pause_schedule(%s, %s)")
        self._resume_schedule = call(schema, "select {}.resume_schedule(%s, %s)")
        self._set_retention = call(schema, "select {}.set_retention(%s, %s, %s)")
        self._drop_retention = call(schema, "select {}.drop_retention(%s, %s)")

    @overload
    def set_limit(
        self,
        connection: Connection[Any],
        type: str,
        name: str,
        amount: int,
        *,
        key: str | None = None,
        per: timedelta | None = None,
        counts_waiting: bool = False,
        note: str | None = None,
    ) -> None: ...
    @overload
    def set_limit(
        self,
        connection: AsyncConnection[Any],
        type: str,
        name: str,
        amount: int,
        *,
        key: str | None = None,
        per: timedelta | None = None,
        counts_waiting: bool = False,
        note: str | None = None,
    ) -> Awaitable[None]: ...
    def set_limit(
        self,
        connection: Either,
        type: str,
        name: str,
        amount: int,
        *,
        key: str | None = None,
        per: timedelta | None = None,
        counts_waiting: bool = False,
        note: str | None = None,
    ) -> Awaitable[None] | None:
        """Limits a saga type, at once; over what its definition declares.

        Args:
            name: the limit's.
            amount: how many sagas of the type run at once, or begin in a period.
            key: counts apart what differs at this path of the input, such as ``"customer"``.
            per: the period, of a rate; then there is no key.
            counts_waiting: also counts what waits for a signal, an instant, another saga or a
                person.

        Raises:
            UnknownTypeError: the type is not registered.
            InputError: the limit makes no sense.
        """
        return perform(
            connection,
            self._set_limit,
            (type, name, amount, key, per, counts_waiting, note),
            _nothing,
        )

    @overload
    def drop_limit(
        self,
        connection: Connection[Any],
        type: str,
        name: str,
        *,
        note: str | None = None,
    ) -> None: ...
    @overload
    def drop_limit(
        self,
        connection: AsyncConnection[Any],
        type: str,
        name: str,
        *,
        note: str | None = None,
    ) -> Awaitable[None]: ...
    def drop_limit(
        self,
        connection: Either,
        type: str,
        name: str,
        *,
        note: str | None = None,
    ) -> Awaitable[None] | None:
        """Ends a limit, one that the definition declares too.

        Raises:
            NotFoundError: there is no such limit.
        """
        return perform(connection, self._drop_limit, (type, name, note), _nothing)

    @overload
    def set_schedule(
        self,
        connection: Connection[Any],
        name: str,
        type: str,
        cron: str,
        *,
        zone: str = "UTC",
        input: Mapping[str, Any] | BaseModel | None = None,
        catch_up: CatchUp = "last",
        note: str | None = None,
    ) -> None: ...
    @overload
    def set_schedule(
        self,
        connection: AsyncConnection[Any],
        name: str,
        type: str,
        cron: str,
        *,
        zone: str = "UTC",
        input: Mapping[str, Any] | BaseModel | None = None,
        catch_up: CatchUp = "last",
        note: str | None = None,
    ) -> Awaitable[None]: ...
    def set_schedule(
        self,
        connection: Either,
        name: str,
        type: str,
        cron: str,
        *,
        zone: str = "UTC",
        input: Mapping[str, Any] | BaseModel | None = None,
        catch_up: CatchUp = "last",
        note: str | None = None,
    ) -> Awaitable[None] | None:
        """Sets a recurring saga, or changes it.

        Args:
            name: the schedule's; its sagas have the keys ``<name>/<tick in UTC>``.
            cron: minute hour day month weekday.
            zone: the time zone in which that holds, such as ``"Europe/Berlin"``.
            input: of each of its sagas.
            catch_up: of the ticks for which no worker was there, ``"none"`` is started, the
                ``"last"``, or ``"all"``.

        Raises:
            InputError: the expression, the zone or the input makes no sense.
            UnknownTypeError: the type is not registered.
        """
        return perform(
            connection,
            self._set_schedule,
            (name, type, check_cron(cron), zone, dump_input(type, input or {}), catch_up, note),
            _nothing,
        )

    @overload
    def drop_schedule(
        self,
        connection: Connection[Any],
        name: str,
        *,
        note: str | None = None,
    ) -> None: ...
    @overload
    def drop_schedule(
        self,
        connection: AsyncConnection[Any],
        name: str,
        *,
        note: str | None = None,
    ) -> Awaitable[None]: ...
    def drop_schedule(
        self,
        connection: Either,
        name: str,
        *,
        note: str | None = None,
    ) -> Awaitable[None] | None:
        """Ends a recurring saga; what it started goes on.

        Raises:
            NotFoundError: there is no such schedule.
        """
        return perform(connection, self._drop_schedule, (name, note), _nothing)

    @overload
    def pause_schedule(
        self,
        connection: Connection[Any],
        name: str,
        *,
        note: str | None = None,
    ) -> None: ...
    @overload
    def pause_schedule(
        self,
        connection: AsyncConnection[Any],
        name: str,
        *,
        note: str | None = None,
    ) -> Awaitable[None]: ...
    def pause_schedule(
        self,
        connection: Either,
        name: str,
        *,
        note: str | None = None,
    ) -> Awaitable[None] | None:
        """Lets a recurring saga rest.

        Raises:
            NotFoundError: there is no such schedule.
        """
        return perform(connection, self._pause_schedule, (name, note), _nothing)

    @overload
    def resume_schedule(
        self,
        connection: Connection[Any],
        name: str,
        *,
        note: str | None = None,
    ) -> None: ...
    @overload
    def resume_schedule(
        self,
        connection: AsyncConnection[Any],
        name: str,
        *,
        note: str | None = None,
    ) -> Awaitable[None]: ...
    def resume_schedule(
        self,
        connection: Either,
        name: str,
        *,
        note: str | None = None,
    ) -> Awaitable[None] | None:
        """Has a recurring saga go on; ticks of the pause are not caught up.

        Raises:
            NotFoundError: there is no such schedule.
        """
        return perform(connection, self._resume_schedule, (name, note), _nothing)

    @overload
    def set_retention(
        self,
        connection: Connection[Any],
        type: str,
        keep: timedelta,
        *,
        note: str | None = None,
    ) -> None: ...
    @overload
    def set_retention(
        self,
        connection: AsyncConnection[Any],
        type: str,
        keep: timedelta,
        *,
        note: str | None = None,
    ) -> Awaitable[None]: ...
    def set_retention(
        self,
        connection: Either,
        type: str,
        keep: timedelta,
        *,
        note: str | None = None,
    ) -> Awaitable[None] | None:
        """How long finished sagas of a type are kept, instead of ``setting.retention``.

        Raises:
            UnknownTypeError: the type is not registered.
            InputError: that is no time.
        """
        return perform(connection, self._set_retention, (type, keep, note), _nothing)

    @overload
    def drop_retention(
        self,
        connection: Connection[Any],
        type: str,
        *,
        note: str | None = None,
    ) -> None: ...
    @overload
    def drop_retention(
        self,
        connection: AsyncConnection[Any],
        type: str,
        *,
        note: str | None = None,
    ) -> Awaitable[None]: ...
    def drop_retention(
        self,
        connection: Either,
        type: str,
        *,
        note: str | None = None,
    ) -> Awaitable[None] | None:
        """Finished sagas of a type are kept as long as all others again.

        Raises:
            NotFoundError: the type has no retention of its own.
        """
        return perform(connection, self._drop_retention, (type, note), _nothing)


def check_cron(expression: str) -> str:
    """Refuses what is not a cron expression of five fields.

    Raises:
        InputError: it is none.
    """
    if len(expression.split()) != 5 or not croniter.is_valid(expression):
        raise InputError(f"{expression!r} is not a cron expression (minute hour day month weekday)")
    return expression


def _nothing(_rows: Rows) -> None:
    return None
