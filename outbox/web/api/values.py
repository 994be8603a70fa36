"""Values that requests carry, as strict as their description says."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BeforeValidator, Field, StringConstraints

Status = Literal["CREATED", "EXECUTING", "COMPENSATING", "SUSPENDED", "COMPLETED", "FAILED"]
Text = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Note = Annotated[str, StringConstraints(pattern=r"\S", max_length=2000)]
Duration = Annotated[
    str, StringConstraints(pattern=r"^([0-9]{1,6}(s|min|m|h|d|w))+$", max_length=40)
]


def _whole(value: Any) -> Any:
    """Digits only, though a number's text may be more than that."""
    if isinstance(value, str) and not (value.isascii() and value.isdecimal()):
        raise ValueError("it is a whole number, in digits")
    return value


def _instant(value: Any) -> Any:
    """Not what a number could stand for, which pydantic would take as seconds since 1970."""
    if isinstance(value, str) and (len(value) < 20 or value[10] not in "Tt"):
        raise ValueError("it is an instant with its time zone, such as 2030-01-31T09:00:00Z")
    return value


Whole = Annotated[int, BeforeValidator(_whole)]
"""A whole number of a query."""

Seq = Annotated[int, Field(ge=0, le=2_000_000_000), BeforeValidator(_whole)]
"""A count of transitions."""

Instant = Annotated[AwareDatetime, BeforeValidator(_instant)]
"""An instant of RFC 3339."""
