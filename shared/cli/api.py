"""A client of `/v1`, as small as the commands need it."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import IO, Any, Final, Self

import click
import requests
from requests.adapters import HTTPAdapter

ENDED: Final = frozenset({"succeeded", "failed", "cancelled", "expired"})
_CONNECT_TIMEOUT_S: Final = 5.0
#: Longer than the pauses between the service's own signs of life.
_READ_TIMEOUT_S: Final = 45.0
#: A large batch is answered once all of it was read and checked.
_BATCH_TIMEOUT_S: Final = 600.0
_RECONNECT_AFTER_S: Final = 1.0
#: Failures in a row after which a stream of events is given up.
_MAX_FAILURES: Final = 20
#: Links that are fetched side by side keep their connections.
_LINKS_AT_ONCE: Final = 16
_CHUNK_BYTES: Final = 64 * 1024
#: Faults of a refusal that are shown.
_FAULTS_SHOWN: Final = 20


#: What the libraries say of a connection -> in words.
_REASONS: Final = {
    "refused": "the connection was refused",
    "Failed to resolve": "there is no host of this name",
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not to be trusted",
    "RemoteDisconnected": "it closed the connection",
}


class Refused(click.ClickException):
    """The service refused the request."""

    exit_code = 1


class TooOften(Refused):
    """The key calls more often than its plan allows; `pause_s` is for how long it shall not."""

    def __init__(self, message: str, *, pause_s: float) -> None:
        self.pause_s = pause_s
        super().__init__(message)


class Unreachable(click.ClickException):
    """The service cannot be reached."""

    exit_code = 3


class Api:
    """The service, for one key. `Refused` and `Unreachable` are raised by every method."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url.rstrip("/")
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {key}"
        self._session.trust_env = False  # a .netrc must not replace the key
        self._links = requests.Session()
        for scheme in ("http://", "https://"):
            self._links.mount(scheme, HTTPAdapter(pool_maxsize=_LINKS_AT_ONCE))
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go; a `follow` in another thread ends."""
        self._closed.set()
        self._session.close()
        self._links.close()

    def submit(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Submit a job; return what the service accepted."""
        return self._json("POST", "/v1/jobs", json=job)

    def job(self, uid: int) -> dict[str, Any]:
        """Return a job as it stands."""
        return self._json("GET", f"/v1/jobs/{uid}")

    def models(self) -> list[dict[str, Any]]:
        """Return the models that requests may name."""
        listed: list[dict[str, Any]] = self._json("GET", "/v1/models")["data"]
        return listed

    def assets(self) -> list[dict[str, Any]]:
        """Return what models can wear for a job."""
        listed: list[dict[str, Any]] = self._json("GET", "/v1/assets")["data"]
        return listed

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """Return what a path answers."""
        return self._json("GET", path, params=query)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return what a path answers to a POST."""
        return self._json("POST", path, json=body)

    def submit_batch(
        self, body: IO[bytes], *, content_type: str, key: str, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Submit a batch, read from a file as it is sent; the same key never submits it twice."""
        headers = {"Content-Type": content_type, "Idempotency-Key": key}
        return self._json("POST", "/v1/batches", data=body, params=options, headers=headers, timeout_s=_BATCH_TIMEOUT_S)

    def check_batch(self, body: IO[bytes], *, content_type: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is wrong with a batch, and what it would cost; nothing is submitted."""
        query = {**options, "dry_run": 1}
        headers = {"Content-Type": content_type}
        return self._json("POST", "/v1/batches", data=body, params=query, headers=headers, timeout_s=_BATCH_TIMEOUT_S)

    def chunks(self, path: str, **query: Any) -> Iterator[bytes]:
        """Yield what a path answers as it comes."""
        return self._read(path, query, lambda answer: answer.iter_content(_CHUNK_BYTES))

    def lines(self, path: str, **query: Any) -> Iterator[bytes]:
        """Yield the lines of what a path answers as they come, without their ends."""
        return self._read(path, query, lambda answer: answer.iter_lines(_CHUNK_BYTES))

    def image(self, uid: int, index: int) -> bytes:
        """Return one image of a finished job."""
        return self._request("GET", f"/v1/jobs/{uid}/images/{index}").content

    def fetch(self, url: str) -> bytes:
        """Return what a signed link leads to. It needs no key and is sent none. May be called by several threads."""
        try:
            answer = self._links.get(url, timeout=(_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S))
        except requests.RequestException as error:
            raise Unreachable(f"the link {url} leads nowhere: {_reason(error)}") from error
        if not answer.ok:
            raise Refused(problem_text(answer))
        return answer.content

    def follow(self, uid: int) -> Iterator[dict[str, Any]]:
        """Yield what happens to a job (`status`, `progress`, `position`) until it ends, over lost connections."""
        last_id, failures = "", 0
        while True:
            try:
                for event_id, data in self._events(uid, last_id):
                    last_id, failures = event_id or last_id, 0
                    yield data
                    if data["status"] in ENDED:
                        return
            except (requests.RequestException, Unreachable) as error:
                failures += 1
                if failures > _MAX_FAILURES:
                    raise Unreachable(f"lost the job's events: {error}") from error
            if self._closed.wait(_RECONNECT_AFTER_S):
                raise Unreachable("stopped following the job")

    def _events(self, uid: int, last_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        with self._request("GET", f"/v1/jobs/{uid}/events", stream=True, headers=headers) as answer:
            if answer.status_code == HTTPStatus.NO_CONTENT:  # nothing more will come
                yield last_id, self.job(uid)
            yield from read_events(answer.iter_lines(chunk_size=1))

    def _read(
        self, path: str, query: Mapping[str, Any], pieces: Callable[[requests.Response], Iterator[bytes]]
    ) -> Iterator[bytes]:
        with self._request("GET", path, params=query, stream=True) as answer:
            try:
                yield from pieces(answer)
            except requests.RequestException as error:
                raise Unreachable(f"the answer of {path} broke off: {_reason(error)}") from error

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        answer = self._request(method, path, **options)
        try:
            found: dict[str, Any] = answer.json()
        except requests.JSONDecodeError as error:
            raise Refused(f"what answers at {self._url} is not Darkroom: it sent no JSON") from error
        return found

    def _request(
        self, method: str, path: str, *, timeout_s: float = _READ_TIMEOUT_S, **options: Any
    ) -> requests.Response:
        try:
            answer = self._session.request(method, self._url + path, timeout=(_CONNECT_TIMEOUT_S, timeout_s), **options)
        except requests.RequestException as error:
            raise Unreachable(f"nothing answers at {self._url}: {_reason(error)}") from error
        if answer.status_code >= HTTPStatus.BAD_GATEWAY:
            raise Unreachable(problem_text(answer))
        if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS and _code(answer) == "rate_limited":
            raise TooOften(problem_text(answer), pause_s=float(answer.headers.get("Retry-After", 1)))
        if not answer.ok:
            raise Refused(problem_text(answer))
        return answer


def read_events(lines: Iterable[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (id, data) of Server-Sent Events whose data is JSON."""
    event_id, data = "", ""
    for raw in lines:
        name, _, value = raw.decode().partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            event_id = value
        elif name == "data":
            data += value
        elif not name and not value and data:
            yield event_id, json.loads(data)
            data = ""


def problem_text(answer: requests.Response) -> str:
    """Return a refusal in words: every field that is at fault, in a batch with its line, else the detail."""
    try:
        problem = answer.json()
    except requests.JSONDecodeError:
        return f"the service answered {answer.status_code} {answer.reason}"
    faults = faults_text(problem.get("errors", ()), count=problem.get("error_count"))
    return "\n       ".join(faults) or f"{problem.get('detail', problem)} ({problem.get('code', answer.status_code)})"


def faults_text(faults: Sequence[Mapping[str, Any]], *, count: int | None = None) -> list[str]:
    """Return faults in words, the first twenty; `count` is how many there are, where not all are listed."""
    told = []
    for fault in faults[:_FAULTS_SHOWN]:
        places = [f"line {fault['line']}" if "line" in fault else "", fault["field"], fault["detail"]]
        told.append(": ".join(filter(None, places)))
    more = (count or len(faults)) - len(told)
    return [*told, f"and {more:,} more"] if more > 0 else told


def _code(answer: requests.Response) -> str:
    try:
        return str(answer.json().get("code"))
    except requests.JSONDecodeError:
        return ""


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.ConnectTimeout | requests.ReadTimeout):
        return "it took too long"
    return next((says for word, says in _REASONS.items() if word in str(error)), str(error))
