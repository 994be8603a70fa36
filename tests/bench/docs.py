"""The generated parts of docs/benchmarks.md: everything between a pair of markers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tests.bench.report import number, verdict
from tests.bench.scenario import Bench


class MissingMarkersError(Exception):
    """The document has no place for a part; the message names the markers."""


def write_docs(
    bench: Bench, facts: Mapping[str, Mapping[str, str]], command: str, path: Path
) -> None:
    """Puts this run's figures into the document: the parts of the scenarios that it measured, each
    with the run's command, and those of its bars. The rest of the text stays as it is.

    Raises:
        MissingMarkersError: a scenario has no place in it.
    """
    text = path.read_text()
    text = _replace(text, "machine", _machine(facts))
    if bench.checks:
        text = _replace(text, "bars", _bars(bench, _part(text, "bars")))
    for scenario in dict.fromkeys(series.scenario for series in bench.measures):
        text = _replace(text, scenario, f"`{command}`\n\n{_measures(bench, scenario)}")
    path.write_text(text)


def _replace(text: str, part: str, content: str) -> str:
    begin, end = f"<!-- begin {part} -->", f"<!-- end {part} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise MissingMarkersError(f"the document lacks the lines {begin} and {end}")
    return pattern.sub(lambda _: f"{begin}\n{content}\n{end}", text)


def _part(text: str, part: str) -> str:
    begin, end = f"<!-- begin {part} -->", f"<!-- end {part} -->"
    return text.partition(begin)[2].partition(end)[0].strip()


def _machine(facts: Mapping[str, Mapping[str, str]]) -> str:
    lines = ["| | |", "|---|---|"]
    for title, values in facts.items():
        lines.append(f"| {title} | {'; '.join(f'{k} {v}' for k, v in values.items())} |")
    return "\n".join(lines)


def _bars(bench: Bench, before: str) -> str:
    """The bars, those that this run did not look at as they were before."""
    head = ["| bar | to reach | value | | from |", "|---|---|---|---|---|"]
    rows = {row.split(" | ")[0]: row for row in before.splitlines()[len(head) :]}
    for check in bench.checks:
        found = "not measured" if check.value is None else f"{number(check.value)} {check.unit}"
        rows[f"| {check.name}"] = (
            f"| {check.name} | {check.sense} {number(check.bar)} {check.unit} | {found} "
            f"| {verdict(check)} | {check.note} |"
        )
    return "\n".join([*head, *rows.values()])


def _measures(bench: Bench, scenario: str) -> str:
    lines = ["| measure | median | spread | repeats |", "|---|---:|---:|---:|"]
    for series in bench.measures:
        if series.scenario == scenario:
            lines.append(
                f"| {series.name} | {number(series.median)} {series.unit} "
                f"| {series.spread:.0%} | {len(series.values)} |"
            )
    return "\n".join(lines)
