"""The page about the shipped sagas: its example, and its table of settings."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steps.onboarding import Application, app
from steps.settings import ExampleSettings
from tests.docs.examples import DOCS, python_blocks
from tests.engine.bench import Bench
from tests.fixtures import Schema
from tests.steps.town import Town


@pytest.fixture
def town(schema: Schema, tmp_path: Path) -> Iterator[Town]:
    """What the sagas talk to."""
    with Town(Bench(schema), tmp_path) as made:
        yield made


async def test_an_application_is_handed_in_and_decided_on(town: Town) -> None:
    (block,) = python_blocks("examples.md")
    said: dict[str, Any] = {}
    exec(block, said)
    wanted = Application(
        customer="Carla",
        account="carla",
        document="passport 7",
        email="c@example.com",
        cool_off=0.1,
    )
    async with town.worker(app):
        with town.bench.schema.connect() as connection:
            saga = said["hand_in"](connection, town.bench.client, wanted)
            decided = said["decide"](connection, town.bench.client, saga, "ann", True)
            assert decided in ("kept", "delivered")
            assert said["decide"](connection, town.bench.client, saga, "ann", True) == "repeated"
        status = await town.settled(saga)
    assert status.status == "COMPLETED"
    assert [row["name"] for row in await town.table("account")] == ["carla"]


def test_every_setting_is_in_the_table_with_its_default() -> None:
    page = (DOCS / "examples.md").read_text()
    rows = re.findall(r"^\| (`EXAMPLE_.*?) \|(.*?)\| ", page, re.MULTILINE)
    named: dict[str, str] = {}
    for names, defaults in rows:
        for name, default in zip(names.split(", "), defaults.split(", "), strict=True):
            named[name.strip("`").removeprefix("EXAMPLE_").lower()] = default.strip("` ")
    assert set(named) == set(ExampleSettings.model_fields)
    for name, field in ExampleSettings.model_fields.items():
        if name not in ("callback_url", "webhook_secret"):
            expected = f"{field.default:g}" if isinstance(field.default, float) else field.default
            assert named[name] == str(expected)
