"""The trace that a request belongs to: W3C's ``traceparent`` and ``tracestate``
(https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

import re
from typing import Any

from psycopg import AsyncConnection
from starlette.requests import Request

from outbox.client import Started
from outbox.store.functions import call

# A version that is later than ours may say more behind, which we do not know.
_PARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
_LONGEST_STATE = 512


async def keep_trace(
    request: Request, connection: AsyncConnection[Any], schema: str, started: Started
) -> None:
    """Keeps a request's trace with the saga that it has started, in its transaction. What is
    malformed is taken as not there, as the standard asks. Where the server itself has a span, the
    saga was started under that, and stays there."""
    parents = request.headers.getlist("traceparent")
    found = _PARENT.fullmatch(parents[0].strip()) if len(parents) == 1 else None
    if not started.created or found is None or (found[1] == "00" and found[5]):
        return
    parent = f"00-{found[2]}-{found[3]}-{found[4]}"
    state = ",".join(request.headers.getlist("tracestate"))
    given = state if 0 < len(state) <= _LONGEST_STATE and state.isascii() else None
    statement = call(schema, "select {}.keep_trace(%s, %s, %s)")
    await connection.execute(statement, (started.id, parent, given))
