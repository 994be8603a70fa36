"""What an exception of a handler stands for, and what of it can be stored."""

import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox import Rejected, Retry, RetryAfter
from outbox.definition.outcomes import Refused, Retried, describe, from_exception, storable

POLICY = Retry(no_effect=(ConnectionRefusedError,), give_up_on=(KeyError,))


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (
            Rejected("no money", code="insufficient_funds"),
            Refused({"type": "Rejected", "message": "no money", "code": "insufficient_funds"}),
        ),
        (
            RetryAfter(3, "slow down", no_effect=True),
            Retried({"type": "RetryAfter", "message": "slow down"}, no_effect=True, after=3),
        ),
        (RetryAfter(3), Retried({"type": "RetryAfter", "message": "asked to wait"}, after=3)),
        (
            ConnectionRefusedError("nobody there"),
            Retried({"type": "ConnectionRefusedError", "message": "nobody there"}, no_effect=True),
        ),
        (KeyError("x"), Retried({"type": "KeyError", "message": "'x'"}, give_up=True)),
        (ValueError(), Retried({"type": "ValueError", "message": "ValueError"})),
    ],
)
def test_exceptions_stand_for_outcomes(error: Exception, outcome: Refused | Retried) -> None:
    assert from_exception(error, POLICY) == outcome


def test_what_is_known_to_have_had_no_effect_may_be_given_up_on_too() -> None:
    policy = Retry(no_effect=(OSError,), give_up_on=(ConnectionError,))
    assert from_exception(ConnectionRefusedError("x"), policy) == Retried(
        {"type": "ConnectionRefusedError", "message": "x"}, no_effect=True, give_up=True
    )


@pytest.mark.parametrize("seconds", [math.inf, 1e300, -1.0, math.nan, 0.0])
def test_a_wait_is_never_one_that_the_database_cannot_keep(seconds: float) -> None:
    assert 0 <= RetryAfter(seconds).seconds <= 366 * 86400


class Nasty(Exception):
    """An exception with a message and a code that are hard to keep."""

    def __init__(self, code: object) -> None:
        super().__init__("a\x00b\ud800c")
        self.code = code


class Speechless(Exception):
    """An exception that cannot even say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    @property
    def code(self) -> str:
        raise RuntimeError("no code")


@pytest.mark.parametrize("code", ["x\x00\ud800", 10**30, -(10**30), 7, True, None, object(), 1.5])
def test_every_exception_can_be_stored(code: object) -> None:
    described = describe(Nasty(code))
    assert described["message"] == "a\ufffdb?c"
    assert "\\u0000" not in orjson.dumps(described).decode()


def test_an_exception_that_cannot_describe_itself_is_described_by_its_type() -> None:
    assert describe(Speechless()) == {"type": "Speechless", "message": "Speechless"}


def test_a_long_message_is_cut() -> None:
    assert len(describe(ValueError("x" * 100_000))["message"]) == 4000


@given(st.text(st.characters()))
def test_storable_text_keeps_what_it_can(text: str) -> None:
    kept = storable(text)
    assert "\x00" not in kept
    kept.encode()
    assert len(kept) == len(text)
    if text.isprintable():
        assert kept == text or any(0xD800 <= ord(c) <= 0xDFFF for c in text)
