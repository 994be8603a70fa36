"""Traces for OpenTelemetry (https://opentelemetry.io/docs/specs/otel/trace/api/): one a saga,
across workers and steps. Needs the extra ``tracing``.

A saga's own span is made when it has ended, by whoever ended it; yet its attempts belong under it,
on whichever worker they run. So its ids are not random: the span's is the lower half of the saga's
id, and its trace's is that of whoever started it, or else the saga's whole id.
"""

from __future__ import annotations

import contextvars
import copy
import hashlib
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any
from uuid import UUID

from outbox.definition.outcomes import Refused
from outbox.engine.attempt import Attempt
from outbox.engine.hand import HeldCommand
from outbox.errors import ConfigurationError
from outbox.store.functions import TraceOrigin

try:
    from opentelemetry import context as otel_context
    from opentelemetry import trace
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:  # the extra is not installed
    HAS_TRACING = False
    IdGenerator = Sampler = object  # type: ignore[assignment,misc]  # for the classes below
else:
    HAS_TRACING = True

_EXPORTERS = {"otlp": "otlp_proto_http"}
_LOWER = (1 << 64) - 1


def require_tracing() -> None:
    """Says what is missing.

    Raises:
        ConfigurationError: the extra is not installed.
    """
    if not HAS_TRACING:
        raise ConfigurationError(
            "OUTBOX_TRACING needs OpenTelemetry: pip install 'outbox-saga[tracing]'"
        )


def provider() -> TracerProvider:
    """What spans are made by: the process's own where it has set one up, or else one that is
    configured by OpenTelemetry's variables, for the handlers' spans as well.

    Raises:
        ConfigurationError: the extra is not installed, or an exporter is not.
    """
    require_tracing()
    found = trace.get_tracer_provider()
    if isinstance(found, TracerProvider):
        return found
    service = {} if "OTEL_SERVICE_NAME" in os.environ else {SERVICE_NAME: "outbox-worker"}
    made = TracerProvider(resource=Resource.create(service))
    for name in os.environ.get("OTEL_TRACES_EXPORTER", "otlp").split(","):
        if name.strip() not in ("none", ""):
            made.add_span_processor(BatchSpanProcessor(_exporter(name.strip())))
    trace.set_tracer_provider(made)
    return made


class OtelTracer:
    """Makes spans of attempts and sagas, as ``engine.trace.Tracer``.

    Args:
        provider: what makes them.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._attempts = provider.get_tracer("outbox")
        self._ids = _GivenIds()
        # One of our own, since a provider may give out the same one again: other spans keep their
        # random ids.
        self._sagas = copy.copy(self._attempts)
        self._sagas.id_generator = self._ids  # type: ignore[attr-defined]
        self._sampler = _Mixed(provider.sampler)
        self._sagas.sampler = self._sampler  # type: ignore[attr-defined]

    def begin(self, group: Sequence[HeldCommand]) -> _OtelCall:
        """A handler is about to be called for these commands."""
        spans = []
        for held in group:
            kind = "" if held.kind == "action" else f" {held.kind}"
            spans.append(
                self._attempts.start_span(
                    f"{held.step.name}{kind}",
                    trace.set_span_in_context(
                        trace.NonRecordingSpan(self._saga_context(held)), otel_context.Context()
                    ),
                    attributes=_attributes(held),
                )
            )
        if len(spans) == 1:
            return _OtelCall(spans, spans[0], None)
        call = self._attempts.start_span(
            f"{group[0].step.name} for {len(group)}",
            otel_context.Context(),
            attributes={"saga.type": group[0].shared.saga.type, "saga.step": group[0].step.name},
            links=[trace.Link(span.get_span_context()) for span in spans],
        )
        return _OtelCall(spans, call, call)

    def end_saga(self, held: HeldCommand, status: str) -> None:
        """A saga has ended by this command's transition."""
        shared, own = held.shared, self._saga_context(held)
        self._ids.trace_id, self._ids.span_id = own.trace_id, own.span_id
        span = self._sagas.start_span(
            shared.saga.type,
            self._above(held),
            start_time=_began(shared.saga_id),
            attributes={**_saga_attributes(held), "saga.status": status},
        )
        if status == "FAILED":
            error = held.error or {}
            span.set_status(trace.StatusCode.ERROR, _message(error) or "failed")
        span.end()

    def _saga_context(self, held: HeldCommand) -> trace.SpanContext:
        """The saga's own span, which nobody has made yet."""
        saga = held.shared.saga_id
        origin = held.shared.trace or TraceOrigin(saga, None, saga, None, None)
        caller = _caller(origin)
        if caller is not None:
            trace_id, flags, state = caller.trace_id, caller.trace_flags, caller.trace_state
        else:
            trace_id, state = origin.root.int, trace.TraceState()
            decided = self._sampler.should_sample(None, trace_id, held.shared.saga.type)
            sampled = decided.decision is Decision.RECORD_AND_SAMPLE
            flags = trace.TraceFlags(int(sampled))
        return trace.SpanContext(trace_id, saga.int & _LOWER, True, flags, state)

    def _above(self, held: HeldCommand) -> otel_context.Context:
        """What the saga's span belongs under: its parent's, its caller's, or nothing."""
        origin = held.shared.trace
        if origin is None:
            return otel_context.Context()
        above = _caller(origin)
        if origin.parent is not None:
            own = self._saga_context(held)
            span = origin.parent.int & _LOWER
            above = trace.SpanContext(own.trace_id, span, True, own.trace_flags, own.trace_state)
        if above is None:
            return otel_context.Context()
        return trace.set_span_in_context(trace.NonRecordingSpan(above), otel_context.Context())


