"""A saga type that cannot be run is refused when it is made, and the message names the culprit."""

import functools
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection
from pydantic import BaseModel, Field

from outbox import App, Command, Limit, Rate, Retry, Saga
from outbox.definition.registry import load_app
from outbox.errors import ConfigurationError, DefinitionError


class Order(BaseModel):
    """An input."""

    number: int = 1


class Parcel(BaseModel):
    """An input with more in it."""

    order: Order | None = None
    their_number: int = Field(0, alias="theirNumber")
    rest: dict[str, Any] = {}


class Unserializable:
    """Nothing that pydantic knows."""


async def act(cmd: Command[Order]) -> None: ...


async def act_in(cmd: Command[Order], tx: AsyncConnection[Any]) -> None: ...


async def many_in(cmds: Sequence[Command[Order]], tx: AsyncConnection[Any]) -> list[int]:
    return [1] * len(cmds)


async def one_for_many(cmds: Sequence[Command[Order]], tx: AsyncConnection[Any]) -> int:
    return 1


def plain_in(cmd: Command[Order], tx: AsyncConnection[Any]) -> None: ...


async def no_argument() -> None: ...


async def keyword_only(cmd: Command[Order], *, currency: str) -> None: ...


async def unresolvable(cmd: "Command[Nowhere]") -> None: ...  # type: ignore[name-defined] # noqa: F821


async def unresolvable_module(cmd: "functools.Nowhere[Order]") -> None: ...


async def gives_unserializable(cmd: Command[Order]) -> Unserializable:
    raise NotImplementedError


def make(handler: Callable[..., Any] = act, **options: Any) -> Saga[Order]:
    saga = Saga("order", input=Order)
    saga.step(**{"name": "reserve", "nothing_to_undo": "it reads", **options})(handler)
    return saga


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": "9lives"}, '"9lives"'),
        ({"name": "a b"}, '"a b"'),
        ({"name": "x" * 101}, "not a name"),
        ({"nothing_to_undo": "  "}, "nothing_to_undo must say why"),
        ({"timeout": 0}, "timeout=0"),
        ({"timeout": -1}, "timeout=-1"),
        ({"timeout": float("inf")}, "timeout=inf"),
        ({"timeout": float("nan")}, "timeout=nan"),
        ({"handler": act, "transactional": True}, r"\(cmd, tx\), not \(cmd\)"),
        ({"handler": act_in}, r"\(cmd\), not \(cmd, tx\)"),
        ({"handler": plain_in, "transactional": True}, "async def"),
        ({"handler": many_in, "bulk": True}, "must be transactional=True as well"),
        ({"handler": one_for_many, "transactional": True, "bulk": True}, "returns a list with one"),
        ({"handler": act, "transactional": True, "bulk": True}, r"\(cmds, tx\), not \(cmd\)"),
        ({"handler": no_argument}, r"takes \(cmd\), not \(\)"),
        ({"handler": keyword_only}, "currency"),
        ({"handler": unresolvable}, "Nowhere"),
        ({"handler": unresolvable_module}, "Nowhere"),
        ({"handler": gives_unserializable}, "Unserializable"),
    ],
)
def test_an_impossible_step_is_refused_by_name(options: dict[str, Any], says: str) -> None:
    with pytest.raises(DefinitionError, match=says) as refused:
        make(**options)
    assert 'of saga type "order"' in str(refused.value)
    assert str(options.get("name", "reserve")) in str(refused.value)


