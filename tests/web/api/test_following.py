"""``GET /api/sagas/{id}/events``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from outbox.web.api.shown import shown
from tests.sql.engine import Worker
from tests.waiting import wait_until
from tests.web.api.conftest import TOKENS, ApiClient, problem_of
from tests.web.conftest import Served, serving

Event = tuple[str | None, str, Any]


@contextmanager
def following(client: ApiClient, saga: Any, last: str | None = None) -> Iterator[Iterator[Event]]:
    """The events of a stream: id, name, data."""
    headers = {} if last is None else {"Last-Event-ID": last}
    with client.http.stream("GET", f"/api/sagas/{saga}/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield _events(answer)


def _events(answer: httpx.Response) -> Iterator[Event]:
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield fields.get("id"), fields["event"], json.loads(fields["data"])
            fields = {}


def test_a_saga_is_followed_from_its_start_to_its_end(
    api: Served, viewer: ApiClient, worker: Worker
) -> None:
    saga = api.engine.start("order", "followed", number=1)
    with ThreadPoolExecutor(2) as pool:

        def follow() -> list[Event]:
            with following(ApiClient(api.base, "viewer"), saga) as events:
                return list(events)

        followers = [pool.submit(follow), pool.submit(follow)]
        wait_until(lambda: len(api.site.live._watchers) == 2)
        held = worker.claim_one()
        while held.fence is not None:
            held = worker.say(held, "done")
        seen, other = (one.result(20) for one in followers)
    assert seen == other
    moments = viewer.get(f"/sagas/{saga}/timeline").json()["moments"]
    assert [data for _, name, data in seen if name == "transition"] == moments
    assert [id for id, name, _ in seen if name == "transition"] == [
        str(one["seq"]) for one in moments
    ]
    assert seen[-1][:2] == (None, "end")
    assert seen[-1][2] == viewer.get(f"/sagas/{saga}").json()
    wait_until(lambda: not api.site.live._watchers)

    # Who comes back goes on where he was; who has seen all is sent away for good.
    with following(viewer, saga, last="2") as events:
        rest = list(events)
    assert [id for id, _, _ in rest] == [str(one["seq"]) for one in moments[3:]] + [None]
    gone = viewer.http.get(
        f"/api/sagas/{saga}/events", headers={"Last-Event-ID": str(moments[-1]["seq"])}
    )
    assert (gone.status_code, gone.content) == (204, b"")
    bad = viewer.http.get(f"/api/sagas/{saga}/events", headers={"Last-Event-ID": "two"})
    problem_of(bad, 400, "malformed")


def test_a_rerun_hides_nothing_of_the_end(api: Served, operator: ApiClient, worker: Worker) -> None:
    """It stands in the timeline at the last transition's seq."""
    saga = api.engine.start("order", "followed-rerun", number=1)
    held = worker.claim_one()
    while held.fence is not None:
        held = worker.say(held, "done")
    operator.post(f"/sagas/{saga}/rerun", {"note": "again"})
    with following(operator, saga) as events:
        seen = list(events)
    assert [data["what"] for _, name, data in seen if name == "transition"][-1].startswith(
        "archive: done"
    )


def test_what_was_read_in_vain_is_read_again(
    api: Served, viewer: ApiClient, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reading breaks between the history and whoever follows it."""
    saga = api.engine.start("order", "followed-twice", number=1)
    held = worker.claim_one()
    while held.fence is not None:
        held = worker.say(held, "done")
    with following(viewer, saga) as events:
        whole = list(events)
    broken = []

    def breaks(*given: Any) -> Any:
        if not broken:
            broken.append(given)
            raise RuntimeError("it is not to be shown this once")
        return shown(*given)

    monkeypatch.setattr("outbox.web.api.events.shown", breaks)
    with following(viewer, saga) as events:
        assert list(events) == whole
    assert broken


def test_who_follows_what_is_removed_is_not_kept_waiting(
    api: Served, viewer: ApiClient, worker: Worker
) -> None:
    """It may end and be removed between two readings."""
    saga = api.engine.start("order", "removed", number=1)
    with following(viewer, saga) as events:
        assert next(events)[1] == "transition"
        with api.engine.connection.transaction():
            api.engine.execute("select cancel(%s, 'over')", saga)
            api.engine.execute("select forget_sagas(array[%s::uuid], clock())", saga)
        assert [name for _, name, _ in events] == []
    problem_of(viewer.http.get(f"/api/sagas/{saga}/events"), 404, "not-found")


def test_there_are_only_so_many_streams(api: Served) -> None:
    saga = api.engine.start("order", "crowded", number=1)
    with serving(api.engine.schema, tokens=TOKENS, streams=1) as small:
        client = ApiClient(small.base, "viewer")
        with following(client, saga) as events:
            assert next(events)[1] == "transition"
            full = client.get(f"/sagas/{saga}/events")
            problem_of(full, 503, "unavailable")
            assert full.headers["retry-after"]