class _OtelCall:
    """The spans of one call: of each attempt, and of the call where that is for several."""

    def __init__(
        self, spans: Sequence[trace.Span], current: trace.Span, call: trace.Span | None
    ) -> None:
        self._spans = spans
        self._call = call
        self.context = contextvars.copy_context()
        self.context.run(otel_context.attach, trace.set_span_in_context(current))
        self.carriers: Sequence[Mapping[str, str]] = [_carrier(span) for span in spans]

    def end(self, attempts: Sequence[Attempt] | None) -> None:
        """The call has ended."""
        if self._call is not None:
            self._call.end()
        for place, span in enumerate(self._spans):
            if attempts is None:
                span.set_status(trace.StatusCode.ERROR, "cancelled")
            else:
                _tell(span, attempts[place])
            span.end()


class _GivenIds(IdGenerator):
    """Ids that are set before each span. Only the worker's loop makes these spans."""

    trace_id = span_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id


class _Mixed(Sampler):
    """A sampler that is shown well-mixed trace ids: a saga's id begins with its time and has fixed
    bits in the middle, which a ratio would take for chance."""

    def __init__(self, inner: Sampler) -> None:
        self._inner = inner

    def should_sample(
        self,
        parent_context: otel_context.Context | None,
        trace_id: int,
        name: str,
        *others: Any,
        **more: Any,
    ) -> SamplingResult:
        digest = hashlib.blake2b(trace_id.to_bytes(16, "big"), digest_size=16).digest()
        mixed = int.from_bytes(digest, "big")
        return self._inner.should_sample(parent_context, mixed, name, *others, **more)

    def get_description(self) -> str:
        return self._inner.get_description()


def _exporter(name: str) -> Any:
    if name == "otlp" and os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") == "grpc":
        wanted = "otlp_proto_grpc"
    else:
        wanted = _EXPORTERS.get(name, name)
    for found in entry_points(group="opentelemetry_traces_exporter", name=wanted):
        return found.load()()
    raise ConfigurationError(
        f'no OpenTelemetry exporter "{name}" is installed (OTEL_TRACES_EXPORTER): '
        f"install the package that has {wanted}, or use otlp, console or none"
    )


def _caller(origin: TraceOrigin) -> trace.SpanContext | None:
    """The span in which the topmost saga was started, if there was one."""
    if origin.traceparent is None:
        return None
    carrier = {"traceparent": origin.traceparent, "tracestate": origin.tracestate or ""}
    read = TraceContextTextMapPropagator().extract(carrier, otel_context.Context())
    context = trace.get_current_span(read).get_span_context()
    return context if context.is_valid else None


def _carrier(span: trace.Span) -> Mapping[str, str]:
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(
        carrier, trace.set_span_in_context(span, otel_context.Context())
    )
    return carrier


def _saga_attributes(held: HeldCommand) -> dict[str, Any]:
    shared = held.shared
    return {
        "saga.id": str(shared.saga_id),
        "saga.type": shared.saga.type,
        "saga.version": shared.saga.version,
        "saga.key": shared.key,
    }


def _attributes(held: HeldCommand) -> dict[str, Any]:
    found = {
        **_saga_attributes(held),
        "saga.step": held.step.name,
        "saga.kind": held.kind,
        "saga.attempt": held.attempt,
    }
    if held.element is not None:
        found["saga.element"] = held.element
    return found


def _tell(span: trace.Span, attempt: Attempt) -> None:
    """Writes into an attempt's span what it came to. A refusal is an answer, not an error."""
    span.set_attribute("saga.outcome", attempt.to_report().outcome)
    if (error := attempt.error) is None:
        return
    span.add_event(
        "exception",
        {
            "exception.type": str(error.get("type", "")),
            "exception.message": str(error.get("message", "")),
        },
    )
    if not isinstance(attempt.outcome, Refused):
        span.set_status(trace.StatusCode.ERROR, _message(error))


def _message(error: Mapping[str, Any]) -> str:
    return ": ".join(str(error[part]) for part in ("type", "message") if error.get(part))


def _began(saga: UUID) -> int:
    """When a saga was started, in nanoseconds: its id begins with it (RFC 9562, version 7)."""
    return (saga.int >> 80) * 1_000_000
