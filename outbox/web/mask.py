"""Secrets in JSON, found by the names of their fields, and not shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from outbox.errors import InputError

MASK = "••••••"

_WORD = re.compile(r"[A-Z]{2,}s?(?![a-z])|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


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
        spelled = "|".join(r"[\s_-]?".join(map(re.escape, words)) for words in self._names)
        # In running text: name=value, name: value, "name": "value".
        self._in_text = (
            re.compile(
                rf"""(?i)\b((?:[a-z0-9]+[_-])*(?:{spelled})s?(?:[_-][a-z0-9]+)*["']?\s*[=:]\s*)"""
                r"""("[^"]*"|'[^']*'|(?:Bearer\s+|Basic\s+)?[^\s,;&"'})\]]+)"""
            )
            if spelled
            else None
        )

    def hides(self, name: str) -> bool:
        """Whether the values of a field are secret."""
        known = self._known.get(name)
        if known is None:
            known = self._hides(name)
            if len(self._known) < 10_000:  # names come from outside
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
        return text if self._in_text is None else self._in_text.sub(rf"\1{MASK}", text)

    def restore(self, edited: Any, original: Any) -> Any:
        """What somebody made of a masked value, with the secrets back in their places.

        Raises:
            InputError: a mask stands where there was no secret.
        """
        return self._restore(edited, original, self.mask(original), "")

    def _restore(self, edited: Any, original: Any, shown: Any, path: str) -> Any:
        if edited == shown:
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
            return [
                self._restore(
                    v,
                    known_items[at] if at < len(known_items) else None,
                    seen_items[at] if at < len(seen_items) else None,
                    f"{path}[{at}]",
                )
                for at, v in enumerate(edited)
            ]
        if isinstance(edited, str) and MASK in edited:
            raise InputError(
                f"at {path.lstrip('.') or 'the top'} stands {MASK}, which hides a secret of "
                "another place: leave it where it was, or write the value itself"
            )
        return edited


def _words(name: str) -> list[str]:
    words = [word.lower() for word in _WORD.findall(name)]
    return [
        word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
        for word in words
    ]
