"""SVG elements as escaped markup."""

from __future__ import annotations

from markupsafe import Markup, escape


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """An element. A trailing underscore of an attribute's name is dropped (``class_``), others
    become dashes; attributes that are None are left out; a child that is not markup is text."""
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _text(value))
        for key, value in attributes.items()
        if value is not None
    )
    inside = Markup("").join(escape(child) for child in children)
    return Markup("<{}{}>{}</{}>").format(Markup(name), written, inside, Markup(name))


def picture(
    width: float, height: float, label: str, *children: str, class_: str = "chart"
) -> Markup:
    """A whole picture of this size, with what it shows in words for those who do not see it."""
    return tag(
        "svg",
        *children,
        class_=class_,
        viewBox=f"0 0 {_text(width)} {_text(height)}",
        width=width,
        height=height,
        role="img",
        aria_label=label,
    )


def cut(text: str, characters: int) -> str:
    """A text that fits: SVG does not shorten."""
    return text if len(text) <= characters else text[: characters - 1] + "…"


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return str(value)
