"""``bin/saga retry``, ``cancel``, ``abort``, ``skip``, ``resolve``, ``amend``, ``pause``,
``resume`` and ``rerun``: what a person may do to a saga, or to many."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

import orjson
import typer

from outbox.cli import shell
from outbox.cli.render import table
from outbox.cli.shell import AsJson, SagaId, err, fail, out, print_json, settings_of
from outbox.client import Client, SagaStatus
from outbox.durations import duration_of
from outbox.errors import InputError
from outbox.operator import Acted, ManyAct, Operator
from outbox.store.connect import Connection

Note = Annotated[str, typer.Option("--note", help="Why; it is kept with the act.")]
Seq = Annotated[
    int | None, typer.Option("--seq", help="Refuse it if the saga is at another seq than this.")
]
AnyId = Annotated[
    str | None, typer.Argument(metavar="[ID]", help="A saga's id, or its key; or a filter.")
]
Type = Annotated[str | None, typer.Option("--type", help="Of many: sagas of this type.")]
Step = Annotated[
    str | None, typer.Option("--step", help="At this step; of an element, step/place.")
]
Error = Annotated[
    str | None, typer.Option("--error", help="Of many: with an error of this type last.")
]
OlderThan = Annotated[
    str | None,
    typer.Option("--older-than", help="Of many: not moved for so long, as '90 s' or '1 hour'."),
]
Status = Annotated[str | None, typer.Option("--status", help="Of many: with this status.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="Of many: at most so many.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")
]
Result = Annotated[str | None, typer.Option("--result", help="The step's result, as JSON.")]

_AT_ONCE = 1000

NOTHING_CHANGED = " (dry run: nothing was changed)"

One = Callable[[Operator, Connection, UUID, SagaStatus], Awaitable[str]]


def retry_command(
    note: Note, saga_id: AnyId = None, type_: Type = None, step: Step = None, error: Error = None,
    older_than: OlderThan = None, status: Status = None, limit: Limit = 1000,
    dry_run: DryRun = False, seq: Seq = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Runs what failed again, now: of a saga, or of those that a filter finds."""
    chosen = _Filter(type_, step, error, older_than, status, limit, dry_run)
    _one_or_many(
        "retry", saga_id, note, seq, chosen, as_json,
        lambda operator, connection, found, seen: operator.retry(
            connection, found, note, seq if seq is not None else seen.seq
        ),
    )  # fmt: skip


def cancel_command(
    note: Note, saga_id: AnyId = None, type_: Type = None, step: Step = None, error: Error = None,
    older_than: OlderThan = None, status: Status = None, limit: Limit = 1000,
    dry_run: DryRun = False, seq: Seq = None,
    force: Annotated[bool, typer.Option("--force", help="Past its pivot too.")] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Undoes a saga that is no longer wanted, or those that a filter finds."""
    chosen = _Filter(type_, step, error, older_than, status, limit, dry_run)
    _one_or_many(
        "cancel", saga_id, note, seq, chosen, as_json,
        lambda operator, connection, found, seen: operator.cancel(
            connection, found, note, force=force, seq=seq if seq is not None else seen.seq
        ),
        force=force,
    )  # fmt: skip


def abort_command(
    note: Note, saga_id: AnyId = None, type_: Type = None, step: Step = None, error: Error = None,
    older_than: OlderThan = None, status: Status = None, limit: Limit = 1000,
    dry_run: DryRun = False, seq: Seq = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Undoes a saga, past its pivot too: everything that declares a compensation. See explain."""
    chosen = _Filter(type_, step, error, older_than, status, limit, dry_run)
    _one_or_many(
        "abort", saga_id, note, seq, chosen, as_json,
        lambda operator, connection, found, seen: operator.abort(
            connection, found, note, seq if seq is not None else seen.seq
        ),
    )  # fmt: skip


def skip_command(
    note: Note, saga_id: AnyId = None, result: Result = None, type_: Type = None,
    step: Step = None, error: Error = None, older_than: OlderThan = None, status: Status = None,
    limit: Limit = 1000, dry_run: DryRun = False, seq: Seq = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Takes a step that is suspended, or waits, as done; an undo as undone."""
    given = None if result is None else _parsed("--result", result)
    chosen = _Filter(type_, step, error, older_than, status, limit, dry_run)
    _one_or_many(
        "skip", saga_id, note, seq, chosen, as_json,
        lambda operator, connection, found, seen: operator.skip(
            connection, found, note, given, step=step, seq=seq if seq is not None else seen.seq
        ),
        result=given,
    )  # fmt: skip


def resolve_command(
    given: Annotated[
        list[str], typer.Argument(metavar="[ID] completed|failed", help="Which saga, and as what.")
    ],
    note: Note, type_: Type = None, step: Step = None, error: Error = None,
    older_than: OlderThan = None, limit: Limit = 1000, dry_run: DryRun = False, seq: Seq = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Closes a suspended saga that was settled by hand, or those that a filter finds."""
    if len(given) > 2:
        fail("name one saga and what it is resolved as, completed or failed")
    end: Any = given[-1].upper()
    chosen = _Filter(type_, step, error, older_than, None, limit, dry_run)
    _one_or_many(
        "resolve", given[0] if len(given) == 2 else None, note, seq, chosen, as_json,
        lambda operator, connection, found, seen: operator.resolve(
            connection, found, end, note, seq if seq is not None else seen.seq
        ),
        status=end,
    )  # fmt: skip


def amend_command(
    saga_id: SagaId,
    note: Note,
    input_: Annotated[
        str | None, typer.Option("--input", help="The whole new input, as JSON.")
    ] = None,
    step: Annotated[
        str | None, typer.Option("--step", help="The step whose result --result is.")
    ] = None,
    result: Result = None,
    seq: Seq = None,
    dry_run: DryRun = False,
) -> None:
    """Corrects a saga's input, or the result of a step that is done, and runs what is suspended
    again."""
    if (input_ is None) == (result is None) or (result is None) != (step is None):
        fail("give --input, or --step and --result")
    new = _parsed("--input", input_) if input_ is not None else _parsed("--result", result or "")
    if input_ is not None and not isinstance(new, dict):
        fail("--input must be a JSON object")

    def act(
        operator: Operator, connection: Connection, found: UUID, seen: SagaStatus
    ) -> Awaitable[str]:
        at = seq if seq is not None else seen.seq
        if step is None:
            return operator.amend_input(connection, found, note, new, at)
        return operator.amend_result(connection, found, note, step, new, at)

    _act(saga_id, act, dry_run)


def pause_command(
    note: Note, saga_id: AnyId = None, type_: Type = None,
    all_: Annotated[bool, typer.Option("--all", help="Everything.")] = False, seq: Seq = None,
    dry_run: DryRun = False,
) -> None:  # fmt: skip
    """Begins nothing more of a saga, of a type, or at all; what is in flight finishes."""
    _pause_or_resume("pause", saga_id, type_, all_, note, seq, dry_run)


def resume_command(
    note: Note, saga_id: AnyId = None, type_: Type = None,
    all_: Annotated[bool, typer.Option("--all", help="Everything.")] = False, seq: Seq = None,
    dry_run: DryRun = False,
) -> None:  # fmt: skip
    """Ends a pause: of a saga, of a type, or that of everything."""
    _pause_or_resume("resume", saga_id, type_, all_, note, seq, dry_run)


def rerun_command(
    saga_id: SagaId,
    note: Note,
    key: Annotated[str | None, typer.Option("--key", help="The new saga's key.")] = None,
    newest: Annotated[bool, typer.Option("--newest", help="In the newest version.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Starts a saga anew that has ended, with the same input."""
    settings = settings_of()

    async def work(connection: Connection) -> int:
        found = await shell.find_saga_id(connection, settings, saga_id)
        operator = Operator(settings.schema_name)
        async with tried(connection, dry_run):
            started = await operator.rerun(connection, found, note, key=key, newest=newest)
            seen = await Client(settings.schema_name).status(connection, started)
        if dry_run:
            print(f"{found}: would start {seen.type} version {seen.version} as {seen.key}")
        else:
            print(started)
        return shell.OK

    shell.with_connection(settings, work)


class _Filter:
    """Which of many sagas; falsy when it says nothing."""

    def __init__(
        self, type_: str | None, step: str | None, error: str | None, older_than: str | None,
        status: str | None, limit: int, dry_run: bool,
    ) -> None:  # fmt: skip
        age = None if older_than is None else _duration(older_than)
        self.named = {
            "type": type_, "step": step, "error": error, "older_than": age,
            "status": status.upper() if status else None,
        }  # fmt: skip
        self.limit, self.dry_run = limit, dry_run

    def says(self, besides: str | None = None) -> bool:
        """Whether it names anything, `besides` left out."""
        return any(v is not None for k, v in self.named.items() if k != besides)


def _one_or_many(
    act: ManyAct, given: str | None, note: str, seq: int | None, chosen: _Filter, as_json: bool,
    one: One, **arguments: Any,
) -> None:  # fmt: skip
    if given is None:
        if not chosen.says():
            fail("name a saga, or say which by --type, --step, --error, --older-than or --status")
        _act_many(act, note, chosen, as_json, arguments)
    elif chosen.says(besides="step" if act == "skip" else None):
        fail("name one saga, or a filter, not both")
    else:
        _act(given, one, chosen.dry_run, explains=act in ("abort", "cancel"))


def _act(given: str, one: One, dry_run: bool = False, *, explains: bool = False) -> None:
    settings = settings_of()
    operator = Operator(settings.schema_name)

    async def work(connection: Connection) -> int:
        found = await shell.find_saga_id(connection, settings, given)
        seen = await Client(settings.schema_name).status(connection, found)
        async with tried(connection, dry_run):
            explained = []
            if dry_run and explains and not seen.ended_at:
                explained = await operator.explain_abort(connection, found)
            status = await one(operator, connection, found, seen)
        for row in explained:
            print(f"{row.what}: {row.step}{'' if row.why is None else f' ({row.why})'}")
        print(f"{found}: {seen.status} -> {status}{NOTHING_CHANGED if dry_run else ''}")
        return shell.OK

    shell.with_connection(settings, work)


@asynccontextmanager
async def tried(connection: Connection, dry_run: bool) -> AsyncIterator[None]:
    """What is done inside is done, or, in a dry run, done and taken back."""
    async with connection.transaction(force_rollback=dry_run):
        yield


def _act_many(
    act: ManyAct, note: str, chosen: _Filter, as_json: bool, arguments: dict[str, Any]
) -> None:
    settings = settings_of()

    async def work(connection: Connection) -> int:
        named: dict[str, Any] = chosen.named
        operator = Operator(settings.schema_name)
        rows: list[Acted] = []
        # Each thousand is a transaction: nobody waits long for a lock, and what is done stays done.
        while room := min(chosen.limit - len(rows), _AT_ONCE):
            found = await operator.act_many(
                connection, act, note, limit=room, after=rows[-1].saga_id if rows else None,
                dry_run=chosen.dry_run,
                arguments={k: v for k, v in arguments.items() if v is not None}, **named,
            )  # fmt: skip
            rows += found
            if len(found) < _AT_ONCE:
                break
            err.print(f"{len(rows)} so far", style="dim")
        code = show_acted(rows, chosen.dry_run, as_json)
        if len(rows) == chosen.limit and not as_json:
            err.print("there may be more: --limit", style="dim")
        return code

    shell.with_connection(settings, work)


def show_acted(rows: list[Acted], dry_run: bool, as_json: bool) -> int:
    """Prints what an act on many came to; the exit code says whether all of it applied."""
    columns = ("saga_id", "key", "step", "error", "outcome", "problem")
    if as_json:
        print_json([{name: getattr(row, name) for name in columns} for row in rows])
    else:
        bad = [row for row in rows if row.problem is not None]
        if shown := rows if len(rows) <= _AT_ONCE else bad:
            out.print(table(columns, [[getattr(row, name) for name in columns] for row in shown]))
        count = f"{len(rows) - len(bad)} of {len(rows)}"
        print(f"{'would apply' if dry_run else 'applied'} to {count}")
    return shell.NO if any(row.problem for row in rows) else shell.OK


def _pause_or_resume(
    act: str, given: str | None, type_: str | None, all_: bool, note: str, seq: int | None,
    dry_run: bool,
) -> None:  # fmt: skip
    if (given is not None) + (type_ is not None) + all_ != 1:
        fail("name a saga, or give --type or --all")
    if given is not None:

        def one(
            operator: Operator, connection: Connection, found: UUID, seen: SagaStatus
        ) -> Awaitable[str]:
            at = seq if seq is not None else seen.seq
            if act == "pause":
                return operator.pause_saga(connection, found, note, at)
            return operator.resume_saga(connection, found, note, at)

        _act(given, one, dry_run)
        return
    settings = settings_of()

    async def work(connection: Connection) -> int:
        operator = Operator(settings.schema_name)
        what, tail = type_ or "everything", NOTHING_CHANGED if dry_run else ""
        async with tried(connection, dry_run):
            if act == "pause":
                count = await operator.pause(connection, note, type_)
                print(f"{what}: paused; {count} in flight finish their attempt{tail}")
            else:
                count = await operator.resume(connection, note, type_)
                print(f"{what}: goes on; {count} are due{tail}")
        return shell.OK

    shell.with_connection(settings, work)


def _parsed(option: str, given: str) -> Any:
    try:
        return orjson.loads(given)
    except orjson.JSONDecodeError as error:
        fail(f"{option} is not JSON: {error}")


def _duration(given: str) -> timedelta:
    bare = given.strip().replace(".", "", 1).isdecimal()  # seconds
    try:
        return duration_of(f"{given}s" if bare else given)
    except InputError:
        fail(f"--older-than is a duration such as '90 s', '1 hour' or '2 days', not {given!r}")
