"""`/metrics` of a worker: read over HTTP from a real one, and compared with the tables."""

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import psycopg
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from outbox.metrics import DatabaseMetrics, GaugeReader, WorkerMetrics, registry
from outbox.tally import Histogram, Tally
from tests.cli.conftest import SagaProgram, environment
from tests.cli.conftest import saga_program as saga_program
from tests.fixtures import Schema
from tests.payments.world import ROOT
from tests.waiting import wait_until

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(url: str) -> Samples:
    text = urlopen(url, timeout=10).read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


@pytest.fixture
def worker_url(schema: Schema, tmp_path: Path) -> Iterator[str]:
    """The address of a real worker's metrics."""
    log = tmp_path / "worker.log"
    with log.open("w") as said:
        worker = subprocess.Popen(
            [sys.executable, "-m", "outbox.cli.worker"],
            env=environment(
                schema,
                OUTBOX_METRICS_PORT="0",
                OUTBOX_LOG_FORMAT="json",
                OUTBOX_LOG_LEVEL="info",
            ),
            cwd=ROOT,
            stderr=said,
        )
    try:
        wait_until(lambda: "worker_registered" in log.read_text() or worker.poll() is not None)
        found = re.search(r"http://[^\"]+/metrics", log.read_text())
        assert found is not None, log.read_text()
        yield found[0]
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=30) == 0, log.read_text()


def test_a_worker_tells_what_it_did(
    schema: Schema, worker_url: str, saga_program: SagaProgram
) -> None:
    for key, end in (("a", "well"), ("b", "refused"), ("c", "suspended")):
        given = f'{{"amount": 1, "end": "{end}"}}'
        assert saga_program("start", "order", "--key", key, "--input", given).code == 0
    with schema.connect() as connection:
        wait_until(
            lambda: (
                connection.execute("select array_agg(status order by key) from overview").fetchone()
                == (["COMPLETED", "FAILED", "SUSPENDED"],)
            )
        )
        kept = connection.execute(
            "select step, kind, outcome, count(*) from transition group by 1, 2, 3"
        ).fetchall()
    wait_until(
        lambda: (
            {
                tuple(dict(labels)[n] for n in ("step", "kind", "outcome"))
                for (name, labels) in scrape(worker_url)
                if name == "outbox_transitions_total"
            }
            >= {row[:3] for row in kept if row[2] == "done"}
        )
    )
    samples = scrape(worker_url)
    told = sum(value for (name, _), value in samples.items() if name == "outbox_transitions_total")
    assert told == sum(row[3] for row in kept)
    assert of(samples, "outbox_sagas_ended_total", type="order", status="COMPLETED") == 1
    assert of(samples, "outbox_sagas_ended_total", type="order", status="FAILED") == 1
    took = {"type": "order", "step": "take", "kind": "action"}
    assert of(samples, "outbox_attempt_seconds_count", **took) == 3
    assert of(samples, "outbox_attempt_seconds_bucket", **took, le="+Inf") == 3
    assert of(samples, "outbox_commit_size_count") > 0
    assert of(samples, "outbox_claim_size_sum") >= 3
    assert of(samples, "outbox_leases_lost_total") == 0
    assert of(samples, "outbox_in_hand") == 0
    assert of(samples, "outbox_database_up") == 1


def test_the_database_tells_what_there_is(schema: Schema, saga_program: SagaProgram) -> None:
    assert saga_program("register").code == 0
    for key in ("a", "b"):
        assert saga_program("start", "order", "--key", key, "--input", '{"amount": 1}').code == 0
    reader = GaugeReader(schema.dsn, schema.name)
    with schema.connect() as connection:
        connection.execute("select register_worker(gen_random_uuid(), 'h', 1, '{}', '{}', '15s')")
    found = registry([DatabaseMetrics(reader)])
    assert found.get_sample_value("outbox_database_up") == 1
    labels = {"type": "order"}
    assert found.get_sample_value("outbox_live_sagas", {**labels, "status": "CREATED"}) == 2
    assert found.get_sample_value("outbox_commands", {**labels, "standing": "due"}) == 2
    oldest = found.get_sample_value("outbox_oldest_due_seconds", labels)
    assert oldest is not None
    assert oldest > 0
    assert found.get_sample_value("outbox_workers", {"state": "busy"}) == 1
    reader.close()


def test_a_lock_in_the_way_keeps_no_scraper_waiting(schema: Schema) -> None:
    reader = GaugeReader(schema.dsn, schema.name, 0.2)
    with schema.connect() as connection, connection.transaction():
        connection.execute("lock table outbox in access exclusive mode")
        with pytest.raises(psycopg.errors.QueryCanceled):
            reader()
    assert reader()
    reader.close()


def test_a_database_that_is_away_is_told_and_comes_back(schema: Schema) -> None:
    reader = GaugeReader("postgresql://nobody@127.0.0.1:1/none", schema.name)
    assert registry([DatabaseMetrics(reader)]).get_sample_value("outbox_database_up") == 0
    with pytest.raises(psycopg.OperationalError):
        reader()


def test_a_port_that_is_taken_is_refused_in_a_line(schema: Schema) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [sys.executable, "-m", "outbox.cli.worker"],
            env=environment(schema, OUTBOX_METRICS_PORT=str(port)), cwd=ROOT,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert ended.returncode == 2
    assert f"OUTBOX_METRICS_PORT={port}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_value_falls_below_its_bound() -> None:
    histogram = Histogram((1, 2, 5))
    for value in (0.5, 1, 1.5, 5, 6):
        histogram.add(value)
    assert histogram.counts == [2, 1, 1, 1]
    assert histogram.total == 14


@pytest.mark.parametrize("name", ["metrics.md", "metrics/alerts.yml", "metrics/grafana.json"])
def test_the_documents_name_what_there_is(name: str) -> None:
    known = {
        sample
        for collector in (WorkerMetrics(Tally()), DatabaseMetrics(lambda: ()))
        for family in collector.collect()
        for sample in names_of(family)
    }
    text = (ROOT / "docs" / name).read_text()
    named = set(re.findall(r"outbox_[a-z_]+", text))
    assert named
    assert named <= known | {"outbox_in_hand", "outbox_running"}


def names_of(family: Metric) -> set[str]:
    """What a family is called, and what its samples are."""
    endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count", ""]}
    return {family.name + ending for ending in endings.get(family.type, [""])}
