"""Bodies of requests, read within bounds: of size, and of time."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from outbox.errors import InputError

_SECONDS = 30.0
_DRAINED = 8  # times the limit, so that who sends a little too much hears so: not a broken pipe


class TooLargeError(InputError):
    """A request's body is larger than any of ours."""


class TooSlowError(InputError):
    """A request's body did not arrive in time."""


class CutOffError(InputError):
    """The connection ended before the body did."""


async def receive(request: Request, limit: int, what: str = "the body") -> bytes:
    """A request's body, within half a minute.

    Args:
        limit: bytes that it has at most.
        what: the body's name in messages.

    Raises:
        TooLargeError: it is larger.
        TooSlowError: it has not arrived by then: who sends a byte a minute keeps nobody.
        CutOffError: its sender has gone.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:18]) > limit * _DRAINED:
        raise _too_large(limit, what)
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= limit:
                    body += chunk
                elif size > limit * _DRAINED:
                    break
    except TimeoutError:
        raise TooSlowError(
            f"{what} had {_SECONDS:g} seconds to arrive, and did not: send it again"
        ) from None
    except ClientDisconnect:
        raise CutOffError(f"the connection ended before {what} did") from None
    if size > limit:
        raise _too_large(limit, what)
    return bytes(body)


def _too_large(limit: int, what: str) -> TooLargeError:
    return TooLargeError(f"{what} is larger than {limit} bytes")
