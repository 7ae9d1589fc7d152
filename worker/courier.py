"""The courier: delivers webhooks. Runs without a GPU and without torch."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, Self

import structlog
from urllib3.filepost import encode_multipart_formdata

from shared import tracing
from shared.accounts import Accounts
from shared.backlog import Backlog, Batches
from shared.backlog.scripts import OUTAGES
from shared.batch import Batch
from shared.celery_app import Bell
from shared.dialects import WEBHOOKS, Callback, Links, batch_callbacks, callbacks
from shared.errors import (
    BacklogUnavailable,
    BatchNotFound,
    ImageNotFound,
    JobNotFound,
    OutboundRefused,
    StorageUnavailable,
    Unauthorized,
)
from shared.job import Job, Status
from shared.logs import about
from shared.metrics import WEBHOOK_ATTEMPTS, WEBHOOK_LAG, WEBHOOK_SECONDS
from shared.outbox import (
    GIVE_UP_S,
    MAX_ATTEMPTS,
    CallRecord,
    Entry,
    Outbox,
    Outcome,
    Verdict,
    endpoint_of,
    signed_headers,
)
from shared.redis_client import connect, signing_secret
from shared.safe_http import OutboundFailed, SafeHttp
from shared.settings import Settings
from shared.storage import open_storage
from shared.tracing import Span
from worker import traces
from worker.receivers import Busy, Call, Receivers
from worker.verdicts import failed, given_up, judge

#: How long a receiver may take, from the lookup of its name to the end of its answer.
DELIVERY_S: Final = 15.0
#: A delivery and what surrounds it end well within the lease.
ENTRY_LEASE_S: Final = 2 * DELIVERY_S
#: What this version cannot tell is left to couriers of a later one, and looked at again after so long.
STRANGE_WAIT_S: Final = 30.0
USER_AGENT: Final = "Darkroom-Webhook/1"

#: What says that there is nobody behind the address who could answer.
NOBODY_THERE: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})

#: Events that are told while a job runs; all others bear the name of a status.
_RUNNING_EVENTS: Final = frozenset({"started", "progress"})

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Courier:
    """Delivers one outbox entry at a time; safe for threads."""

    outbox: Outbox
    backlog: Backlog
    batches: Batches
    accounts: Accounts
    links: Links
    http: SafeHttp
    receivers: Receivers = field(default_factory=Receivers)

    @classmethod
    def from_settings(cls, settings: Settings, bell: Bell) -> Self:
        """Return a courier with connections of its own."""
        redis = connect(settings)
        storage = open_storage(settings, secret=signing_secret(settings, redis))
        backlog = Backlog(redis, bell, limit=settings.backlog_limit, lease_s=settings.lease_s)
        return cls(
            outbox=Outbox(redis, lease_s=ENTRY_LEASE_S),
            backlog=backlog,
            batches=Batches(redis, bell, backlog, limit=settings.backlog_limit),
            accounts=Accounts(redis),
            links=Links.from_settings(settings, storage),
            http=SafeHttp(allow=settings.outbound_allow),
            receivers=Receivers(threads=settings.courier_threads),
        )

    def deliver(self, entry_id: str) -> None:
        """Make one attempt, if the entry is due and nobody else is at it.

        Nothing is lost by whatever stops this half-way: the entry's lease runs out, and it is due again.
        """
        try:
            entry = self.outbox.claim(entry_id)
            if entry is not None:
                with about(entry):
                    self._deliver(entry)
        except (BacklogUnavailable, *OUTAGES) as error:
            log.warning("webhook.postponed", entry=entry_id, error=str(error))

    def _deliver(self, entry: Entry) -> None:
        made: list[CallRecord] = []
        verdict = self._attempt(entry, made)
        held = self.outbox.settle(entry, verdict, made)
        _count(entry, held)
        log.info(
            "webhook.attempted",
            webhook_event=entry.event,
            outcome=held,
            attempt=entry.attempt,
            status=verdict.status,
            error=verdict.error or None,
            delay_s=round(verdict.delay_s, 1) or None,
        )

    def _attempt(self, entry: Entry, made: list[CallRecord]) -> Verdict:
        """Make an entry's calls, and note them in `made`."""
        if entry.tries > MAX_ATTEMPTS:  # attempts that ended without a word count as well
            return given_up(entry, "Every attempt was cut short.")
        try:
            return self._make(entry, made)
        except (JobNotFound, BatchNotFound, ImageNotFound, Unauthorized) as error:
            return given_up(entry, error.message)
        except StorageUnavailable as error:
            return failed(entry, error=error.message)
        except Busy as busy:
            if time.time() - entry.since_ms / 1000 > GIVE_UP_S:
                return given_up(entry, str(busy))
            return Verdict(outcome=Outcome.LATER, delay_s=busy.delay_s, error=str(busy))

    def _make(self, entry: Entry, made: list[CallRecord]) -> Verdict:
        """Make an entry's calls, as far as there are any."""
        if entry.is_batch:
            batch = self.batches.read(entry.uid, account=entry.account)
            return self._make_all(batch_callbacks(batch, self.links, event=entry.event), entry, made, batch)
        job = self.backlog.read(entry.uid, account=entry.account)
        if is_stale(entry, job):
            return Verdict(outcome=Outcome.DROPPED, error="The job has gone on since.")
        if job.submission.dialect not in WEBHOOKS:
            raise Busy(STRANGE_WAIT_S, "The wire format is a later version's, whose couriers speak it.")
        calls = callbacks(as_announced(job, entry.event), self.links, event=entry.event)
        return self._make_all(calls, entry, made, job)

    def _make_all(
        self, calls: Sequence[Callback], entry: Entry, made: list[CallRecord], subject: Job | Batch
    ) -> Verdict:
        """Make the calls that no earlier attempt has made, in their order; the first that fails ends the attempt."""
        if not calls:
            return given_up(entry, "No webhook is asked for.")
        verdict = Verdict(outcome=Outcome.DELIVERED)
        for number in range(entry.told, len(calls)):
            url = calls[number].url
            if self.outbox.is_disabled(entry.account, url):
                return given_up(entry, "The endpoint has answered 410 and is disabled.")
            verdict, record = self._call(calls[number], entry.message_id(subject.handle, number), entry, subject)
            made.append(record)
            if verdict.status == HTTPStatus.GONE:  # how a receiver says "never again"
                self.outbox.disable(entry.account, url)
            if verdict.outcome is not Outcome.DELIVERED:
                break
            if number + 1 < len(calls) and not self.outbox.told(entry, number + 1):
                return failed(entry, error="Another attempt has begun.")
        return verdict

    def _call(self, call: Callback, message_id: str, entry: Entry, subject: Job | Batch) -> tuple[Verdict, CallRecord]:
        """Make one call; `Busy` where there is no room for it now."""
        body, content_type = self._body(call)
        with (
            self.receivers.calling(entry.account, call.url) as place,
            traces.calling(entry, subject, call.url) as span,
        ):
            started = time.monotonic()
            webhook_secrets = self.accounts.get(entry.account).webhook_secrets
            headers = {
                "Content-Type": content_type,
                "User-Agent": USER_AGENT,
                **signed_headers(message_id, body, webhook_secrets=webhook_secrets),
                **tracing.headers(span),
            }
            verdict, excerpt = self._post(call.url, body, headers, entry=entry, place=place, span=span)
            seconds = round(time.monotonic() - started, 3)
            WEBHOOK_SECONDS.observe(seconds)
        record = CallRecord(
            webhook_id=message_id,
            event=entry.event,
            url=endpoint_of(call.url),
            outcome=verdict.outcome.value,
            seconds=seconds,
            status=verdict.status,
            excerpt=excerpt or verdict.error,
        )
        return verdict, record

    def _post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, entry: Entry, place: Call, span: Span
    ) -> tuple[Verdict, str]:
        """Send a call; return what follows from its answer, or from there being none, and how the answer begins."""
        try:
            answer = self.http.post(url, body, headers, timeout_s=DELIVERY_S)
        except (OutboundRefused, OutboundFailed) as error:
            # A refusal is tried again as well: names move, and operators extend OUTBOUND_ALLOW.
            if isinstance(error, OutboundRefused):
                place.answered()
            span.fail(error.code)
            return failed(entry, error=error.message), ""
        if answer.status not in NOBODY_THERE:
            place.answered()
        verdict = judge(entry, answer)
        span.set({"http.response.status_code": answer.status})
        if verdict.outcome is not Outcome.DELIVERED:
            span.fail(str(answer.status))
        return verdict, answer.body_excerpt

    def _body(self, call: Callback) -> tuple[bytes, str]:
        """Return a call's body and its content type."""
        if call.picture is None:
            return _json(dict(call.fields)), "application/json"
        try:
            picture = self.links.storage.get(call.picture.key)
        except KeyError:
            raise ImageNotFound from None
        fields = [(name, str(value)) for name, value in call.fields.items()]
        return encode_multipart_formdata([*fields, ("file", (call.filename, picture.data, picture.content_type))])


def build_courier(settings: Settings, bell: Bell) -> Courier:
    """Return what `deliver` runs on. Connects at first use."""
    return Courier.from_settings(settings, bell)


def as_announced(job: Job, event: str) -> Job:
    """Return the job as the event found it: a job retried since does not change what is announced."""
    return job.evolve(status=Status.RUNNING if event in _RUNNING_EVENTS else Status(event))


def is_stale(entry: Entry, job: Job) -> bool:
    """Whether a job has gone on since what an entry would tell of it."""
    if not entry.is_passing or job.status is Status.RUNNING:
        return False
    return job.status.is_terminal or entry.event in _RUNNING_EVENTS


def _count(entry: Entry, held: str) -> None:
    WEBHOOK_ATTEMPTS.labels(entry.event, held).inc()
    if held == Outcome.DELIVERED.value:
        WEBHOOK_LAG.labels(entry.event).observe(max(0.0, time.time() - entry.since_ms / 1000))


def _json(data: dict[str, object]) -> bytes:
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
