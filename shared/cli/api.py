"""A client of `/v1`, as small as the commands need it."""

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final, Self

import click
import requests

ENDED: Final = frozenset({"succeeded", "failed", "cancelled", "expired"})
_CONNECT_TIMEOUT_S: Final = 5.0
#: Longer than the pauses between the service's own signs of life.
_READ_TIMEOUT_S: Final = 45.0
_RECONNECT_AFTER_S: Final = 1.0
#: Failures in a row after which a stream of events is given up.
_MAX_FAILURES: Final = 20


class Refused(click.ClickException):
    """The service refused the request."""

    exit_code = 1


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
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go; a `follow` in another thread ends."""
        self._closed.set()
        self._session.close()

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

    def image(self, uid: int, index: int) -> bytes:
        """Return one image of a finished job."""
        return self._request("GET", f"/v1/jobs/{uid}/images/{index}").content

    def fetch(self, url: str) -> bytes:
        """Return what a signed link leads to. It needs no key and is sent none."""
        try:
            answer = requests.get(url, timeout=(_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S))
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

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._request(method, path, **options).json()
        return found

    def _request(self, method: str, path: str, **options: Any) -> requests.Response:
        try:
            answer = self._session.request(
                method, self._url + path, timeout=(_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S), **options
            )
        except requests.RequestException as error:
            raise Unreachable(f"nothing answers at {self._url}: {_reason(error)}") from error
        if answer.status_code >= HTTPStatus.BAD_GATEWAY:
            raise Unreachable(problem_text(answer))
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
    """Return a refusal in words: every field that is at fault, else the detail."""
    try:
        problem = answer.json()
    except requests.JSONDecodeError:
        return f"the service answered {answer.status_code} {answer.reason}"
    faults = [f"{fault['field']}: {fault['detail']}" for fault in problem.get("errors", ())]
    return "\n       ".join(faults) or f"{problem.get('detail', problem)} ({problem.get('code', answer.status_code)})"


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.ConnectTimeout | requests.ReadTimeout):
        return "it took too long"
    return "the connection was refused" if "refused" in str(error) else str(error)
