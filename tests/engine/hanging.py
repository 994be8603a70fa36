"""An app for a worker process whose transactional step waits for the database."""

from typing import Any

from outbox import App, Command, Retry, Saga
from tests.engine.bench import Note

saga = Saga("hanging", input=Note)


@saga.step(
    nothing_to_undo="it only waits", transactional=True, timeout=0.5, retry=Retry(attempts=1)
)
async def wait(cmd: Command[Note], tx: Any) -> None:
    await tx.execute("select 'hanging', pg_sleep(60)")


app = App([saga])
