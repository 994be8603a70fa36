"""What statements look at: the plans that they run by, and the pages of our tables."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import psycopg

from tests.fixtures import Schema

LARGE = {"outbox", "instance", "transition", "failure"}


@contextlib.contextmanager
def explaining(schema: Schema) -> Iterator[psycopg.Connection[Any]]:
    """A connection that tells what its statements looked at."""
    with schema.connect() as opened:
        opened.execute("load 'auto_explain'")
        for name, value in (
            ("log_min_duration", "0"), ("log_nested_statements", "on"), ("log_analyze", "on"),
            ("log_buffers", "on"), ("log_timing", "off"), ("log_format", "json"),
            ("log_level", "notice"),
        ):  # fmt: skip
            opened.execute("select set_config(%s, %s, false)", (f"auto_explain.{name}", value))
        yield opened


_PAGES = """
    select sum(pg_stat_get_xact_blocks_fetched(oid))::int
    from pg_class where relnamespace = current_schema()::regnamespace
"""


class Look:
    """What the statements of one transaction looked at."""

    def __init__(self) -> None:
        self.plans: list[dict[str, Any]] = []
        self.pages = 0

    @property
    def indexes(self) -> set[str]:
        """The indexes that were used."""
        return {name for plan in self.plans for name in _indexes(plan["Plan"])}

    @property
    def scanned(self) -> set[str]:
        """The tables that may grow large, and were read without an index."""
        return {name for plan in self.plans for name in _scans(plan["Plan"])}


@contextlib.contextmanager
def looking(connection: psycopg.Connection[Any]) -> Iterator[Look]:
    """Notes by which plans the statements within run, and how many pages of the schema's own tables
    and indexes they look at. Those of the catalogs are not counted: how often these are read anew
    depends on what others do in the server."""
    look = Look()

    def note(diagnostic: psycopg.errors.Diagnostic) -> None:
        _, _, plan = (diagnostic.message_primary or "").partition("plan:\n")
        if plan and (found := json.loads(plan))["Query Text"] != _PAGES:
            look.plans.append(found)

    with connection.transaction():  # no counter is taken over into the shared ones within it
        (before,) = connection.execute(_PAGES).fetchone() or (0,)
        connection.add_notice_handler(note)
        yield look
        # A statement of this transaction ends, and tells its plan, when the next one begins.
        (after,) = connection.execute(_PAGES).fetchone() or (0,)
        connection.remove_notice_handler(note)
    assert look.plans, "the statements were explained"
    look.pages = after - before


def _scans(node: dict[str, Any]) -> Iterator[str]:
    if node["Node Type"] == "Seq Scan" and node["Relation Name"] in LARGE:
        yield node["Relation Name"]
    for child in node.get("Plans", []):
        yield from _scans(child)


def _indexes(node: dict[str, Any]) -> Iterator[str]:
    if "Index Name" in node:
        yield node["Index Name"]
    for child in node.get("Plans", []):
        yield from _indexes(child)
