"""One running program: its process group, its output line by line, its end.

A child leads a session of its own, so that Ctrl-C in the terminal reaches the supervisor alone and that the child
and whatever it started can be killed as one. The supervisor does not use asyncio's own subprocesses: these take a
process for alive as long as any descendant holds its output open, and a Celery parent's pool outlives it.
"""

import asyncio
import codecs
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from shared.stack.procfile import Program

_CHUNK_BYTES: Final = 65536
#: A line longer than this is shown in pieces.
_LINE_CHARS: Final = 16384


class Child:
    """A running program. Must be made inside a running event loop, in the main thread."""

    def __init__(
        self, program: Program, *, environment: Mapping[str, str], cwd: Path, on_line: Callable[[str], None]
    ) -> None:
        """Start it. An OSError means that it could not be."""
        self.program = program
        self._on_line = on_line
        self._text = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._pending = ""
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self._process = subprocess.Popen(  # noqa: S603 - the Procfile's commands are ours
            program.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=cwd,
            start_new_session=True,
        )
        assert self._process.stdout is not None  # noqa: S101 - by the PIPE above
        self._output = self._process.stdout
        os.set_blocking(self._output.fileno(), False)
        self._loop.add_reader(self._output.fileno(), self._read)

    @property
    def pid(self) -> int:
        """The process' id, which is its group's too."""
        return self._process.pid

    def reap(self) -> None:
        """Look whether it has ended; if so kill what is left of its group and set `exited`. Call on SIGCHLD."""
        code = self._process.poll()
        if code is None or self.exited.done():
            return
        self.kill()
        while self._read():
            pass
        self._close()
        self.exited.set_result(code)

    def terminate(self) -> None:
        """Ask the program to end; its descendants are its own to tell."""
        with suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """Kill the whole group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _read(self) -> bool:
        """Pass on what it has written; return whether there may be more."""
        if self._output.closed:
            return False
        try:
            data = os.read(self._output.fileno(), _CHUNK_BYTES)
        except BlockingIOError:
            return False
        *lines, self._pending = (self._pending + self._text.decode(data, final=not data)).split("\n")
        if self._pending and (not data or len(self._pending) > _LINE_CHARS):
            lines.append(self._pending)
            self._pending = ""
        for line in lines:
            # Of a progress bar, that writes over itself, the last state.
            self._on_line(line.rstrip("\r").rpartition("\r")[2])
        if not data:
            self._close()
        return bool(data)

    def _close(self) -> None:
        if not self._output.closed:
            self._loop.remove_reader(self._output.fileno())
            self._output.close()
            if self._pending:
                self._on_line(self._pending)
                self._pending = ""


def ending(code: int) -> str:
    """Return an exit status in words."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
