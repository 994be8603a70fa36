"""Templates, and what they can do with values: everything is escaped, secrets are masked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from outbox.web.mask import MASK, Masking
from outbox.web.times import age_text, duration_text, instant_text

HERE = Path(__file__).parent
STATIC = HERE / "static"

_LONGEST_JSON = 20_000


class Rendering:
    """Renders templates.

    Args:
        root: the path under which everything is served, such as ``/outbox``, or nothing.
        masking: which fields are secret.
    """

    def __init__(self, root: str, masking: Masking) -> None:
        self.root, self.masking = root, masking
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(url=self.url, static=self.static)
        self._environment.filters.update(
            json=self.json,
            brief=self.brief,
            masked=masking.mask_text,
            age=age,
            ago=lambda value: age(value, ago=True),
            took=lambda value: "" if value is None else duration_text(value),
            span=lambda value: "" if value is None else age_text(value),
            instant=lambda value: "" if value is None else instant_text(value),
            number=lambda value: f"{value:,}".replace(",", " "),  # thin spaces
            short=lambda value: str(value)[-12:],
        )

    def render(self, template: str, /, **values: Any) -> Markup:
        """A template with these values."""
        return Markup(self._environment.get_template(template).render(**values))

    def url(self, path: str, /, **query: object) -> str:
        """The address of a page; values of the query that are None or empty are left out. A tuple
        stands there once for each of its items."""
        given = [
            (name, str(item))
            for name, value in query.items()
            for item in (value if isinstance(value, list | tuple) else (value,))
            if item not in (None, "")
        ]
        whole = f"{self.root}/admin{quote(path, safe='/~')}"
        return f"{whole}?{urlencode(given)}" if given else whole

    def static(self, name: str) -> str:
        """The address of a file of ours, which changes with its content."""
        return f"{self.root}/admin/static/{name}?v={digest_of(name)}"

    def json(self, value: Any, *, longest: int = _LONGEST_JSON) -> Markup:
        """A JSON value as coloured text, its secrets masked, cut where it gets too long."""
        text = self.plain_json(value)
        cut_off = len(text) - longest
        written = _colour(text[:longest])
        if cut_off > 0:
            written += Markup('\n<span class="j-cut">… {} more characters</span>').format(cut_off)
        return Markup('<pre class="json" tabindex="0">{}</pre>').format(written)

    def brief(self, value: Any, *, longest: int = 200) -> str:
        """A JSON value in one line, a text without quotes, its secrets masked; cut where it gets
        too long."""
        shown = self.masking.mask(value)
        text = shown if isinstance(shown, str) else orjson.dumps(shown, default=str).decode()
        return text if len(text) <= longest else f"{text[:longest]} …"

    def plain_json(self, value: Any) -> str:
        """A JSON value as text, its secrets masked."""
        shown = self.masking.mask(value)
        return orjson.dumps(shown, default=str, option=orjson.OPT_INDENT_2).decode()


def age(at: datetime | None, *, until: bool = False, ago: bool = False) -> Markup:
    """How long ago an instant was (or how far it is), kept up to date by ``live.js``; with the word
    "ago" in one with it, so that nothing moves behind a number that grows."""
    if at is None:
        return Markup("")
    utc = at.astimezone(UTC)
    now = datetime.now(UTC)
    text = age_text(max(utc - now if until else now - utc, timedelta()))
    return Markup('<time datetime="{}" title="{} UTC" data-{}="{}">{}</time>').format(
        utc.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        instant_text(utc),
        Markup("until" if until else "age"),
        "ago" if ago else "",
        f"{text} ago" if ago else text,
    )


def _colour(text: str) -> Markup:
    """JSON text with its names, strings and numbers in spans."""
    parts: list[Markup] = []
    at = 0
    while at < len(text):
        mark = text[at]
        if mark == '"':
            end = at + 1
            while end < len(text) and text[end] != '"':
                end += 2 if text[end] == "\\" else 1
            token = text[at : end + 1]
            style = "j-name" if text[end + 1 : end + 2] == ":" else "j-text"
            if MASK in token:
                style = "j-mask"
            parts.append(Markup('<span class="{}">{}</span>').format(Markup(style), token))
            at = end + 1
        elif mark.isalnum() or mark in "-.":
            end = at
            while end < len(text) and (text[end].isalnum() or text[end] in "+-."):
                end += 1
            parts.append(Markup('<span class="j-value">{}</span>').format(text[at:end]))
            at = end
        else:
            end = at
            while end < len(text) and not (
                text[end] == '"' or text[end].isalnum() or text[end] in "-."
            ):
                end += 1
            parts.append(escape(text[at:end]))
            at = end
    return Markup("").join(parts)


@cache
def digest_of(name: str) -> str:
    """A few characters that change with the content of a static file."""
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]


def query_of(items: Mapping[str, str]) -> str:
    """A query in one order, so that equal ones are equal."""
    return urlencode(sorted((k, v) for k, v in items.items() if v))
