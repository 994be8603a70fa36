"""Rows as tables for people, and a history as a tree."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from outbox.viewer.saga import Moment, Overview

_WRAPPED = {"what", "error", "reason", "detail", "violated", "message", "why", "change", "note"}
STYLES = {
    "COMPLETED": "green",
    "FAILED": "red",
    "SUSPENDED": "bold yellow",
    "COMPENSATING": "magenta",
    "EXECUTING": "cyan",
    "done": "green",
    "retry": "yellow",
    "rejected": "red",
    "in_doubt": "bold yellow",
}


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> Table:
    """A table of values; text is never taken for markup."""
    made = Table(title=title, title_justify="left", box=None, header_style="dim", pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold", no_wrap=column not in _WRAPPED)
    for row in rows:
        made.add_row(*(cell(value) for value in row))
    return made


def cell(value: Any) -> Text:
    """A value as text: times to the millisecond, intervals in seconds, JSON as JSON."""
    if value is None:
        return Text("")
    if isinstance(value, datetime):
        return Text(value.astimezone().isoformat(sep=" ", timespec="milliseconds")[:23])
    if isinstance(value, timedelta):
        return Text(interval(value))
    if isinstance(value, dict | list):
        return Text(orjson.dumps(value).decode())
    text = str(value)
    return Text(text, style=STYLES.get(text, ""))


def interval(value: timedelta) -> str:
    """A duration, short: ``1.234 s``, ``3 min 20 s``, ``2 d 3 h``."""
    seconds = value.total_seconds()
    if abs(seconds) < 60:
        return f"{seconds:.3f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def story_tree(seen: Overview, timeline: Sequence[Moment], *, unfolded: bool = False) -> Tree:
    """A saga's history: one node a command, with how long its last attempt took; what ran side by
    side stands within its group. The failed attempts of a command are one line, or, unfolded, each
    with its error."""
    title = Text(f"{seen.type} {seen.key} ", style="bold").append_text(cell(seen.status))
    tree = Tree(title.append(f"  {interval(seen.age)}", style="dim"))
    main, lines = tree, dict[object, Tree]()
    for command in _commands(timeline):
        last = command[-1]
        if last.line is None:
            node = tree.add(_command(command))
            if last.outcome == "waiting" or any(m.outcome == "waiting" for m in command):
                main, lines = node, {}
        else:
            if last.line not in lines:
                name = "branch" if last.element is None else f"element {last.element}"
                lines[last.line] = main.add(Text(name, style="dim"))
            node = lines[last.line].add(_command(command))
        _add_failures(node, command, unfolded)
    return tree


def _commands(timeline: Sequence[Moment]) -> list[list[Moment]]:
    """The moments of each command, in the order in which the commands began; an act, the start, and
    the joining of lines each stand for themselves."""
    found: dict[object, list[Moment]] = {}
    for number, moment in enumerate(timeline):
        alone = moment.kind in (None, "act") or moment.outcome == "joined"
        key = number if alone else (moment.line, moment.ordinal, moment.kind)
        found.setdefault(key, []).append(moment)
    return list(found.values())


def _command(moments: Sequence[Moment]) -> Text:
    last = moments[-1]
    text = Text(f"{cell(last.at).plain[11:]}  ", style="dim")
    text.append(last.what, style=STYLES.get(last.outcome, "none"))
    if last.outcome == "done" and last.state not in (None, last.to_status):
        text.append(f"  {last.state}", style="bold")
    if last.took is not None:
        text.append(f"  {interval(last.took)}", style="dim")
    return text


def _add_failures(node: Tree, moments: Sequence[Moment], unfolded: bool) -> None:
    failed = [moment for moment in moments if moment.error is not None and moment.kind != "act"]
    if unfolded:
        for moment in failed:
            detail = {
                k: v for k, v in (moment.error_detail or {}).items() if k not in ("type", "message")
            }
            text = Text(f"attempt {moment.attempt}: {moment.outcome}: ", style="dim")
            text.append(str(moment.error), style="red")
            leaf = node.add(text)
            for name, value in detail.items():
                leaf.add(Text(f"{name}: ", style="dim").append_text(cell(value)))
    elif failed:
        kinds: dict[str, int] = {}
        for moment in failed:
            kinds[str(moment.error)] = kinds.get(str(moment.error), 0) + 1
        for error, count in kinds.items():
            node.add(
                Text(f"{count} × " if count > 1 else "", style="dim").append(error, style="red")
            )
