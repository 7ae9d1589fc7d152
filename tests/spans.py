"""Spans as tests look at them: kept in memory, or received by OTLP over HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from shared import tracing
from shared.tracing.sdk import OtelTracer


class Seen:
    """A span, wherever it comes from. Ids are hex; `error` is its error code, None where it went well."""

    def __init__(self, *, name, trace, span, parent, service, attributes, error, begun_ns, ended_ns) -> None:
        self.name, self.trace, self.span, self.parent, self.service = name, trace, span, parent, service
        self.attributes, self.error = attributes, error
        self.begun_ns, self.ended_ns = begun_ns, ended_ns

    @property
    def traceparent(self) -> str:
        return f"{self.trace}-{self.span}"

    def __repr__(self) -> str:
        return f"<{self.service} {self.name} {self.traceparent} below {self.parent} {self.attributes} {self.error}>"


class Kept:
    """What was traced in this process."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracer = OtelTracer(SimpleSpanProcessor(self._exporter), resource={"service.name": "tests"})

    def spans(self, name=None) -> list[Seen]:
        return [_kept(span) for span in self._exporter.get_finished_spans() if name in (None, span.name)]

    def span(self, name) -> Seen:
        (found,) = self.spans(name)
        return found


@contextmanager
def kept() -> Iterator[Kept]:
    """Trace into memory."""
    traces = Kept()
    before = tracing.use(traces.tracer)
    try:
        yield traces
    finally:
        tracing.use(before)


def received(requests) -> list[Seen]:
    """Return the spans in what an OTLP receiver got."""
    found = []
    for request in requests:
        assert request.path == "/v1/traces"
        for group in ExportTraceServiceRequest.FromString(request.body).resource_spans:
            service = _plain(group.resource.attributes)["service.name"]
            found += [_received(span, service) for scope in group.scope_spans for span in scope.spans]
    return found


def _kept(span) -> Seen:
    return Seen(
        name=span.name,
        trace=f"{span.context.trace_id:032x}",
        span=f"{span.context.span_id:016x}",
        parent=f"{span.parent.span_id:016x}" if span.parent else "",
        service=span.resource.attributes["service.name"],
        attributes=dict(span.attributes),
        error=span.status.description if span.status.status_code is StatusCode.ERROR else None,
        begun_ns=span.start_time,
        ended_ns=span.end_time,
    )


def _received(span, service) -> Seen:
    return Seen(
        name=span.name,
        trace=span.trace_id.hex(),
        span=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        service=service,
        attributes=_plain(span.attributes),
        error=span.status.message if span.status.code == span.status.STATUS_CODE_ERROR else None,
        begun_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
    )


def _plain(attributes) -> dict:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
