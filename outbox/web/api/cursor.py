"""Places in a list, as opaque text that belongs to one question."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from uuid import UUID

from outbox.web.api.problem import ProblemError

_DIGEST = 6


def write_cursor(place: UUID, asked: str) -> str:
    """A cursor.

    Args:
        place: where the next page begins.
        asked: what the list was asked for, in any form that is the same for the same.
    """
    return urlsafe_b64encode(place.bytes + _digest(asked)).decode().rstrip("=")


def read_cursor(cursor: str, asked: str) -> UUID:
    """The place of a cursor.

    Raises:
        ProblemError: it is none, or of a list that was asked for something else.
    """
    try:
        found = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        if len(found) != 16 + _DIGEST:
            raise ValueError
    except ValueError:
        raise ProblemError(
            "malformed", f"{cursor[:80]!r} is no cursor: take it from `next`, or leave it out"
        ) from None
    if found[16:] != _digest(asked):
        raise ProblemError(
            "malformed",
            "this cursor belongs to another list: the filter has to stay what it was, or leave the "
            "cursor out",
        )
    return UUID(bytes=found[:16])


def _digest(asked: str) -> bytes:
    return hashlib.sha256(asked.encode()).digest()[:_DIGEST]
