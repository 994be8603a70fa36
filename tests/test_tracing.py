"""Traces: which spans there are of a saga, whichever worker it ran on, and under what."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanContext, StatusCode

from outbox import App, Command, Rejected, Retry, Saga, tracing
from outbox.errors import ConfigurationError
from outbox.tracing import OtelTracer
from tests.cli.conftest import SagaProgram, environment
from tests.cli.conftest import saga_program as saga_program
from tests.engine.bench import Bench, Note, make_saga, until
from tests.engine.conftest import bench as bench
from tests.fixtures import Schema
from tests.payments.world import ROOT
from tests.waiting import wait_until

LOWER = (1 << 64) - 1
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Traced:
    """A process's own provider, whose spans are kept here."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(**options)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = OtelTracer(self.provider)
        self.own = self.provider.get_tracer("test")

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self.exporter.get_finished_spans()

    def named(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.spans if span.name == name]
        return found


@pytest.fixture
def traced() -> Traced:
    return Traced()


def context(span: ReadableSpan) -> SpanContext:
    assert span.context is not None
    return span.context


def parent(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def attribute(span: ReadableSpan, name: str) -> Any:
    return (span.attributes or {})[name]


def header(span: SpanContext) -> str:
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"


def make_half(inner: dict[str, Any]) -> Saga[Note]:
    """A step, a wait, and a step that fails once and is refused then; what its handlers see is kept
    by their names."""
    saga = make_saga()

    def see(name: str, cmd: Command[Note]) -> None:
        inner[name] = trace.get_current_span().get_span_context(), dict(cmd.trace_context)

    @saga.step()
    async def one(cmd: Command[Note]) -> None:
        see("one", cmd)

    @one.compensation()
    def undo_one(cmd: Command[Note]) -> None:
        see("undo one", cmd)

    saga.wait_for("go", timeout=timedelta(hours=1))

    @saga.step(nothing_to_undo="it is refused", retry=Retry(attempts=3, base=0))
    async def two(cmd: Command[Note]) -> None:
        see(f"two {cmd.attempt}", cmd)
        if cmd.attempt == 1:
            raise ConnectionError("once more")
        raise Rejected("no funds")

    return saga


async def run_on_two(bench: Bench, one: Traced, other: Traced, saga: Saga[Note], key: str) -> UUID:
    """Runs a saga to its wait on one worker, and to its end on another."""
    async with bench.worker(saga, one.tracer):
        saga_id = await bench.start(saga, key=key)

        async def waits() -> bool:
            return await bench.rows("select 1 from waiting where saga_id = %s", saga_id) != []

        await until(waits)
    async with bench.worker(saga, other.tracer):
        async with bench.connection() as connection:
            await bench.client.signal(connection, saga_id, "go")
        assert (await bench.settled(saga_id)).status == "FAILED"
    return saga_id


async def test_a_saga_is_one_trace_across_workers(bench: Bench, traced: Traced) -> None:
    inner: dict[str, Any] = {}
    saga, other = make_half(inner), Traced()
    saga_id = await run_on_two(bench, traced, other, saga, "order-42")
    root = other.named(saga.type)
    attempts = [span for span in (*traced.spans, *other.spans) if span is not root]
    assert (context(root).trace_id, context(root).span_id) == (saga_id.int, saga_id.int & LOWER)
    assert (root.parent, root.status.status_code) == (None, StatusCode.ERROR)
    assert root.status.description == "Rejected: no funds"
    assert {attribute(s, "saga.id") for s in other.spans} == {str(saga_id)}
    assert {attribute(s, "saga.key") for s in other.spans} == {"order-42"}
    assert {context(s).trace_id for s in attempts} == {saga_id.int}
    assert {parent(s) for s in attempts} == {context(root).span_id}
    assert len({context(s).span_id for s in (root, *attempts)}) == 5
    assert [
        (s.name, attribute(s, "saga.outcome"), attribute(s, "saga.attempt"), s.status.status_code)
        for s in attempts
    ] == [
        ("one", "done", 1, StatusCode.UNSET),
        ("two", "retry", 1, StatusCode.ERROR),
        ("two", "rejected", 2, StatusCode.UNSET),
        ("one compensation", "done", 1, StatusCode.UNSET),
    ]
    # The handler, in a task or a thread, is in its attempt's span, and is told it as headers.
    assert [seen for seen, _ in inner.values()] == [context(span) for span in attempts]
    assert [told["traceparent"] for _, told in inner.values()] == [
        header(context(span)) for span in attempts
    ]
    began = (await bench.rows("select created_at from instance"))[0][0].timestamp()
    assert root.start_time is not None
    assert root.end_time is not None
    assert abs(root.start_time / 1e9 - began) < 0.1
    assert root.end_time >= max(span.end_time or 0 for span in attempts)


async def test_a_saga_belongs_into_its_callers_trace(bench: Bench, traced: Traced) -> None:
    saga = make_half({})
    await bench.register(saga)
    state = trace.TraceState([("vendor", "x")])
    caller = SpanContext(0xABC, 0xDEF, False, trace.TraceFlags(1), state)
    with trace.use_span(trace.NonRecordingSpan(caller)):
        first = await bench.start(saga, key="a")
    with traced.own.start_as_current_span("another"):
        assert await bench.start(saga, key="a") == first
        many = await bench.start_many(saga, 3)
        another = trace.get_current_span().get_span_context()
    assert await bench.rows("select saga_id, traceparent, tracestate from trace_context") == [
        (first, f"00-{0xABC:032x}-{0xDEF:016x}-01", "vendor=x"),
        *[(made, header(another), None) for made in many],
    ]
    other = Traced()
    assert await run_on_two(bench, traced, other, saga, "a") == first
    root = next(s for s in other.spans if s.name == saga.type and context(s).trace_id == 0xABC)
    assert (parent(root), context(root).span_id) == (0xDEF, first.int & LOWER)
    assert context(root).trace_state.to_header() == "vendor=x"
    mine = [s for s in other.spans if attribute(s, "saga.id") == str(first) and s is not root]
    assert {context(s).trace_id for s in mine} == {0xABC}
    assert {parent(s) for s in mine} == {context(root).span_id}
    assert len(mine) == 3


async def test_a_caller_without_a_span_keeps_nothing(bench: Bench) -> None:
    saga = make_half({})
    await bench.register(saga)
    await bench.start(saga)
    assert await bench.rows("select 1 from trace_context") == []


async def test_a_sub_saga_belongs_under_its_parent(bench: Bench, traced: Traced) -> None:
    outermost, outer, inner = make_saga(), make_saga(), make_saga()

    @inner.step(nothing_to_undo="nothing")
    async def innermost_step(cmd: Command[Note]) -> None: ...

    outer.run("sub", inner, input=lambda cmd: cmd.input)
    outermost.run("sub", outer, input=lambda cmd: cmd.input)
    await bench.register(inner, outer, outermost)
    with traced.own.start_as_current_span("caller") as caller:
        saga_id = await bench.start(outermost)
        called = caller.get_span_context()
    async with bench.worker(App([outermost, outer, inner]), traced.tracer):
        assert (await bench.settled(saga_id)).status == "COMPLETED"
    spans = [traced.named(saga.type) for saga in (outermost, outer, inner)]
    assert {context(s).trace_id for s in spans} == {called.trace_id}
    assert [parent(s) for s in spans] == [called.span_id, *[context(s).span_id for s in spans[:2]]]
    assert parent(traced.named("innermost_step")) == context(spans[2]).span_id


async def test_handlers_in_transactions_are_traced_too(bench: Bench, traced: Traced) -> None:
    saga = make_saga()
    seen = []

    @saga.step(transactional=True, pivot=True)
    async def alone(cmd: Command[Note], tx: psycopg.AsyncConnection[Any]) -> None:
        with traced.own.start_as_current_span("of the handler"):
            seen.append(dict(cmd.trace_context))

    await bench.register(saga)
    sagas = await bench.start_many(saga, 2)
    async with bench.worker(saga, traced.tracer, transactions=1):
        await bench.all_settled()
    attempts = [s for s in traced.spans if s.name == "alone"]
    inner = [s for s in traced.spans if s.name == "of the handler"]
    assert [parent(s) for s in inner] == [context(s).span_id for s in attempts]
    assert {context(s).trace_id for s in inner} == {saga.int for saga in sagas}
    assert [c["traceparent"] for c in seen] == [header(context(s)) for s in attempts]


async def test_a_bulk_call_is_linked_to_the_attempts_that_it_is_for(
    bench: Bench, traced: Traced
) -> None:
    saga = make_saga()
    seen: list[str] = []

    @saga.step(transactional=True, bulk=True, pivot=True)
    async def together(
        cmds: Sequence[Command[Note]], tx: psycopg.AsyncConnection[Any]
    ) -> list[None]:
        with traced.own.start_as_current_span("of the bulk handler"):
            seen.extend(cmd.trace_context["traceparent"] for cmd in cmds)
        return [None for _ in cmds]

    await bench.register(saga)
    sagas = await bench.start_many(saga, 5)
    async with bench.worker(saga, traced.tracer, transactions=1):
        await bench.all_settled()
    attempts = [s for s in traced.spans if s.name == "together"]
    assert {parent(s) for s in attempts} == {saga.int & LOWER for saga in sagas}
    assert sorted(seen) == sorted(header(context(s)) for s in attempts)
    # All were there when the worker came, so they share a call.
    call = traced.named("together for 5")
    assert [link.context for link in call.links] == [context(s) for s in attempts]
    assert call.parent is None
    assert parent(traced.named("of the bulk handler")) == context(call).span_id


async def test_a_ratio_takes_whole_sagas(bench: Bench) -> None:
    half = Traced(sampler=ParentBased(TraceIdRatioBased(0.5)))
    saga = make_saga()

    @saga.step(nothing_to_undo="nothing")
    async def only(cmd: Command[Note]) -> None: ...

    await bench.register(saga)
    await bench.start_many(saga, 200)
    async with bench.worker(saga, half.tracer):
        await bench.all_settled()
    roots = {context(s).trace_id for s in half.spans if s.name == saga.type}
    assert roots == {context(s).trace_id for s in half.spans if s.name == "only"}
    assert 50 < len(roots) < 150


async def test_a_caller_that_is_not_sampled_is_followed(bench: Bench, traced: Traced) -> None:
    saga = make_saga()

    @saga.step(nothing_to_undo="nothing")
    async def only(cmd: Command[Note]) -> None: ...

    await bench.register(saga)
    async with bench.connection() as connection:
        started = await bench.client.start(connection, saga, Note())
        await connection.execute("select keep_trace(%s, %s)", (started.id, CALLER[:-1] + "0"))
    async with bench.worker(saga, traced.tracer):
        await bench.settled(started.id)
    assert traced.spans == ()


class _Broken(SpanProcessor):
    """A user's own, with a fault: at the beginnings, at the ends."""

    def __init__(self, at_end: bool) -> None:
        self.at_end = at_end

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if not self.at_end:
            raise RuntimeError("no room")

    def on_end(self, span: Any) -> None:
        if self.at_end:
            raise RuntimeError("no room")


@pytest.mark.parametrize("at_end", [False, True])
async def test_a_span_processor_that_fails_stops_no_saga(bench: Bench, at_end: bool) -> None:
    broken = Traced()
    broken.provider.add_span_processor(_Broken(at_end))
    saga = make_saga()

    @saga.step()
    async def one(cmd: Command[Note]) -> None: ...

    @one.compensation()
    async def undo_one(cmd: Command[Note]) -> None: ...

    @saga.step(transactional=True, pivot=True)
    async def two(cmd: Command[Note], tx: psycopg.AsyncConnection[Any]) -> None: ...

    async with bench.worker(saga, broken.tracer) as running:
        assert (await bench.settled(await bench.start(saga))).status == "COMPLETED"
    assert {f["error"] for f in running.events("trace_failed")} == {"RuntimeError('no room')"}
    assert len(running.events("trace_failed")) == 3


async def test_without_a_tracer_there_is_no_context(bench: Bench) -> None:
    saga = make_saga()
    seen = []

    @saga.step(nothing_to_undo="nothing")
    async def only(cmd: Command[Note]) -> None:
        seen.append(cmd.trace_context)

    async with bench.worker(saga):
        await bench.settled(await bench.start(saga))
    assert seen == [{}]


async def test_what_is_no_trace_context_is_refused(bench: Bench) -> None:
    saga = make_half({})
    await bench.register(saga)
    saga_id = await bench.start(saga)
    keep = "select keep_trace(%s, %s, %s)"
    for parent_, state in (("00-abc", None), (None, None), (CALLER, "x" * 513)):
        with pytest.raises(psycopg.Error, match="the trace context is") as caught:
            await bench.rows(keep, saga_id, parent_, state)
        assert caught.value.sqlstate == "SG002"
    await bench.rows(keep, UUID(int=0), CALLER, None)
    assert await bench.rows("select 1 from trace_context") == []
    await bench.rows(keep, saga_id, CALLER, "a=b")
    await bench.rows(keep, saga_id, CALLER.replace("b7", "b8"), None)
    assert await bench.rows("select traceparent, tracestate from trace_context") == [
        (CALLER, "a=b")
    ]


def test_the_extra_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "HAS_TRACING", False)
    with pytest.raises(ConfigurationError, match=r"pip install 'outbox-saga\[tracing\]'"):
        tracing.provider()