@pytest.mark.parametrize("name", ["", "9", "a b", "ü", "a/b", "x" * 101, "a\n"])
def test_a_bad_name_of_a_type_is_refused(name: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        Saga(name, input=Order)
    assert repr(name) in str(refused.value)


@pytest.mark.parametrize("model", [dict, int, "Order", Order(), None, list[Order]])
def test_an_input_that_is_no_model_is_refused(model: Any) -> None:
    with pytest.raises(DefinitionError, match=r'"order".*is not a pydantic model'):
        Saga("order", input=model)


@pytest.mark.parametrize("version", [0, -1])
def test_a_version_is_positive(version: int) -> None:
    with pytest.raises(DefinitionError, match=f'"order".*version={version}'):
        Saga("order", input=Order, version=version)


def test_two_steps_of_one_name() -> None:
    with pytest.raises(DefinitionError, match='"order" has two steps named "reserve"'):
        make().step(name="reserve", nothing_to_undo="it reads")(act)


def test_two_pivots() -> None:
    with pytest.raises(DefinitionError, match='two pivots: "reserve" and "charge"'):
        make(pivot=True).step(name="charge", pivot=True)(act)


def test_two_compensations() -> None:
    step = Saga("order", input=Order).step(name="reserve")(act)
    step.compensation()(act)
    with pytest.raises(DefinitionError, match='"reserve" of saga type "order" has two comp'):
        step.compensation()(act)


def test_a_compensation_of_what_needs_none() -> None:
    step = Saga("order", input=Order).step(name="reserve", nothing_to_undo="it reads")(act)
    with pytest.raises(DefinitionError, match="nothing_to_undo='it reads'"):
        step.compensation()(act)


def test_an_impossible_compensation_is_refused_by_its_steps_name() -> None:
    step = Saga("order", input=Order).step(name="reserve")(act)
    with pytest.raises(DefinitionError, match='the compensation of step "reserve"'):
        step.compensation(timeout=0)(act)


def test_no_steps() -> None:
    with pytest.raises(DefinitionError, match='"order" has no steps'):
        App([Saga("order", input=Order)])


def test_a_step_before_the_pivot_is_undone_or_says_why_not() -> None:
    saga = Saga("order", input=Order)
    saga.step(name="reserve")(act)
    saga.step(name="charge", pivot=True)(act)
    with pytest.raises(DefinitionError, match=r'step "reserve".*cannot be undone'):
        App([saga])


def test_at_and_after_the_pivot_nothing_needs_to_be_undone() -> None:
    saga = make()
    saga.step(name="charge", pivot=True)(act)
    saga.step(name="mail")(act)
    assert App([saga]).sagas == {("order", 1): saga}


def test_the_same_version_twice_and_no_saga_at_all() -> None:
    with pytest.raises(DefinitionError, match="order version 1"):
        App([make(), make()])
    with pytest.raises(DefinitionError, match="at least one saga"):
        App([])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"attempts": 0}, "attempts=0"),
        ({"attempts": 2.5}, "attempts=2.5"),
        ({"base": -1}, "base=-1"),
        ({"base": 10, "cap": 5}, "base=10, cap=5"),
        ({"base": float("nan")}, "base=nan"),
        ({"cap": float("inf")}, "cap=inf"),
        ({"base": timedelta(1)}, "base=.* is not a number of seconds"),
        ({"no_effect": ConnectionError}, "not a tuple of exceptions' classes"),
        ({"give_up_on": (KeyError("x"),)}, "not a tuple of exceptions' classes"),
    ],
)
def test_a_retry_policy_has_bounds(given: dict[str, Any], says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        Retry(**given)


async def do(cmd: Command[Order]) -> None: ...


async def yielding(cmd: Command[Order]) -> AsyncIterator[int]:
    yield 1


def sub(whole: Saga[Any], **given: Any) -> None:
    whole.run("sub", **{"saga": make(), "input": lambda cmd: cmd.input, **given})


def of(**given: Any) -> Saga[Any]:
    return Saga("order", **{"input": Order, **given})


def checked(saga: Saga[Any]) -> None:
    saga.step(nothing_to_undo="it reads")(do)
    App([saga])


@pytest.mark.parametrize(
    ("use", "says"),
    [
        (lambda s: s.step(do), r"^@order.step .* needs its parentheses: @order.step\(\)$"),
        (lambda s: s.step()(do).compensation(do), r"@do.compensation\(\)$"),
        (lambda s: s.step()(do).reconcile(do), r"@do.reconcile\(\)$"),
        (lambda s: s.step()(yielding), '"yielding" .*: its handler is a generator: return'),
        (lambda s: s.step(retry=5)(do), r"retry=5 is not a Retry, such as Retry\(attempts=5\)"),
        (lambda s: s.step(timeout=timedelta(1))(do), r"timeout=.* is not a number of seconds"),
        (lambda s: s.step(key_age=60)(do), "key_age=60 is not a timedelta"),
        (lambda s: s.step(when=True)(do), "when=True is not a function of the command"),
        (lambda s: s.step(each=[1])(do), r"handler takes \(cmd, element\)"),
        (lambda s: s.step(each=[1])(lambda cmd, e: 1), "not a name"),
        (lambda s: s.step(state=5)(do), "state=5 is not the name of a state"),
        (lambda s: s.step(name=5)(do), "name=5 is not the name of a step"),
        (lambda s: s.step(nothing_to_undo=True)(do), "nothing_to_undo must say why"),
        (lambda s: s.step(each=list, concurrency="3")(do), "concurrency='3', but it is"),
        (lambda s: sub(s, saga="other"), "saga='other' is not a Saga: give the saga itself"),
        (lambda s: sub(s, input=Order()), "input=.* is not a function of the command"),
        (lambda s: sub(s, nothing_to_undo=""), "nothing_to_undo must say why"),
        (lambda s: of(version="1"), "version='1' is not a whole number"),
        (lambda s: of(version=True), "version=True is not a whole number"),
        (lambda s: Saga(1, input=Order), "saga type 1: a name is"),
        (lambda s: of(deadline=60), "deadline=60 is not a timedelta, such as timedelta"),
        (lambda s: of(deadline=timedelta(-1)), "deadline=-1 day, 0:00:00 is not a positive time"),
        (lambda s: of(limits=Limit(5)), r"limits=Limit.* is not a list of Limit\(…\)"),
        (lambda s: of(limits=[5]), r"limits=\[5\] is not a list of Limit"),
        (lambda s: of(limits=[Limit("5")]), "amount='5' is not a whole number"),
        (lambda s: of(limits=[Limit(5, per=1)]), "per=1 is not a path in the input"),
        (lambda s: of(limits=[Rate(5, per=1)]), "per=1 is not a timedelta"),
        (
            lambda s: checked(of(limits=[Limit(5, per="customer")])),
            "per='customer'.: Order has no field 'customer', it has number$",
        ),
        (
            lambda s: checked(of(input=Parcel, limits=[Limit(5, per="order.nr")])),
            "per='order.nr'.: Order has no field 'nr', it has number$",
        ),
        (lambda s: App(s), r"an App takes a list of sagas, App\(\[…\]\), not Saga"),
        (lambda s: App(["order"]), r"an App takes a list of sagas"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_refused(
    use: Callable[[Saga[Any]], object], says: str
) -> None:
    with pytest.raises(DefinitionError, match=says):
        use(Saga("order", input=Order))


@pytest.mark.parametrize("per", ["order.number", "theirNumber", "rest.of.it"])
def test_a_limit_may_be_at_any_path_that_an_input_can_have(per: str) -> None:
    checked(of(input=Parcel, limits=[Limit(5, per=per)]))


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("nothing", "module:attribute, such as nothing:app"),
        ("no.such.module:app", r"there is no module no, neither in \S+ nor installed$"),
        ("tests/definition.py:app", "as an import does, tests.definition$"),
        ("tests.definition.test_saga:nowhere", "'nowhere'; it has .*test_saga:a_saga"),
        ("tests.definition.test_saga:Order", "'Order'"),
        ("tests.definition.broken:app", r"broken.py, line \d+, ZeroDivisionError"),
        (":app", "':app'"),
    ],
)
def test_an_app_that_cannot_be_loaded_is_named(reference: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        load_app(reference)


several = [make()]
a_saga = make()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = (", r"importing faulty failed, SyntaxError: .*faulty.py, line 1"),
        ("import not_installed", r"faulty.py, line 1, ModuleNotFoundError: .*'not_installed'"),
        # In a library, called from the user's line.
        ("import json\njson.loads('{')", r"faulty.py, line 2, JSONDecodeError"),
        ("import sys\nsys.exit('no')", r"faulty.py, line 2, SystemExit: no"),
    ],
)
def test_a_module_that_is_faulty_is_named_with_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    (tmp_path / "faulty.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(ConfigurationError, match=says):
        load_app("faulty:app")


def test_a_saga_or_a_list_of_them_is_an_app_as_well() -> None:
    assert load_app("tests.definition.test_saga:several").sagas == {("order", 1): several[0]}
