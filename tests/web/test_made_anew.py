"""A later release makes views and functions anew while programs run: they go on."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from outbox import App, Client
from outbox.cli.events import _newest
from outbox.errors import SchemaError
from outbox.store import files
from outbox.store.connect import connect
from outbox.store.migrate import migrate
from outbox.viewer.pulse import pulse
from tests.engine.bench import Bench, Note, make_saga
from tests.fixtures import Schema
from tests.web.api.conftest import TOKENS, ApiClient
from tests.web.conftest import serving
from tests.web.sagas import ORDER
from tests.web.test_live import looking, until

Upgrade = Callable[[Schema], None]

CHANGED = {
    "overview": ("i.version,", "i.version::bigint as version,"),
    "timeline": ("0 as seq", "0::bigint as seq"),
    "counts": ("count(*) as sagas", "count(*)::numeric as sagas"),
    "workers": ("w.pid,", "w.pid::numeric as pid,"),
    "events": ("e.name,", "e.name::varchar(100) as name,"),
}
"""Columns that have another type in the later release."""


@pytest.fixture
def upgrade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Upgrade:
    """Brings a schema to a release in which every view and every function has changed."""
    copy = tmp_path / "sql"
    shutil.copytree(files.sql_directory(), copy)
    for file in [*copy.glob("views/**/*.sql"), *copy.glob("functions/**/*.sql")]:
        text = file.read_text()
        if file.parent.name == "views" and file.stem in CHANGED:
            before, after = CHANGED[file.stem]
            assert text.count(before) == 1, f"{file.stem} has not one {before!r}"
            text = text.replace(before, after)
        file.write_text(f"{text}\n-- made anew\n")
    (copy / "RELEASE").write_text(f"{files.read_release() + 1}\n")

    def run(schema: Schema) -> None:
        async def changed() -> None:
            async with await connect(schema.dsn) as connection:
                plan = await migrate(connection, schema.name)
                assert len(plan.views) > 20
                assert len(plan.functions) > 100

        with monkeypatch.context() as patched:
            patched.setattr(files, "sql_directory", lambda: copy)
            asyncio.run(changed())

    return run


async def test_workers_clients_and_who_looks_on_go_on(schema: Schema, upgrade: Upgrade) -> None:
    bench, saga, client = Bench(schema), make_saga(), Client(schema.name)

    @saga.step(nothing_to_undo="it only tells")
    async def tell(cmd: Any) -> None:
        cmd.emit("note.read", {})

    settings = bench.settings()
    async with (
        bench.worker(App([saga])) as running,
        await psycopg.AsyncConnection.connect(schema.dsn, autocommit=True) as plain,
        await psycopg.AsyncConnection.connect(schema.dsn) as careful,
        await connect(schema.dsn) as top,
        await connect(schema.dsn) as follower,
    ):

        async def everything() -> None:
            """As often as it takes until statements are prepared."""
            for _ in range(8):
                started = await client.start(plain, saga, Note())
                assert (await client.wait(plain, started.id)).status == "COMPLETED"
                for connection in (plain, careful):
                    assert (await client.status(connection, started.id)).version == 1
                    found = await client.find(connection, saga.type, started.key)
                    assert found is not None
                    assert found.id == started.id
                await careful.commit()
                seen = await pulse(top, schema.name, timedelta(seconds=10))
                assert len(seen.workers) == 1
                assert await _newest(
                    follower, settings, "events", "number", ("number", "name"), "*", started.id, 9
                )

        async def look() -> None:
            """Reads one view after the other in one transaction, again and again."""
            async with await connect(schema.dsn) as connection:
                while not ended.is_set():
                    await pulse(connection, schema.name, timedelta(seconds=10))
                    await asyncio.sleep(0.02)

        await everything()
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as looking:
            for _ in range(4):
                looking.create_task(look())
            await asyncio.to_thread(upgrade, schema)
            ended.set()
        await everything()
        told = [one for one in running.told if one[1] in ("warning", "error")]
        assert told == []


def test_the_dashboard_and_the_api_go_on(schema: Schema, upgrade: Upgrade) -> None:
    with serving(schema, tokens=TOKENS, connections=2) as served:
        served.engine.register(ORDER)
        worker = served.engine.worker("order", lease=timedelta(hours=1))
        saga = served.engine.start("order", "made-anew", number=1)
        browser, api = served.browser("vera"), ApiClient(served.base, "viewer")

        def everything() -> None:
            for _ in range(4):
                for path in ("/sagas", f"/sagas/{saga}", "/workers", "/health", "/types/order"):
                    answer = browser.get(path)
                    assert answer.status_code == 200, (path, answer.text)
                for path in (f"/sagas/{saga}", f"/sagas/{saga}/timeline", "/sagas", "/health"):
                    assert api.get(path).status_code == 200, path

        with looking(browser, f"saga/{saga}") as parts, looking(browser, "sagas") as rows:
            held = worker.claim_one()
            until(rows, "saga-rows", "EXECUTING")
            everything()
            upgrade(schema)
            everything()
            while held.fence is not None:
                held = worker.say(held, "done")
            until(parts, "saga-head", "COMPLETED")
            until(rows, "saga-rows", "COMPLETED")
        assert [name for name, _ in served.events if name.endswith("_failed")] == []


def test_a_view_that_is_read_for_good_is_not_waited_for(
    schema: Schema, upgrade: Upgrade, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outbox.store.migrate._PATIENCE", 0.5)
    with schema.connect(autocommit=False) as reader:
        reader.execute("select from overview")
        with pytest.raises(SchemaError, match=r"in use for 0\.5 seconds\. End the transactions"):
            upgrade(schema)
        with schema.connect() as other:
            assert other.execute("select count(*) from timeline").fetchone() == (0,)
    upgrade(schema)
