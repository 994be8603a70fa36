"""Events of the engine: one place to observe from. Logging is one subscriber of them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, Literal

import structlog

from outbox.tally import Tally

Level = Literal["debug", "info", "warning", "error"]
LEVELS: dict[Level, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
Hook = Callable[[str, Level, dict[str, Any]], None]


class Telemetry:
    """Hands each event to the hooks: a name (``transition``), a level and its fields.

    Args:
        hooks: what is told.
        level: the least severe events that it is told of.
        tally: counts all of them, and what is too frequent to be told one by one.
    """

    def __init__(self, *hooks: Hook, level: Level = "debug", tally: Tally | None = None) -> None:
        self.hooks = list(hooks)
        self.tally = tally
        self._least = LEVELS[level]
        self._reported: set[tuple[Hook, str]] = set()

    def wants(self, level: Level) -> bool:
        """Whether events of this level go anywhere; to ask before making one that costs much."""
        return LEVELS[level] >= self._least and bool(self.hooks)

    def emit(self, event: str, level: Level = "info", /, **fields: Any) -> None:
        """Tells every hook. An event about a saga carries saga_id, type, step and attempt.

        A hook that raises does not stop the engine: it is reported on standard error, once for each
        kind of event, and goes on being called.
        """
        if self.tally is not None:
            self.tally.events[event] += 1
        if LEVELS[level] < self._least:
            return
        for hook in self.hooks:
            try:
                hook(event, level, fields)
            except Exception:  # noqa: BLE001 - whatever a subscriber's own code raises
                self._report(hook, event)

    def _report(self, hook: Hook, event: str) -> None:
        if (hook, event) in self._reported:
            return
        self._reported.add((hook, event))
        logging.getLogger("outbox").exception("the telemetry hook %r failed at %s", hook, event)


def log_hook() -> Hook:
    """The hook that writes events as log lines."""
    logger = structlog.get_logger("outbox")

    def write(event: str, level: Level, fields: dict[str, Any]) -> None:
        getattr(logger, level)(event, **fields)

    return write


def configure_logging(level: Level, log_format: Literal["auto", "json", "console"]) -> None:
    """Log lines on standard error, ours and those of the libraries: JSON, or for people."""
    people = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: list[Any] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        if people
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    )
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(logging.WARNING, logging.root.level))
