"""Times as people read them. ``static/live.js`` writes ages in the same words."""

from __future__ import annotations

from datetime import datetime, timedelta


def age_text(age: timedelta) -> str:
    """How long ago, or until: coarse, for what goes on counting."""
    seconds = int(abs(age.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 60:
        return f"{minutes} min"
    if hours < 10:
        return f"{hours} h {minutes % 60} min"
    if hours < 24:
        return f"{hours} h"
    if days < 10:
        return f"{days} d {hours % 24} h"
    return f"{days} d"


def duration_text(duration: timedelta | float) -> str:
    """How long something took: three figures."""
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
    if seconds < 0:
        return "−" + duration_text(-seconds)
    if seconds < 0.001:
        return f"{seconds * 1000:.2f} ms"
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return age_text(timedelta(seconds=seconds))


def instant_text(at: datetime) -> str:
    """An instant, to the second, in UTC or whatever zone it names."""
    return at.strftime("%Y-%m-%d %H:%M:%S")
