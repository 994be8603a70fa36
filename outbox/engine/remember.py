"""What an attempt remembers of its sub-effects, for the attempts after it: committed at once, and
fenced."""

from __future__ import annotations

import asyncio
from itertools import cycle

from outbox.engine.hand import HeldCommand
from outbox.engine.lease import Lease
from outbox.engine.link import Link
from outbox.errors import translated
from outbox.store.functions import Functions


class Memories:
    """Makes the memory of a command's attempt.

    Args:
        links: connections of their own, which are made when something is to be remembered first.
    """

    def __init__(self, links: list[Link], functions: Functions, lease: Lease) -> None:
        self._links = cycle(links)
        self._functions = functions
        self._lease = lease
        self.loop = asyncio.get_running_loop()

    def of(self, held: HeldCommand) -> AttemptMemory:
        """The memory of one attempt.

        Raises:
            RuntimeError: the step is transactional.
        """
        if held.runnable.transactional:
            raise RuntimeError(
                f'step "{held.step.name}" is transactional: what it writes by its transaction is '
                "done once anyway, and what it did beside it could not be told apart from that"
            )
        # The id that the worker has now: the command is held under it, or lost.
        return AttemptMemory(self, held)

    async def recall(self, held: HeldCommand, name: str) -> bytes | None:
        """What is remembered of a command."""
        worker = self._lease.worker
        with translated():
            return await next(self._links).run(
                lambda c: self._functions.recalled(c, worker, held.command, held.fence, name)
            )

    async def remember(self, held: HeldCommand, name: str, result: bytes) -> bytes:
        """Remembers it, unless that was done already; safe to say again."""
        worker = self._lease.worker
        with translated():
            return await next(self._links).run(
                lambda c: self._functions.remember(
                    c, worker, held.command, held.fence, name, result
                )
            )


class AttemptMemory:
    """The memory of one attempt."""

    def __init__(self, memories: Memories, held: HeldCommand) -> None:
        self._memories = memories
        self._held = held
        self.loop = memories.loop

    async def recall(self, name: str) -> bytes | None:
        """What an earlier attempt remembered, as JSON; None: nothing."""
        return await self._memories.recall(self._held, name)

    async def remember(self, name: str, result: bytes) -> bytes:
        """Keeps a result, as JSON; what is kept."""
        return await self._memories.remember(self._held, name, result)
