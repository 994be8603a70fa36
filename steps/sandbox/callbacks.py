"""The partners' callbacks: signed, at least once, and again until they are answered."""

from __future__ import annotations

import asyncio

import httpx

from steps.sandbox.partner_store import Callback, PartnerStore
from steps.signatures import sign

POLL_SECONDS = 0.05


async def deliver_callbacks(store: PartnerStore, secret: str) -> None:
    """Call back, until cancelled.

    Args:
        store: who is to be called.
        secret: what callbacks are signed with.
    """
    async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
        while True:
            due = store.due_callbacks()
            answers = await asyncio.gather(*(_call(client, one, secret) for one in due))
            for one, answered in zip(due, answers, strict=True):
                store.called_back(one.delivery, answered)
            if not due:
                await asyncio.sleep(POLL_SECONDS)


async def _call(client: httpx.AsyncClient, callback: Callback, secret: str) -> bool:
    headers = sign(secret, callback.delivery, callback.body)
    try:
        answer = await client.post(
            callback.url,
            content=callback.body,
            headers={"Content-Type": "application/json", **headers},
        )
    except httpx.HTTPError:
        return False
    return answer.is_success
