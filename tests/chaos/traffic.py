"""Clients: ask for jobs in every wire format, again where nobody answers."""

import base64
import io
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import requests
from PIL import Image
from redis import Redis

from shared.accounts import Accounts, Credentials
from tests.chaos.wishes import Wish

#: A client asks so long for an answer.
PATIENCE_S = 600.0
#: Between two times that it asks, at first and at most; half of it is chance.
PAUSE_S, LONGEST_PAUSE_S = 0.2, 2.0
THREADS = 24
CREDITS = 100_000
#: What a client does not take for an answer: somebody is away or busy.
AGAIN = frozenset({429, 500, 502, 503, 504})


@dataclass(kw_only=True)
class Told:
    """What a client was told."""

    wish: Wish
    uid: int | None = None
    #: Requests that may have been accepted although nobody answered.
    unsure: int = 0
    cancelled: bool = False


@dataclass
class Client:
    """One account's program. Every account has the same habits but its own key."""

    url: str
    credentials: Credentials
    hook: str
    #: Answers that no client should ever see.
    faults: list[str] = field(default_factory=list)
    local: threading.local = field(default_factory=threading.local)

    def run(self, wish: Wish) -> Told:
        """Ask for a job until it is accepted, and cancel it where that is wished."""
        told = Told(wish=wish)
        SUBMIT[wish.dialect](self, wish, told)
        if wish.cancel_s is not None and told.uid is not None:
            time.sleep(wish.cancel_s)
            answer = self.ask("POST", f"/v1/jobs/{told.uid}/cancel")
            told.cancelled = answer.json()["status"] == "cancelled"
        return told

    def ask(self, method: str, path: str, told: Told | None = None, *, good: Callable = lambda _: True, **options):
        """Return an answer that is neither an outage's nor a busy service's."""
        headers = {"Authorization": f"Bearer {self.credentials.key}", **options.pop("headers", {})}
        deadline, last, pause_s = time.monotonic() + PATIENCE_S, "", PAUSE_S
        while time.monotonic() < deadline:
            try:
                answer = self._session().request(method, self.url + path, headers=headers, timeout=60, **options)
            except requests.RequestException as error:
                last = repr(error)
            else:
                if answer.status_code not in AGAIN and good(answer):
                    if answer.status_code >= HTTPStatus.BAD_REQUEST:
                        raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text}")
                    return answer
                last = f"{answer.status_code} {answer.text[:200]}"
                if answer.status_code == HTTPStatus.INTERNAL_SERVER_ERROR:
                    self.faults.append(f"{method} {path}: {last}")
            if told is not None:
                told.unsure += 1
            time.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        raise TimeoutError(f"{method} {path}: no answer within {PATIENCE_S:g} s, last: {last}")

    def _session(self) -> requests.Session:
        if not hasattr(self.local, "session"):
            self.local.session = requests.Session()
        return self.local.session


def native(client: Client, wish: Wish, told: Told) -> None:
    """With an idempotency key: however often it is asked for, it is one job."""
    body = _fields(client, wish)
    if wish.has_url:
        body |= {"image": f"{client.hook}/picture", "strength": 0.5}
    elif wish.has_image:
        body |= {"image": base64.b64encode(picture(wish.side)).decode(), "strength": 0.5}
    if wish.start_deadline_s is not None:
        body["start_deadline_s"] = wish.start_deadline_s
    headers = {"Idempotency-Key": f"chaos-{wish.number}"}
    told.uid = int(client.ask("POST", "/v1/jobs", json=body, headers=headers).json()["uid"])


def batch(client: Client, wish: Wish, told: Told) -> None:
    """All of its jobs in one request."""
    fields = _fields(client, wish)
    body = {"priority": "normal", "jobs": [{**fields, "seed": wish.seed + line} for line in range(wish.lines)]}
    answer = client.ask("POST", "/v1/batches", json=body, headers={"Idempotency-Key": f"chaos-{wish.number}"})
    if answer.json()["total"] != wish.lines:
        raise RuntimeError(f"a batch of {wish.lines} lines was accepted as {answer.json()}")


def _fields(client: Client, wish: Wish) -> dict[str, Any]:
    hook = {"webhook_url": f"{client.hook}/hook/{wish.number}"} if wish.has_hook else {}
    return {
        "prompt": wish.prompt,
        "seed": wish.seed,
        "width": wish.side,
        "height": wish.side,
        "num_inference_steps": wish.steps,
        "num_images": wish.images,
        "track_id": wish.number,
        **hook,
    }


