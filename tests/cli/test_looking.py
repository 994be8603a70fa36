"""What an operator looks at by `bin/saga`: lists, one saga as a tree, the fleet, and dry runs."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.app import order
from tests.cli.conftest import SagaProgram, environment
from tests.engine.bench import Bench
from tests.fixtures import Schema
from tests.payments.world import ROOT


@pytest.fixture
def bench(schema: Schema) -> Bench:
    return Bench(schema)


def start(run: SagaProgram, end: str, key: str) -> str:
    given = json.dumps({"end": end, "amount": 7})
    return str(run("start", "order", "--input", given, "--key", key, "--json").json["id"])


@pytest.fixture
async def ended(registered: SagaProgram, bench: Bench) -> dict[str, str]:
    """The ids of one saga that went well, one that failed, one that stopped, one that waits."""
    ids = {end: start(registered, end, f"k-{end}") for end in ("well", "refused", "suspended")}
    async with bench.worker(order):
        await bench.all_settled()
    return {**ids, "waiting": start(registered, "well", "k-waiting")}


NOTE = ("--note", "the printer has paper")


async def test_lists_and_trees(registered: SagaProgram, ended: dict[str, str]) -> None:
    def keys(*arguments: str) -> list[str]:
        return [row["key"] for row in registered("list", *arguments, "--json").json]

    assert keys("--status", "failed", "--status", "suspended") == ["k-suspended", "k-refused"]
    assert keys("--state", "TAKEN") == []
    assert keys("--step", "thank") == ["k-suspended"]
    assert keys("--error", "ValueError") == ["k-suspended"]
    assert keys("--key", "k-w") == ["k-waiting", "k-well"]
    assert keys("--older-than", "1h") == []
    assert len(keys("--younger-than", "1h", "--type", "order")) == 4
    first = registered("list", "--limit", "3", "--json")
    assert first.err.startswith("more: --before ")
    before = first.err.split()[2]
    assert keys("--limit", "3", "--before", before) == ["k-well"]
    wrong = registered("list", "--status", "done")
    assert (wrong.code, "there is no status DONE" in wrong.err) == (2, True)
    assert "we [bold]do not[/bold] want it" in registered("list", "--status", "failed").out

    shown = registered("show", "k-suspended").out
    assert "order k-suspended SUSPENDED" in shown
    assert shown.index("take: done") < shown.index("send: done") < shown.index("thank: ")
    assert "applies     retry, skip, amend, abort, resolve, pause" in shown
    assert "ValueError: no paper" in shown
    assert "attempt 1: " not in shown
    assert "attempt 1: " in registered("show", "k-suspended", "--errors").out
    as_json = registered("show", "k-suspended", "--json").json
    assert (as_json["lines"][0]["standing"], as_json["applies"][0]) == ("suspended", "retry")


async def test_trace_follows_a_saga_to_its_end(
    registered: SagaProgram, ended: dict[str, str]
) -> None:
    failed = registered("trace", "k-refused")
    assert failed.code == 1
    assert [line[24:].strip().split(":")[0] for line in failed.out.splitlines()][:2] == [
        "order k-refused started",
        "take",
    ]
    as_json = registered("trace", ended["well"], "--json")
    assert as_json.code == 0
    told = [json.loads(line) for line in as_json.out.splitlines()]
    assert [moment["seq"] for moment in told] == [0, 1, 2, 3]
    assert registered("trace", "k-suspended", "--timeout", "0").code == 3
    assert registered("trace", "k-waiting", "--timeout", "0").code == 4


async def test_the_fleet_and_what_is_wrong(
    registered: SagaProgram, ended: dict[str, str], bench: Bench
) -> None:
    assert registered("workers").out.startswith("no worker is registered")
    health = registered("health")
    assert health.code == 1, "cron hears of it"
    assert "error: no worker: no worker lives, and 2 sagas do" in health.out
    assert {f["finding"] for f in registered("health", "--json").json} >= {"no worker", "suspended"}
    (group,) = registered("errors", "--window", "1h", "--json").json[:1]
    assert {group["count"], group["sagas"]} == {1}
    assert "ValueError" in registered("errors", "--type", "order").out
    (rate,) = registered("rates", "--window", "1h", "--bucket", "1d", "--json").json
    assert (rate["started"], rate["completed"], rate["failed"], rate["suspended"]) == (4, 1, 1, 1)
    assert rate["rate"] == pytest.approx(1 / 3, abs=1e-5)
    assert {"take", "send", "thank"} <= set(registered("rates", "--steps").out.split())
    assert registered("limits").out == "no limits\n"
    assert registered("schedules").out == "no schedules\n"
    assert registered("running", "--json").json == []
    frame = registered("top", "--once").out
    assert "2 sagas live" in frame
    assert "no worker: start one by bin/worker" in frame
    assert "k-suspended" in frame
    assert registered("top", "--json").json["workers"] == []
    registered("resolve", "k-suspended", "completed", *NOTE)
    async with bench.worker(order):
        await bench.all_settled()
        (worker,) = registered("workers", "--json").json
        assert (worker["standing"], worker["runs"]) == ("alive", ["order v1"])
        assert "1 workers" in registered("top", "--once").out
        assert registered("health").code == 0


async def test_a_dry_run_says_what_would_happen_and_changes_nothing(
    registered: SagaProgram, ended: dict[str, str]
) -> None:
    dry = (*NOTE, "--dry-run")
    tail = " (dry run: nothing was changed)\n"
    id_ = ended["suspended"]
    assert registered("retry", id_, *dry).out == f"{id_}: SUSPENDED -> EXECUTING{tail}"
    assert registered("resolve", id_, "failed", *dry).out == f"{id_}: SUSPENDED -> FAILED{tail}"
    assert (
        registered("skip", id_, "--result", "1", *dry).out == f"{id_}: SUSPENDED -> COMPLETED{tail}"
    )
    aborted = registered("abort", id_, *dry).out.splitlines()
    assert aborted[0] == "undo: take"
    assert aborted[1].startswith("stays: ")
    assert aborted[-1] == f"{id_}: SUSPENDED -> COMPENSATING{tail.strip(chr(10))}"
    changed = '{"end": "well", "amount": 8}'
    assert tail in registered("amend", id_, "--input", changed, *dry).out
    assert registered("pause", id_, *dry).out.endswith(tail)
    assert registered("pause", "--all", *dry).out.endswith(tail)
    assert registered("rerun", "k-refused", *dry).out == (
        f"{ended['refused']}: would start order version 1 as k-refused/rerun/1\n"
    )
    refused = registered("cancel", ended["well"], *dry)
    assert (refused.code, "has ended" in refused.err) == (2, True)
    assert len(registered("list", "--json").json) == 4
    assert registered("paused", "--json").json == []
    shown = registered("show", id_, "--json").json
    assert (shown["status"], shown["acts"]) == ("SUSPENDED", [])


def test_help_is_grouped_and_whole(saga_program: SagaProgram) -> None:
    shown = saga_program("--help").out
    for panel in ("Look:", "Act on sagas:", "Start and tell:", "Install and keep:"):
        assert panel in shown
    assert "…" not in shown.split("Settings are")[0].replace("OUTBOX_…", "")
    assert "..." not in shown.split("Commands")[-1].replace("[ARGS]...", "")
    assert "explain-abort" in shown
    assert saga_program("explain", "--help").code == 0, "its former name"


def test_the_shell_completes(registered: SagaProgram) -> None:
    def complete(words: str) -> list[str]:
        ran = registered(
            _SAGA_COMPLETE="complete_bash",
            COMP_WORDS=words,
            COMP_CWORD=str(len(words.split(" ")) - 1),
        )
        return ran.out.split()

    assert complete("saga list --status COM") == ["COMPENSATING", "COMPLETED"]
    assert complete("saga list --type or") == ["order"]
    assert "top" in complete("saga to")


def test_top_is_left_by_a_key(schema: Schema) -> None:
    """On a terminal of its own."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "outbox.cli.saga", "top", "--every", "0.2"],
        stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, cwd=ROOT,
        env={**environment(schema), "TERM": "xterm"},
    ) as program:  # fmt: skip
        os.close(theirs)
        seen = b""
        end = time.monotonic() + 20
        while b"sagas live" not in seen and time.monotonic() < end:
            if select.select([ours], [], [], 0.5)[0]:
                seen += os.read(ours, 65536)
        assert b"sagas live" in seen
        os.write(ours, b"q")
        while program.poll() is None and time.monotonic() < end:
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    os.read(ours, 65536)
                except OSError:
                    break
        assert program.wait(timeout=10) == 0
        assert program.stderr is not None
        assert program.stderr.read() == b""
    os.close(ours)


def test_psql_knows_the_shortcuts(registered: SagaProgram, schema: Schema, tmp_path: Path) -> None:
    start(registered, "well", "k-1")
    source = (ROOT / "sql" / "psqlrc").read_text()
    names = set(re.findall(r"^\\set (\w+) 'select", source, re.MULTILINE))
    (shown,) = re.findall(r"^\\set shortcuts '([^;]*);.*'", source, re.MULTILINE)
    assert names == {name.strip(":") for name in shown.split()} | {"show", "story"}
    own = tmp_path / "psqlrc"
    own.write_text("\\echo my own\n")
    typed = "\n".join(f":{name}" for name in sorted(names - {"show", "story"}))
    ran = subprocess.run(
        [ROOT / "bin" / "saga", "psql", "-q", "-v", "ON_ERROR_STOP=1"],
        input=f"{typed}\n\\set saga k-1\n:show\n:story\n:help\n",
        env={**environment(schema), "PSQLRC": str(own)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stderr == ""
    assert ran.returncode == 0
    assert ran.stdout.startswith("my own\n")
    assert "order k-1 started" in ran.stdout
    assert ":overview" in ran.stdout
