"""The API on a real Valkey, with a worker that draws plain pictures at once: what a dialect's tests run against."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network

from PIL import Image
from werkzeug.serving import make_server

from shared.backlog import INGEST_MODEL, INGEST_POOL, Backlog
from shared.celery_app import SilentBell
from shared.job import Artifact, Result, Status
from shared.safe_http import SafeHttp
from tests.apibench import ApiBench
from worker.heartbeat import Heartbeat
from worker.ingest import Ingest
from worker.introduction import Introduction

NODE = "worker@dialects"
#: For `outbound_allow`: local stand-ins for what is elsewhere.
LOOPBACK = (ip_network("127.0.0.0/8"),)
COLOURS = ("red", "green", "blue", "white")


class Gate:
    """Open or not. Who closes it waits for whoever passes, so that nobody is past it afterwards."""

    def __init__(self) -> None:
        self._free = True
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Close it."""
        with self._lock:
            self._free = False

    def set(self) -> None:
        """Open it."""
        self._free = True

    @contextmanager
    def passing(self) -> Iterator[bool]:
        """Pass, if the gate is open."""
        with self._lock:
            yield self._free


class StubWorker:
    """Claims jobs and finishes them with plain pictures. `fail` makes it end the next ones with that error."""

    def __init__(self, bench: ApiBench, redis, *, node=NODE, pool="default") -> None:
        self.bench = bench
        self.node = node
        self.pool = pool
        self.backlog = Backlog(redis, SilentBell())
        self.fail: dict | None = None
        #: Jobs wait while this is cleared.
        self.open = Gate()
        self.specs = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self.backlog.hello(self.node, "1", pool=self.pool, models=("demo",))
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(0.01):
            with self.open.passing() as free:
                for lease in self.backlog.claim(self.node, max_jobs=1, max_images=16).leases if free else ():
                    self._end(lease)

    def _end(self, lease) -> None:
        spec = lease.submission.spec
        self.specs.append(spec)
        if self.fail is not None:
            self.backlog.finish(self.node, lease, Status.FAILED, Result(error=self.fail))
            return
        artifacts = tuple(self._draw(lease, index, seed) for index, seed in enumerate(spec.image_seeds()))
        result = Result(artifacts=artifacts, parameters={"prompt": spec.prompt}, timings={"generate": 0.25})
        self.backlog.finish(self.node, lease, Status.SUCCEEDED, result)

    def size(self, spec) -> tuple[int, int]:
        """Return how large a picture is drawn."""
        return spec.width, spec.height

    def _draw(self, lease, index, seed) -> Artifact:
        spec, out = lease.submission.spec, io.BytesIO()
        picture = Image.new("RGB", self.size(spec), COLOURS[index % len(COLOURS)])
        picture.save(out, spec.output_format.upper())
        suffix = {"jpeg": "jpg"}.get(spec.output_format, spec.output_format)
        key = f"results/{lease.handle}/{lease.fence}/{index}.{suffix}"
        content_type = f"image/{spec.output_format}"
        self.bench.parts.storage.put(key, out.getvalue(), content_type=content_type)
        return Artifact(
            key=key,
            seed=seed,
            width=spec.width,
            height=spec.height,
            content_type=content_type,
            bytes=len(out.getvalue()),
        )


@contextmanager
def service(redis, folder, *, kind=StubWorker, **settings) -> Iterator[tuple[ApiBench, StubWorker]]:
    """The API and its worker, stopped at the end."""
    bench = ApiBench(redis, folder, **settings)
    worker = kind(bench, redis)
    worker.start()
    try:
        yield bench, worker
    finally:
        worker.open.set()
        worker.stop()
        bench.parts.hub.close(wait=True)


@contextmanager
def ingest(bench: ApiBench, redis, *, node="courier@dialects") -> Iterator[Ingest]:
    """A courier that fetches the images which requests name by their URLs; `OUTBOUND_ALLOW` is the bench's."""
    beating = Backlog(redis, SilentBell())
    introduce = Introduction(backlog=beating, node=node, pool=INGEST_POOL, models=(INGEST_MODEL,))
    courier = Ingest(
        node,
        backlog=Backlog(redis, SilentBell()),
        accounts=bench.parts.accounts,
        storage=bench.parts.storage,
        http=SafeHttp(allow=bench.settings.outbound_allow),
        heartbeat=Heartbeat(beating, node, introduce=introduce),
    )
    courier.start()
    stopping = threading.Event()

    def fetch_on() -> None:
        while not stopping.wait(0.02):  # the bell is silent
            courier.generate()

    thread = threading.Thread(target=fetch_on)
    thread.start()
    try:
        yield courier
    finally:
        stopping.set()
        thread.join()
        courier.stop()


@contextmanager
def listening(bench: ApiBench) -> Iterator[str]:
    """The API on a port of its own, for clients that bring their own HTTP; yields its address."""
    server = make_server("127.0.0.1", 0, bench.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
