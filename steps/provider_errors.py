"""What the provider's errors say about the effect of a request."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import stripe

from outbox import Rejected, RetryAfter

# What the provider's Retry-After may ask for at most: a saga waits, it does not hang.
MOST_SECONDS_TO_WAIT = 60.0
EARLIER_ATTEMPT_WAIT = 0.5


@contextlib.contextmanager
def refusals_rejected() -> Iterator[None]:
    """Turn refusals of the block's request into ``Rejected``, and do what ``waits_mapped`` does.

    Only for requests that ask for an effect: a refusal says that there was none.
    """
    with waits_mapped():
        try:
            yield
        except stripe.CardError as error:
            details = error.error
            code = (details.decline_code if details is not None else None) or error.code
            raise Rejected(f"card declined: {code}", code=code) from error
        except stripe.InvalidRequestError as error:
            raise Rejected(
                f"the provider refused: {error.user_message}",
                code=error.code or "invalid_request",
            ) from error


@contextlib.contextmanager
def waits_mapped() -> Iterator[None]:
    """Turn *come back later* into ``RetryAfter``; everything else propagates, and is in doubt."""
    try:
        yield
    except stripe.RateLimitError as error:
        raise RetryAfter(_retry_after(error), "rate limited", no_effect=True) from error
    except stripe.APIError as error:
        if error.http_status != 409:
            raise
        # Our own earlier attempt is still being served: ask again, it will have an answer.
        raise RetryAfter(
            EARLIER_ATTEMPT_WAIT, "an earlier attempt is in progress", no_effect=False
        ) from error


def _retry_after(error: stripe.RateLimitError) -> float:
    try:
        seconds = float((error.headers or {}).get("Retry-After", "1"))
    except ValueError:
        return 1.0
    return min(max(seconds, 0.0), MOST_SECONDS_TO_WAIT)
