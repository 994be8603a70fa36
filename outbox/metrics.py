"""Metrics for Prometheus (https://prometheus.io/docs/instrumenting/exposition_formats/): what a
worker counts, and what the database says of all of them. Needs the extra ``metrics``."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import psycopg

from outbox.errors import ConfigurationError
from outbox.store.connect import complete_dsn, cut
from outbox.store.functions import call
from outbox.tally import Histogram, Tally

try:
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.registry import Collector
except ImportError:  # the extra is not installed
    HAS_PROMETHEUS = False
    Collector = object  # type: ignore[assignment,misc]  # only so that the classes below can be made
else:
    HAS_PROMETHEUS = True

Gauges = Sequence[tuple[str, Mapping[str, str], float]]
"""Rows of the SQL function ``gauges``: name, labels, value."""

_KEPT = 5.0
_MARGIN = 2.0
_LIMIT = "select set_config('statement_timeout', %s, true)"
_HELP = {
    "live_sagas": "Live sagas, by type and status",
    "commands": "Commands, by type and standing: due, claimed, delayed, waiting, suspended",
    "oldest_due_seconds": "How long the oldest due command of a type has been due",
    "suspended_sagas": "Sagas that wait for a person, by type",
    "stuck_sagas": "Sagas with no transition for longer than setting.stuck_after, by type",
    "workers": "Registered workers, by state: busy, idle, draining, dead",
    "deliveries": "Events on their way, by subscription and standing: waiting, dead",
    "open_alerts": "Alerts that are not resolved, by kind",
    "limit_taken": "What is taken of each limit",
    "limit_amount": "What each limit allows",
    "oldest_snapshot_seconds": "Age of the oldest snapshot, which vacuum has to spare",
    "dead_rows": "Dead rows of the hot tables, by table",
}
_WORDS = {
    "worker_lost": ("leases_lost", "Times that this worker was taken for dead"),
    "command_reaped": ("commands_reaped", "Commands that this worker took from dead ones"),
    "outcome_refused": ("outcomes_refused", "Outcomes that came too late: another had the command"),
    "database_trouble": ("database_troubles", "Times that a connection broke"),
}


def require_metrics() -> None:
    """Says what is missing.

    Raises:
        ConfigurationError: the extra is not installed.
    """
    if not HAS_PROMETHEUS:
        raise ConfigurationError(
            "metrics need prometheus-client: pip install 'outbox-saga[metrics]'"
        )


class WorkerMetrics(Collector):
    """What one worker counts."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def collect(self) -> Iterator[Metric]:
        """The families; called from the server's thread, so it copies before it reads."""
        tally = self._tally
        transitions = dict(tally.transitions)
        labels = ["type", "step", "kind"]
        family = CounterMetricFamily(
            "outbox_transitions", "Transitions committed by this worker",
            labels=[*labels, "outcome"],
        )  # fmt: skip
        retries = CounterMetricFamily("outbox_retries", "Attempts to be repeated", labels=labels)
        for key, count in transitions.items():
            family.add_metric(key, count)
            if key[3] == "retry":
                retries.add_metric(key[:3], count)
        yield family
        yield retries
        attempts = HistogramMetricFamily(
            "outbox_attempt_seconds", "How long handlers ran", labels=labels
        )
        for attempted, histogram in dict(tally.attempts).items():
            _add(attempts, attempted, histogram)
        yield attempts
        ended = CounterMetricFamily(
            "outbox_sagas_ended", "Sagas that this worker brought to their end",
            labels=["type", "status"],
        )  # fmt: skip
        for end, count in dict(tally.ended).items():
            ended.add_metric(end, count)
        yield ended
        for name, text, sizes in (
            ("claim", "Commands found by a claim that found any", tally.claims),
            ("commit", "Outcomes in one commit", tally.commits),
        ):
            batches = HistogramMetricFamily(f"outbox_{name}_size", text)
            _add(batches, (), sizes)
            yield batches
        events = dict(tally.events)
        for event, (name, text) in _WORDS.items():
            yield CounterMetricFamily(f"outbox_{name}", text, value=events.get(event, 0))
        told = CounterMetricFamily(
            "outbox_events", "What this worker told its log, by the event's name", labels=["event"]
        )
        for event, count in events.items():
            told.add_metric([event], count)
        yield told
        for name, read in tally.readings.items():
            yield GaugeMetricFamily(
                f"outbox_{name}", name.replace("_", " ").capitalize(), value=read()
            )


