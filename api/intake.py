"""Submit, read, cancel: what every dialect's routes come to. Knows no HTTP."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

import structlog

from api.own_images import bring_home
from shared import tracing
from shared.accounts import Account
from shared.backlog import Backlog, Idempotency, Receipt, new_handle
from shared.catalog import Catalog, check_abilities, fitted
from shared.controlnets import check_hints
from shared.errors import (
    BacklogFull,
    ImageNotFound,
    InvalidField,
    NotFinished,
    OutboundRefused,
    RequestError,
)
from shared.inputs import check_image, normalized
from shared.job import Artifact, Job, Status, Submission
from shared.ledger import Prices
from shared.networks import Network
from shared.order import Order, content_name
from shared.plans import Plans
from shared.safe_http import check_url, is_allowed, is_https
from shared.spec import input_key, model_limits
from shared.storage import Storage, StoredObject
from shared.tracing import Kind, Span
from shared.tracing.jobs import about_job

log = structlog.get_logger(__name__)


class UrlRefused(InvalidField):
    """This URL leads where Darkroom does not go."""

    code = OutboundRefused.code


class Intake:
    """Takes submissions and looks after an account's jobs."""

    def __init__(
        self,
        backlog: Backlog,
        catalog: Catalog,
        *,
        storage: Callable[[], Storage],
        plans: Plans,
        prices: Prices,
        networks: Sequence[Network] = (),
    ) -> None:
        self._backlog = backlog
        self._catalog = catalog
        self._storage = storage
        self._plans = plans
        self._prices = prices
        self._networks = networks

    def submit(self, order: Order, *, account: Account, idempotency_key: str | None = None) -> Receipt:
        """Accept a job as the caller wrote it. Images that came along are judged and stored first.

        Accounts that were never given credits pay nothing.

        Raises `InvalidField` for a name that the catalog lacks, assets that do not go with the model, a size the model
        does not draw, an image that is none or a URL we do not call, `PlanLimit` or `Forbidden` for what the
        account's plan rules out, `StorageUnavailable`, and what `Backlog.submit` raises. The request is hashed before
        seeds are drawn, so that a repeat is known as one.
        """
        idempotency = Idempotency(idempotency_key, _digest(order.submission)) if idempotency_key else None
        order = self.checked(order, account=account)
        with tracing.tracer().span("submit", kind=Kind.PRODUCER) as span:
            return self._submit(order, idempotency, account=account, span=span)

    def _submit(self, order: Order, idempotency: Idempotency | None, *, account: Account, span: Span) -> Receipt:
        """Accept a checked order; the job's further spans lie below this one."""
        handle = new_handle()
        submission = replace(self.stored(order, handle), trace=span.traceparent)
        pool = self._pool(submission, submission.spec.model, own=account.pool)
        try:
            receipt = self._backlog.submit(
                submission,
                account=account.id,
                pool=pool,
                price=self.price(submission),
                idempotency=idempotency,
                handle=handle,
            )
        except (RequestError, BacklogFull):  # after an outage the job may be there all the same, with its images
            self.forget_inputs(order, handle)
            raise
        if receipt.handle != handle:
            self.forget_inputs(order, handle)
        span.set(about_job(submission, uid=receipt.uid, account=account.id, pool=pool))
        span.set({"messaging.operation.name": "submit", "messaging.operation.type": "send"})
        told = {"dialect": submission.dialect, "model": submission.spec.model, "replayed": receipt.replayed}
        log.info("job.accepted", uid=receipt.uid, account=account.id, **told)
        return receipt

    def checked(self, order: Order, *, account: Account) -> Order:
        """Return the order with the catalog's own names, and images that lie here brought along.

        Raises what `submit` raises before it stores anything.
        """
        if order.submission.spec.remote_inputs():
            order = bring_home(order, self._storage())
        spec = fitted(order.submission.spec, self._catalog, account=account.name)
        check_hints(spec, self._catalog)
        model = self._catalog.model(spec.model)
        model_limits(spec, max_pixels=model.max_pixels)
        check_abilities(spec, model)
        submission = self._plans.of(account.plan).fit(replace(order.submission, spec=spec))
        self._check_urls(order)
        return replace(order, submission=submission)

    def price(self, submission: Submission) -> int:
        """Return what a checked submission costs an account that is metered, in millicredits."""
        return self._prices.of(submission)

    def stored(self, order: Order, handle: str) -> Submission:
        """Judge and store the images that came along with a checked order; return what is submitted, seeds drawn."""
        spec = order.submission.spec.with_images(self._store(order.inputs, handle)).with_seeds()
        return replace(order.submission, spec=spec)

    def judge(self, order: Order) -> None:
        """Raise `InvalidField` for an image that came along and is none; nothing is stored."""
        for name, data in order.inputs.items():
            check_image(data, field=name)

    def _pool(self, submission: Submission, model: str, *, own: str) -> str:
        if not submission.any_pool:
            return own
        return self._backlog.pool_for(model, own=own, record_format=submission.format)

    def read(self, uid: int, *, account: Account) -> Job:
        """Return a job of this account's; `JobNotFound` else."""
        return self._backlog.read(uid, account=account.id)

    def list_jobs(
        self, account: Account, *, status: Status | None, track_id: str | None, before: int | None, limit: int
    ) -> tuple[list[Job], int | None]:
        """Return a page of jobs, newest first, and the cursor of the next one.

        A `track_id` comes from a query string, where "7" may mean the string or the number: both are found.
        """
        pages = [
            self._backlog.list_jobs(account.id, status=status, track_id=value, before=before, limit=limit)
            for value in _readings(track_id)
        ]
        return merge_pages(pages, limit=limit)

    def cancel(self, uid: int, *, account: Account) -> Job:
        """End a job; one that has ended is returned as it is."""
        job = self._backlog.cancel(uid, account=account.id)
        log.info("job.cancel_asked", uid=uid, account=account.id, status=str(job.status))
        return job

    def retry(self, uid: int, *, account: Account) -> Job:
        """Queue a job that ended without pictures once more; `NotFailed` for any other."""
        return self._backlog.retry(uid, account=account.id)

    def erase(self, uid: int, *, account: Account) -> None:
        """Forget a job that has ended, and its files; `NotFinished` for any other.

        Files go first: should that fail, the job is still there to be erased again.
        """
        job = self.read(uid, account=account)
        if not job.status.is_terminal:
            raise NotFinished
        for folder in ("results", "inputs"):
            self._storage().delete_prefix(f"{folder}/{job.handle}")
        self._backlog.erase(uid, account=account.id)

    def artifact(self, uid: int, index: int, *, account: Account) -> tuple[Job, Artifact]:
        """Return one image's record. `NotFinished` while it may still come, `ImageNotFound` where it never will."""
        job = self.read(uid, account=account)
        if index >= job.submission.spec.num_images:
            raise ImageNotFound
        if not job.status.is_terminal:
            raise NotFinished("the job has not finished; its images come with its end")
        if index >= len(job.result.artifacts):
            raise ImageNotFound
        return job, job.result.artifacts[index]

    def fetch(self, artifact: Artifact) -> StoredObject:
        """Return an image's bytes; `ImageNotFound` where storage no longer has it."""
        try:
            return self._storage().get(artifact.key)
        except KeyError:
            raise ImageNotFound from None

    def _check_urls(self, order: Order) -> None:
        submission = order.submission
        if submission.webhook_url is not None:
            self.check_url("webhook_url", submission.webhook_url)
        for field, url in submission.spec.remote_inputs().items():
            self.check_url(field, url)
            if order.https_only and not (is_https(url) or is_allowed(url, self._networks)):
                raise UrlRefused(field, "must be a URL that starts with https://")

    def check_url(self, field: str, url: str) -> None:
        """Raise `UrlRefused` where a URL must not be called or fetched."""
        try:
            check_url(url, self._networks)
        except OutboundRefused as error:
            raise UrlRefused(field, error.message) from error

    def _store(self, inputs: Mapping[str, bytes], handle: str) -> dict[str, str]:
        """Store what came along, in our own encoding; return what the spec calls it -> key."""
        first: dict[str, str] = {}
        for name, data in inputs.items():
            first.setdefault(content_name(data), name)
        checked = {called: check_image(inputs[name], field=name) for called, name in first.items()}
        keys = {}
        for called, image in checked.items():
            keys[called] = input_key(handle, first[called])
            self._storage().put(keys[called], normalized(image), content_type="image/png")
        return keys

    def forget_inputs(self, order: Order, handle: str) -> None:
        """Delete what `stored` has stored."""
        if order.inputs:
            self._storage().delete_prefix(f"inputs/{handle}")


def merge_pages(pages: Sequence[tuple[list[Job], int | None]], *, limit: int) -> tuple[list[Job], int | None]:
    """Return one page of at most `limit` jobs out of several, newest first, and its cursor.

    A page with a cursor says nothing of jobs older than that: they wait for the next page.
    """
    floor = max((cursor for _, cursor in pages if cursor is not None), default=None)
    found = sorted(chain.from_iterable(jobs for jobs, _ in pages), key=lambda job: job.uid, reverse=True)
    known = [job for job in found if floor is None or job.uid >= floor]
    if len(known) > limit:
        return known[:limit], known[limit - 1].uid
    return known, floor


def _readings(track_id: str | None) -> list[str | int | None]:
    if track_id is None:
        return [None]
    try:
        return [track_id, int(track_id)] if str(int(track_id)) == track_id else [track_id]
    except ValueError:
        return [track_id]


def _digest(submission: Submission) -> str:
    return hashlib.sha256(submission.to_json().encode()).hexdigest()
