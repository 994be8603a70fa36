"""The examples of docs/steering.md and docs/versions.md run."""

from typing import Any

from outbox import Retry, Saga
from outbox.operator import Operator
from tests.docs.examples import python_blocks
from tests.fixtures import Schema
from tests.sql.conftest import running_engine
from tests.sql.engine import Engine
from tests.sql.sagas import MINUTE, Order, act

DOWN = '{"type": "MailDown", "message": "the mail server does not answer"}'


def make_welcome(version: int, *names: str) -> Saga[Order]:
    saga = Saga("welcome", input=Order, version=version)
    saga.step(name="admit", pivot=True)(act)
    for name in names:
        saga.step(name=name, retry=Retry(2, 8, MINUTE))(act)
    return saga


def run(page: str) -> dict[str, Any]:
    """What the page's example defines."""
    (block,) = python_blocks(page)
    names: dict[str, Any] = {}
    exec(block, names)
    return names


def down(engine: Engine, key: str) -> None:
    """A saga that is suspended because the mail server is down."""
    engine.start("welcome", key)
    worker = engine.worker("welcome")
    worker.say(worker.say(worker.claim_one(), "done"), "rejected", error=DOWN)


def test_after_an_outage(schema: Schema, capsys: Any) -> None:
    with running_engine(schema) as engine:
        engine.register(make_welcome(1, "mail"))
        down(engine, "before")
        engine.value("select act_many('skip', 'wrote them a letter', '{\"type\": \"welcome\"}')")
        down(engine, "now")
        engine.value("select pause('the mail server is down', 'welcome')")
        done = run("steering.md")["after_the_outage"](engine.connection, Operator(schema.name))
        assert done == 1
        assert capsys.readouterr().out == "skip wrote them a letter mail: done\n"
        assert engine.worker("welcome").claim_one().step == "mail"


def test_an_upgrade(schema: Schema) -> None:
    with running_engine(schema) as engine:
        engine.register(make_welcome(1, "mail"))
        down(engine, "has mailed")
        fits = engine.start("welcome", "fits")
        engine.register(make_welcome(2, "post"))
        (stays,) = run("versions.md")["upgrade"](engine.connection, Operator(schema.name))
        assert stays.startswith("has mailed: saga ")
        assert 'step "mail" is not in version 2' in stays
        assert engine.row(fits).version == 2
