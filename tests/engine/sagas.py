"""Sagas for workers in processes of their own, which are sent signals; what they do goes to the
table `happened` of their schema."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass

import psycopg
from psycopg import sql
from pydantic import BaseModel

from outbox import App, AppContext, Command, Retry, Saga
from outbox.store.connect import Connection, connect


class Wish(BaseModel):
    """What a handler is to do: `wait` until the table `word` holds its saga's key, or `freeze`."""

    what: str = ""


@dataclass
class Book:
    """Where handlers write down what they do, beside their transaction."""

    dsn: str
    schema: str

    async def write(self, cmd: Command[Wish], what: str) -> None:
        async with await connect(self.dsn) as connection:
            await connection.execute(
                sql.SQL("insert into {}.happened (key, what) values (%s, %s)").format(
                    sql.Identifier(self.schema)
                ),
                (cmd.key, what),
            )

    async def word_was_given(self, cmd: Command[Wish]) -> None:
        async with await connect(self.dsn) as connection:
            while not await self._given(connection, cmd.key):  # noqa: ASYNC110 - from another process
                await asyncio.sleep(0.05)

    async def _given(self, connection: Connection, key: str) -> bool:
        cursor = await connection.execute(
            sql.SQL("select 1 from {}.word where key = %s").format(sql.Identifier(self.schema)),
            (key,),
        )
        return await cursor.fetchone() is not None


PREPARE = """
    create table happened (id integer generated always as identity, key text, what text,
        at timestamptz default clock_timestamp());
    create table word (key text);
"""


@contextlib.asynccontextmanager
async def lifespan(context: AppContext) -> AsyncIterator[list[object]]:
    with contextlib.suppress(psycopg.errors.DuplicateTable):
        async with await connect(context.dsn) as connection, connection.transaction():
            await connection.execute(
                sql.SQL("set local search_path to {}").format(sql.Identifier(context.schema))
            )
            await connection.execute(PREPARE)
    yield [Book(context.dsn, context.schema)]


wish = Saga("wish", input=Wish)


@wish.step(retry=Retry(attempts=1))
async def grant(cmd: Command[Wish]) -> str:
    book = cmd.resource(Book)
    await book.write(cmd, "begun")
    if cmd.input.what == "wait":
        await book.word_was_given(cmd)
    await book.write(cmd, "ended")
    return "granted"


@grant.compensation()
async def take_back(cmd: Command[Wish]) -> None:
    await cmd.resource(Book).write(cmd, "taken back")


@wish.step(nothing_to_undo="it does nothing", timeout=0.2, retry=Retry(attempts=9, base=0, cap=0))
def freeze(cmd: Command[Wish]) -> None:
    if cmd.input.what == "freeze":
        threading.Event().wait()


app = App([wish], lifespan)
