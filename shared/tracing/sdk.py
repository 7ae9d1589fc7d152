"""Tracing by OpenTelemetry's SDK. The only module that imports it, and imported where traces are asked for only.

What the standard has variables for (OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, OTEL_BSP_* ...) the SDK reads by
itself.
"""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.errors import DarkroomError
from shared.settings import Settings
from shared.tracing import Attributes, Kind, Span

_KINDS: Final = {
    Kind.INTERNAL: trace.SpanKind.INTERNAL,
    Kind.SERVER: trace.SpanKind.SERVER,
    Kind.CLIENT: trace.SpanKind.CLIENT,
    Kind.PRODUCER: trace.SpanKind.PRODUCER,
    Kind.CONSUMER: trace.SpanKind.CONSUMER,
}
_W3C: Final = TraceContextTextMapPropagator()


class OtelSpan:
    """A span of the SDK's."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def traceparent(self) -> str | None:
        """Its place; None where the SDK makes none, as with OTEL_SDK_DISABLED."""
        context = self._span.get_span_context()
        return _told(context) if context.is_valid else None

    def rename(self, name: str) -> None:
        """Call it otherwise."""
        self._span.update_name(name)

    def set(self, attributes: Attributes) -> None:
        """Tell more of it."""
        self._span.set_attributes(dict(attributes))

    def fail(self, code: str) -> None:
        """Say that it went wrong. Messages stay out: they may name paths, or what a caller wrote."""
        self._span.set_attribute("error.type", code)
        self._span.set_status(trace.Status(trace.StatusCode.ERROR, code))


class OtelTracer:
    """Makes spans and hands them to a processor."""

    is_on = True

    def __init__(self, processor: SpanProcessor, *, resource: Attributes | None = None) -> None:
        self._ids = _Ids()
        self._provider = TracerProvider(
            resource=Resource.create(dict(resource or {})),
            id_generator=self._ids,
            shutdown_on_exit=False,  # it would wait for half a minute; `end` has a bound
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("darkroom")

    @classmethod
    def to_collector(cls, settings: Settings, *, role: str, instance: str) -> Self:
        """Return one that sends its spans by OTLP over HTTP, from a thread of its own."""
        exporter = OTLPSpanExporter(endpoint=f"{settings.otel_exporter_otlp_endpoint}/v1/traces")
        about = {
            "service.namespace": "darkroom",
            "service.name": settings.otel_service_name or f"darkroom-{role}",
            **({"service.instance.id": instance} if instance else {}),
        }
        return cls(BatchSpanProcessor(exporter), resource=about)

    @contextmanager
    def span(
        self, name: str, *, kind: Kind = Kind.INTERNAL, parent: str | None = None, attributes: Attributes | None = None
    ) -> Iterator[Span]:
        """Trace what the block does; see `shared.tracing.Tracer`."""
        with self._tracer.start_as_current_span(
            name,
            # None: whatever this thread is in.
            context=None if parent is None else _read(parent),
            kind=_KINDS[kind],
            attributes=dict(attributes or {}),
            # Its message would go along, see `OtelSpan.fail`.
            record_exception=False,
            set_status_on_exception=False,
        ) as current:
            span = OtelSpan(current)
            try:
                yield span
            except Exception as error:
                span.fail(error.code if isinstance(error, DarkroomError) else type(error).__name__)
                raise

    def emit(
        self,
        name: str,
        *,
        begun_ns: int,
        ended_ns: int,
        kind: Kind = Kind.INTERNAL,
        parent: str | None = None,
        own: str | None = None,
        attributes: Attributes | None = None,
        error: str = "",
    ) -> str | None:
        """Tell of what is over already; see `shared.tracing.Tracer`."""
        with self._ids.given(own):
            begun = self._tracer.start_span(
                name,
                context=_read(parent),
                kind=_KINDS[kind],
                attributes=dict(attributes or {}),
                start_time=begun_ns,
            )
        span = OtelSpan(begun)
        if error:
            span.fail(error)
        begun.end(max(begun_ns, ended_ns))
        return span.traceparent

    def annotate(self, attributes: Attributes) -> None:
        """Tell more of the span that this thread is in, if any."""
        trace.get_current_span().set_attributes(dict(attributes))

    def of_handle(self, handle: str) -> str | None:
        """Return the place that a handle stands for. It is a digest: a handle opens what is its job's."""
        digest = hashlib.sha256(b"trace:" + handle.encode()).digest()
        trace_id, span_id = int.from_bytes(digest[:16]), int.from_bytes(digest[16:24])
        is_sampled = self._provider.sampler.should_sample(None, trace_id, "").decision is Decision.RECORD_AND_SAMPLE
        flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if is_sampled else trace.TraceFlags.DEFAULT)
        return _told(trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags))

    def end(self, timeout_s: float) -> None:
        """Send what is not sent yet. The SDK's own end has no bound while the collector is away."""
        ending = threading.Thread(target=self._provider.shutdown, name="tracing-end", daemon=True)
        ending.start()
        ending.join(timeout_s)


class _Ids(RandomIdGenerator):
    """Random numbers, except for a span that has its own already."""

    def __init__(self) -> None:
        self._given: ContextVar[trace.SpanContext | None] = ContextVar("given", default=None)

    @contextmanager
    def given(self, traceparent: str | None) -> Iterator[None]:
        """Let the span that is begun in the block have this `traceparent`."""
        context = None if traceparent is None else trace.get_current_span(_read(traceparent)).get_span_context()
        token = self._given.set(context)
        try:
            yield
        finally:
            self._given.reset(token)

    def generate_trace_id(self) -> int:
        """Return the number of a trace that begins."""
        given = self._given.get()
        return super().generate_trace_id() if given is None else given.trace_id

    def generate_span_id(self) -> int:
        """Return the number of a span."""
        given = self._given.get()
        return super().generate_span_id() if given is None else given.span_id


def _read(traceparent: str | None) -> Context:
    """Return the place that a `traceparent` names: the top of a new trace where it is none, or not in order."""
    return _W3C.extract({"traceparent": traceparent or ""}, context=Context())


def _told(context: trace.SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
