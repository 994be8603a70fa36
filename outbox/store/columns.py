"""The columns that a dataclass is read from, each as the type of its field.

A view may be made anew under a running program, by a later release and with another type of a
column. Postgres refuses a prepared statement whose result has changed so ("cached plan must not
change result type"), for as long as the connection lives: so what we read says its types itself.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from types import UnionType
from typing import Any, Literal, LiteralString, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from psycopg import sql

_TYPES: dict[Any, LiteralString] = {
    UUID: "uuid",
    str: "text",
    int: "bigint",
    float: "double precision",
    Decimal: "numeric",
    bool: "boolean",
    datetime: "timestamptz",
    timedelta: "interval",
    list[str]: "text[]",
    list[UUID]: "uuid[]",
}
_OTHERS: LiteralString = "json"


def columns_of(row: Any, **renamed: str) -> sql.Composed:
    """What to select for the fields of a dataclass, in their order.

    Args:
        row: the dataclass, a type; the names of its fields are those of the columns.
        renamed: the columns of fields that have another name.
    """
    return _made(row, tuple(renamed.items()))


@cache
def _made(row: Any, renamed: tuple[tuple[str, str], ...]) -> sql.Composed:
    hints, names = get_type_hints(row), dict(renamed)
    # By these names nobody calls them: so an ``order by`` means the column, not what it is cast to.
    return sql.SQL(", ").join(
        sql.SQL("{}::{} as {}").format(
            sql.Identifier(names.get(field.name, field.name)),
            sql.SQL(_type_of(hints[field.name])),
            sql.Identifier(f"{number}"),
        )
        for number, field in enumerate(fields(row))
    )


def _type_of(hint: Any) -> LiteralString:
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (part for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is Literal:
        return "text"
    return _TYPES.get(hint, _OTHERS)
