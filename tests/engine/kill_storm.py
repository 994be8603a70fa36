"""A storm whose workers are processes: killed, stopped beyond their lease, cut off their database,
which crashes too."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

from outbox.store.embedded import EmbeddedServer
from tests.engine.any_shape import World
from tests.engine.bench import NEVER, Bench, until
from tests.engine.kept_world import DEEDS, KeptWorld
from tests.engine.storm import Storm
from tests.payments.world import WorkerProcess

APP = "tests.engine.storm_app:app"
LEASE = 1.0
_CUT = """
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name like 'outbox %%'
    order by random() limit %s
"""
_LOST_BY_US = (None, "57P01", "57P02", "57P03", "57P05", "25P03")


class KillStorm(Storm):
    """The storm in processes.

    Args:
        directory: for their logs.
        server: crashes now and then, if it is the test's own.
        the others: see ``Storm``.
    """

    def __init__(
        self,
        bench: Bench,
        seed: int,
        directory: Path,
        *,
        types: int,
        mischief: float = 1,
        server: EmbeddedServer | None = None,
        **more: Any,
    ) -> None:
        self._told = {"seed": seed, "types": types, "mischief": mischief}
        super().__init__(bench, seed, types=types, mischief=mischief, **more)
        self._directory = directory
        self._server = server
        self._processes: list[WorkerProcess] = []
        self._numbers = itertools.count()
        self.deaths = 0

    def make_world(self, seed: int, mischief: float) -> World:
        return KeptWorld(seed, self.bench.schema.name, mischief)

    def parts(self) -> list[Coroutine[Any, Any, None]]:
        crashes = [] if self._server is None else [self._crash(self._server)]
        return [*super().parts(), self._cut(), *crashes]

    async def run(self) -> None:
        await self.bench.rows(DEEDS)
        try:
            await super().run()
        finally:
            for process in self._processes:
                if process.process.poll() is None:
                    process.kill()

    async def check(self) -> None:
        assert isinstance(self.world, KeptWorld)
        async with self.bench.connection() as connection:
            await self.world.look(connection)
        await super().check()

    def trouble(self) -> list[dict[str, Any]]:
        """What is in the logs but the loss of connections; a line that is no JSON is too."""
        found: list[dict[str, Any]] = []
        for process in self._processes:
            for line in process.log.read_text().splitlines():
                try:
                    event = json.loads(line)
                except json.JSONDecodeError:
                    found.append({"error": f"{process.log.name}: {line}"})
                    continue
                if event["event"] == "database_trouble":
                    if event["sqlstate"] not in _LOST_BY_US:
                        found.append(event)
                elif event["level"] in ("error", "critical"):
                    found.append({"error": f"{process.log.name}: {line}", **event})
        return found

    async def _work(self) -> None:
        """One process after the other, each to another end."""
        dice = random.Random(self.dice.random())
        while not self.over.is_set():
            async with self._worker() as process:
                await self._wait(dice.uniform(0.2, 1.5))
                match dice.choices(["kill", "stop", "leave"], (5, 3, 2))[0]:
                    case "kill":
                        process.kill()
                        self.deaths += 1
                    case "stop":
                        os.kill(process.process.pid, signal.SIGSTOP)
                        try:
                            # Another one goes on with what it has held.
                            async with self._worker():
                                await self._wait(dice.uniform(1, 2) * LEASE)
                        finally:
                            os.kill(process.process.pid, signal.SIGCONT)
                        await self._wait(dice.uniform(0, 1))

    @contextlib.asynccontextmanager
    async def _worker(self) -> AsyncIterator[WorkerProcess]:
        """A process that has registered, and that ends in order, unless it has been killed."""
        process = self._start_process()
        while not await self._is_ready(process):
            self._processes.remove(process)  # there was no database just then, as it has said
            process = self._start_process()
        yield process
        if process.process.poll() != -signal.SIGKILL:
            code = await asyncio.get_running_loop().run_in_executor(None, process.terminate)
            assert code == 0, f"exit code {code}: {process.log.read_text()[-3000:]}"

    def _start_process(self) -> WorkerProcess:
        process = WorkerProcess(
            {
                "OUTBOX_DSN": self.bench.schema.dsn,
                "OUTBOX_SCHEMA": self.bench.schema.name,
                "OUTBOX_LEASE": str(LEASE),
                "OUTBOX_POLL": "0.1",
                "OUTBOX_SHUTDOWN_GRACE": "1",
                "OUTBOX_ALERT_SCHEDULE": NEVER,
                "OUTBOX_RETENTION_SCHEDULE": NEVER,
                "OUTBOX_LOG_FORMAT": "json",
                "STORM": json.dumps({**self._told, "is_calm": self.world.is_calm}),
            },
            self._directory / f"worker-{next(self._numbers)}.log",
            APP,
        )
        self._processes.append(process)
        return process

    async def _is_ready(self, process: WorkerProcess) -> bool:
        """Waits until it has registered. False: it has ended, for there was no database."""

        def ready() -> bool:
            return process.process.poll() is not None or bool(process.events("worker_registered"))

        await until(ready, 30, f"{process.log} has registered")
        code = process.process.poll()
        assert code is None or self._server is not None, process.log.read_text()[-3000:]
        return code is None

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), seconds)

    async def _cut(self) -> None:
        """Ends some of the workers' connections, again and again."""
        while not self.over.is_set():
            await self._wait(self.dice.uniform(0.1, 0.6))
            async with self.may_lose_connection(), self.bench.connection() as connection:
                await connection.execute(_CUT, (self.dice.randrange(1, 6),))

    async def _crash(self, server: EmbeddedServer) -> None:
        loop = asyncio.get_running_loop()
        while not self.over.is_set():
            await self._wait(self.dice.uniform(1.5, 4))
            await loop.run_in_executor(None, server.restart, "immediate")
