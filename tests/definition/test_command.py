"""Idempotency keys, and what a handler finds in its command."""

from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from outbox import Command, Saga
from outbox.definition.command import idempotency_key

names = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,99}", fullmatch=True)
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=512)
parts = st.tuples(names, keys, names, st.booleans(), st.integers(0, 99))
Parts = tuple[str, str, str, bool, int]


def key_of(parts: Parts) -> str:
    type_, key, step, undo, revision = parts
    return idempotency_key(type_, key, step, undo=undo, revision=revision)


@given(parts, parts)
@example(("a", "b/c", "d", False, 0), ("a", "b", "c/d", False, 0))
@example(("a", "b", "undo", False, 0), ("a", "b/undo", "undo", False, 0))
@example(("a", "b", "c", True, 0), ("a", "b/c", "undo", False, 0))
@example(("a", "b#1", "c", False, 0), ("a", "b", "c", False, 1))
@example(("a", "%2F", "c", False, 0), ("a", "/", "c", False, 0))
@example(("a", "x" * 400, "c", False, 0), ("a", "x" * 401, "c", False, 0))
def test_no_two_steps_share_a_key(one: Parts, other: Parts) -> None:
    assert (key_of(one) == key_of(other)) == (one == other)


@given(parts)
@example(("t" * 100, "ü" * 512, "s" * 100, True, 99))
def test_a_key_fits_every_provider(given: Parts) -> None:
    key = key_of(given)
    assert len(key) <= 255
    assert key.isascii()
    assert key.isprintable()


def test_a_key_reads_as_what_it_names() -> None:
    assert key_of(("payment", "order-42", "authorize", False, 0)) == "payment/order-42/authorize"
    assert key_of(("payment", "a b", "authorize", True, 0)) == "payment/a%20b/authorize/undo"
    assert key_of(("payment", "o", "authorize", False, 2)) == "payment/o/authorize#2"
    assert key_of(("payment", "o" * 300, "authorize", False, 0)).startswith("payment/=")


def test_a_hashed_key_is_no_other_sagas_own() -> None:
    hashed = key_of(("payment", "o" * 300, "authorize", False, 0)).split("/")[1]
    assert key_of(("payment", hashed, "authorize", False, 0)) != f"payment/{hashed}/authorize"


class Order(BaseModel):
    """An input."""


class Receipt(BaseModel):
    """A result."""

    total: int


saga = Saga("order", input=Order)


@saga.step(nothing_to_undo="it reads")
async def receipt(cmd: Command[Order]) -> Receipt:
    raise NotImplementedError


def make_command(**more: Any) -> Command[Order]:
    return Command(
        saga_id=UUID(int=1), type="order", version=1, key="k", step="receipt", kind="action",
        input=Order(), attempt=1, **more,
    )  # fmt: skip


def test_results_come_back_as_what_the_handler_gave() -> None:
    command = make_command(_results={"receipt": {"total": 3}})
    assert command.result(receipt) == Receipt(total=3)
    assert command.find_result(receipt) == Receipt(total=3)


def test_a_result_that_is_not_there_is_named() -> None:
    with pytest.raises(LookupError, match='step "receipt" has no result in saga 00000000'):
        make_command().result(receipt)
    assert make_command().find_result(receipt) is None


def test_resources_are_found_by_class() -> None:
    command = make_command(_resources=(1, "text"))
    assert command.resource(str) == "text"
    with pytest.raises(LookupError, match="yields no list"):
        command.resource(list)


def test_results_and_resources_stay_out_of_logs() -> None:
    shown = repr(make_command(_results={"receipt": "secret"}, _resources=("secret",)))
    assert "secret" not in shown
