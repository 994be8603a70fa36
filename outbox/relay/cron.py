"""When a cron expression holds in a time zone, across the changes of its clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from croniter import croniter

from outbox.errors import ConfigurationError

# Longer than any clock is ever set forward or back.
_SHIFT = timedelta(hours=3)


def check_cron(name: str, expression: str) -> None:
    """Refuses what is not a cron expression.

    Raises:
        ConfigurationError: naming the setting.
    """
    if not croniter.is_valid(expression):
        raise ConfigurationError(
            f"{name}: {expression!r} is not a cron expression (minute hour day month weekday)"
        )


def ticks_after(expression: str, zone: str, after: datetime) -> Iterator[datetime]:
    """The instants, in UTC, at which a cron expression holds in a time zone, later than ``after``.

    A time of day that the clock skips counts as the same time after the skip (02:30 is 03:30 then),
    one that it shows twice counts the first time. Where every hour is meant (the hour is ``*`` or
    ``*/n``) each hour that passes counts, and none is counted twice.
    """
    info = ZoneInfo(zone)
    every_hour = expression.split()[1].startswith("*")
    local = after.astimezone(info).replace(tzinfo=None) - _SHIFT
    walls = croniter(expression, local).all_next(datetime)
    pending: set[datetime] = set()
    for wall in walls:
        # What the wall clock shows so much later comes after all that is pending.
        for tick in sorted(pending):
            if tick.astimezone(info).replace(tzinfo=None) >= wall - _SHIFT:
                break
            pending.discard(tick)
            yield tick
        pending |= {tick for tick in _instants(wall, info, every_hour) if tick > after}


def _instants(wall: datetime, zone: ZoneInfo, every_hour: bool) -> list[datetime]:
    """The instants at which a clock on the wall shows this."""
    first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first.astimezone(zone).replace(tzinfo=None) != wall:
        return [] if every_hour else [first]
    return sorted({first, second}) if every_hour else [first]
