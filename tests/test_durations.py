"""Durations as people write them."""

from datetime import timedelta

import pytest

from outbox.durations import duration_of
from outbox.errors import InputError


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        *(("1h30m", 90), ("1.5 h", 90), ("2 min", 2), ("2 mins", 2), ("90 s", 1.5), ("120sec", 2)),
        *(("1 hour", 60), ("2 days", 2880), ("1 week", 10080), ("1 day 2 hours", 1560)),
        *(("1m30s", 1.5), ("60 seconds", 1), ("1 Minute", 1), ("0s", 0)),
    ],
)
def test_it_is_read(text: str, minutes: float) -> None:
    assert duration_of(text) == timedelta(minutes=minutes)


@pytest.mark.parametrize("text", ["", "x", "5", "-5m", "1y", "m5", "1 month", "99999999999999w"])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        duration_of(text)
