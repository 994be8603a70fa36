"""What an operator does to one saga: a form of its page each."""

from __future__ import annotations

from typing import Any, Literal, cast

from psycopg import AsyncConnection
from starlette.responses import Response

from outbox.errors import (
    InputError,
    KeyConflictError,
    NotApplicableError,
    NotFoundError,
    OutboxError,
)
from outbox.viewer import saga
from outbox.web.forms import json_of
from outbox.web.pages.saga import Refusal, show
from outbox.web.visit import Visit

_DONE = {
    "retry": "Retried",
    "skip": "Skipped",
    "amend": "Amended",
    "cancel": "Canceled",
    "abort": "Aborted",
    "resolve": "Resolved",
    "pause": "Paused",
    "resume": "Resumed",
}


async def act_on_saga(visit: Visit) -> Response:
    """Does what the form says, and shows the saga; or why not."""
    act, saga_id = visit.path("act"), visit.saga_id
    assert visit.user is not None
    try:
        async with visit.site.acting(visit.user) as connection:
            said = await _act(visit, connection, act)
    except NotFoundError:
        raise
    except (NotApplicableError, InputError) as error:
        return await _refused(visit, act, error)
    visit.site.telemetry.emit("operator_act", saga_id=str(saga_id), act=act, actor=visit.user.name)
    return visit.go(visit.url(f"/sagas/{saga_id}"), said)


async def _act(visit: Visit, connection: AsyncConnection[Any], act: str) -> str:
    operator, saga_id, seq = visit.site.operator, visit.saga_id, _seq(visit)
    status: str
    match act:
        case "signal":
            told = await visit.site.client.signal(
                connection,
                saga_id,
                visit.wanted("name"),
                _json(visit, "payload"),
                key=visit.field("key"),
            )
            return {
                "delivered": "The signal was delivered: the step that waited for it goes on.",
                "kept": "The signal was kept for the step that will wait for it.",
                "repeated": "A signal with this key had been sent before: nothing was changed.",
            }[told]
        case "rerun":
            new = await operator.rerun(
                connection,
                saga_id,
                visit.wanted("note"),
                key=visit.field("key") or visit.field("next_key"),
                newest=visit.field("newest") is not None,
            )
            return f"Started anew as saga {new}."
        case "retry":
            status = await operator.retry(connection, saga_id, visit.wanted("note"), seq)
        case "cancel":
            status = await operator.cancel(connection, saga_id, visit.wanted("note"), seq=seq)
        case "abort":
            status = await operator.abort(connection, saga_id, visit.wanted("note"), seq)
        case "pause":
            status = await operator.pause_saga(connection, saga_id, visit.wanted("note"), seq)
        case "resume":
            status = await operator.resume_saga(connection, saga_id, visit.wanted("note"), seq)
        case "skip":
            status = await operator.skip(
                connection,
                saga_id,
                visit.wanted("note"),
                _json(visit, "result"),
                step=visit.field("step"),
                seq=seq,
            )
        case "resolve":
            final = visit.wanted("status")
            if final not in ("COMPLETED", "FAILED"):
                raise InputError(f"a saga is resolved as COMPLETED or FAILED, not as {final!r}")
            status = await operator.resolve(
                connection,
                saga_id,
                cast(Literal["COMPLETED", "FAILED"], final),
                visit.wanted("note"),
                seq,
            )
        case "amend":
            status = await _amend(visit, connection, seq)
        case _:
            raise NotFoundError(f"there is no act {act!r}")
    return f"{_DONE[act]}: the saga is {status} now."


async def _amend(visit: Visit, connection: AsyncConnection[Any], seq: int | None) -> str:
    """Changes the input or a result; what was masked in the form stays as it is."""
    site, note = visit.site, visit.wanted("note")
    step = visit.field("step")
    given = _json(visit, "value")
    whole = await saga.whole(connection, site.schema, visit.saga_id)
    if step is None:
        restored = site.rendering.masking.restore(given, whole.overview.input)
        if not isinstance(restored, dict):
            raise InputError("an input is a JSON object")
        return await site.operator.amend_input(connection, visit.saga_id, note, restored, seq)
    known = [
        m.result for m in whole.timeline if _name(m.step, m.element) == step and m.outcome == "done"
    ]
    restored = site.rendering.masking.restore(given, known[-1] if known else None)
    return await site.operator.amend_result(connection, visit.saga_id, note, step, restored, seq)


async def _refused(visit: Visit, act: str, error: OutboxError) -> Response:
    """The saga's page with why, and what happened since the operator looked."""
    seq = _seq_or_none(visit)
    since: list[saga.Moment] = []
    is_conflict = isinstance(error, NotApplicableError | KeyConflictError)
    if seq is not None and is_conflict:
        async with visit.site.reading() as connection:
            since = await saga.timeline(connection, visit.site.schema, visit.saga_id, seq)
    kept = {k: v for k, v in visit.form.items() if k != "csrf"}
    return await show(visit, Refusal(act, str(error), since, kept), 409 if is_conflict else 400)


async def redeliver(visit: Visit) -> Response:
    """Delivers an event that was given up once more."""
    number = visit.wanted("event")
    if not number.isdecimal() or len(number) > 18:
        raise InputError(f"{number!r} is not the number of an event")
    assert visit.user is not None
    subscription, note = visit.wanted("subscription"), visit.wanted("note")
    async with visit.site.acting(visit.user) as connection:
        await visit.site.operator.redeliver(connection, subscription, int(number), note)
    visit.site.telemetry.emit(
        "operator_act",
        saga_id=str(visit.saga_id),
        act="redeliver",
        actor=visit.user.name,
        event_number=int(number),
        subscription=subscription,
    )
    return visit.go(
        visit.url(f"/sagas/{visit.saga_id}"), f"Event {number} will be delivered again."
    )


def _seq(visit: Visit) -> int | None:
    given = visit.field("seq")
    if given is not None and (not given.isdecimal() or len(given) > 9):
        raise InputError(f"{given!r} is not the seq of a saga")
    return None if given is None else int(given)


def _seq_or_none(visit: Visit) -> int | None:
    try:
        return _seq(visit)
    except InputError:
        return None


def _json(visit: Visit, name: str) -> Any:
    given = visit.field(name)
    if given is None:
        return None
    try:
        return json_of(given)
    except ValueError as error:
        raise InputError(
            f'the {name} is malformed JSON ({error}): a text stands in quotes, such as "ref-7"'
        ) from None


def _name(step: str | None, element: int | None) -> str | None:
    return step if element is None else f"{step}/{element}"
