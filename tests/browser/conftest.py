"""Everything real: Chromium, the dashboard, the database, a worker, the payment provider's sandbox.

All tests of this directory run in one process, since they share it all.
"""

from __future__ import annotations

import hashlib
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.chromium import chromium, find_chromium
from tests.browser.pictures import log_in
from tests.fixtures import Schema
from tests.payments.world import World, make_payment
from tests.waiting import wait_until
from tests.web.conftest import PASSWORD, Served, serving
from tests.web.sagas import ORDER, PURCHASE
from tests.web.world import make_world

HERE = Path(__file__).parent
SECONDS = 30.0
"""Within which what is waited for has to happen, on a machine that is busy with other tests."""
expect.set_options(timeout=SECONDS * 1000)
TOKEN = "ob_a-token-of-the-tests"
WATCH_SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries())
    window.shifts.push({
      value: entry.value, recent: entry.hadRecentInput,
      what: entry.sources.map((s) => [
        s.node?.nodeName, s.node?.parentElement?.outerHTML.slice(0, 160),
        JSON.stringify(s.previousRect), JSON.stringify(s.currentRect),
      ]),
    });
}).observe({ type: "layout-shift", buffered: true });
"""


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.xdist_group("browser"))


@dataclass
class Shop:
    """Payments and those who watch them."""

    world: World
    served: Served
    sagas: SimpleNamespace
    """Further sagas in every condition, which nothing moves; some are full of markup."""

    @property
    def base(self) -> str:
        """The dashboard's address."""
        return f"{self.served.base}/admin"

    def pay(self, key: str, **changes: Any) -> str:
        """Start a payment through the API; its saga's id."""
        answer = httpx.post(
            f"{self.served.base}/api/payments",
            content=make_payment(**changes).model_dump_json(exclude_none=True),
            headers={
                "Authorization": f"Bearer {TOKEN}",
                "Idempotency-Key": key,
                "Content-Type": "application/json",
            },
            timeout=20,
        )
        assert answer.status_code == 202, answer.text
        return answer.headers["Location"].rpartition("/")[2]

    def wait_until(self, saga: str, status: str) -> None:
        """Wait until a saga has come to a status."""
        query = "select 1 from overview where saga_id = %s and status = %s"
        wait_until(lambda: self.world.rows(query, saga, status), message=f"{saga} is {status}")

    @contextmanager
    def worker_stopped(self) -> Iterator[None]:
        """Nothing moves meanwhile."""
        worker = self.world.workers[0].process
        worker.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            worker.send_signal(signal.SIGCONT)


@pytest.fixture(scope="package")
def shop(postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A dashboard on a database in which a worker runs payments."""
    program = find_chromium()
    if program is None:
        missing = "Chromium is not installed: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    directory = tmp_path_factory.mktemp("browser")
    # A lease that outlasts a stop of the worker; a poll that finds what nobody told it of.
    world = World(postgres_dsn, directory, OUTBOX_LEASE="60", OUTBOX_POLL="0.3")
    tokens = f"shop:operator:{hashlib.sha256(TOKEN.encode()).hexdigest()}"
    with world, serving(Schema(postgres_dsn, world.schema), tokens=tokens) as served:
        served.engine.register(ORDER, PURCHASE)
        sagas = make_world(served.engine)
        world.worker().ready()
        yield Shop(world, served, sagas)


@pytest.fixture(scope="package")
def browser(shop: Shop) -> Iterator[Browser]:
    """Chromium. It is begun last: while it runs, this thread can run no event loop of its own."""
    program = find_chromium()
    assert program is not None
    with chromium(program) as running:
        yield running


@dataclass
class Visitor:
    """A browser's window, and all that it complains of."""

    context: BrowserContext
    page: Page
    base: str
    troubles: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        """Go to a page of the dashboard."""
        answer = self.page.goto(f"{self.base}{path}")
        assert answer is not None
        assert answer.ok, f"{path}: {answer.status}"
        return self.page

    def open_live(self, path: str) -> Page:
        """Go to a page, and wait until it is kept up to date."""
        page = self.open(path)
        page.wait_for_selector('.live[data-state="on"]', state="attached")
        return page


Visits = Callable[..., Visitor]


@pytest.fixture
def visit(shop: Shop, browser: Browser) -> Iterator[Visits]:
    """Opens windows: `visit("ann", **options of Playwright's new_context)`. An error in their
    consoles, an exception or a dialog fails the test."""
    opened: list[Visitor] = []

    def make(name: str | None = None, **options: Any) -> Visitor:
        context = browser.new_context(**{"reduced_motion": "reduce", **options})
        context.set_default_timeout(SECONDS * 1000)
        page = context.new_page()
        visitor = Visitor(context, page, shop.base)
        opened.append(visitor)
        troubles = visitor.troubles
        page.on("console", lambda said: troubles.append(said.text) if said.type == "error" else 0)
        page.on("pageerror", lambda error: troubles.append(str(error)))

        def dismiss(dialog: Any) -> None:
            troubles.append(f"a dialog: {dialog.message}")
            dialog.dismiss()

        page.on("dialog", dismiss)
        page.add_init_script(WATCH_SHIFTS)
        if name is not None:
            log_in(page, shop.base, name, PASSWORD)
        return visitor

    yield make
    troubles = [trouble for visitor in opened for trouble in visitor.troubles]
    for visitor in opened:
        visitor.context.close()
    assert troubles == []


@pytest.fixture
def key() -> str:
    """A payment's key that no other test has."""
    return f"sale-{uuid.uuid4().hex[:8]}"
