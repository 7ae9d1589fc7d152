"""Takes a batch in: every line is checked before one is queued, and all are accepted or none. Knows no HTTP."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import structlog
from marshmallow import ValidationError

from api.batch_lines import Line
from api.fields import faults
from api.intake import Intake
from api.schemas import JobRequest
from shared.accounts import Account
from shared.backlog import Batches, Idempotency, new_handle
from shared.backlog.batches import Upload
from shared.backlog.records import BatchReceipt
from shared.batch import MAX_LINES, BatchLine, BatchOptions
from shared.errors import (
    BacklogUnavailable,
    DarkroomError,
    InvalidField,
    MalformedBody,
    RequestError,
    TooManyWaiting,
)
from shared.order import Order

log = structlog.get_logger(__name__)

#: Faults that an answer lists; all are counted.
FAULTS_LISTED: Final = 1000
#: A batch's jobs let others go first, unless they or the batch say otherwise.
DEFAULT_PRIORITY: Final = "low"


@dataclass(frozen=True, slots=True)
class LineFault:
    """What is wrong with a line, from 1; `field` is empty where it is no matter of one field."""

    line: int
    field: str
    code: str
    detail: str


class BatchRefused(RequestError):
    """This batch has lines that cannot be; nothing of it was taken."""

    code = "invalid_batch"

    def __init__(self, found: tuple[LineFault, ...], count: int, lines: int) -> None:
        self.faults = found
        self.count = count
        super().__init__(f"{count:,} faults in {lines:,} lines; nothing of the batch was taken.")


class BudgetExceeded(RequestError):
    """The batch costs more than its budget."""

    code = "budget_exceeded"
    http_status = 402


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchRequest:
    """A batch as its caller wrote it. `options` and `defaults` are asked for once the lines were read."""

    lines: Iterable[Line]
    options: Callable[[], BatchOptions]
    #: Fields of lines that do not have them.
    defaults: Callable[[], Mapping[str, Any]]
    #: Key and digest, the latter once all was read.
    idempotency: Callable[[], Idempotency | None] = lambda: None


@dataclass(kw_only=True, slots=True)
class Findings:
    """What was found so far. `price` is in millicredits."""

    lines: int = 0
    price: int = 0
    count: int = 0
    faults: list[LineFault] = field(default_factory=list)

    def note(self, line: int, error: DarkroomError) -> None:
        """Add a fault; of very many the first are kept."""
        self.count += 1
        if len(self.faults) < FAULTS_LISTED:
            name = error.field if isinstance(error, InvalidField) else ""
            self.faults.append(LineFault(line, name, error.code, error.message))


class BatchIntake:
    """Checks and accepts batches."""

    def __init__(self, intake: Intake, batches: Batches) -> None:
        self._intake = intake
        self._batches = batches

    def check(self, request: BatchRequest, *, account: Account) -> Findings:
        """Return what is wrong with a batch, and what it would cost; nothing is stored or queued.

        Raises `MalformedBody` where the body cannot be read to its end, or has no line.
        """
        findings = Findings()
        for number, order in self._orders(request, findings, account=account):
            self._judge(number, order, findings)
        self._check_whole(request, findings)
        return findings

    def submit(self, request: BatchRequest, *, account: Account) -> BatchReceipt:
        """Accept a batch whole.

        Raises `BatchRefused` with every line's faults, `BudgetExceeded`, what `check` and `Batches.open` raise.
        """
        taken = _Taken(self._intake, self._batches.upload(), account)
        try:
            receipt = self._submit(request, taken, account=account)
        except BacklogUnavailable:  # the batch may be there all the same, with its images
            raise
        except Exception:
            taken.discard()
            raise
        if not receipt.kept:
            taken.discard()
        told = {"lines": taken.upload.total, "replayed": receipt.replayed}
        log.info("batch.accepted", batch=receipt.id, account=account.id, **told)
        return receipt

    def _submit(self, request: BatchRequest, taken: "_Taken", *, account: Account) -> BatchReceipt:
        findings = Findings()
        for number, order in self._orders(request, findings, account=account):
            if findings.count:
                self._judge(number, order, findings)
            else:
                taken.add(number, order, findings)
        self._check_whole(request, findings)
        if findings.count:
            raise BatchRefused(tuple(findings.faults), findings.count, findings.lines)
        options = request.options()
        if options.budget is not None and findings.price > options.budget:
            raise BudgetExceeded(f"The batch costs {findings.price:,} millicredits, its budget is {options.budget:,}.")
        try:
            return self._batches.open(
                taken.upload, account=account.id, options=options, idempotency=request.idempotency()
            )
        except TooManyWaiting:
            raise TooManyWaiting(
                f"With these {findings.lines:,} lines more jobs of the account would wait than its plan allows."
            ) from None

    def _orders(self, request: BatchRequest, findings: Findings, *, account: Account) -> Iterable[tuple[int, Order]]:
        """Yield line number and order of every line that is in order so far; note what is wrong with the others."""
        schema = JobRequest()
        for number, line in enumerate(request.lines, 1):
            findings.lines = number
            if number > MAX_LINES:
                findings.note(number, MalformedBody(f"a batch has at most {MAX_LINES:,} lines"))
                return
            try:
                yield number, self._intake.checked(_read(line, schema, request.defaults()), account=account)
            except ValidationError as error:
                for fault in faults(error.messages_dict):
                    findings.note(number, fault)
            except RequestError as error:
                findings.note(number, error)

    def _judge(self, number: int, order: Order, findings: Findings) -> None:
        try:
            self._intake.judge(order)
        except RequestError as error:
            findings.note(number, error)
        else:
            findings.price += self._intake.price(order.submission)

    def _check_whole(self, request: BatchRequest, findings: Findings) -> None:
        if not findings.lines:
            raise MalformedBody("the batch is empty: it has no line with a job")
        options = request.options()
        if options.webhook_url is not None:
            self._intake.check_url("webhook_url", options.webhook_url)


class _Taken:
    """What was taken of a batch so far: lines that were sent, and images that were stored."""

    def __init__(self, intake: Intake, upload: Upload, account: Account) -> None:
        self.upload = upload
        self._intake = intake
        self._account = account
        self._stored: list[tuple[Order, str]] = []

    def add(self, number: int, order: Order, findings: Findings) -> None:
        handle = new_handle()
        if order.inputs:
            self._stored.append((replace(order, inputs=dict.fromkeys(order.inputs, b"")), handle))
        try:
            submission = self._intake.stored(order, handle)
        except RequestError as error:
            findings.note(number, error)
            return
        price = self._intake.price(submission)
        findings.price += price
        self.upload.add(BatchLine(submission=submission, pool=self._account.pool, price=price, handle=handle))

    def discard(self) -> None:
        self.upload.discard()
        for order, handle in self._stored:
            self._intake.forget_inputs(order, handle)


def _read(line: Line, schema: JobRequest, defaults: Mapping[str, Any]) -> Order:
    """Return a line's order; raises what is wrong with it."""
    if isinstance(line, DarkroomError):
        raise line
    missing = {name: value for name, value in defaults.items() if line.get(name) is None}
    order: Order = schema.load({**line, **missing})
    return order
