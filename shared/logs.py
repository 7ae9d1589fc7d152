"""Logging: one way for every process, structlog's events and the libraries' own lines alike.

Console output is for people; JSON (LOG_FORMAT=json) has one object per line for machines.
"""

import logging
import sys
from contextlib import AbstractContextManager
from typing import Any, Protocol

import structlog

from shared.redaction import redact
from shared.settings import Settings

#: Libraries that speak of every connection or request at INFO.
QUIET = (
    "celery.app.trace",
    "celery.worker.strategy",
    "botocore",
    "boto3",
    "s3transfer",
    "urllib3",
    "filelock",
    "multiprocessing",
    "httpx",
    "httpcore",
    "PIL",
)

_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]


class RedactingFormatter(structlog.stdlib.ProcessorFormatter):
    """The last word on a line, tracebacks and libraries' lines included: no secret leaves with it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without what looks like a secret."""
        return redact(super().format(record))


def configure(settings: Settings) -> None:
    """Send every log line of this process to stderr, in the form and from the level the settings name."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(settings))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


class OfJob(Protocol):
    """What belongs to a job: a lease, a webhook."""

    @property
    def uid(self) -> int:
        """The job."""

    @property
    def account(self) -> str:
        """Whose it is."""


def about(subject: OfJob) -> AbstractContextManager[Any]:
    """Say of every line that this thread logs in the block which job it is about, and whose."""
    return structlog.contextvars.bound_contextvars(uid=subject.uid, account=subject.account)


def _formatter(settings: Settings) -> logging.Formatter:
    last: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if settings.log_format == "json"
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                # The default one prints every frame's variables: prompts and secrets among them.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    )
    return RedactingFormatter(
        foreign_pre_chain=_SHARED,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )
