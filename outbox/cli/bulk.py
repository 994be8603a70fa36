"""Starting sagas from a file: JSON Lines or CSV, bad lines reported, the rest started."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TextIO

import orjson

from outbox.client import Client, Started
from outbox.definition.saga import Saga
from outbox.errors import InputError, UnknownTypeError
from outbox.store.connect import Connection

_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the file: its number from 1, its key and its input; or what is wrong with it."""

    number: int
    key: str | None = None
    input: dict[str, Any] | None = None
    problem: str | None = None


@dataclass
class Summary:
    """What became of a file."""

    started: int = 0
    existed: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)


def read_lines(source: TextIO, *, is_csv: bool, fields: dict[str, Any]) -> Iterator[Line]:
    """The lines of a file.

    Args:
        source: JSON Lines: each an object with ``input`` and perhaps ``key``, or the bare input.
        CSV:
            a header with the input's fields and perhaps ``key``; an empty cell is a missing field.
        fields: the properties of the input's JSON schema, to tell a number from a text in CSV.
    """
    if not is_csv:
        for number, text in enumerate(source, start=1):
            if text.strip():
                yield _json_line(number, text)
        return
    reader = csv.DictReader(source, restkey="", strict=True)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            # Its own line_num counts only rows that it could read.
            yield Line(reader.reader.line_num, problem=f"malformed CSV: {error}")
            continue
        if row is None:
            return
        yield _csv_line(reader.line_num, row, fields)


def _json_line(number: int, text: str) -> Line:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return Line(number, problem=f"malformed JSON: {error}")
    if not isinstance(value, dict):
        return Line(number, problem=f"a line is a JSON object, not {text.strip()[:60]}")
    if not isinstance(value.get("input"), dict) or not value.keys() <= {"key", "input"}:
        return Line(number, input=value)
    key = value.get("key")
    if key is not None and not isinstance(key, str):
        return Line(number, problem=f"the key is text, not {orjson.dumps(key).decode()}")
    return Line(number, key, value["input"])


def _csv_line(number: int, row: dict[str, Any], fields: dict[str, Any]) -> Line:
    if "" in row:
        return Line(number, problem="it has more cells than the header")
    key = row.pop("key", None) or None
    try:
        given = {
            name: _convert(name, cell, fields.get(name, {})) for name, cell in row.items() if cell
        }
    except ValueError as error:
        return Line(number, key, problem=str(error))
    return Line(number, key, given)


def _convert(name: str, cell: str, schema: dict[str, Any]) -> Any:
    kinds = {schema.get("type"), *(branch.get("type") for branch in schema.get("anyOf", []))}
    if kinds & {"integer", "number", "boolean", "object", "array"} and "string" not in kinds:
        try:
            return orjson.loads(cell)
        except orjson.JSONDecodeError:
            wanted = " or ".join(sorted(k for k in kinds if k and k != "null"))
            raise ValueError(f"the field {name!r} must be {wanted}, not {cell!r}") from None
    return cell


async def start_lines(
    connection: Connection,
    client: Client,
    saga: Saga[Any] | str,
    lines: Iterable[Line],
    summary: Summary,
    *,
    due_at: datetime | None = None,
    priority: int = 0,
) -> None:
    """Starts the lines, a batch a transaction, and counts them in ``summary``.

    Raises:
        UnknownTypeError: the type is not registered.
    """
    batch: list[Line] = []
    for line in lines:
        if line.problem is not None:
            summary.refused.append((line.number, line.problem))
            continue
        batch.append(line)
        if len(batch) == _BATCH:
            await _start(connection, client, saga, batch, summary, due_at, priority)
            batch = []
    await _start(connection, client, saga, batch, summary, due_at, priority)
    summary.refused.sort()


async def _start(
    connection: Connection,
    client: Client,
    saga: Saga[Any] | str,
    batch: Sequence[Line],
    summary: Summary,
    due_at: datetime | None,
    priority: int,
) -> None:
    """Starts a batch in a transaction; one with a bad line is halved until that line is alone."""
    if not batch:
        return
    try:
        started: list[Started] = await client.start_many(
            connection,
            saga,
            [(line.key, line.input or {}) for line in batch],
            due_at=due_at,
            priority=priority,
        )
    except UnknownTypeError:
        raise
    except InputError as error:
        if len(batch) == 1:
            summary.refused.append((batch[0].number, str(error)))
            return
        half = len(batch) // 2
        await _start(connection, client, saga, batch[:half], summary, due_at, priority)
        await _start(connection, client, saga, batch[half:], summary, due_at, priority)
    else:
        created = sum(one.created for one in started)
        summary.started += created
        summary.existed += len(started) - created
