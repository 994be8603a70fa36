"""The trace in which a saga is started: that of the caller's span, if the caller has one."""

from __future__ import annotations

import sys

TraceContext = tuple[str, str | None]
"""W3C's ``traceparent`` and ``tracestate`` (https://www.w3.org/TR/trace-context/)."""


def current_trace() -> TraceContext | None:
    """The context of the current OpenTelemetry span; None where there is none. A program that has
    not imported OpenTelemetry has none, and does not have it imported by this."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 3:02x}"
    return parent, context.trace_state.to_header() or None
