"""Signing and checking webhooks, in the manner of Standard Webhooks (standardwebhooks.com)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping

TEST_SECRET = "whsec_" + base64.b64encode(b"the sandbox signs with this").decode()
"""What the sandbox signs with, unless told otherwise."""
TOLERANCE = 300.0
"""How old a delivery may be, in seconds; an older one may be somebody's recording."""


class BadSignature(Exception):
    """A delivery is not from who it says, or too old."""


def sign(secret: str, delivery: str, body: bytes, at: float | None = None) -> dict[str, str]:
    """The headers of a delivery.

    Args:
        secret: shared by both sides, ``whsec_`` and base64.
        delivery: names it; the same when it is repeated.
        body: what is sent.
        at: when, in seconds since 1970; default now.
    """
    stamp = str(int(time.time() if at is None else at))
    return {
        "webhook-id": delivery,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{_digest(secret, delivery, stamp, body)}",
    }


def check(secret: str, headers: Mapping[str, str], body: bytes) -> str:
    """Check a delivery.

    Returns:
        What names it.

    Raises:
        BadSignature: it is not signed with the secret, or too old.
    """
    delivery, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not delivery or not stamp.isdecimal():
        raise BadSignature("the headers webhook-id and webhook-timestamp are missing")
    if abs(time.time() - int(stamp)) > TOLERANCE:
        raise BadSignature(f"webhook-timestamp {stamp} is more than {TOLERANCE:.0f} s off")
    expected = f"v1,{_digest(secret, delivery, stamp, body)}".encode()
    # Several while a secret is being replaced.
    given = headers.get("webhook-signature", "").encode().split()
    if not any(hmac.compare_digest(expected, one) for one in given):
        raise BadSignature("webhook-signature is not made with the secret that is shared")
    return delivery


def key_of(secret: str) -> bytes:
    """The bytes of a secret.

    Raises:
        ValueError: it is not ``whsec_`` and base64.
    """
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith("whsec_") or not key:
        raise ValueError("a webhook secret is whsec_ and some bytes in base64")
    return key


def _digest(secret: str, delivery: str, stamp: str, body: bytes) -> str:
    content = f"{delivery}.{stamp}.".encode() + body
    return base64.b64encode(hmac.digest(key_of(secret), content, hashlib.sha256)).decode()
