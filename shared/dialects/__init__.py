"""The wire formats Darkroom speaks: one file per provider, each a set of pure functions.

Both sides speak them: the API parses and answers, the courier renders the closing call. `base` says what a dialect is.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from shared.batch import Batch
from shared.dialects import aithriving, modelslab, native, native_batch, octoai, opensourceais, stability
from shared.dialects.base import Callback, Dialect
from shared.dialects.links import Links
from shared.job import Job

#: The providers' formats, by name.
PROVIDERS: Final[Mapping[str, Dialect]] = MappingProxyType(
    {
        d.name: d
        for d in (aithriving.DIALECT, opensourceais.DIALECT, octoai.DIALECT, stability.DIALECT, modelslab.DIALECT)
    }
)

#: `Submission.dialect` -> how its webhooks are rendered.
WEBHOOKS: Final[Mapping[str, Callable[[Job, Links], dict[str, Any]]]] = MappingProxyType(
    {"native": native.render_webhook, **{name: dialect.render_webhook for name, dialect in PROVIDERS.items()}}
)


def callbacks(job: Job, links: Links, *, event: str | None = None) -> tuple[Callback, ...]:
    """Return the calls that tell of a job as it stands, in their order; none where nobody asked for any.

    `event` says what of it is told, where its status does not: a running job has started, or made progress.
    """
    submission = job.submission
    dialect = PROVIDERS.get(submission.dialect)
    if submission.webhook_url is None:
        return ()
    if dialect is not None and dialect.callbacks is not None:
        return dialect.callbacks(job, links)
    fields = WEBHOOKS[submission.dialect](job, links)
    if dialect is None:
        fields = native.with_event(fields, job, event or str(job.status))
    return (Callback(url=submission.webhook_url, fields=fields),)


def batch_callbacks(batch: Batch, links: Links, *, event: str) -> tuple[Callback, ...]:
    """Return the call that tells that a batch has ended; none where nobody asked for it."""
    url = batch.options.webhook_url
    return (Callback(url=url, fields=native_batch.render_batch_webhook(batch, links, event=event)),) if url else ()


__all__ = ["PROVIDERS", "WEBHOOKS", "Callback", "Dialect", "Links", "batch_callbacks", "callbacks"]
