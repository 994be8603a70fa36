"""The sandbox answers the provider's own client library as the provider would."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import stripe

from steps.expected import expected_end
from steps.make_payments import TARGET, payments
from steps.sandbox import faults
from steps.sandbox.faults import Fault, Operation
from steps.sandbox.process import SandboxProcess
from tests.waiting import wait_until_async

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    store = tmp_path_factory.mktemp("sandbox") / "store"
    with SandboxProcess(store, "--slow", "0.5", "--search-lag", "3600") as running:
        yield running


@pytest.fixture
async def client(sandbox: SandboxProcess) -> AsyncIterator[stripe.StripeClient]:
    http = stripe.HTTPXClient(timeout=httpx.Timeout(10, pool=None))
    yield client_of(sandbox, http)
    await http.close_async()  # type: ignore[no-untyped-call]


def client_of(
    sandbox: SandboxProcess, http: stripe.HTTPXClient, key: str = "sk_test_x"
) -> stripe.StripeClient:
    return stripe.StripeClient(
        key, base_addresses={"api": sandbox.url}, http_client=http, max_network_retries=0
    )


def wanted(fault: str | None = None, **changes: Any) -> Any:
    metadata = {"saga_id": str(uuid.uuid4())} | ({"sandbox_fault": fault} if fault else {})
    return {
        "amount": 1200,
        "currency": "eur",
        "customer": f"cus_{uuid.uuid4().hex}",
        "payment_method": "pm_card_visa",
        "capture_method": "manual",
        "metadata": metadata,
    } | changes


def effects_of(sandbox: SandboxProcess, request: Any) -> list[str]:
    saga_id = request["metadata"]["saga_id"]
    return [effect["operation"] for effect in sandbox.effects() if effect["saga_id"] == saga_id]


def under(key: str) -> Any:
    return {"idempotency_key": key}


def new_key() -> str:
    return uuid.uuid4().hex


async def test_an_intent_is_created_authorized_and_canceled_once(
    sandbox: SandboxProcess, client: stripe.StripeClient
) -> None:
    request = wanted()
    created = await client.v1.payment_intents.create_async(request)
    assert created.status == "requires_confirmation"
    confirmed = await client.v1.payment_intents.confirm_async(created.id)
    assert (confirmed.status, confirmed.amount_capturable) == ("requires_capture", 1200)
    canceled = await client.v1.payment_intents.cancel_async(created.id)
    assert (canceled.status, canceled.amount_capturable) == ("canceled", 0)
    for verb in (client.v1.payment_intents.cancel_async, client.v1.payment_intents.confirm_async):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            await verb(created.id)
        assert refused.value.code == "payment_intent_unexpected_state"
    assert effects_of(sandbox, request) == ["create", "authorize", "cancel"]


@pytest.mark.parametrize(
    ("card", "decline_code"),
    [
        ("pm_card_chargeDeclined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient_funds"),
    ],
)
async def test_a_test_token_is_declined_and_its_intent_can_still_be_canceled(
    sandbox: SandboxProcess, client: stripe.StripeClient, card: str, decline_code: str
) -> None:
    request = wanted(payment_method=card)
    created = await client.v1.payment_intents.create_async(request)
    with pytest.raises(stripe.CardError) as declined:
        await client.v1.payment_intents.confirm_async(created.id)
    assert declined.value.code == "card_declined"
    assert declined.value.error is not None
    assert declined.value.error.decline_code == decline_code
    now = await client.v1.payment_intents.retrieve_async(created.id)
    assert now.status == "requires_payment_method"
    await client.v1.payment_intents.cancel_async(created.id)
    assert effects_of(sandbox, request) == ["create", "decline", "cancel"]


@pytest.mark.parametrize(
    ("changes", "parameter"),
    [
        ({"currency": "xts"}, "currency"),
        ({"amount": 0}, "amount"),
        ({"customer": "nobody"}, "customer"),
        ({"payment_method": "pm_none"}, "payment_method"),
        ({"capture_method": "automatic"}, "capture_method"),
        ({"colour": "red"}, "colour"),
        ({"metadata": {"saga_id": "s", "sandbox_fault": "nonsense"}}, "metadata[sandbox_fault]"),
    ],
)
async def test_a_senseless_request_is_refused_and_its_key_stays_free(
    client: stripe.StripeClient, changes: Any, parameter: str
) -> None:
    key = new_key()
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await client.v1.payment_intents.create_async(wanted(**changes), under(key))
    assert refused.value.param == parameter
    await client.v1.payment_intents.create_async(wanted(), under(key))


async def test_a_request_without_a_test_key_is_refused(sandbox: SandboxProcess) -> None:
    http = stripe.HTTPXClient()
    with pytest.raises(stripe.AuthenticationError):
        await client_of(sandbox, http, "wrong").v1.payment_intents.list_async()
    await http.close_async()  # type: ignore[no-untyped-call]


async def test_the_same_key_gets_the_stored_answer(
    sandbox: SandboxProcess, client: stripe.StripeClient
) -> None:
    request, key = wanted(), new_key()
    first = await client.v1.payment_intents.create_async(request, under(key))
    second = await client.v1.payment_intents.create_async(request, under(key))
    assert second.id == first.id
    assert second.last_response is not None
    assert second.last_response.headers["Idempotent-Replayed"] == "true"
    assert effects_of(sandbox, request) == ["create"]


async def test_a_key_for_other_parameters_or_another_operation_is_refused(
    client: stripe.StripeClient,
) -> None:
    key = new_key()
    created = await client.v1.payment_intents.create_async(wanted(), under(key))
    with pytest.raises(stripe.IdempotencyError):
        await client.v1.payment_intents.create_async(wanted(amount=1), under(key))
    with pytest.raises(stripe.IdempotencyError):
        await client.v1.payment_intents.cancel_async(created.id, {}, under(key))


async def test_a_decline_is_stored(sandbox: SandboxProcess, client: stripe.StripeClient) -> None:
    request, key = wanted(payment_method="pm_card_chargeDeclined"), new_key()
    created = await client.v1.payment_intents.create_async(request)
    for _ in range(2):
        with pytest.raises(stripe.CardError):
            await client.v1.payment_intents.confirm_async(created.id, {}, under(key))
    assert effects_of(sandbox, request) == ["create", "decline"]


async def test_a_key_whose_first_request_is_in_progress_is_in_use(
    sandbox: SandboxProcess, client: stripe.StripeClient
) -> None:
    request, key = wanted("create:slow:1"), new_key()
    answers = await asyncio.gather(
        *(client.v1.payment_intents.create_async(request, under(key)) for _ in range(3)),
        return_exceptions=True,
    )
    refused = [answer for answer in answers if isinstance(answer, stripe.APIError)]
    assert len(refused) == 2
    assert {error.http_status for error in refused} == {409}
    assert effects_of(sandbox, request) == ["create"]


@pytest.mark.parametrize(("fault", "effects"), [("error_500", []), ("error_500_after", ["create"])])
async def test_a_500_is_stored_under_its_key(
    sandbox: SandboxProcess, client: stripe.StripeClient, fault: str, effects: list[str]
) -> None:
    request, key = wanted(f"create:{fault}:1"), new_key()
    for _ in range(3):
        with pytest.raises(stripe.APIError) as failed:
            await client.v1.payment_intents.create_async(request, under(key))
        assert failed.value.http_status == 500
    assert effects_of(sandbox, request) == effects
    await client.v1.payment_intents.create_async(request, under(new_key()))


async def test_a_rate_limit_says_when_to_come_back_and_is_not_stored(
    sandbox: SandboxProcess, client: stripe.StripeClient
) -> None:
    request, key = wanted("create:rate_limit:2"), new_key()
    for _ in range(2):
        with pytest.raises(stripe.RateLimitError) as limited:
            await client.v1.payment_intents.create_async(request, under(key))
        assert limited.value.headers is not None
        assert limited.value.headers["Retry-After"] == "1"
    await client.v1.payment_intents.create_async(request, under(key))
    assert effects_of(sandbox, request) == ["create"]


@pytest.mark.parametrize(("fault", "effects"), [("drop_before", []), ("drop_after", ["create"])])
async def test_a_dropped_connection_ends_without_an_answer(
    sandbox: SandboxProcess, client: stripe.StripeClient, fault: str, effects: list[str]
) -> None:
    request, key = wanted(f"create:{fault}:2"), new_key()
    for _ in range(2):
        with pytest.raises(stripe.APIConnectionError) as dropped:
            await client.v1.payment_intents.create_async(request, under(key))
        assert isinstance(dropped.value.__cause__, httpx.RemoteProtocolError | httpx.ReadError)
        assert effects_of(sandbox, request) == effects
    await client.v1.payment_intents.create_async(request, under(key))
    assert effects_of(sandbox, request) == ["create"]


@pytest.mark.parametrize(
    ("fault", "effects"), [("timeout_before", []), ("timeout_after", ["create"])]
)
async def test_a_request_is_left_without_an_answer_until_its_client_gives_up(
    sandbox: SandboxProcess, fault: str, effects: list[str]
) -> None:
    request, key = wanted(f"create:{fault}:1"), new_key()
    http = stripe.HTTPXClient(timeout=0.3)
    impatient = client_of(sandbox, http)
    with pytest.raises(stripe.APIConnectionError) as unanswered:
        await impatient.v1.payment_intents.create_async(request, under(key))
    assert isinstance(unanswered.value.__cause__, httpx.ReadTimeout)
    assert effects_of(sandbox, request) == effects
    await impatient.v1.payment_intents.create_async(request, under(key))
    assert effects_of(sandbox, request) == ["create"]
    await http.close_async()  # type: ignore[no-untyped-call]


async def test_other_payments_do_not_feel_the_faults_of_one(
    sandbox: SandboxProcess, client: stripe.StripeClient
) -> None:
    troubled = wanted("create:drop_before:*")
    answers = await asyncio.gather(
        *(client.v1.payment_intents.create_async(wanted()) for _ in range(5)),
        client.v1.payment_intents.create_async(troubled),
        return_exceptions=True,
    )
    assert [isinstance(answer, stripe.APIConnectionError) for answer in answers] == [
        *[False] * 5,
        True,
    ]


async def test_a_fault_can_be_demanded_for_any_payment(
    sandbox: SandboxProcess, client: stripe.StripeClient
) -> None:
    request = wanted()
    sandbox.add_fault(Operation.LIST, Fault.DROP_BEFORE)
    with pytest.raises(stripe.APIConnectionError):
        await client.v1.payment_intents.list_async()
    await client.v1.payment_intents.list_async()
    sandbox.add_fault(
        Operation.CREATE, Fault.ERROR_500, times=None, saga_id=request["metadata"]["saga_id"]
    )
    for _ in range(3):
        with pytest.raises(stripe.APIError):
            await client.v1.payment_intents.create_async(request)
    await client.v1.payment_intents.create_async(wanted())
    sandbox.clear_faults()
    await client.v1.payment_intents.create_async(request)


async def test_a_list_is_newest_first_in_pages_and_never_behind(
    client: stripe.StripeClient,
) -> None:
    customer = f"cus_{new_key()}"
    created = [
        (await client.v1.payment_intents.create_async(wanted(customer=customer))).id
        for _ in range(5)
    ]
    page = await client.v1.payment_intents.list_async({"customer": customer, "limit": 2})
    assert page.has_more
    assert [intent.id async for intent in page.auto_paging_iter()] == created[::-1]
    hour = 3600
    counts: list[tuple[Any, int]] = [
        ({"gte": int(time.time()) - hour}, 5),
        ({"lt": int(time.time()) - hour}, 0),
        ({"gt": int(time.time()) + hour}, 0),
    ]
    for bounds, count in counts:
        found = await client.v1.payment_intents.list_async(
            {"customer": customer, "created": bounds}
        )
        assert len(found.data) == count


async def test_a_search_is_behind(sandbox: SandboxProcess, client: stripe.StripeClient) -> None:
    request = wanted()
    await client.v1.payment_intents.create_async(request)
    query = f"metadata['saga_id']:'{request['metadata']['saga_id']}'"
    found = await client.v1.payment_intents.search_async({"query": query})
    assert found.data == []


async def test_a_search_finds_what_is_old_enough(tmp_path: Path) -> None:
    http = stripe.HTTPXClient()
    request = wanted()
    with SandboxProcess(tmp_path / "store", "--search-lag", "0") as sandbox:
        client = client_of(sandbox, http)
        created = await client.v1.payment_intents.create_async(request)
        await client.v1.payment_intents.create_async(wanted())
        query = f"metadata['saga_id']:'{request['metadata']['saga_id']}'"
        found = await client.v1.payment_intents.search_async({"query": query})
        assert [intent.id for intent in found.data] == [created.id]
    await http.close_async()  # type: ignore[no-untyped-call]


async def test_everything_is_remembered_through_a_crash(tmp_path: Path) -> None:
    http = stripe.HTTPXClient()
    request, key = wanted("confirm:drop_before:2"), new_key()
    first = SandboxProcess(tmp_path / "store")
    created = await client_of(first, http).v1.payment_intents.create_async(request, under(key))
    with pytest.raises(stripe.APIConnectionError):
        await client_of(first, http).v1.payment_intents.confirm_async(created.id)
    effects = first.effects()
    first.kill()
    with SandboxProcess(tmp_path / "store", port=first.port) as second:
        assert second.port == first.port
        assert second.effects() == effects
        client = client_of(second, http)
        again = await client.v1.payment_intents.create_async(request, under(key))
        assert again.id == created.id
        # Of the two requests that are to fail one came before the crash.
        with pytest.raises(stripe.APIConnectionError):
            await client.v1.payment_intents.confirm_async(created.id)
        await client.v1.payment_intents.confirm_async(created.id)
        assert effects_of(second, request) == ["create", "authorize"]
    await http.close_async()  # type: ignore[no-untyped-call]


async def test_keys_are_forgotten_after_their_time(tmp_path: Path) -> None:
    http = stripe.HTTPXClient()
    request, key = wanted(), new_key()
    with SandboxProcess(tmp_path / "store", "--key-ttl", "0.5") as sandbox:
        client = client_of(sandbox, http)
        first = await client.v1.payment_intents.create_async(request, under(key))

        async def is_forgotten() -> bool:
            again = await client.v1.payment_intents.create_async(request, under(key))
            return bool(again.id != first.id)

        await wait_until_async(is_forgotten)
        assert effects_of(sandbox, request) == ["create", "create"]
    await http.close_async()  # type: ignore[no-untyped-call]


async def test_a_signal_ends_it_in_order_even_with_a_request_in_hand(tmp_path: Path) -> None:
    http = stripe.HTTPXClient(timeout=30)
    request = wanted("create:timeout_after:1")
    sandbox = SandboxProcess(tmp_path / "store")
    pending = asyncio.create_task(client_of(sandbox, http).v1.payment_intents.create_async(request))
    await wait_until_async(lambda: effects_of(sandbox, request))
    assert await asyncio.to_thread(sandbox.stop) == 0
    with pytest.raises(stripe.APIConnectionError):
        await pending
    await http.close_async()  # type: ignore[no-untyped-call]


def test_the_command_announces_its_address_in_one_line_and_in_a_file(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "steps.sandbox", "--store", tmp_path / "store"),
            *("--port-file", tmp_path / "port"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert url == f"http://127.0.0.1:{(tmp_path / 'port').read_text()}"
    assert httpx.get(f"{url}/sandbox/effects").json() == []
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 0


def test_a_store_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("this is no database, but it is longer than nothing at all")
    with pytest.raises(RuntimeError, match="before it listened"):
        SandboxProcess(tmp_path / "store")
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(tmp_path / "store").execute("SELECT * FROM effect")


def test_faults_for_one_operation_follow_one_another() -> None:
    rules = faults.parse("confirm:rate_limit:1; create:slow:1;confirm:drop_after:2")
    assert [faults.fault_for(rules, Operation.CONFIRM, request) for request in range(1, 5)] == [
        Fault.RATE_LIMIT,
        Fault.DROP_AFTER,
        Fault.DROP_AFTER,
        None,
    ]


@pytest.mark.parametrize("text", ["create", "create:slow:0", "create:slow:x", "pay:slow:1"])
def test_a_malformed_fault_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=text):
        faults.parse(text)


def test_the_shipped_payments_are_those_that_the_generator_makes() -> None:
    lines = [
        f'{{"key": "{key}", "input": {payment.model_dump_json(exclude_none=True)}}}'
        for key, payment in payments()
    ]
    assert TARGET.read_text().splitlines() == lines
    ends = [expected_end(payment).status for _, payment in payments()]
    assert {status: ends.count(status) for status in set(ends)} == {
        "COMPLETED": 926,
        "FAILED": 70,
        "SUSPENDED": 4,
    }
