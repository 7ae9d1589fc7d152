"""What a dialect is made of: requests and answers as data, and the few kinds of routes.

A dialect's file opens with its provider's address, then constants and pure functions: a `Call` in, an `Order` out; a
`Job` in, a `Reply` out. The API mounts its routes (`api/dialects.py`), the courier renders its webhooks. Neither knows
any provider; no dialect knows Flask, Redis or a thread.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Protocol

from shared.accounts import Account
from shared.api_keys import Scope
from shared.dialects.links import Links
from shared.dialects.pages import Manual, Page
from shared.errors import DarkroomError, JobNotFound, MalformedBody
from shared.job import Artifact, Job
from shared.order import Order


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """An HTTP request. Header names are in lower case; of repeated form fields the last one counts."""

    method: str
    #: The variable parts of the path.
    args: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    form: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    #: Names this request in the log and in the answer's Darkroom-Request-Id.
    id: str = ""

    def json_object(self) -> dict[str, Any]:
        """Return the body's JSON object, whatever its Content-Type says; `MalformedBody` where it is none."""
        if not self.body.strip():
            raise MalformedBody("the body is empty; a JSON object is expected")
        try:
            found = json.loads(self.body.decode("utf-8-sig"), parse_constant=_refuse)
        except UnicodeDecodeError as error:
            raise MalformedBody(f"the body is not valid UTF-8 at byte {error.start}") from error
        except (ValueError, RecursionError) as error:
            raise MalformedBody("the body is not valid JSON") from error
        if not isinstance(found, dict):
            raise MalformedBody("the body must be a JSON object")
        return found

    def bearer(self, header: str = "authorization") -> str:
        """Return the header's value without a leading `Bearer`, in whatever case; empty where there is none."""
        value = self.headers.get(header, "").strip()
        scheme, _, rest = value.partition(" ")
        return rest.strip() if scheme.lower() == "bearer" else value


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """An HTTP answer. `body` is JSON-ready data, or bytes of `content_type`."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


class View(Protocol):
    """What an answer may need beside the job."""

    links: Links

    def image(self, artifact: Artifact) -> bytes:
        """Return a stored image's bytes."""


class Wait(StrEnum):
    """How long a submit holds its caller."""

    NO = "no"  #: answers at once that the job waits
    SHORT = "short"  #: answers with the result if it comes soon, else that the job is under way
    END = "end"  #: answers with the result; on time-out the job is cancelled and not charged


@dataclass(frozen=True, kw_only=True, slots=True)
class Submit:
    """A route that takes a job."""

    path: str
    parse: Callable[[Call, Account], Order]
    #: The job as it stands: just queued, still under way, or at its end.
    render: Callable[[Job, View], Reply]
    #: How long to wait, which the request may decide.
    wait: Callable[[Call], Wait] = lambda _: Wait.NO
    methods: tuple[str, ...] = ("POST",)
    summary: str = "Submit a job."
    #: Pure data: the request body's JSON Schema, for the OpenAPI document.
    schema: Mapping[str, Any] = field(default_factory=dict)
    page: Page = field(default_factory=Page)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetch:
    """A route that reads a job."""

    path: str
    #: Which job: a uid of the caller's account, or a handle with its uid, which needs no key.
    find: Callable[[Call], "int | Ticket"]
    render: Callable[[Job, View], Reply]
    methods: tuple[str, ...] = ("GET",)
    summary: str = "Read a job."
    page: Page = field(default_factory=Page)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A route about nothing that is queued: a config, an account, a list."""

    path: str
    answer: Callable[[Call, "Desk"], Reply]
    methods: tuple[str, ...] = ("GET",)
    #: What the caller's key must be good for, where the answer asks for its account.
    scope: Scope = Scope.READ
    summary: str = ""
    page: Page = field(default_factory=Page)


@dataclass(frozen=True, slots=True)
class Ticket:
    """A job's name for whoever has no key: guessing the handle is guessing 128 bits."""

    uid: int
    handle: str

    def __str__(self) -> str:
        return f"{self.handle}{self.uid:x}"

    @classmethod
    def parse(cls, text: str) -> "Ticket":
        """Read what `str` wrote; `JobNotFound` for anything else."""
        handle, number = text[:_HANDLE_CHARS], text[_HANDLE_CHARS:]
        if not set(text) <= _HEX or not number or len(number) > _UID_CHARS:
            raise JobNotFound
        return cls(int(number, 16), handle)


class Desk(Protocol):
    """What an `Answer` may ask the service."""

    base_url: str

    def account(self, key: str) -> Account:
        """Return the account that an API key or a session opens; `Unauthorized` else."""

    def log_in(self, token: str, secret: str) -> str:
        """Return a signed session for a client token and its secret; `UnknownClient` or `WrongSecret` else."""

    def log_in_to_demo(self) -> str:
        """Return a signed session of the demo client; `Forbidden` where the operator allows none."""

    def balance(self, account: Account) -> int | None:
        """Return an account's millicredits, None where it is not metered."""

    def models(self, account: Account) -> tuple[str, ...]:
        """Return the names of the models that an account may use."""

    def model(self, name: str, account: Account) -> str:
        """Return the model that a name or an alias means to an account; `InvalidField` where there is none."""

    def waiting(self, account: Account) -> int:
        """Return how many of an account's jobs wait."""

    def cancel_waiting(self, account: Account) -> int:
        """Cancel an account's jobs that wait; return how many there were."""

    def keep_image(self, data: bytes, account: Account, *, field: str) -> str:
        """Judge and store an image; return a link to it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Callback:
    """A POST to an address of the caller's: JSON, or with a picture a form, whose file is called `file`."""

    url: str
    fields: Mapping[str, Any]
    picture: Artifact | None = None
    filename: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """One provider's wire format."""

    name: str
    routes: tuple[Submit | Fetch | Answer, ...]
    #: The API key (or session) in a call, empty where there is none.
    key: Callable[[Call], str]
    render_error: Callable[[DarkroomError, Call], Reply]
    render_webhook: Callable[[Job, Links], dict[str, Any]]
    #: What the OpenAPI document says of it as a whole; of each route its `page` does.
    manual: Manual
    #: The calls that tell of a job's end, in their order, where one webhook is not what the provider sends.
    callbacks: Callable[[Job, Links], tuple[Callback, ...]] | None = None


def _refuse(name: str) -> None:
    raise ValueError(name)


_HANDLE_CHARS: Final = 32
_UID_CHARS: Final = 13
_HEX: Final = frozenset("0123456789abcdef")
