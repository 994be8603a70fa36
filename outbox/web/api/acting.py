"""``POST /api/sagas/{id}/{act}``: what an operator does to one saga."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from starlette.responses import Response

from outbox.errors import InputError, NotApplicableError, StaleError
from outbox.operator import Operator
from outbox.viewer import saga
from outbox.web.api.act_bodies import (
    ActBody,
    Acted,
    AmendBody,
    CancelBody,
    MoveBody,
    RerunBody,
    ResolveBody,
    SkipBody,
    Undone,
)
from outbox.web.api.operation import Answer, Operation
from outbox.web.api.problem import ProblemError, problem_of
from outbox.web.api.request import ApiRequest
from outbox.web.api.shown import json_answer, links_of, moments_of
from outbox.web.mask import Masking

_IF_MATCH = re.compile(r'"?(\d{1,9})"?')


@dataclass(frozen=True, slots=True)
class _Acting:
    """An act under way: who does it to which saga, in which transaction."""

    call: ApiRequest
    connection: AsyncConnection[Any]
    saga_id: UUID
    body: Any
    seq: int | None

    @property
    def operator(self) -> Operator:
        return self.call.site.operator

    @property
    def schema(self) -> str:
        return self.call.site.schema

    @property
    def masking(self) -> Masking:
        return self.call.masking


Act = Callable[[_Acting], Awaitable[str]]


async def _retry(on: _Acting) -> str:
    return await on.operator.retry(on.connection, on.saga_id, on.body.note, on.seq)


async def _abort(on: _Acting) -> str:
    return await on.operator.abort(on.connection, on.saga_id, on.body.note, on.seq)


async def _pause(on: _Acting) -> str:
    return await on.operator.pause_saga(on.connection, on.saga_id, on.body.note, on.seq)


async def _resume(on: _Acting) -> str:
    return await on.operator.resume_saga(on.connection, on.saga_id, on.body.note, on.seq)


async def _cancel(on: _Acting) -> str:
    return await on.operator.cancel(
        on.connection, on.saga_id, on.body.note, force=on.body.force, seq=on.seq
    )


async def _resolve(on: _Acting) -> str:
    return await on.operator.resolve(
        on.connection, on.saga_id, on.body.status, on.body.note, on.seq
    )


async def _skip(on: _Acting) -> str:
    result, step = on.body.result, on.body.step
    return await on.operator.skip(
        on.connection, on.saga_id, on.body.note, result, step=step, seq=on.seq
    )


async def _move(on: _Acting) -> str:
    return await on.operator.move_saga(
        on.connection, on.saga_id, on.body.version, on.body.note, on.seq
    )


async def _amend(on: _Acting) -> str:
    """What was masked where it was read, and is sent back so, stays as it is."""
    note, step = on.body.note, on.body.step
    seen = await saga.overview(on.connection, on.schema, on.saga_id)
    if (on.body.input is None) == (step is None):
        raise InputError("an amend has either the input, or a step and its result")
    if step is None:
        given = on.masking.restore(on.body.input, seen.input)
        return await on.operator.amend_input(on.connection, on.saga_id, note, given, on.seq)
    known = [
        one.result
        for one in await saga.timeline(on.connection, on.schema, on.saga_id)
        if one.outcome == "done" and step == _name(one)
    ]
    given = on.masking.restore(on.body.result, known[-1] if known else None)
    return await on.operator.amend_result(on.connection, on.saga_id, note, step, given, on.seq)


def _name(one: saga.Moment) -> str | None:
    return one.step if one.element is None else f"{one.step}/{one.element}"


_ACTS: dict[str, tuple[Act, type[ActBody], str]] = {
    "retry": (_retry, ActBody, "Run what failed again, now"),
    "skip": (_skip, SkipBody, "Take what is suspended, or waits, as done"),
    "amend": (_amend, AmendBody, "Correct the input, or a step's result, and go on"),
    "cancel": (_cancel, CancelBody, "Undo it; past its pivot only if forced"),
    "abort": (_abort, ActBody, "Undo everything, past the pivot too"),
    "resolve": (_resolve, ResolveBody, "Close what is suspended, as settled by hand"),
    "pause": (_pause, ActBody, "Begin nothing more of it"),
    "resume": (_resume, ActBody, "Let it go on"),
    "move": (_move, MoveBody, "Have it go on in another version of its type"),
}


def operations() -> list[Operation]:
    """The routes."""
    named = {"id": "the id of the saga"}
    made = [
        Operation(
            "POST",
            f"/api/sagas/{{id}}/{name}",
            _Handler(name, act),
            "operator",
            summary,
            {200: Answer("It was done; or, in a dry run, would be.", Acted)},
            tag="acts",
            path_parameters=named,
            body=body,
            seq_header=True,
            problems=(404, 409, 412),
        )
        for name, (act, body, summary) in _ACTS.items()
    ]
    rerun = Answer("The new saga.", Acted, {"Location": "the new saga's address"})
    return [
        *made,
        Operation(
            "POST", "/api/sagas/{id}/rerun", _rerun, "operator",
            "Start a saga anew that has ended, with the same input", {200: rerun, 202: rerun},
            tag="acts", path_parameters=named, body=RerunBody, seq_header=True, key="optional",
            problems=(404, 409, 412, 422),
        ),
    ]  # fmt: skip


class _Handler:
    """Does an act as the token's holder; a refusal tells what happened meanwhile."""

    def __init__(self, name: str, act: Act) -> None:
        self._name, self._act = name, act

    async def __call__(self, call: ApiRequest) -> Response:
        saga_id, body = call.saga_id(), call.body
        seq, from_header = _seq(call, body)
        operator, undoing = call.site.operator, None
        try:
            async with call.writing(dry_run=body.dry_run) as connection:
                if body.dry_run and self._name in ("abort", "cancel"):
                    undoing = await _undoing(operator, connection, saga_id)
                status = await self._act(_Acting(call, connection, saga_id, body, seq))
        except NotApplicableError as error:
            raise await _refused(call, saga_id, error, seq, from_header) from error
        if not body.dry_run:
            call.tell_act(self._name, saga_id=str(saga_id))
        return json_answer(
            Acted(
                id=saga_id,
                act=self._name,
                status=status,
                dry_run=body.dry_run,
                undoing=undoing,
                links=links_of(call.root, saga_id),
            )
        )


