"""The whole service, put together: Valkey, the Procfile's programs, their environment, a key to begin with."""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.errors import DarkroomError
from shared.settings import Settings, child_environment
from shared.stack.account import local_account
from shared.stack.folder import Folder, Running
from shared.stack.janitor import Janitor
from shared.stack.output import Output
from shared.stack.ports import is_free, reachable
from shared.stack.procfile import ROOT, Program, read_procfile
from shared.stack.readiness import ready
from shared.stack.supervisor import Stopping, Supervisor
from shared.stack.valkey import Valkey


class PortTaken(DarkroomError):
    """A port is in use."""

    code = "port_taken"


class StackFailed(DarkroomError):
    """A program of the stack could not be kept running."""

    code = "stack_failed"

    def __init__(self, program: str, message: str) -> None:
        self.program = program
        super().__init__(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Where a running stack is reached, and with what."""

    api_url: str
    flower_url: str
    #: "user:password"
    flower_auth: str = field(repr=False)
    #: What opens the API's /metrics.
    metrics_token: str = field(repr=False)
    #: The local account's credentials.
    account: Mapping[str, str] = field(repr=False)


class Stack:
    """The service on one machine."""

    def __init__(
        self,
        settings: Settings,
        folder: Folder,
        *,
        output: Output,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`environment` is set for the programs on top of this process' own."""
        host = reachable(settings.host)
        self._settings = settings
        self._folder = folder
        self._output = output
        self._more = environment or {}
        self._running = Running(
            pid=os.getpid(),
            api_url=f"http://{host}:{settings.port}",
            flower_url=f"http://{host}:{settings.flower_port}",
            redis_url=settings.redis_url,
        )

    async def run(self, *, lock: int, when_ready: Callable[[Address], Coroutine[Any, Any, None]]) -> None:
        """Start everything, await `when_ready` until it returns or the end is asked for, stop everything.

        `PortTaken` where a port is in use (nothing was started), `StackFailed` where a program cannot be kept
        running. `lock` is the data directory's, for the janitor to hold on to.
        """
        programs = read_procfile()
        self._check_ports()
        janitor = Janitor(keep_open=[lock])
        supervisor = Supervisor(output=self._output, cwd=ROOT, janitor=janitor, on_change=self._on_change)
        try:
            async with supervisor:
                with suppress(Stopping):
                    address = await supervisor.unless_stopping(self._bring_up(supervisor, programs))
                    await supervisor.unless_stopping(when_ready(address))
        finally:
            janitor.close()
            self._folder.withdraw()
        if supervisor.failure:
            raise StackFailed(*supervisor.failure)

    async def _bring_up(self, supervisor: Supervisor, programs: tuple[Program, ...]) -> Address:
        flower_auth = self._settings.flower_basic_auth or f"darkroom:{self._folder.secret('flower_password')}"
        metrics_token = self._settings.metrics_token or self._folder.secret("metrics_token")
        environment = self._environment(FLOWER_BASIC_AUTH=flower_auth, METRICS_TOKEN=metrics_token)
        if not self._settings.redis_url:
            environment["REDIS_URL"] = await self._start_valkey(supervisor, environment)
        account = await asyncio.to_thread(local_account, self._settings, self._folder)
        for program in programs:
            supervisor.start(program, environment=environment)
        await ready(self._running.api_url, tell=self._output.say)
        self._announce(ready=True)
        return Address(
            api_url=self._running.api_url,
            flower_url=self._running.flower_url,
            flower_auth=flower_auth,
            metrics_token=metrics_token,
            account=account,
        )

    async def _start_valkey(self, supervisor: Supervisor, environment: Mapping[str, str]) -> str:
        valkey = Valkey.prepare(self._folder)
        self._settings = self._settings.evolve(redis_url=valkey.url)
        self._running = self._running.evolve(redis_url=valkey.url)
        supervisor.start(valkey.program, environment=environment)
        await valkey.answers()
        return valkey.url

    def _environment(self, **more: str) -> dict[str, str]:
        """Return the programs' environment: this process' own, and what was decided here."""
        decided = {
            "HOST": self._settings.host,
            "PORT": str(self._settings.port),
            "DARKROOM_DATA_DIR": str(self._folder.path),
            "FLOWER_ADDRESS": self._settings.host,
            "FLOWER_PORT": str(self._settings.flower_port),
            "NODE": self._node(),
            "COURIER_THREADS": str(self._settings.courier_threads),
            "PYTHONUNBUFFERED": "1",
        }
        environment = child_environment(**{**self._more, **decided, **more})
        # The programs' commands are found beside this interpreter.
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment.get('PATH', '')}"
        return environment

    def _node(self) -> str:
        """Return the worker's name. On a Redis that others may use as well the port tells this host's stacks apart."""
        node, usual = self._settings.node, Settings().node
        if node != usual or not self._settings.redis_url:
            return node
        name, _, host = node.partition("@")
        return f"{name}-{self._settings.port}@{host}"

    def _check_ports(self) -> None:
        settings = self._settings
        for what, port, option in (
            ("the API", settings.port, "--port"),
            ("Flower", settings.flower_port, "--flower-port"),
        ):
            if not is_free(settings.host, port):
                raise PortTaken(f"port {port} on {settings.host} is in use; give {what} another: {option} N")

    def _on_change(self, processes: Mapping[str, int]) -> None:
        self._announce(processes=processes)

    def _announce(self, **changes: Any) -> None:
        self._running = self._running.evolve(**changes)
        self._folder.announce(self._running)
