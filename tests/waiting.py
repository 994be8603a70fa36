"""Wait for a condition instead of for a time."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Found = TypeVar("Found")

POLL_SECONDS = 0.02


def wait_until(
    condition: Callable[[], Found], timeout: float = 20, message: str | None = None
) -> Found:
    """Call `condition` again and again until what it returns is true.

    Args:
        condition: called at least once; an exception of its own ends the wait.
        timeout: seconds.
        message: what was waited for, for the error; by default the condition's own name.

    Returns:
        What the condition returned last.

    Raises:
        TimeoutError: with the message and the last value.
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise _timed_out(condition, timeout, message, value)
        time.sleep(POLL_SECONDS)
    return value


async def wait_until_async(
    condition: Callable[[], Found | Awaitable[Found]],
    timeout: float = 20,
    message: str | None = None,
) -> Found:
    """The same in an event loop; the condition may be a plain function or a coroutine function."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        value: Found = await result if inspect.isawaitable(result) else result
        if value:
            return value
        if time.monotonic() > deadline:
            raise _timed_out(condition, timeout, message, value)
        await asyncio.sleep(POLL_SECONDS)


def _timed_out(
    condition: Callable[..., object], timeout: float, message: str | None, value: object
) -> TimeoutError:
    what = message or getattr(condition, "__qualname__", repr(condition))
    return TimeoutError(f"{what}: not within {timeout} seconds; the last value was {value!r}")
