"""A saga as a user writes it, read by `mypy --strict` only: that what is right passes, and that
what is wrong does not (an ignore that nothing needs is an error itself)."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, assert_type
from uuid import UUID

import psycopg
from psycopg import AsyncConnection
from pydantic import BaseModel

import outbox
from outbox import (
    App,
    AppContext,
    Client,
    Command,
    Happened,
    NotDone,
    Operator,
    Rejected,
    Retry,
    Saga,
    SagaStatus,
    Started,
    Step,
    Unknown,
)


class Order(BaseModel):
    number: int


class Other(BaseModel):
    text: str


class Receipt(BaseModel):
    total: int


@dataclass
class Bank:
    name: str


order = Saga("order", input=Order)


@order.step(state="CHARGED", retry=Retry(attempts=5), timeout=10)
async def charge(cmd: Command[Order]) -> Receipt:
    assert_type(cmd.input, Order)
    assert_type(cmd.resource(Bank), Bank)
    assert_type(cmd.saga_id, UUID)
    _ = cmd.input.nothing  # type: ignore[attr-defined]
    return Receipt(total=cmd.input.number)


@charge.compensation(retry=Retry(attempts=20))
async def refund(cmd: Command[Order]) -> None:
    assert_type(cmd.find_result(charge), Receipt | None)
    _ = cmd.find_result(charge).total  # type: ignore[union-attr]


@order.step(transactional=True, bulk=True, nothing_to_undo="it is one with its transition")
async def enter(
    cmds: Sequence[Command[Order]], tx: AsyncConnection[Any]
) -> list[Receipt | Rejected]:
    assert_type(cmds[0].input, Order)
    return [Receipt(total=cmd.input.number) for cmd in cmds]


@order.step(transactional=True, bulk=True, nothing_to_undo="it only looks")
async def look(cmds: Sequence[Command[Order]], tx: AsyncConnection[Any]) -> list[int]:
    assert_type(cmds[0].result(enter), Receipt)
    return [1] * len(cmds)


@order.step(transactional=True, pivot=True)
async def book(cmd: Command[Order], tx: AsyncConnection[Any]) -> list[int]:
    assert_type(cmd.result(charge), Receipt)
    await tx.execute("select 1")
    return [1]


@order.step()
def mail(cmd: Command[Order]) -> str:
    assert_type(cmd.result(book), list[int])
    _ = cmd.result(charge).text  # type: ignore[attr-defined]
    return "sent"


@order.step()
async def last(cmd: Command[Order]) -> None:
    assert_type(cmd.result(mail), str)
    total: str = cmd.result(charge).total  # type: ignore[assignment]
    print(total)


async def last_look(cmd: Command[Order]) -> Receipt:
    return Receipt(total=cmd.input.number)


@order.step(each=lambda cmd: [cmd.input.number], concurrency=3)
async def reserve(cmd: Command[Order], number: int) -> Receipt:
    return Receipt(total=number)


@reserve.reconcile()
async def look_for(cmd: Command[Order], number: int) -> Happened | NotDone | Unknown:
    return Happened(Receipt(total=number))


approval = order.wait_for("approve", result=Receipt, timeout=timedelta(days=1), on_timeout="fail")
order.wait_for("hurry", timeout=timedelta(days=1), on_timeout="never")  # type: ignore[arg-type]
other = Saga("other", input=Other)
sub = order.run("sub", other, input=lambda cmd: Other(text=str(cmd.input.number)), result=str)
anything = order.wait_for("anything", timeout=timedelta(days=1))
order.sleep("nap", lambda cmd: timedelta(seconds=cmd.input.number))

with order.parallel("both") as both, both.branch():

    @order.step(when=lambda cmd: cmd.result(approval).total > 1)
    async def left(cmd: Command[Order]) -> None:
        assert_type(cmd.results(reserve), Sequence[Receipt | None])
        assert_type(cmd.result(approval), Receipt)
        assert_type(cmd.result(anything), Any)
        assert_type(await cmd.once("look", lambda: last_look(cmd)), Any)
        assert_type(await cmd.once("look again", lambda: last_look(cmd), result=Receipt), Receipt)
        assert_type(cmd.result(sub), str)


with order.choice("one_of") as one_of, one_of.when(lambda cmd: cmd.input.number > 1):

    @order.step(best_effort=True)
    def high(cmd: Command[Order]) -> None: ...


assert_type(charge, Step[Order, Receipt])
assert_type(reserve, Step[Order, Receipt])
assert_type(book, Step[Order, list[int]])
assert_type(mail, Step[Order, str])


@order.step()  # type: ignore[arg-type]
async def of_another(cmd: Command[Other]) -> None: ...


@order.step()  # type: ignore[arg-type]
async def too_many(cmd: Command[Order], tx: AsyncConnection[Any], more: int) -> None: ...


@asynccontextmanager
async def lifespan(context: AppContext) -> AsyncIterator[Iterable[object]]:
    yield [Bank(context.schema)]


app = App([order], lifespan)
App(["order"])  # type: ignore[list-item]


def sync_use(connection: psycopg.Connection[Any]) -> None:
    client = Client()
    started = client.start(connection, order, Order(number=1), key="a")
    assert_type(started, Started)
    assert_type(client.status(connection, started.id), SagaStatus)
    assert_type(client.find(connection, "order", "a"), SagaStatus | None)
    assert_type(client.start_many(connection, order, [("a", Order(number=1))]), list[Started])
    assert_type(
        client.signal(connection, started.id, approval, Receipt(total=1)),
        Literal["delivered", "kept", "repeated"],
    )
    assert_type(Operator().retry(connection, started.id, "again"), str)
    Operator().resolve(connection, started.id, "DONE", "by hand")  # type: ignore[call-overload]


async def async_use(connection: psycopg.AsyncConnection[Any]) -> None:
    client = Client()
    started = await client.start(connection, order, {"number": 1})
    assert_type(started, Started)
    assert_type(await client.wait(connection, started.id), SagaStatus)
    client.start(connection, order, 1)  # type: ignore[call-overload]


try:
    sync_use(psycopg.connect())
except outbox.OutboxError as error:
    print(error)
