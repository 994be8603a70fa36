"""Arguments of a definition that are of the wrong kind, refused where they are given."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from outbox.errors import DefinitionError


def check_kind(
    owner: str, name: str, value: object, kind: type | tuple[type, ...], words: str
) -> None:
    """Refuses a value that is not of a kind.

    Args:
        owner: how the message begins: whose argument it is.
        kind: the class or classes; True and False are no numbers.
        words: what it has to be, for people.

    Raises:
        DefinitionError: with the value.
    """
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise DefinitionError(f"{owner}: {name}={value!r} is not {words}")


def check_time(owner: str, name: str, value: object) -> None:
    """Refuses what is no timedelta, or not a positive one.

    Raises:
        DefinitionError: with the value.
    """
    check_kind(owner, name, value, timedelta, "a timedelta, such as timedelta(minutes=5)")
    assert isinstance(value, timedelta)
    if value <= timedelta():
        raise DefinitionError(f"{owner}: {name}={value} is not a positive time")


def check_function(owner: str, name: str, value: Callable[..., Any] | None) -> None:
    """Refuses what cannot be called, unless it is None.

    Raises:
        DefinitionError: with the value.
    """
    if value is not None and not callable(value):
        raise DefinitionError(
            f"{owner}: {name}={value!r} is not a function of the command: lambda cmd: …"
        )


def check_parentheses(decorator: str, given: object) -> None:
    """Refuses what a decorator is given in place of arguments: it was used without parentheses.

    Raises:
        DefinitionError: saying how it is used.
    """
    if given is not None:
        raise DefinitionError(
            f"@{decorator} takes its arguments by name, and needs its parentheses: @{decorator}()"
        )