class DatabaseMetrics(Collector):
    """What the database says of all sagas and workers: the same, whichever process is asked, so
    take the maximum over them (``max by (type) (…)``).

    Args:
        gauges: reads the rows; what it raises of psycopg shows as ``outbox_database_up 0``.
    """

    def __init__(self, gauges: Callable[[], Gauges]) -> None:
        self._gauges = gauges
        self._lock = threading.Lock()
        self._kept: Gauges = ()
        self._read_at = float("-inf")

    def collect(self) -> Iterator[Metric]:
        """The families; what was read in the last five seconds is not read again."""
        try:
            with self._lock:
                if time.monotonic() - self._read_at > _KEPT:
                    self._kept = self._gauges()
                    self._read_at = time.monotonic()
                rows = self._kept
        except psycopg.Error:
            yield GaugeMetricFamily("outbox_database_up", "Whether it answered", value=0)
            return
        yield GaugeMetricFamily("outbox_database_up", "Whether it answered", value=1)
        yield from gauge_families(rows)


def gauge_families(rows: Gauges) -> Iterator[Metric]:
    """The rows of ``gauges`` as families, every known one, an empty one too."""
    by_name: dict[str, list[tuple[Mapping[str, str], float]]] = defaultdict(list)
    for name, labels, value in rows:
        by_name[name].append((labels, value))
    for name, text in _HELP.items():
        family = GaugeMetricFamily(f"outbox_{name}", text)
        for labels, value in by_name[name]:
            family.add_sample(f"outbox_{name}", dict(labels), value)
        yield family


class GaugeReader:
    """Reads ``gauges`` on a connection of its own, opened when first asked; called from threads.

    Args:
        dsn: the database.
        seconds: how long it has to answer; a lock may be in the way, and who scrapes does not wait.
    """

    def __init__(self, dsn: str, schema: str, seconds: float = 5.0) -> None:
        self._dsn = complete_dsn(dsn, application_name="outbox metrics")
        self._seconds = seconds
        self._limit = f"{seconds * 1000:.0f}ms"
        self._statement = call(schema, "select name, labels, value from {}.gauges()")
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def __call__(self) -> Gauges:
        """The rows.

        Raises:
            psycopg.Error: the database did not answer; the next call connects anew.
        """
        try:
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(
                    self._dsn,
                    autocommit=True,
                    prepare_threshold=None,
                )
            # A server that hangs, or was replaced, would not keep that limit.
            timer = threading.Timer(self._seconds + _MARGIN, cut, (self._connection,))
            timer.start()
            try:
                with self._connection.transaction():
                    self._connection.execute(_LIMIT, (self._limit,))
                    return self._connection.execute(self._statement).fetchall()
            finally:
                timer.cancel()
        except psycopg.Error:
            self.close()
            raise

    def close(self) -> None:
        """Closes the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def registry(collectors: Iterable[Collector]) -> CollectorRegistry:
    """A registry with these collectors, and nothing else."""
    made = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        made.register(collector)
    return made


def serve(host: str, port: int, collectors: Iterable[Collector]) -> tuple[int, Callable[[], None]]:
    """Serves ``/metrics`` from a thread.

    Args:
        port: 0: any that is free.

    Returns:
        The port; and how to end it.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    try:
        server, thread = start_http_server(port, addr=host, registry=registry(collectors))
    except OSError as error:
        raise ConfigurationError(
            f"OUTBOX_METRICS_HOST={host} OUTBOX_METRICS_PORT={port}: {error.strerror}. "
            "Choose another port for each worker of a host; 0 takes any that is free"
        ) from error

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return int(server.server_port), end


def _add(family: HistogramMetricFamily, labels: Sequence[str], histogram: Histogram) -> None:
    below, buckets = 0, []
    counts = list(histogram.counts)
    for bound, count in zip((*histogram.bounds, float("inf")), counts, strict=True):
        below += count
        buckets.append(("+Inf" if bound == float("inf") else str(float(bound)), below))
    family.add_metric(labels, buckets, histogram.total)
