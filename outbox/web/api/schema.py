"""Inputs compared with the JSON schema that their saga type has registered."""

from __future__ import annotations

import asyncio
import time
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError as BrokenSchemaError
from jsonschema.exceptions import ValidationError
from psycopg import AsyncConnection

from outbox.store.functions import call
from outbox.web.api.problem import ProblemError
from outbox.web.mask import Masking

_KEPT = 5.0  # seconds
_MOST = 20  # problems that are told of


class InputSchemas:
    """The schemas of saga types, kept for a while.

    The database looks at the fields that an input must have, and their types; what else the schema
    says (bounds, patterns, what is nested) is checked here, before a saga is started that could
    only fail.

    Args:
        schema: the database's.
        masking: which fields are secret.
    """

    def __init__(self, schema: str, masking: Masking) -> None:
        self._statement = call(schema, "select {}.input_schema(%s)")
        self._masking = masking
        self._kept: dict[str, tuple[float, Draft202012Validator | None]] = {}

    async def check(self, connection: AsyncConnection[Any], type: str, input: Any) -> None:
        """Compares an input with its type's newest schema; a type that is not known is not looked
        at.

        Raises:
            ProblemError: it does not fit.
        """
        until, validator = self._kept.get(type, (0.0, None))
        is_kept = until > time.monotonic()
        if not is_kept:
            validator = await self._read(connection, type)
        # In a thread: a large input may take a while, and others are not to wait for it.
        if validator is None or await asyncio.to_thread(validator.is_valid, input):
            return
        if is_kept:
            # The schema may have changed since, and nothing is refused by one that is old.
            validator = await self._read(connection, type)
        found = (
            [] if validator is None else await asyncio.to_thread(self._told_of, validator, input)
        )
        if found:
            place = found[0]["pointer"].removeprefix("#/").replace("/", ".").removeprefix("#")
            raise ProblemError(
                "invalid-input",
                f'invalid input for saga type "{type}"{f" at {place}" if place else ""}: '
                f"{found[0]['detail']}",
                errors=found,
            )

    async def _read(
        self, connection: AsyncConnection[Any], type: str
    ) -> Draft202012Validator | None:
        cursor = await connection.execute(self._statement, (type,))
        row = await cursor.fetchone()
        schema = None if row is None else row[0]
        validator = None
        if isinstance(schema, dict):
            try:
                Draft202012Validator.check_schema(schema)
                validator = Draft202012Validator(schema)
            except BrokenSchemaError:
                validator = None  # registered by other means than ours: the database's look is left
        if len(self._kept) > 1000:  # names come from outside
            self._kept.clear()
        self._kept[type] = (time.monotonic() + _KEPT, validator)
        return validator

    def _told_of(self, validator: Draft202012Validator, input: Any) -> list[dict[str, str]]:
        found = []
        for error in map(_nearest, islice(validator.iter_errors(input), _MOST)):
            path = [str(part) for part in error.absolute_path]
            pointer = "#" + "".join(f"/{p.replace('~', '~0').replace('/', '~1')}" for p in path)
            found.append({"pointer": pointer, "detail": self._told(error, path)})
        return found

    def _told(self, error: ValidationError, path: list[str]) -> str:
        """What is wrong; the value only where it is short and no secret."""
        if error.validator in ("required", "additionalProperties", "dependentRequired"):
            return error.message  # which names fields, and no values
        hidden = any(map(self._masking.hides, path))
        if not hidden and not isinstance(error.instance, dict | list):
            said = error.message
            return said if len(said) <= 300 else f"{said[:300]}…"
        wanted = error.validator_value
        is_short = isinstance(wanted, str | int | float) and not hidden
        return f"it does not fit the schema's {error.validator}" + (
            f": {wanted}" if is_short else ""
        )


def _nearest(error: ValidationError) -> ValidationError:
    """Of a value that fits none of several schemas, what is wrong by the one that it is nearest to:
    of ``str | None`` what is wrong with the text, not that it is none of both."""
    while error.validator in ("anyOf", "oneOf") and error.context:
        right_type = [one for one in error.context if one.validator != "type"]
        if len(right_type) != 1:
            break
        error = right_type[0]
    return error
