"""Every error of ours, in one tree.

    DarkroomError
    ├── RequestError                  the caller can mend it
    │   ├── InvalidField              a field has a value that cannot be
    │   │   ├── MissingField
    │   │   ├── UnknownField
    │   │   ├── PromptTooLong
    │   │   ├── PlanLimit             (plans)
    │   │   └── ImageUnreachable      (inputs)
    │   ├── MalformedBody
    │   ├── BodyTooLarge
    │   ├── TaskNotAvailable          known, but this version does not do it
    │   ├── Unauthorized
    │   │   ├── UnknownClient         (accounts)
    │   │   └── WrongSecret           (accounts)
    │   ├── Forbidden
    │   │   ├── LinkInvalid           (storage)
    │   │   ├── LinkExpired           (storage)
    │   │   ├── NoDemo                (accounts)
    │   │   ├── UnknownPlan           (plans)
    │   │   └── ScopeMissing          (api_keys)
    │   ├── JobNotFound
    │   │   ├── JobGone               past its retention
    │   │   └── NotYours              another account's
    │   ├── BatchNotFound
    │   ├── NotFailed
    │   │   └── NothingToRetry
    │   ├── NoWebhook                 (deliveries)
    │   ├── UnknownAccount            (webhook_secrets)
    │   ├── ImageNotFound
    │   ├── KeyNotFound               (api_keys)
    │   ├── TooLittle                 (books)
    │   ├── NotFinished
    │   ├── IdempotencyConflict
    │   ├── TooManyWaiting
    │   ├── RateLimited
    │   │   └── TooManyLogins
    │   └── InsufficientCredits
    ├── ServiceError                  the service can mend it; trying again later may help
    │   ├── BacklogFull
    │   │   └── PoolDraining
    │   ├── BacklogUnavailable
    │   ├── StorageUnavailable
    │   └── OutboundFailed            (safe_http)
    ├── JobError                      why a job failed
    │   ├── ModelLoadFailed
    │   ├── GenerationFailed
    │   ├── OutOfMemory
    │   ├── ContentFiltered
    │   ├── InputUnusable             (worker)
    │   ├── StoringFailed
    │   ├── DeadlinePassed
    │   └── WorkerLost
    ├── OutboundRefused               a caller's URL leads where we do not go
    └── ConfigurationError            a setting has a value that cannot be

`code` is stable and is what programs compare; the message is for people. The message defaults to the class docstring.
"""

from typing import ClassVar


class DarkroomError(Exception):
    """Something went wrong."""

    #: Stable machine-readable name.
    code: ClassVar[str] = "internal_error"
    #: What HTTP calls it; dialects may answer otherwise.
    http_status: ClassVar[int] = 500
    #: Whether the same request may succeed later.
    retryable: ClassVar[bool] = False

    def __init__(self, message: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or type(self).__name__).strip().splitlines()[0]
        super().__init__(self.message)


class RequestError(DarkroomError):
    """The request cannot be served as it stands."""

    code = "bad_request"
    http_status = 400


class InvalidField(RequestError):
    """A field has a value that cannot be."""

    code = "invalid_value"

    def __init__(self, field: str, message: str | None = None) -> None:
        self.field = field
        super().__init__(message)


class MissingField(InvalidField):
    """This field is required."""

    code = "missing_field"


class UnknownField(InvalidField):
    """There is no such field."""

    code = "unknown_field"


class PromptTooLong(InvalidField):
    """The prompt is too long."""

    code = "prompt_too_long"


class MalformedBody(RequestError):
    """The body could not be read."""

    code = "malformed_body"


class BodyTooLarge(RequestError):
    """The body is too large."""

    code = "body_too_large"
    http_status = 413


class TaskNotAvailable(InvalidField):
    """This version does not offer this task."""

    code = "task_not_available"
    http_status = 422


class Unauthorized(RequestError):
    """A valid API key is required."""

    code = "unauthorized"
    http_status = 401


class Forbidden(RequestError):
    """This key may not do that."""

    code = "forbidden"
    http_status = 403


class JobNotFound(RequestError):
    """There is no such job."""

    code = "job_not_found"
    http_status = 404


class JobGone(JobNotFound):
    """The job is past its retention and gone."""

    code = "job_gone"
    http_status = 410


class NotYours(JobNotFound):
    """There is no such job.

    It is another account's. Most callers are not told so; where a provider tells its callers, its dialect does.
    """


class NotFailed(RequestError):
    """Only a job that failed, was cancelled or expired can be retried."""

    code = "not_failed"
    http_status = 409


class NothingToRetry(NotFailed):
    """Nothing of this batch failed, was cancelled or expired."""

    code = "nothing_to_retry"


class BatchNotFound(RequestError):
    """There is no such batch."""

    code = "batch_not_found"
    http_status = 404


class ImageNotFound(RequestError):
    """This job has no such image."""

    code = "image_not_found"
    http_status = 404


class NotFinished(RequestError):
    """The job has not finished; cancel it first."""

    code = "not_finished"
    http_status = 409


class IdempotencyConflict(RequestError):
    """This idempotency key was used with another request."""

    code = "idempotency_conflict"
    http_status = 409


class TooManyWaiting(RequestError):
    """The account has as many waiting jobs as its plan allows."""

    code = "too_many_waiting"
    http_status = 429
    retryable = True


class RateLimited(RequestError):
    """This key has called more often than its plan allows."""

    code = "rate_limited"
    http_status = 429
    retryable = True

    def __init__(self, *, retry_after_s: int) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"{type(self).__doc__} Try again in {retry_after_s} s.")


class TooManyLogins(RateLimited):
    """Too many attempts to log in."""

    code = "too_many_logins"


class InsufficientCredits(RequestError):
    """The account's credits do not cover this job."""

    code = "insufficient_credits"
    http_status = 402


class ServiceError(DarkroomError):
    """The service cannot do this at the moment."""

    code = "service_unavailable"
    http_status = 503
    retryable = True


class BacklogFull(ServiceError):
    """The backlog is full."""

    code = "backlog_full"
    http_status = 409


class PoolDraining(BacklogFull):
    """The workers of this model take no new jobs at present."""

    code = "pool_draining"
    http_status = 503


class BacklogUnavailable(ServiceError):
    """The backlog cannot be reached."""

    code = "backlog_unavailable"


class StorageUnavailable(ServiceError):
    """The storage cannot be reached."""

    code = "storage_unavailable"


class JobError(DarkroomError):
    """The job failed."""

    code = "job_failed"


class ModelLoadFailed(JobError):
    """The model could not be loaded."""

    code = "model_load_failed"


class GenerationFailed(JobError):
    """The pipeline failed."""

    code = "generation_failed"


class OutOfMemory(JobError):
    """The device has too little memory for this job."""

    code = "out_of_memory"


class ContentFiltered(JobError):
    """The safety checker flagged the picture; it is not shown, and not charged."""

    code = "content_filtered"


class StoringFailed(JobError):
    """The images could not be stored."""

    code = "storing_failed"
    retryable = True


class DeadlinePassed(JobError):
    """A deadline passed before the job was done."""

    code = "deadline_passed"
    retryable = True


class WorkerLost(JobError):
    """The job was lost with its worker too often and is not tried again by itself."""

    code = "worker_lost"
    retryable = True


class OutboundRefused(DarkroomError):
    """This URL leads where Darkroom does not go."""

    code = "outbound_refused"
    http_status = 400


class ConfigurationError(DarkroomError):
    """A setting has a value that cannot be."""

    code = "configuration_error"

    def __init__(self, variable: str, message: str) -> None:
        self.variable = variable
        super().__init__(f"{variable}: {message}")
