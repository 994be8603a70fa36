"""Arrays as Postgres reads them in binary, built by a join: psycopg asks the type of every element,
which costs more than the statement that the array is for."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct, pack
from typing import Any, ClassVar
from uuid import UUID

from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

_LENGTH = Struct("!i")
_NULL = _LENGTH.pack(-1)


class BinaryArray:
    """A one-dimensional array, complete; one subclass for each type of element."""

    oid: ClassVar[int]
    element_oid: ClassVar[int]
    __slots__ = ("data",)

    def __init__(self, count: int, elements: bytes) -> None:
        # Dimensions, whether there are nulls, the elements' type, their number, the first index.
        self.data = (
            pack("!iiIii", 1, 1, self.element_oid, count, 1) + elements
            if count
            else pack("!iiI", 0, 0, self.element_oid)
        )


class UuidArray(BinaryArray):
    """``uuid[]``."""

    oid, element_oid = 2951, 2950
    __slots__ = ()

    @classmethod
    def of(cls, values: Sequence[UUID]) -> UuidArray:
        """Of UUIDs, none null."""
        size = _LENGTH.pack(16)
        return cls(len(values), b"".join([size + value.bytes for value in values]))


class IntegerArray(BinaryArray):
    """``integer[]``."""

    oid, element_oid = 1007, 23
    __slots__ = ()

    @classmethod
    def of(cls, values: Sequence[int]) -> IntegerArray:
        """Of integers, none null."""
        sized = [part for value in values for part in (4, value)]
        return cls(len(values), pack(f"!{len(sized)}i", *sized))


class RealArray(BinaryArray):
    """``real[]``."""

    oid, element_oid = 1021, 700
    __slots__ = ()

    @classmethod
    def of(cls, values: Sequence[float | None]) -> RealArray:
        """Of numbers and nulls."""
        one = Struct("!if")
        return cls(len(values), b"".join([_NULL if v is None else one.pack(4, v) for v in values]))


class TextArray(BinaryArray):
    """``text[]``."""

    oid, element_oid = 1009, 25
    __slots__ = ()

    @classmethod
    def of(cls, values: Sequence[str | bytes | None]) -> TextArray:
        """Of strings, or their UTF-8, and nulls."""
        return cls(len(values), _texts(values))


class JsonArray(BinaryArray):
    """``json[]``."""

    oid, element_oid = 199, 114
    __slots__ = ()

    @classmethod
    def of(cls, values: Sequence[str | bytes | None]) -> JsonArray:
        """Of JSON texts and nulls."""
        return cls(len(values), _texts(values))


def _texts(values: Sequence[str | bytes | None]) -> bytes:
    parts = []
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            raw = value.encode() if isinstance(value, str) else value
            parts.append(_LENGTH.pack(len(raw)) + raw)
    return b"".join(parts)


class _Dumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Any) -> Buffer:
        data: bytes = obj.data
        return data


def register_arrays(context: AdaptContext) -> None:
    """Lets a connection take these arrays as parameters."""
    for array in (UuidArray, IntegerArray, RealArray, TextArray, JsonArray):
        dumper = type(f"{array.__name__}Dumper", (_Dumper,), {"oid": array.oid})
        context.adapters.register_dumper(array, dumper)
