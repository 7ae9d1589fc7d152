"""Keeps programs running until told to stop; then stops them in order, within a bound."""

import asyncio
import signal
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from shared.stack.child import Child, ending
from shared.stack.janitor import Janitor
from shared.stack.output import Output
from shared.stack.procfile import Program
from shared.stack.restarts import Restarts

#: Together below the ten seconds that a stop may take.
GRACE_S: Final = 6.5
LAST_GRACE_S: Final = 2.5

T = TypeVar("T")


class Stopping(Exception):
    """The stack has been told to stop. No error: it unwinds what waits."""


class Supervisor:
    """Runs programs. Use inside `async with`, in the main thread."""

    def __init__(
        self,
        *,
        output: Output,
        cwd: Path,
        janitor: Janitor,
        on_change: Callable[[Mapping[str, int]], None] = lambda _: None,
        make_restarts: Callable[[], Restarts] = Restarts,
        grace_s: tuple[float, float] = (GRACE_S, LAST_GRACE_S),
    ) -> None:
        """`on_change` is told program -> process id whenever it changes."""
        self._output = output
        self._cwd = cwd
        self._janitor = janitor
        self._on_change = on_change
        self._make_restarts = make_restarts
        self._grace_s = grace_s
        self._children: dict[str, Child] = {}
        self._keepers: dict[Program, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        #: Why the supervisor stopped on its own account: the program that it gave up, and what happened.
        self.failure: tuple[str, str] | None = None

    async def __aenter__(self) -> Self:
        """Take over the signals."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal, number)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop everything, give the signals back."""
        self._stopping.set()
        for last, grace_s in zip((False, True), self._grace_s, strict=True):
            await self._stop([program for program in self._keepers if program.last is last], grace_s=grace_s)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().remove_signal_handler(number)

    def start(self, program: Program, *, environment: Mapping[str, str]) -> None:
        """Start a program and keep it running."""
        keeper = asyncio.create_task(self._keep(program, environment))
        keeper.add_done_callback(lambda _: self._stopping.set())
        self._keepers[program] = keeper

    def stop(self) -> None:
        """Ask for the end."""
        self._stopping.set()

    async def unless_stopping(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns; `Stopping` where the end is asked for first."""
        task, stop = asyncio.create_task(work), asyncio.create_task(self._stopping.wait())
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if task.done():
            return task.result()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        raise Stopping

    async def _keep(self, program: Program, environment: Mapping[str, str]) -> None:
        restarts = self._make_restarts()
        while not self._stopping.is_set():
            how = await self._run_once(program, environment)
            if self._stopping.is_set():
                return
            wait_s = restarts.died(time.monotonic())
            if wait_s is None:
                self.failure = (program.name, f"{program.name} keeps dying (last: {how}); gave up")
                return
            when = f"in {wait_s:g} s" if wait_s else "now"
            self._output.say(f"{program.name} ended ({how}); starting it again {when}", bad=True)
            await _any_of([self._stopping], within_s=wait_s)

    async def _run_once(self, program: Program, environment: Mapping[str, str]) -> str:
        """Run a program to its end; return how it ended."""

        def on_line(text: str) -> None:
            self._output.line(program.name, text)

        try:
            child = Child(program, environment=environment, cwd=self._cwd, on_line=on_line)
        except OSError as error:
            return str(error)
        self._janitor.note(child.pid, last=program.last)
        self._children[program.name] = child
        self._changed()
        child.reap()  # it may have ended before its SIGCHLD could find it here
        code = await child.exited
        self._janitor.forget(child.pid)
        del self._children[program.name]
        self._changed()
        return ending(code)

    async def _stop(self, programs: Collection[Program], *, grace_s: float) -> None:
        keepers = [self._keepers[program] for program in programs]
        if not keepers:
            return
        for child in self._running(programs):
            child.terminate()
        await _any_of([self._hurry], asyncio.gather(*keepers, return_exceptions=True), within_s=grace_s)
        for child in self._running(programs):
            self._output.say(f"{child.program.name} took too long to stop; killed", bad=True)
            child.kill()
        await asyncio.gather(*keepers)

    def _running(self, programs: Collection[Program]) -> list[Child]:
        return [self._children[program.name] for program in programs if program.name in self._children]

    def _changed(self) -> None:
        self._on_change({name: child.pid for name, child in self._children.items()})

    def _reap(self) -> None:
        for child in list(self._children.values()):
            child.reap()

    def _on_signal(self, number: int) -> None:
        if self._stopping.is_set():
            self._hurry.set()
            return
        self._output.say(f"{signal.Signals(number).name}: stopping (again to stop at once)")
        self._stopping.set()


async def _any_of(events: Collection[asyncio.Event], *others: asyncio.Future[Any], within_s: float) -> None:
    """Wait until an event is set or one of the others is done, at most so long."""
    waiters = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait([*waiters, *others], timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    for waiter in waiters:
        waiter.cancel()
