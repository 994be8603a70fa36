"""The saga types that these tests drive. Their handlers are never called: a test says itself what
an attempt came to."""

from typing import Any

from pydantic import BaseModel

from outbox import Command, Retry, Saga

MINUTE = 60.0


class Order(BaseModel):
    """The input of all of them."""

    number: int = 1


async def act(cmd: Command[Order]) -> None: ...


async def act_in(cmd: Command[Order], tx: Any) -> None: ...


def make_order(version: int = 1) -> Saga[Order]:
    """Every kind of step: with and without a compensation, before, at and after the pivot."""
    saga = Saga("order", input=Order, version=version)
    reserve = saga.step(name="reserve", state="RESERVED", retry=Retry(3, 8, MINUTE), timeout=5)(act)
    reserve.compensation(retry=Retry(2, 4, MINUTE), timeout=7)(act)
    saga.step(
        name="inspect", state="INSPECTED", retry=Retry(2, 8, MINUTE), nothing_to_undo="it reads"
    )(act)
    charge = saga.step(name="charge", state="CHARGED", retry=Retry(3, 8, MINUTE), timeout=5)(act)
    charge.compensation(retry=Retry(2, 4, MINUTE), timeout=7)(act)
    book = saga.step(name="book", state="BOOKED", retry=Retry(2, 8, MINUTE), pivot=True)(act)
    book.compensation(retry=Retry(2, 4, MINUTE))(act)
    saga.step(name="mail", state="MAILED", retry=Retry(2, 8, MINUTE))(act)
    archive = saga.step(name="archive", state="ARCHIVED", retry=Retry(2, 8, MINUTE))(act)
    archive.compensation(retry=Retry(2, 4, MINUTE))(act)
    return saga


def make_entry() -> Saga[Order]:
    """Transactional steps: before the pivot, the pivot itself."""
    saga = Saga("entry", input=Order)
    hold = saga.step(name="hold", retry=Retry(2, 8, MINUTE))(act)
    hold.compensation(retry=Retry(2, 4, MINUTE))(act)
    post = saga.step(name="post", retry=Retry(2, 8, MINUTE), transactional=True)(act_in)
    post.compensation(retry=Retry(2, 4, MINUTE), transactional=True)(act_in)
    saga.step(name="settle", retry=Retry(2, 8, MINUTE), transactional=True, pivot=True)(act_in)
    return saga


def make_single() -> Saga[Order]:
    """One step, with nothing before or after it."""
    saga = Saga("single", input=Order)
    saga.step(name="only", retry=Retry(2, 8, MINUTE), nothing_to_undo="it reads")(act)
    return saga


ORDER, ENTRY, SINGLE = make_order(), make_entry(), make_single()
