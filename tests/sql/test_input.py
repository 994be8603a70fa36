"""What is no input: refused with an error that says why, and nothing is written."""

import json
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb
from pydantic import BaseModel, ConfigDict, Field

from outbox import Saga
from tests.sql.engine import Engine
from tests.sql.sagas import act


class Colour(StrEnum):
    RED = "red"


class Size(Enum):
    SMALL = 1
    LARGE = "large"


class Address(BaseModel):
    street: str
    floor: int | None = None


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Tree(BaseModel):
    left: "Tree | None" = None
    right: "Tree | None" = None


class Everything(BaseModel):
    """A field of every sort that pydantic describes in its own way."""

    whole: int
    real: float
    amount: Decimal
    text: str
    flag: bool
    maybe: int | None
    default: str = "x"
    either: int | str
    several: int | str | list[int] | None
    colour: Colour
    size: Size
    word: Literal["a", "b"]
    constant: Literal[1]
    address: Address
    maybe_address: Address | None
    addresses: list[Address]
    by_name: dict[str, Address]
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    tree: Tree
    when: datetime
    day: date
    wait: timedelta
    id: UUID
    pair: tuple[int, str]
    tags: set[str]
    anything: Any
    limited: Annotated[int, Field(gt=0, lt=10)]


EVERYTHING: dict[str, Any] = json.loads("""{
    "whole": 1, "real": 1.5, "amount": "9.99", "text": "", "flag": false, "maybe": null,
    "either": 3, "several": [1], "colour": "red", "size": 1, "word": "a", "constant": 1,
    "address": {"street": "s"}, "maybe_address": null, "addresses": [{"street": "s"}],
    "by_name": {"x": {"street": "s", "floor": 2}}, "pet": {"kind": "dog"},
    "tree": {"left": {"right": null}}, "when": "2026-01-02T03:04:05Z", "day": "2026-01-02",
    "wait": "PT1H", "id": "00000000-0000-7000-8000-000000000000", "pair": [1, "x"],
    "tags": ["t"], "anything": {"any": [null]}, "limited": 5
}""")


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    number: int
    name: str | None = None


class Renamed(BaseModel):
    number: int = Field(alias="orderNumber")


def one_step(type_: str, model: type[BaseModel]) -> Saga[Any]:
    saga: Saga[Any] = Saga(type_, input=model)
    saga.step(name="only", nothing_to_undo="it reads")(act)
    return saga


@pytest.fixture(autouse=True)
def types(engine: Engine) -> None:
    engine.register(
        one_step("everything", Everything),
        one_step("closed", Closed),
        one_step("renamed", Renamed),
        one_step("tree", Tree),
    )


@pytest.mark.parametrize(
    "change",
    [
        *[{}, {"maybe": 3}, {"either": "x"}, {"several": None}, {"several": "x"}, {"whole": 2.0}],
        *[{"real": 2}, {"amount": 3}, {"amount": 3.5}, {"size": "large"}, {"unknown": 1}],
        *[{"maybe_address": {"street": "s", "floor": None}}, {"default": "y"}],
        *[{"anything": None}, {"tree": {}}, {"whole": 10**30}],
    ],
    ids=str,
)
def test_what_pydantic_accepts_is_accepted(engine: Engine, change: dict[str, Any]) -> None:
    given = EVERYTHING | change
    Everything.model_validate(given)
    assert engine.start("everything", **given)


def test_what_pydantic_makes_of_a_model_is_accepted(engine: Engine) -> None:
    for given in (EVERYTHING, EVERYTHING | {"amount": 3.5, "whole": 10**30}):
        dumped = Everything.model_validate(given).model_dump(mode="json")
        assert engine.start("everything", **dumped)


def test_aliases_and_models_that_refer_to_themselves_are_accepted(engine: Engine) -> None:
    assert engine.start("renamed", orderNumber=1)
    assert engine.start("tree", left={"left": {"left": None}})
    assert engine.start("closed", number=1)


