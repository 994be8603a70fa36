"""An app for a worker process that is killed while it delivers an event."""

import asyncio
from pathlib import Path

from outbox import App, Command, Event, Saga, Subscriber
from tests.engine.bench import Note

saga = Saga("telling", input=Note)


@saga.step(nothing_to_undo="it only tells")
async def first(cmd: Command[Note]) -> None:
    cmd.emit("note.first", cmd.input)


@saga.step(nothing_to_undo="it only tells")
async def second(cmd: Command[Note]) -> None:
    cmd.emit("note.second", cmd.input)


async def hang(event: Event) -> None:
    """Tells that it has begun, in the file that the saga's input names, and never ends."""
    await asyncio.to_thread(Path(event.payload["text"]).write_text, event.id)
    await asyncio.sleep(3600)


app = App([saga], subscribers=[Subscriber("audit", ["*"], hang, timeout=1)])
