"""What the provider's answers say about effects, through its library and over real HTTP."""

import asyncio
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import stripe
from pydantic import SecretStr

from outbox import Rejected, RetryAfter
from steps.model import Payment
from steps.provider import Intent, Provider
from steps.sandbox.faults import Fault, Operation
from steps.sandbox.process import SandboxProcess

pytestmark = pytest.mark.anyio

DAY = 86_400.0


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    store = tmp_path_factory.mktemp("sandbox") / "store"
    # The search lags so far behind that it finds nothing: what is found here is found without it.
    with SandboxProcess(store, "--slow", "0.5", "--search-lag", "3600") as running:
        yield running


@pytest.fixture
async def provider(sandbox: SandboxProcess) -> AsyncIterator[Provider]:
    provider = provider_at(sandbox.url)
    yield provider
    await provider.close()


def provider_at(url: str, *, timeout: float = 10, key_lifetime: float = DAY) -> Provider:
    key = SecretStr("sk_test_x")
    return Provider(key, url=url, timeout=timeout, key_lifetime=key_lifetime)


def payment_of(**changes: Any) -> Payment:
    plain = {
        "amount": 1200,
        "currency": "eur",
        "merchant": "bakery",
        "customer": f"cus_{uuid.uuid4().hex}",
        "payment_method": "pm_card_visa",
    }
    return Payment.model_validate(plain | changes)


def new_saga(age: float = 0.0) -> uuid.UUID:
    """A UUIDv7 made `age` seconds ago."""
    milliseconds = int((time.time() - age) * 1000)
    random = int.from_bytes(os.urandom(10)) & ~(0xF << 76) & ~(0x3 << 62)
    return uuid.UUID(int=milliseconds << 80 | 0x7 << 76 | 0x2 << 62 | random)


def effects_of(sandbox: SandboxProcess, saga_id: uuid.UUID) -> list[str]:
    return [
        effect["operation"] for effect in sandbox.effects() if effect["saga_id"] == str(saga_id)
    ]


async def create(provider: Provider, payment: Payment, saga_id: uuid.UUID) -> Intent:
    return await provider.create_intent(payment, saga_id, f"{saga_id}/create")


async def authorize(provider: Provider, intent: Intent, saga_id: uuid.UUID) -> Intent:
    return await provider.authorize(intent.id, f"{saga_id}/authorize")


async def test_a_payment_is_authorized_and_canceled_and_canceling_again_is_a_success(
    sandbox: SandboxProcess, provider: Provider
) -> None:
    saga_id = new_saga()
    intent = await create(provider, payment_of(), saga_id)
    assert (intent.amount, intent.currency) == (1200, "eur")
    assert (await authorize(provider, intent, saga_id)).status == "requires_capture"
    for _ in range(2):
        assert (await provider.cancel(intent.id)).status == "canceled"
    assert effects_of(sandbox, saga_id) == ["create", "authorize", "cancel"]
    keys = [effect["idempotency_key"] for effect in sandbox.effects()][-3:]
    assert keys[:2] == [f"{saga_id}/create", f"{saga_id}/authorize"]


@pytest.mark.parametrize(
    ("card", "code"),
    [
        ("pm_card_chargeDeclined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card"),
    ],
)
async def test_a_decline_is_a_rejection_with_the_providers_code(
    provider: Provider, card: str, code: str
) -> None:
    saga_id = new_saga()
    intent = await create(provider, payment_of(payment_method=card), saga_id)
    with pytest.raises(Rejected, match=f"card declined: {code}") as rejected:
        await authorize(provider, intent, saga_id)
    assert rejected.value.code == code
    # Also when the answer comes too late for the key: the intent itself still says why.
    with pytest.raises(Rejected, match="requires_payment_method") as rejected:
        await provider.authorize(intent.id, f"{saga_id}/another key")
    assert rejected.value.code == code


async def test_a_refused_creation_is_a_rejection(
    sandbox: SandboxProcess, provider: Provider
) -> None:
    saga_id = new_saga()
    with pytest.raises(Rejected, match="Invalid currency: xts"):
        await create(provider, payment_of(currency="xts"), saga_id)
    assert effects_of(sandbox, saga_id) == []


async def test_confirming_a_canceled_intent_is_a_rejection(provider: Provider) -> None:
    saga_id = new_saga()
    intent = await create(provider, payment_of(), saga_id)
    await provider.cancel(intent.id)
    with pytest.raises(Rejected, match="is canceled"):
        await authorize(provider, intent, saga_id)


async def test_an_authorization_that_is_there_already_is_a_success(
    sandbox: SandboxProcess, provider: Provider
) -> None:
    saga_id = new_saga()
    intent = await create(provider, payment_of(), saga_id)
    await provider.authorize(intent.id, f"{saga_id} first")
    again = await provider.authorize(intent.id, f"{saga_id} second")
    assert again.status == "requires_capture"
    assert effects_of(sandbox, saga_id) == ["create", "authorize"]


async def test_an_unknown_intent_is_a_rejection_to_authorize_but_not_to_cancel(
    provider: Provider,
) -> None:
    with pytest.raises(Rejected, match="No such payment_intent"):
        await provider.authorize("pi_none", "key of none")
    with pytest.raises(stripe.InvalidRequestError):
        await provider.cancel("pi_none")


