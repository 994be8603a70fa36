"""What can be said, and what is refused with a message that names it."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from outbox import App, Command, Happened, Limit, Saga
from outbox.errors import DefinitionError


class Order(BaseModel):
    """The input of all of them."""

    text: str = ""


async def act(cmd: Command[Order]) -> str:
    return "done"


async def ask(cmd: Command[Order]) -> Happened:
    return Happened()


def add(saga: Saga[Order], name: str, **more: Any) -> Any:
    return saga.step(name=name, nothing_to_undo="nothing", **more)(act)


def two_pivots(saga: Saga[Order]) -> None:
    saga.step(name="one", pivot=True)(act)
    saga.step(name="two", pivot=True)(act)


def waits_forever(saga: Saga[Order]) -> None:
    saga.wait_for("approve")


def looks_ahead(saga: Saga[Order]) -> None:
    first, step = add(saga, "first"), add(saga, "second")
    first.when = lambda cmd: cmd.result(step)


def looks_aside(saga: Saga[Order]) -> None:
    with saga.parallel("group"):
        left = add(saga, "left")
        add(saga, "right", when=lambda cmd: cmd.result(left))


def pivot_in_a_group(saga: Saga[Order]) -> None:
    with saga.parallel("group"):
        saga.step(name="left", pivot=True)(act)


def pivot_of_elements(saga: Saga[Order]) -> None:
    saga.step(name="each", pivot=True, each=lambda cmd: [1])(act)


def empty_group(saga: Saga[Order]) -> None:
    with saga.parallel("group"):
        pass


def empty_branch(saga: Saga[Order]) -> None:
    with saga.parallel("group") as group, group.branch():
        pass


def empty_choice(saga: Saga[Order]) -> None:
    with saga.choice("which"):
        pass


def beside_the_alternatives(saga: Saga[Order]) -> None:
    with saga.choice("which"):
        add(saga, "lost")


def after_otherwise(saga: Saga[Order]) -> None:
    with saga.choice("which") as which:
        with which.otherwise():
            add(saga, "a")
        with which.when(lambda cmd: True):
            add(saga, "b")


def circle(saga: Saga[Order]) -> None:
    other = Saga("other", input=Order)
    other.run("back", saga, input=lambda cmd: cmd.input)
    saga.run("there", other, input=lambda cmd: cmd.input)


def bulk_of_elements(saga: Saga[Order]) -> None:
    async def handler(cmds: Any, element: int, tx: Any) -> list[str]:
        return []

    saga.step(name="bulk", transactional=True, bulk=True, each=lambda cmd: [1])(handler)


def without_an_element(saga: Saga[Order]) -> None:
    add(saga, "each", each=lambda cmd: [1])


def concurrency_of_one_step(saga: Saga[Order]) -> None:
    add(saga, "step", concurrency=3)


def two_reconciles(saga: Saga[Order]) -> None:
    step = add(saga, "step")
    step.reconcile()(ask)
    step.reconcile()(ask)


def reconcile_of_a_transaction(saga: Saga[Order]) -> None:
    async def post(cmd: Command[Order], tx: Any) -> None: ...

    step: Any = saga.step(name="post", transactional=True, nothing_to_undo="-")(post)
    step.reconcile()(ask)


@pytest.mark.parametrize(
    ("define", "message"),
    [
        (two_pivots, 'has two pivots: "one" and "two"'),
        (waits_forever, 'step "approve" of saga type "order" may wait forever'),
        (looks_ahead, 'looks at the result of step "second", which comes later'),
        (looks_aside, 'step "left", which runs beside it in "group"'),
        (pivot_in_a_group, "the pivot cannot"),
        (pivot_of_elements, "the pivot cannot"),
        (empty_group, 'step "group" of saga type "order": a branch has no steps'),
        (empty_branch, "a branch has no steps"),
        (empty_choice, 'step "which" of saga type "order" has no alternatives'),
        (beside_the_alternatives, "in no alternative"),
        (after_otherwise, r"nothing comes after otherwise\(\)"),
        (circle, 'sub-sagas go in a circle: "order" -> "other" -> "order"'),
        (bulk_of_elements, "so it cannot be bulk"),
        (without_an_element, r"takes \(cmd, element\), not \(cmd\)"),
        (concurrency_of_one_step, "concurrency=3"),
        (two_reconciles, "has two reconciles"),
        (reconcile_of_a_transaction, "never in doubt"),
        (lambda saga: saga.sleep("nap", timedelta()), "not a positive time"),
        (lambda saga: saga.sleep("nap", datetime(2030, 1, 1)), "has no time zone"),
        (
            lambda saga: saga.wait_for("go", timeout=timedelta(1), on_timeout="never"),
            "on_timeout='never'",
        ),
    ],
)
def test_what_cannot_work_is_refused_by_name(
    define: Callable[[Saga[Order]], None], message: str
) -> None:
    def build() -> None:
        saga = Saga("order", input=Order)
        define(saga)
        App([saga])

    with pytest.raises(DefinitionError, match=message):
        build()


def test_a_deadline_and_a_limit_are_at_least_something() -> None:
    with pytest.raises(DefinitionError, match="deadline=0:00:00 is not a positive time"):
        Saga("order", input=Order, deadline=timedelta())
    with pytest.raises(DefinitionError, match="would let no saga begin"):
        Saga("order", input=Order, limits=[Limit(0)])


def test_a_saga_with_a_deadline_may_wait_without_a_timeout() -> None:
    saga = Saga("order", input=Order, deadline=timedelta(days=1))
    waits_forever(saga)
    App([saga])
