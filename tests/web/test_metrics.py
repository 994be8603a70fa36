"""``/metrics`` of the web server."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from outbox.web.metrics import Scrapes
from tests.web.api.conftest import TOKENS, ApiClient
from tests.web.conftest import Served, serving


def samples_of(answer: httpx.Response) -> dict[str, float]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        sample.name + str(dict(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_it_tells_what_the_database_says(served: Served) -> None:
    served.engine.start("order", "counted", number=1)
    found = samples_of(httpx.get(f"{served.base}/metrics"))
    assert found["outbox_database_up{}"] == 1
    assert found["outbox_live_sagas{'status': 'CREATED', 'type': 'order'}"] == 1
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: httpx.get(f"{served.base}/metrics").text, range(16)))
    assert len(set(answers)) == 1  # one reading, for five seconds


def test_it_can_ask_for_a_token_or_not_be_there(served: Served) -> None:
    with serving(served.engine.schema, tokens=TOKENS, metrics="token") as guarded:
        assert httpx.get(f"{guarded.base}/metrics").status_code == 401
        assert ApiClient(guarded.base, "viewer").http.get("/metrics").is_success
    with serving(served.engine.schema, metrics="off") as without:
        assert httpx.get(f"{without.base}/metrics").status_code == 404


class _Counting:
    """Counts how often it is read."""

    def __init__(self) -> None:
        self.reads = 0

    def collect(self) -> Iterator[Metric]:
        self.reads += 1
        yield GaugeMetricFamily("outbox_reads", "Reads", value=self.reads)


@pytest.mark.anyio
async def test_scrapes_of_five_seconds_are_one_reading() -> None:
    counting, made, now = _Counting(), CollectorRegistry(), [0.0]
    made.register(counting)
    scrapes = Scrapes(made, clock=lambda: now[0])
    before = counting.reads
    first = await scrapes.text()
    now[0] = 4.9
    assert await scrapes.text() == first
    now[0] = 5.1
    assert await scrapes.text() != first
    assert counting.reads == before + 2