def modelslab(client: Client, wish: Wish, told: Told) -> None:
    """Submit, and read the uid; a lost answer leaves a job behind that nobody asks for."""
    body = {
        "key": client.credentials.key,
        "prompt": wish.prompt,
        "width": wish.side,
        "height": wish.side,
        "num_inference_steps": str(wish.steps),
        "seed": wish.seed,
        "samples": wish.images,
        "track_id": wish.number,
        **({"webhook": f"{client.hook}/hook/{wish.number}"} if wish.has_hook else {}),
    }

    def good(answer: requests.Response) -> bool:
        return answer.json().get("status") in {"success", "processing"}

    path = "/api/v1/enterprise/text2img"
    told.uid = int(client.ask("POST", path, told, good=good, json=body).json()["id"])


def opensourceais(client: Client, wish: Wish, told: Told) -> None:
    """Submit; who is called is the client's own address."""
    body = {
        "word": wish.prompt,
        "width": 320,
        "height": 320,
        "steps": wish.steps,
        "seed": wish.seed,
        "cimg": wish.images,
    }

    def good(answer: requests.Response) -> bool:
        return answer.status_code != HTTPStatus.CONFLICT

    path = "/api/v1/private/client/ai/diffusion"
    told.uid = int(client.ask("POST", path, told, good=good, json=body).json()["data"]["uid"])


def octoai(client: Client, wish: Wish, told: Told) -> None:
    """Submit asynchronously, and poll to the end."""
    body = {"prompt": wish.prompt, "width": 128, "height": 128, "steps": wish.steps, "seed": wish.seed}
    headers = {"X-OctoAI-Async": "1"}
    found = client.ask("POST", "/generate/sd", told, json=body, headers=headers).json()
    path = f"/v1/requests/{found['response_id']}"
    deadline = time.monotonic() + PATIENCE_S
    while client.ask("GET", path).json()["status"] != "completed":
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} did not complete within {PATIENCE_S:g} s")
        time.sleep(PAUSE_S)


def aithriving(client: Client, wish: Wish, told: Told) -> None:
    """Wait for the picture."""
    body = {"prompt": wish.prompt, "width": 320, "height": 320, "steps": wish.steps, "seed": wish.seed}

    def good(answer: requests.Response) -> bool:
        return answer.json()["code"] == 0

    client.ask("POST", "/api/generate/basic/textToImage", told, good=good, json=body)


def stability(client: Client, wish: Wish, told: Told) -> None:
    """Wait for the picture."""
    body = {"text_prompts": [{"text": wish.prompt}], "steps": wish.steps, "seed": wish.seed}
    client.ask("POST", "/v1/generation/demo/text-to-image", told, json=body)


SUBMIT: Mapping[str, Callable[[Client, Wish, Told], None]] = {
    "native": native,
    "batch": batch,
    "modelslab": modelslab,
    "opensourceais": opensourceais,
    "octoai": octoai,
    "aithriving": aithriving,
    "stability": stability,
}


def picture(side: int) -> bytes:
    """Return a PNG."""
    stream = io.BytesIO()
    Image.new("RGB", (side, side), "teal").save(stream, "PNG")
    return stream.getvalue()


def open_accounts(redis: Redis, hook: str) -> dict[str, Credentials]:
    """Make the accounts: two that pay, one that is not metered, one of the free plan that may run two at once."""
    accounts = Accounts(redis)
    notify = {"notify_url": f"{hook}/notify"}
    return {
        "first": accounts.create_key("first", credits_=CREDITS, **notify),
        "second": accounts.create_key("second", credits_=CREDITS, **notify),
        "unmetered": accounts.create_key("unmetered", **notify),
        "free": accounts.create_key("free", plan="free", credits_=CREDITS, **notify),
    }


def send(clients: Mapping[str, Client], wanted: Iterable[Wish], *, every_s: float) -> list[Told]:
    """Submit all, one after another but none waiting for another; return what was told once all are accepted."""
    with ThreadPoolExecutor(THREADS, thread_name_prefix="client") as pool:
        futures = []
        for wish in wanted:
            futures.append(pool.submit(clients[wish.account].run, wish))
            time.sleep(every_s)
        wait(futures)
        return [future.result() for future in futures]
