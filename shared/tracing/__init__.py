"""Traces after OpenTelemetry, from a request to its webhook: off unless OTEL_EXPORTER_OTLP_ENDPOINT is set.

A span's place in its trace is told as W3C's `traceparent`, a text of 55 characters: so it travels in a job's record,
from process to process. Only `shared.tracing.sdk` imports OpenTelemetry, and only `begin` imports that.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from importlib.util import find_spec
from typing import Any, Final, Protocol

from shared.errors import ConfigurationError
from shared.settings import Settings

#: What a process that leaves grants the spans that are not sent yet.
FLUSH_S: Final = 2.0

Attributes = Mapping[str, str | int | float | bool]


class Kind(StrEnum):
    """What a span is to those around it."""

    INTERNAL = "internal"  #: a part of the span above it
    SERVER = "server"  #: answers a request
    CLIENT = "client"  #: makes one
    PRODUCER = "producer"  #: leaves work for somebody else
    CONSUMER = "consumer"  #: does work that was left


class Span(Protocol):
    """Something that is going on."""

    @property
    def traceparent(self) -> str | None:
        """Its place, for spans below it, wherever they are; None where nothing is traced."""

    def rename(self, name: str) -> None:
        """Call it otherwise."""

    def set(self, attributes: Attributes) -> None:
        """Tell more of it. No prompt, key or secret may be among that."""

    def fail(self, code: str) -> None:
        """Say that it went wrong, and by which error."""


class Tracer(Protocol):
    """Makes spans. Safe for threads."""

    @property
    def is_on(self) -> bool:
        """Whether spans go anywhere."""

    def span(
        self,
        name: str,
        /,
        *,
        kind: Kind = Kind.INTERNAL,
        parent: str | None = None,
        attributes: Attributes | None = None,
    ) -> AbstractContextManager[Span]:
        """Trace what the block does, below `parent` or else the span that this thread is in. An error in it is told."""

    def emit(
        self,
        name: str,
        /,
        *,
        begun_ns: int,
        ended_ns: int,
        kind: Kind = Kind.INTERNAL,
        parent: str | None = None,
        own: str | None = None,
        attributes: Attributes | None = None,
        error: str = "",
    ) -> str | None:
        """Tell of what is over already; times are epoch nanoseconds. Returns its `traceparent`.

        Below `parent`, or, with `own`, at the top of its trace under that very `traceparent`.
        """

    def annotate(self, attributes: Attributes) -> None:
        """Tell more of the span that this thread is in, if any."""

    def of_handle(self, handle: str) -> str | None:
        """Return the place of a job for which no request left any: the same in every process."""

    def end(self, timeout_s: float) -> None:
        """Send what is not sent yet, for so long at most."""


class _NoSpan:
    """What there is while nothing is traced."""

    traceparent = None

    def rename(self, name: str) -> None:
        pass

    def set(self, attributes: Attributes) -> None:
        pass

    def fail(self, code: str) -> None:
        pass


class NoTracer:
    """The tracer's null twin."""

    is_on = False
    _span: Final = _NoSpan()

    @contextmanager
    def span(self, _: str, **__: Any) -> Iterator[Span]:
        """Trace nothing."""
        yield self._span

    def emit(self, _: str, **__: Any) -> None:
        """Tell nobody."""

    def annotate(self, attributes: Attributes) -> None:
        """Tell nobody."""

    def of_handle(self, handle: str) -> str | None:
        """Return None."""
        del handle
        return None

    def end(self, timeout_s: float) -> None:
        """Have nothing to send."""


_tracer: Tracer = NoTracer()


def tracer() -> Tracer:
    """Return this process's tracer."""
    return _tracer


def use(new: Tracer) -> Tracer:
    """Make this process trace otherwise; returns the tracer that it had."""
    # One a process, as its log is: requests, tasks and threads all need it.
    global _tracer
    old, _tracer = _tracer, new
    return old


def require(settings: Settings) -> None:
    """Raise `ConfigurationError` where traces are asked for and OpenTelemetry is not installed; imports none of it."""
    if settings.otel_exporter_otlp_endpoint and not _is_installed():
        raise ConfigurationError(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "is set, but OpenTelemetry is not installed: pip install 'darkroom[tracing]'",
        )


def begin(settings: Settings, *, role: str, instance: str = "") -> None:
    """Trace from now on, where the settings ask for it; raises what `require` raises.

    To be called in the very process that is to be traced, after any fork: the spans are sent by a thread. `role` is
    api, worker or courier; `instance` tells apart those of one role.
    """
    if not settings.otel_exporter_otlp_endpoint:
        return
    require(settings)
    from shared.tracing.sdk import OtelTracer

    use(OtelTracer.to_collector(settings, role=role, instance=instance))


def end(timeout_s: float = FLUSH_S) -> None:
    """Send what is not sent yet, and trace no more."""
    use(NoTracer()).end(timeout_s)


def of_job(trace: str | None, handle: str) -> str | None:
    """Return a job's place: the one in its record, or else the one that its handle stands for; None while off."""
    if not _tracer.is_on:
        return None
    return trace or _tracer.of_handle(handle)


def headers(span: Span) -> dict[str, str]:
    """Return what tells the other side of a request which span it came from."""
    return {} if span.traceparent is None else {"traceparent": span.traceparent}


def _is_installed() -> bool:
    names = ("opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
    try:
        return all(find_spec(name) is not None for name in names)
    except ModuleNotFoundError:  # a part above the one that is looked for is missing
        return False