@pytest.mark.parametrize(
    ("type_", "given", "state", "message"),
    [
        ("closed", {}, "SG002", 'the field "number" is required'),
        ("closed", {"number": "1"}, "SG002", 'the field "number" must be integer, not string'),
        ("closed", {"number": 1.5}, "SG002", 'the field "number" must be integer, not number'),
        ("closed", {"number": None}, "SG002", 'the field "number" must be integer, not null'),
        ("closed", {"number": 1, "name": []}, "SG002", '"name" must be string or null, not array'),
        ("closed", {"number": 1, "nmae": ""}, "SG002", '"nmae" is not known; known are: name, num'),
        ("renamed", {"number": 1}, "SG002", 'the field "orderNumber" is required'),
        ("everything", EVERYTHING | {"colour": 3}, "SG002", '"colour" must be string'),
        ("everything", EVERYTHING | {"address": "s"}, "SG002", '"address" must be object'),
        ("everything", EVERYTHING | {"several": {}}, "SG002", '"several" must be integer or str'),
        ("everything", EVERYTHING | {"tags": "t"}, "SG002", '"tags" must be array'),
        ("order", [], "SG002", "it must be a JSON object, not array"),
        ("order", "text", "SG002", "it must be a JSON object, not string"),
        ("order", None, "SG002", "it must be a JSON object, not null"),
        ("order", {"x": "y" * 300_000}, "SG002", "bytes, the limit is 262144"),
        ("ordre", {}, "SG001", 'unknown saga type "ordre"'),
        (None, {}, "SG001", "unknown saga type"),
    ],
)
def test_an_input_that_does_not_fit_is_refused(
    engine: Engine, type_: str | None, given: Any, state: str, message: str
) -> None:
    before = engine.everything()
    with pytest.raises(psycopg.Error) as caught:
        engine.value("select start(%s, %s, 'the-key')", type_, Jsonb(given))
    assert caught.value.sqlstate == state
    assert message in str(caught.value)
    if state == "SG002":
        assert 'key "the-key"' in str(caught.value)
    assert engine.everything() == before


def test_an_unknown_type_or_version_names_those_that_are_registered(engine: Engine) -> None:
    with pytest.raises(psycopg.Error, match="order version 1") as caught:
        engine.start("ordre")
    assert caught.value.sqlstate == "SG001"
    with pytest.raises(psycopg.Error, match='unknown saga type "order" version 9') as caught:
        engine.start("order", version=9)
    assert caught.value.sqlstate == "SG001"


@pytest.mark.parametrize(
    ("text", "state"),
    [
        *[("{", "22P02"), ("{'number': 1}", "22P02"), ('{"number": 1}{', "22P02"), ("", "22P02")],
        ('{"x": "\\u0000"}', "22P05"),
        ('{"x": "\\ud800"}', "22P02"),
        ("[" * 100_000, "54001"),
    ],
)
def test_what_is_not_json_is_refused(engine: Engine, text: str, state: str) -> None:
    before = engine.everything()
    with pytest.raises(psycopg.Error) as caught:
        engine.value("select start('order', %s::text::jsonb)", text)
    assert caught.value.sqlstate == state
    assert engine.everything() == before


@pytest.mark.parametrize(("key", "message"), [("", "its key is empty"), ("k" * 513, "513 char")])
def test_a_key_has_1_to_512_characters(engine: Engine, key: str, message: str) -> None:
    with pytest.raises(psycopg.Error, match=message) as caught:
        engine.start(key=key)
    assert caught.value.sqlstate == "SG002"
    assert engine.start(key="k" * 512)
    assert engine.start(key="%s " * 100)


def test_one_bad_input_among_many_is_named_and_nothing_starts(engine: Engine) -> None:
    before = engine.everything()
    inputs = [Jsonb({"number": 1}), Jsonb({"number": "x"}), None]
    with pytest.raises(psycopg.Error, match=r'key "b".*"number" must be integer'):
        engine.value("select start_many('order', %s, %s)", inputs, ["a", "b", "c"])
    with pytest.raises(psycopg.Error, match="it is null"):
        engine.value("select start_many('order', %s, %s)", [inputs[0], None], ["a", "c"])
    with pytest.raises(psycopg.Error, match="as many keys as inputs, got 1 and 2"):
        engine.value("select start_many('order', %s, %s)", inputs[:2], ["a"])
    assert engine.everything() == before


def test_the_limit_of_an_inputs_size_is_a_setting(engine: Engine) -> None:
    engine.execute("update setting set max_input_bytes = 20")
    assert engine.start(number=12345)
    with pytest.raises(psycopg.Error, match="the limit is 20"):
        engine.start(number=10**20)
