"""Partners in the sandbox, their client, and the signatures of their callbacks."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from outbox import Rejected, RetryAfter
from steps.partners import Booking, Partners
from steps.sandbox.process import SandboxProcess
from steps.signatures import TEST_SECRET, BadSignature, check, key_of, sign

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with SandboxProcess(tmp_path_factory.mktemp("sandbox") / "store") as running:
        yield running


@pytest.fixture
async def partners(sandbox: SandboxProcess) -> AsyncIterator[Partners]:
    client = Partners(sandbox.url, timeout=0.5)
    yield client
    await client.close()


async def book(
    partners: Partners, reference: str, item: str = "tea", key: str = "", fault: str | None = None
) -> Booking:
    return await partners.book(
        "shop", item, reference=reference, idempotency_key=key or reference, fault=fault
    )


async def test_a_key_books_once_and_a_booking_is_found_by_its_reference(
    partners: Partners,
) -> None:
    reference = str(uuid4())
    booked = await book(partners, reference)
    assert await book(partners, reference) == booked
    assert await partners.find("shop", reference) == [booked]
    assert await partners.find("other", reference) == []
    with pytest.raises(Rejected, match="was used for another booking"):
        await book(partners, reference, item="cup")


async def test_cancelling_twice_is_as_good_as_once(partners: Partners) -> None:
    reference = str(uuid4())
    booked = await book(partners, reference)
    await partners.cancel("shop", booked.id)
    await partners.cancel("shop", booked.id)
    assert await partners.find("shop", reference) == []
    # The key still stands for the booking that was cancelled.
    assert (await book(partners, reference)).status == "cancelled"
    with pytest.raises(httpx.HTTPStatusError):
        await partners.cancel("shop", "bk_unknown")


async def test_what_cannot_be_had_is_rejected_and_asked_for_in_vain_again(
    partners: Partners,
) -> None:
    for _ in range(2):
        with pytest.raises(Rejected) as caught:
            await book(partners, str(uuid4()), item="unavailable tea")
        assert caught.value.code == "unavailable"


@pytest.mark.parametrize(
    ("fault", "error", "booked"),
    [
        ("create:drop_before:1", httpx.RemoteProtocolError, 0),
        ("create:drop_after:1", httpx.RemoteProtocolError, 1),
        ("create:timeout_before:1", httpx.ReadTimeout, 0),
        ("create:timeout_after:1", httpx.ReadTimeout, 1),
        ("create:error_500:1", httpx.HTTPStatusError, 0),
        ("create:error_500_after:1", httpx.HTTPStatusError, 1),
        ("create:rate_limit:1", RetryAfter, 0),
    ],
)
async def test_each_fault_is_seen_as_what_it_is_and_the_next_request_gets_the_answer(
    partners: Partners, fault: str, error: type[Exception], booked: int
) -> None:
    reference = str(uuid4())
    with pytest.raises(error):
        await book(partners, reference, fault=fault)
    assert len(await partners.find("shop", reference)) == booked
    await book(partners, reference, fault=fault)
    assert len(await partners.find("shop", reference)) == 1


async def test_a_fault_that_is_none_is_refused(partners: Partners) -> None:
    with pytest.raises(Rejected, match="not a fault rule"):
        await book(partners, str(uuid4()), fault="create:explode:1")


async def test_bookings_outlive_their_process(tmp_path: Path) -> None:
    with SandboxProcess(tmp_path / "store") as first:
        client = Partners(first.url, timeout=5)
        booked = await book(client, "ref")
        await client.close()
        first.kill()
    with SandboxProcess(tmp_path / "store") as second:
        client = Partners(second.url, timeout=5)
        assert await book(client, "ref") == booked
        assert [one["id"] for one in second.bookings()] == [booked.id]
        await client.close()


def test_a_signature_holds_for_one_body_one_delivery_and_five_minutes() -> None:
    body = b'{"type": "delivered"}'
    headers = sign(TEST_SECRET, "msg_1", body)
    assert check(TEST_SECRET, headers, body) == "msg_1"
    both = headers | {"webhook-signature": f"v1,AAAA {headers['webhook-signature']}"}
    assert check(TEST_SECRET, both, body) == "msg_1"
    for changed in (
        headers | {"webhook-id": "msg_2"},
        headers | {"webhook-signature": "v1,"},
        headers | {"webhook-timestamp": "soon"},
        sign(TEST_SECRET, "msg_1", body, at=1000),
        {},
    ):
        with pytest.raises(BadSignature):
            check(TEST_SECRET, changed, body)
    with pytest.raises(BadSignature):
        check(TEST_SECRET, headers, body + b" ")


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_???", "c2VjcmV0"])
def test_a_secret_that_is_none_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        key_of(secret)