async def test_a_rate_limit_asks_to_come_back_and_had_no_effect(provider: Provider) -> None:
    saga_id = new_saga()
    payment = payment_of(sandbox_fault="create:rate_limit:1")
    with pytest.raises(RetryAfter) as limited:
        await create(provider, payment, saga_id)
    assert (limited.value.seconds, limited.value.no_effect) == (1.0, True)
    await create(provider, payment, saga_id)


async def test_an_attempt_beside_one_in_progress_comes_back_with_the_effect_unknown(
    sandbox: SandboxProcess, provider: Provider
) -> None:
    saga_id, payment = new_saga(), payment_of(sandbox_fault="create:slow:1")
    answers = await asyncio.gather(
        *(create(provider, payment, saga_id) for _ in range(2)), return_exceptions=True
    )
    (early,) = (answer for answer in answers if isinstance(answer, RetryAfter))
    assert not early.no_effect
    assert effects_of(sandbox, saga_id) == ["create"]


@pytest.mark.parametrize("fault", ["drop_before", "drop_after", "error_500", "error_500_after"])
async def test_a_lost_answer_is_no_refusal(provider: Provider, fault: str) -> None:
    saga_id = new_saga()
    with pytest.raises((stripe.APIConnectionError, stripe.APIError)):
        await create(provider, payment_of(sandbox_fault=f"create:{fault}:1"), saga_id)


async def test_an_absent_provider_is_no_refusal() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    provider = provider_at(f"http://127.0.0.1:{port}")
    with pytest.raises(stripe.APIConnectionError):
        await create(provider, payment_of(), new_saga())
    await provider.close()


async def test_a_silent_provider_is_no_refusal(sandbox: SandboxProcess) -> None:
    provider = provider_at(sandbox.url, timeout=0.3)
    saga_id, payment = new_saga(), payment_of(sandbox_fault="create:timeout_after:1")
    with pytest.raises(stripe.APIConnectionError):
        await create(provider, payment, saga_id)
    await create(provider, payment, saga_id)
    assert effects_of(sandbox, saga_id) == ["create"]
    await provider.close()


async def test_a_key_that_stands_for_something_else_is_no_refusal(provider: Provider) -> None:
    saga_id = new_saga()
    await create(provider, payment_of(), saga_id)
    with pytest.raises(stripe.IdempotencyError):
        await create(provider, payment_of(amount=1), saga_id)


@pytest.mark.parametrize("fault", ["error_500", "error_500_after", "drop_before", "drop_after"])
async def test_a_cancel_that_failed_can_be_repeated(
    sandbox: SandboxProcess, provider: Provider, fault: str
) -> None:
    saga_id = new_saga()
    intent = await create(provider, payment_of(sandbox_fault=f"cancel:{fault}:1"), saga_id)
    with pytest.raises((stripe.APIConnectionError, stripe.APIError)):
        await provider.cancel(intent.id)
    assert (await provider.cancel(intent.id)).status == "canceled"
    assert effects_of(sandbox, saga_id) == ["create", "cancel"]


async def test_an_intent_whose_answer_was_lost_is_found_at_once_by_its_saga(
    provider: Provider,
) -> None:
    saga_id = new_saga()
    payment = payment_of(sandbox_fault="create:drop_after:1")
    with pytest.raises(stripe.APIConnectionError):
        await create(provider, payment, saga_id)
    # The same customer has another payment beside it.
    await create(provider, payment_of(customer=payment.customer), new_saga())
    (found,) = await provider.find_intents(saga_id, payment.customer)
    assert found.status == "requires_confirmation"
    assert await provider.find_intents(new_saga(), payment.customer) == []


async def test_an_intent_is_found_behind_more_than_a_page_of_others(provider: Provider) -> None:
    saga_id, payment = new_saga(), payment_of()
    oldest = await create(provider, payment, saga_id)
    for _ in range(101):
        await create(provider, payment, new_saga())
    assert [found.id for found in await provider.find_intents(saga_id, payment.customer)] == [
        oldest.id
    ]


async def test_a_list_that_cannot_be_read_is_not_taken_for_an_empty_one(
    sandbox: SandboxProcess, provider: Provider
) -> None:
    sandbox.add_fault(Operation.LIST, Fault.DROP_BEFORE)
    with pytest.raises(stripe.APIConnectionError):
        await provider.find_intents(new_saga(), "cus_1")


async def test_a_saga_older_than_the_providers_memory_creates_no_second_intent(
    tmp_path: Path,
) -> None:
    with SandboxProcess(tmp_path / "store", "--key-ttl", "0") as forgetful:
        provider = provider_at(forgetful.url)
        saga_id, payment = new_saga(age=2 * DAY), payment_of()
        first = await create(provider, payment, saga_id)
        assert (await create(provider, payment, saga_id)).id == first.id
        assert effects_of(forgetful, saga_id) == ["create"]
        # One that was canceled since is no intent to go on with.
        await provider.cancel(first.id)
        assert (await create(provider, payment, saga_id)).id != first.id
        await provider.close()


async def test_a_saga_whose_id_has_no_time_counts_as_old(tmp_path: Path) -> None:
    with SandboxProcess(tmp_path / "store", "--key-ttl", "0") as forgetful:
        provider = provider_at(forgetful.url)
        saga_id, payment = uuid.uuid4(), payment_of()
        first = await create(provider, payment, saga_id)
        assert (await create(provider, payment, saga_id)).id == first.id
        await provider.close()