async def _rerun(call: ApiRequest) -> Response:
    """Starts a saga anew."""
    saga_id, body = call.saga_id(), call.body
    seq, from_header = _seq(call, body)
    try:
        async with call.writing(dry_run=body.dry_run) as connection:
            new = await call.site.operator.rerun(
                connection,
                saga_id,
                body.note,
                key=body.key or call.key,
                newest=body.newest,
                seq=seq,
            )
    except NotApplicableError as error:
        raise await _refused(call, saga_id, error, seq, from_header) from error
    links = links_of(call.root, new)
    said = Acted(
        id=new, act="rerun", status="CREATED", dry_run=body.dry_run, undoing=None, links=links
    )
    if body.dry_run:
        return json_answer(said)
    call.tell_act("rerun", saga_id=str(saga_id))
    return json_answer(said, 202, {"Location": links.saga})


async def _undoing(
    operator: Operator, connection: AsyncConnection[Any], saga_id: UUID
) -> list[Undone]:
    found = await operator.explain_abort(connection, saga_id)
    names = Undone.model_fields
    return [Undone(**{name: getattr(one, name) for name in names}) for one in found]


def _seq(call: ApiRequest, body: ActBody) -> tuple[int | None, bool]:
    """The seq that the act's operator saw, and whether it came as ``If-Match``."""
    given = call.request.headers.get("if-match")
    if given is None:
        return body.seq, False
    found = _IF_MATCH.fullmatch(given.strip())
    if found is None:
        raise ProblemError(
            "malformed", f"If-Match {given[:80]!r} is no seq: take it from the saga's ETag"
        )
    seq = int(found[1])
    if body.seq not in (None, seq):
        raise ProblemError("stale", f"If-Match has {seq}, the body {body.seq}: one is not current")
    return seq, True


async def _refused(
    call: ApiRequest, saga_id: UUID, error: NotApplicableError, seq: int | None, from_header: bool
) -> ProblemError:
    problem = problem_of(error)
    assert problem is not None
    since = []
    if seq is not None:
        async with call.site.reading() as connection:
            since = await saga.timeline(connection, call.site.schema, saga_id, seq)
    told = [one.model_dump(mode="json") for one in moments_of(since, call.masking)]
    is_precondition = from_header and isinstance(error, StaleError)
    slug = "precondition-failed" if is_precondition else problem.kind.slug
    return ProblemError(slug, problem.detail, since=told)
