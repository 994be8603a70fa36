"""A condition may look at results that are there by then; others are refused."""

import pytest
from pydantic import BaseModel

from outbox import App, Command, Saga
from outbox.errors import DefinitionError


class Journey(BaseModel):
    """An input with a field that is named like a step."""

    car: str | None = None


journey = Saga("journey", input=Journey)


@journey.step(when=lambda cmd: cmd.input.car is not None, nothing_to_undo="a test")
async def car(cmd: Command[Journey]) -> str:
    return "booked"


late = Saga("late", input=Journey)


@late.step(when=lambda cmd: any(cmd.result(last) for _ in (1, 2)), nothing_to_undo="a test")
async def first(cmd: Command[Journey]) -> None: ...


@late.step(nothing_to_undo="a test")
async def last(cmd: Command[Journey]) -> bool:
    return True


def test_a_field_of_the_input_may_be_named_like_a_step() -> None:
    App([journey])


def test_a_condition_on_a_later_step_is_refused() -> None:
    with pytest.raises(DefinitionError, match='step "last", which comes later'):
        App([late])


def test_also_where_the_later_step_is_a_local_name() -> None:
    saga = Saga("local", input=Journey)

    @saga.step(when=lambda cmd: cmd.result(second), nothing_to_undo="a test")
    async def one(cmd: Command[Journey]) -> None: ...

    @saga.step(nothing_to_undo="a test")
    async def second(cmd: Command[Journey]) -> bool:
        return True

    with pytest.raises(DefinitionError, match='step "second", which comes later'):
        App([saga])
