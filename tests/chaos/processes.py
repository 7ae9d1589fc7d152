"""Darkroom's processes as they are deployed, each started again whenever it dies."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import requests

from tests import services

ROOT = Path(__file__).parents[2]
#: How long a program may take to end by itself.
STOP_S = 30.0
READY_S = 120.0
#: A program that lives shorter than this is not started again at once.
SHORT_S = 1.0
QUIET = ("--without-gossip", "--without-mingle")


class Kept:
    """A program in a process group of its own that is started again whenever it dies."""

    def __init__(self, name: str, args: Sequence[str], *, env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self._args, self._env, self._log = list(args), dict(env), log
        self._away_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=name)

    def start(self) -> None:
        self._start()
        self._thread.start()

    def stop(self) -> None:
        """End it by SIGTERM, or by SIGKILL where that takes too long."""
        self._stopping.set()
        assert self._process is not None
        self._process.terminate()
        self._thread.join(STOP_S)
        self._kill_group()
        self._thread.join()

    def end(self, *, gently: bool = False, child: bool = False, away_s: float = 0.0) -> bool:
        """End the process, or its first child, by SIGKILL or gently by SIGTERM; False where there is none now.

        It is started again after `away_s` seconds, as a machine is that comes back.
        """
        assert self._process is not None
        try:
            process = psutil.Process(self._process.pid)
            victim = next(iter(process.children()), None) if child else process
            if victim is None or victim.status() == psutil.STATUS_ZOMBIE:
                return False
            self._away_s = away_s
            victim.send_signal(signal.SIGTERM if gently else signal.SIGKILL)
        except psutil.NoSuchProcess:
            return False
        return True

    @property
    def is_away(self) -> bool:
        """Whether it was killed and is not to be started again yet."""
        return self._away_s > 0

    def _start(self) -> None:
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                self._args,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self._env,
                cwd=ROOT,
                start_new_session=True,
            )

    def _keep(self) -> None:
        while True:
            assert self._process is not None
            began = time.monotonic()
            self._process.wait()
            self._kill_group()
            pause_s = max(self._away_s, SHORT_S if time.monotonic() - began < SHORT_S else 0.0)
            if self._stopping.wait(pause_s):
                return
            self._away_s = 0.0
            self._start()

    def _kill_group(self) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Everything that runs, and where it is reached."""

    folder: Path
    valkey: services.RedisServer
    s3: services.S3Endpoint
    url: str
    web: Kept
    #: node -> process
    couriers: Mapping[str, Kept] = field(default_factory=dict)
    workers: Mapping[str, Kept] = field(default_factory=dict)

    @property
    def bucket(self) -> Path:
        """The folder that holds the objects."""
        return self.s3.data_dir / self.s3.bucket

    @property
    def spooled(self) -> list[Path]:
        """The results that wait on workers' disks for the store."""
        return list((self.folder / "data" / "spool").glob("*/[0-9]*"))

    def is_ready(self) -> bool:
        """Whether the API says that it is."""
        with suppress(requests.RequestException):
            return requests.get(f"{self.url}/readyz", timeout=5).ok
        return False

    def logs(self, characters: int = 3000) -> str:
        return "\n".join(
            f"--- {p.name}\n{p.read_text(errors='replace')[-characters:]}" for p in sorted(self.folder.glob("*.log"))
        )


@contextmanager
def deployed(folder: Path, *, workers: int = 3, couriers: int = 2, stub: bool = True) -> Iterator[Deployment]:
    """Run Valkey with AOF, an S3 store, the API, couriers and workers; all end with the block."""
    with ExitStack() as stack:
        valkey = stack.enter_context(services.valkey(aof=True, data_dir=_folder(folder, "valkey")))
        s3 = stack.enter_context(services.s3())
        port = services.free_port()
        env = {
            **{
                name: value for name, value in os.environ.items() if not name.startswith(("REDIS_", "S3_", "DARKROOM_"))
            },
            **s3.environment,
            "REDIS_URL": valkey.url,
            "DARKROOM_DATA_DIR": str(_folder(folder, "data")),
            "HOST": services.HOST,
            "PORT": str(port),
            "OUTBOUND_ALLOW": "127.0.0.0/8",
            "DEVICE": "cpu",
            # As short as it may be: what a killed process had not acknowledged is read again after this.
            "VISIBILITY_TIMEOUT_S": "120",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }

        def keep(name: str, *args: str) -> Kept:
            kept = Kept(name, [sys.executable, "-m", *args], env=env, log=folder / f"{name}.log")
            kept.start()
            stack.callback(kept.stop)
            return kept

        web = keep("web", "gunicorn", "-c", "deploy/gunicorn.conf.py", "api.wsgi:app")

        def nodes(kind: str, count: int, module: str, *options: str) -> dict[str, Kept]:
            args = ("celery", "--quiet", "-A", module, "worker", *QUIET, *options, "-n")
            names = [f"{kind}{number}" for number in range(1, count + 1)]
            return {f"{name}@chaos": keep(name, *args, f"{name}@chaos") for name in names}

        found = Deployment(
            folder=folder,
            valkey=valkey,
            s3=s3,
            url=f"http://{services.HOST}:{port}",
            web=web,
            couriers=nodes("courier", couriers, "worker.courier_app", "--pool=threads", "--concurrency=16"),
            workers=nodes(
                "worker",
                workers,
                "tests.chaos.stub_worker" if stub else "worker.app",
                "--pool=prefork",
                "--concurrency=1",
            ),
        )
        services.wait_until(found.is_ready, timeout_s=READY_S, what="an API that is ready")
        yield found


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir(parents=True)
    return folder
