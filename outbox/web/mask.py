"""Secrets in JSON, found by the names of their fields, and not shown."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from outbox.errors import InputError

MASK = "••••••"

_WORD = re.compile(r"[A-Z]{2,}s?(?![a-z])|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_LONGEST_KNOWN = 200

# In running text: name=value, name: value, "name": "value". Texts come from outside and are large:
# a name is looked at once, from its beginning to its end, and never again from its middle.
_NAMED = re.compile(
    r"""(?<![A-Za-z0-9])(?<![A-Za-z0-9][_-])((?>[A-Za-z0-9]+(?:[_-][A-Za-z0-9]+)*))"""
    r"""["']?\s*[=:]\s*"""
)
# The quote at the end may be missing where a text was cut.
_VALUE = r"""(?:"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|(?:Bearer\s+|Basic\s+)?[^\s,;&"'})\]]+)"""
_VALUES = re.compile(_VALUE, re.IGNORECASE | re.DOTALL)


class Masking:
    """Which fields are secret: those in whose name one of the given names stands, word by word, in
    whatever spelling: ``card`` is in ``card_number``, ``cardNumber`` and ``Cards``, and not in
    ``discard``.

    Args:
        names: such as ``password`` or ``api_key``.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = [words for name in names if (words := _words(name))]
        self._joined = {"".join(words) for words in self._names}
        self._known: dict[str, bool] = {}
        # In running text there may also be blanks between the words: api key=value.
        spaced = "|".join(r"\s".join(map(re.escape, words)) for words in self._names if words[1:])
        self._spaced = (
            re.compile(rf"""(?is)\b((?:{spaced})s?["']?\s*[=:]\s*){_VALUE}""") if spaced else None
        )

    def hides(self, name: str) -> bool:
        """Whether the values of a field are secret."""
        known = self._known.get(name)
        if known is None:
            known = self._hides(name)
            # Names come from outside.
            if len(self._known) < 10_000 and len(name) <= _LONGEST_KNOWN:
                self._known[name] = known
        return known

    def _hides(self, name: str) -> bool:
        words = _words(name)
        if "".join(words) in self._joined:
            return True
        return any(
            words[at : at + len(wanted)] == wanted
            for wanted in self._names
            for at in range(len(words) - len(wanted) + 1)
        )

    def mask(self, value: Any) -> Any:
        """A JSON value with ``MASK`` in place of what is secret, at any depth."""
        if isinstance(value, dict):
            return {
                k: MASK if v is not None and self.hides(str(k)) else self.mask(v)
                for k, v in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.mask(item) for item in value]
        if isinstance(value, str):
            return self.mask_text(value)
        return value

    def mask_text(self, text: str) -> str:
        """A text with ``MASK`` in place of what stands behind a secret's name, as in an error's
        message."""
        parts, at = [], 0
        while found := _NAMED.search(text, at):
            parts.append(text[at : found.end()])
            at = found.end()
            if self.hides(found[1]) and (value := _VALUES.match(text, at)):
                parts.append(MASK)
                at = value.end()
        whole = "".join([*parts, text[at:]])
        return whole if self._spaced is None else self._spaced.sub(rf"\1{MASK}", whole)

    def restore(self, edited: Any, original: Any) -> Any:
        """What somebody made of a masked value, with the secrets back in their places.

        Raises:
            InputError: a mask stands where there was no secret, or it is nested too deep.
        """
        try:
            return self._restore(edited, original, self.mask(original), "")
        except RecursionError:
            raise InputError("this is nested too deep to be stored") from None

    def _restore(self, edited: Any, original: Any, shown: Any, path: str) -> Any:
        if _same(edited, shown):
            return original
        if isinstance(edited, dict):
            known = original if isinstance(original, dict) else {}
            seen = shown if isinstance(shown, dict) else {}
            return {
                k: self._restore(v, known.get(k), seen.get(k), f"{path}.{k}")
                for k, v in edited.items()
            }
        if isinstance(edited, list):
            known_items = original if isinstance(original, list) else []
            seen_items = shown if isinstance(shown, list) else []
            origins = _origins(edited, seen_items)
            return [
                self._restore(
                    v,
                    None if origin is None else known_items[origin],
                    None if origin is None else seen_items[origin],
                    f"{path}[{at}]",
                )
                for at, (v, origin) in enumerate(zip(edited, origins, strict=True))
            ]
        if isinstance(edited, str) and MASK in edited:
            raise InputError(
                f"at {path.lstrip('.') or 'the top'} stands {MASK}, which hides a secret of "
                "another place: leave it where it was, or write the value itself"
            )
        return edited


def _same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same: true is not 1, as it is to Python."""
    return one == other and json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _origins(edited: list[Any], shown: list[Any]) -> list[int | None]:
    """Which item of a list each item of its edited copy was; None: that is not certain, as where
    one of two was taken out that look the same."""
    if len(edited) >= len(shown) and all(map(_same, edited, shown)):  # perhaps added to
        return [at if at < len(shown) else None for at in range(len(edited))]
    alike = [[at for at, other in enumerate(shown) if _same(one, other)] for one in edited]
    found = [places[0] if len(places) == 1 else None for places in alike]
    if len(edited) == len(shown):
        for at, places in enumerate(alike):
            # It stands where it stood, or was changed there, and what stood there is nowhere else.
            if at in places or (not places and at not in found):
                found[at] = at
    return found


def _words(name: str) -> list[str]:
    words = [word.lower() for word in _WORD.findall(name)]
    return [
        word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
        for word in words
    ]
