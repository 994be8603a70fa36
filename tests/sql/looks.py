"""What statements look at: the plans that they ran by, the pages that these touched."""

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


class Looks:
    """The plans of the statements that ran, and the pages that they looked at."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.plans: list[dict[str, Any]] = []
        connection.add_notice_handler(self._note)

    def _note(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        _, _, plan = (diagnostic.message_primary or "").partition("plan:\n")
        if plan:
            self.plans.append(json.loads(plan))

    def indexes(self) -> set[str]:
        """The indexes that the statements since the last time used."""
        return {name for plan in self.plans for name in _indexes(plan["Plan"])}

    def take(self) -> tuple[int, list[str]]:
        """The pages, and what was scanned without an index, since the last time."""
        plans, self.plans = self.plans, []
        assert plans, "the statements were explained"
        pages = max(p["Plan"]["Shared Hit Blocks"] + p["Plan"]["Shared Read Blocks"] for p in plans)
        scanned = [name for plan in plans for name in _scans(plan["Plan"])]
        return pages, scanned


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
