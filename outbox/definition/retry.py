"""The retry policy of a step or of a compensation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from outbox.definition.argument import check_kind
from outbox.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class Retry:
    """How often, and after which waits, a failed attempt is made again.

    The wait before attempt *n + 1* is random between 0 and ``min(cap, base * 2 ** (n - 1))``:
    exponential backoff with full jitter ("Exponential Backoff And Jitter", AWS Architecture Blog).

    Args:
        attempts: how many attempts are made in all, at least 1.
        base: the greatest first wait, in seconds.
        cap: the greatest wait, in seconds.
        no_effect: exceptions which say that the attempt had no effect. The next attempt gets a new
            idempotency key, since a provider may have stored the refusal under the old one.
        give_up_on: exceptions after which another attempt is pointless. Whether there was an
            effect is not known then; for "no effect, and do not retry" raise ``Rejected``.

    Raises:
        DefinitionError: a number is out of range.
    """

    attempts: int = 5
    base: float = 1.0
    cap: float = 60.0
    no_effect: tuple[type[BaseException], ...] = ()
    give_up_on: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.attempts, int) or self.attempts < 1:
            raise DefinitionError(
                f"Retry(attempts={self.attempts}): a whole number of attempts is made, at least 1"
            )
        for name in ("base", "cap"):
            check_kind("Retry", name, getattr(self, name), (int, float), "a number of seconds")
        for name in ("no_effect", "give_up_on"):
            classes = getattr(self, name)
            if not isinstance(classes, tuple) or not all(isinstance(c, type) for c in classes):
                raise DefinitionError(
                    f"Retry: {name}={classes!r} is not a tuple of exceptions' classes, such as "
                    "(ConnectionError,)"
                )
        if not 0 <= self.base <= self.cap or math.isinf(self.cap):
            raise DefinitionError(
                f"Retry(base={self.base}, cap={self.cap}): needs 0 <= base <= cap, in finite "
                "seconds"
            )