class Collector:
    """An OTLP collector: what OpenTelemetry's own exporter sends, as it reads it."""

    def __init__(self) -> None:
        self.received: list[ExportTraceServiceRequest] = []
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/traces"
                received.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_a_worker_sends_its_spans_to_a_collector(
    schema: Schema, saga_program: SagaProgram, collector: Collector, tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    with log.open("w") as said:
        worker = subprocess.Popen(
            [sys.executable, "-m", "outbox.cli.worker"],
            env=environment(
                schema, OUTBOX_TRACING="true", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url
            ),
            cwd=ROOT,
            stderr=said,
        )
    try:
        wait_until(lambda: "worker_registered" in log.read_text() or worker.poll() is not None)
        started = saga_program("start", "order", "--key", "a", "--input", '{"amount": 1}', "--json")
        with schema.connect() as connection:
            wait_until(
                lambda: (
                    connection.execute("select status from overview").fetchone() == ("COMPLETED",)
                )
            )
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=30) == 0, log.read_text()
    sent = [s for r in collector.received for s in r.resource_spans]
    services = {
        a.value.string_value for s in sent for a in s.resource.attributes if a.key == "service.name"
    }
    assert services == {"outbox-worker"}
    spans = [span for s in sent for scope in s.scope_spans for span in scope.spans]
    assert [s.name for s in spans] == ["take", "send", "thank", "order"]
    (saga_id,) = {s.trace_id for s in spans}
    assert str(UUID(bytes=saga_id)) in started.out


def test_an_exporter_that_is_not_there_is_named(schema: Schema) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "outbox.cli.worker"],
        env=environment(schema, OUTBOX_TRACING="true", OTEL_TRACES_EXPORTER="nowhere"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode != 0
    assert 'no OpenTelemetry exporter "nowhere" is installed' in ran.stderr
    assert "Traceback" not in ran.stderr
