"""Events as HTTP requests, signed after the Standard Webhooks specification
(https://www.standardwebhooks.com)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from outbox.definition.event import Event

try:
    import httpx
    from standardwebhooks import Webhook
except ImportError:  # the extra `webhooks` is not installed
    CAN_SEND = False
else:
    CAN_SEND = True

_GONE = 410
_LITTLE = 64 * 1024


class NotDeliveredError(Exception):
    """The receiver did not take an event.

    Args:
        after: how long it asked to be left alone.
        gone: it wants no more events.
    """

    def __init__(self, message: str, after: timedelta | None = None, gone: bool = False) -> None:
        super().__init__(message)
        self.after = after
        self.gone = gone


def body_of(event: Event) -> bytes:
    """What is sent: JSON, the same in every attempt."""
    return orjson.dumps(
        {
            "id": event.id,
            "type": event.name,
            "timestamp": event.at.astimezone(UTC),
            "data": event.payload,
            "saga": {
                "id": event.saga_id,
                "type": event.type,
                "version": event.version,
                "key": event.key,
                "step": event.step,
                "seq": event.seq,
            },
        }
    )


def headers_of(event: Event, body: bytes, secrets: list[str]) -> dict[str, str]:
    """The headers that identify and sign a request, by each of the secrets."""
    now = datetime.now(UTC)
    signatures = [Webhook(s).sign(event.id, now, body.decode()) for s in secrets]
    return {
        "content-type": "application/json",
        "user-agent": "outbox-saga",
        "webhook-id": event.id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


class Sender:
    """Posts events; an async context manager around its connections."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(follow_redirects=False)

    async def __aenter__(self) -> Sender:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def send(self, event: Event, url: str, secrets: list[str], timeout: timedelta) -> None:
        """Posts one event; the receiver has to answer 2xx within the timeout.

        Raises:
            NotDeliveredError: it did not. The message names neither the URL nor a secret.
        """
        body = body_of(event)
        seconds = timeout.total_seconds()
        try:
            async with self._client.stream(
                "POST", url, content=body, headers=headers_of(event, body, secrets), timeout=seconds
            ) as answer:
                await _drain(answer)
        except httpx.TimeoutException as error:
            raise NotDeliveredError(f"no answer within {seconds:g} seconds") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            why = str(error).replace(url, "the URL")
            raise NotDeliveredError(f"{type(error).__name__}: {why}") from error
        if not answer.is_success:
            raise NotDeliveredError(
                f"the receiver answered {answer.status_code}",
                after=_retry_after(answer),
                gone=answer.status_code == _GONE,
            )


async def _drain(answer: Any) -> None:
    """Reads what little a receiver says beside its status, which nobody needs: so the connection
    can be used again. Of one who says much no more is read."""
    size = 0
    async for chunk in answer.aiter_raw():
        size += len(chunk)
        if size > _LITTLE:
            return


def _retry_after(answer: Any) -> timedelta | None:
    """How long the receiver asks to be left alone, where it says so in seconds."""
    given = answer.headers.get("retry-after", "")
    # Nine digits are thirty years; of more, a number that is none to a clock.
    return timedelta(seconds=int(given[:9])) if given.isascii() and given.isdigit() else None
