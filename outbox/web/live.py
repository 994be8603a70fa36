"""Live updates: what pages show is read again while somebody looks, and sent where it changed.

One task of the server process reads for everybody, one thing after the other: two browsers on the
same list are one query, and the task never takes more than a tenth of one connection's time,
however many look at whatever. When nobody looks it ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import PoolTimeout

from outbox.errors import OutboxError
from outbox.telemetry import Telemetry

Fragments = Mapping[str, str]
Opener = Callable[[], AbstractAsyncContextManager[AsyncConnection[Any]]]

_LEAST_PAUSE, _REST = 0.25, 9.0  # seconds; times what a round took
_AFTER_TROUBLE = 2.0

# Browsers count ages on by themselves: a new one is no change.
_TIMES = re.compile(r"(<time [^>]*>)[^<]*(?=</time>)")


@dataclass(frozen=True)
class Topic:
    """Something that is watched: how to read it, and how often at most, in seconds. Topics are the
    same where ``key`` is. ``kept`` is called with what was read once it is kept for all who look:
    until then whoever loads only what is new has to load it again."""

    key: Hashable
    load: Callable[[AsyncConnection[Any]], Awaitable[Fragments]] = field(compare=False)
    every: float = field(default=1.0, compare=False)
    kept: Callable[[Fragments], None] = field(default=lambda _: None, compare=False)


class _Watched:
    """A topic that somebody looks at, and what was last read of it."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.watchers: set[Watcher] = set()
        self.fragments: dict[str, str] = {}
        self.digests: dict[str, str] = {}
        self.due = 0.0


class Watcher:
    """Somebody who looks at some topics: an async iterator of the fragments that changed, by their
    element's id. Who is slow gets the latest of each, not all of them."""

    def __init__(self) -> None:
        self._changed: dict[str, str] = {}
        self._ready = asyncio.Event()

    def tell(self, fragments: Fragments) -> None:
        """Adds what changed."""
        self._changed.update(fragments)
        self._ready.set()

    def __aiter__(self) -> AsyncIterator[Fragments]:
        return self

    async def __anext__(self) -> Fragments:
        await self._ready.wait()
        self._ready.clear()
        changed, self._changed = self._changed, {}
        return changed


class Live:
    """Reads what is watched.

    Args:
        connect: lends a connection to read on.
        most: so many watchers at most.
        telemetry: is told of trouble.
        clock: seconds, of which only differences count.
    """

    def __init__(
        self,
        connect: Opener,
        most: int,
        telemetry: Telemetry,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect, self._most, self._telemetry, self._clock = connect, most, telemetry, clock
        self._watched: dict[Topic, _Watched] = {}
        self._watchers: set[Watcher] = set()
        self._task: asyncio.Task[None] | None = None
        self.reads = 0
        """How many topics were read so far."""

    @property
    def has_room(self) -> bool:
        """Whether one more may watch."""
        return len(self._watchers) < self._most

    def watch(self, topics: Sequence[Topic]) -> Watcher:
        """Begins to look at topics; first comes all that is there, then what changes. End it by
        ``leave``."""
        watcher = Watcher()
        self._watchers.add(watcher)
        for topic in topics:
            watched = self._watched.setdefault(topic, _Watched(topic))
            watched.watchers.add(watcher)
            if watched.fragments:
                watcher.tell(watched.fragments)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Looks no more."""
        self._watchers.discard(watcher)
        for topic, watched in list(self._watched.items()):
            watched.watchers.discard(watcher)
            if not watched.watchers:
                del self._watched[topic]

    async def close(self) -> None:
        """Ends the task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._watched:
            begun = self._clock()
            pause, spent = _LEAST_PAUSE, 0.0
            try:
                spent = await self._round(begun)
            except (psycopg.Error, PoolTimeout, OSError) as error:
                self._tell(error)
                pause = _AFTER_TROUBLE
            next_due = min((w.due for w in self._watched.values()), default=begun) - self._clock()
            await asyncio.sleep(max(pause, spent * _REST, next_due))

    def _tell(self, error: Exception) -> None:
        reason = " ".join(str(error).split()) or type(error).__name__
        self._telemetry.emit("live_updates_failed", "warning", error=reason)

    async def _round(self, now: float) -> float:
        """Reads what is due. Returns the seconds that it had a connection: to wait for one is no
        load."""
        due = [watched for watched in self._watched.values() if watched.due <= now]
        if not due:
            return 0.0
        async with self._connect() as connection:
            begun = self._clock()
            for watched in due:
                if watched.watchers:
                    await self._read(watched, connection)
            return self._clock() - begun

    async def _read(self, watched: _Watched, connection: AsyncConnection[Any]) -> None:
        watched.due = self._clock() + watched.topic.every
        self.reads += 1
        try:
            async with connection.transaction():
                fragments = await watched.topic.load(connection)
        except OutboxError:
            return  # it is gone, as a reload will say
        except Exception as error:  # whatever it is, it is not the other topics'
            if isinstance(error, psycopg.Error) and connection.closed:
                raise
            self._tell(error)
            return
        changed = {}
        for name, html in fragments.items():
            digest = hashlib.sha256(_TIMES.sub(r"\1", html).encode()).hexdigest()
            if watched.digests.get(name) != digest:
                watched.digests[name] = digest
                watched.fragments[name] = changed[name] = html
        if changed:
            for watcher in watched.watchers:
                watcher.tell(changed)
        watched.topic.kept(fragments)
