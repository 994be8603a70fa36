"""Live updates: what pages show is read again while somebody looks, and sent where it changed.

The server process reads for everybody: two browsers on the same list are one query. Each topic is
read by itself, a few at once, so that a slow one delays no other; and what is read again takes no
more than a tenth of one connection's time in all, however many look at whatever. When nobody looks
nothing is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from psycopg import AsyncConnection

from outbox.errors import OutboxError
from outbox.telemetry import Telemetry

Fragments = Mapping[str, str]
Opener = Callable[[], AbstractAsyncContextManager[AsyncConnection[Any]]]

_LOAD = 0.1  # of one connection's time
_AFTER_TROUBLE = 2.0  # seconds
LEAVING = 2.0  # seconds in which a stream has to end when the server does

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
        self.took = 0.0

    @property
    def load(self) -> float:
        """How much of one connection's time it takes to read it as often as may be."""
        return self.took / self.topic.every


class Watcher:
    """Somebody who looks at some topics: an async iterator of the fragments that changed, by their
    element's id. Who is slow gets the latest of each, not all of them."""

    def __init__(self) -> None:
        self._changed: dict[str, str] = {}
        self._ready = asyncio.Event()
        self._ended = False

    def tell(self, fragments: Fragments) -> None:
        """Adds what changed."""
        self._changed.update(fragments)
        self._ready.set()

    def end(self) -> None:
        """There is nothing more to come."""
        self._ended = True
        self._ready.set()

    def __aiter__(self) -> AsyncIterator[Fragments]:
        return self

    async def __anext__(self) -> Fragments:
        await self._ready.wait()
        if self._ended:
            raise StopAsyncIteration
        self._ready.clear()
        changed, self._changed = self._changed, {}
        return changed


class Live:
    """Reads what is watched.

    Args:
        connect: lends a connection in a transaction, to read on.
        most: so many watchers at most.
        telemetry: is told of trouble.
        at_once: so many topics are read at once at most, each on a connection.
        doubt: called when there was no connection, or it broke.
        clock: seconds, of which only differences count.
    """

    def __init__(
        self,
        connect: Opener,
        most: int,
        telemetry: Telemetry,
        at_once: int = 2,
        doubt: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect, self._most, self._telemetry = connect, most, telemetry
        self._at_once, self._doubt, self._clock = at_once, doubt, clock
        self._watched: dict[Topic, _Watched] = {}
        self._watchers: set[Watcher] = set()
        self._task: asyncio.Task[None] | None = None
        self._reading: dict[_Watched, asyncio.Task[None]] = {}
        self._stirred = asyncio.Event()
        self._trouble_until = float("-inf")
        self._is_away = False

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
        self._stirred.set()
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Looks no more."""
        self._watchers.discard(watcher)
        for topic, watched in list(self._watched.items()):
            watched.watchers.discard(watcher)
            if not watched.watchers:
                del self._watched[topic]

    @asynccontextmanager
    async def watching(
        self, topics: Sequence[Topic], leaving: anyio.Event
    ) -> AsyncIterator[Watcher]:
        """Looks at topics inside; what comes ends once the server is leaving."""
        watcher = self.watch(topics)

        async def end() -> None:
            await leaving.wait()
            watcher.end()

        ending = asyncio.create_task(end())
        try:
            yield watcher
        finally:
            ending.cancel()
            self.leave(watcher)

    async def close(self) -> None:
        """Ends all reading."""
        tasks = [*self._reading.values(), *([] if self._task is None else [self._task])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        while self._watched or self._reading:
            self._stirred.clear()
            wait = self._begin()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stirred.wait()

    def _begin(self) -> float | None:
        """Begins to read what is due, as far as there is room. Returns the seconds until the next
        is due; None: there is nothing to do until something stirs."""
        now = self._clock()
        resting = [w for w in self._watched.values() if w not in self._reading]
        for watched in sorted(resting, key=lambda one: one.due):
            if len(self._reading) >= self._at_once:
                return None
            wait = max(watched.due, self._trouble_until) - now
            if wait > 0:
                return wait
            self._reading[watched] = asyncio.create_task(self._read(watched))
        return None

    async def _read(self, watched: _Watched) -> None:
        connection: AsyncConnection[Any] | None = None
        begun = self._clock()
        try:
            async with self._connect() as connection:
                begun = self._clock()  # to wait for a connection is no load
                fragments = await watched.topic.load(connection)
            self._is_away = False
            self._keep(watched, fragments)
        except OutboxError:
            pass  # it is gone, as a reload will say
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not the other topics'
            is_away = connection is None or connection.closed
            if not (is_away and self._is_away):  # that is told once, however long it lasts
                self._tell(error)
            if is_away:
                self._is_away = True
                self._trouble_until = self._clock() + _AFTER_TROUBLE
                self._doubt()
        finally:
            watched.took = self._clock() - begun if connection is not None else 0.0
            watched.due = begun + self._period(watched)
            del self._reading[watched]
            self._stirred.set()

    def _period(self, watched: _Watched) -> float:
        """So many seconds after a topic's reading begins its next: as it says, or as often as its
        share allows. Whatever needs less than an equal share of the load leaves the rest to the
        others (max-min fairness), so that one slow topic does not make the others rare."""
        room, share = _LOAD, math.inf
        loads = sorted(one.load for one in self._watched.values())
        for number, load in enumerate(loads):
            equal = room / (len(loads) - number)
            if load > equal:
                share = equal
                break
            room -= load
        return max(watched.topic.every, watched.took / share)

    def _tell(self, error: Exception) -> None:
        reason = " ".join(str(error).split()) or type(error).__name__
        self._telemetry.emit("live_updates_failed", "warning", error=reason)

    def _keep(self, watched: _Watched, fragments: Fragments) -> None:
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
