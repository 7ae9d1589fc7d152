"""Ends what a killed supervisor leaves behind.

A supervisor that dies by kill -9 (or by the out-of-memory killer) can tell its children nothing, and a parent-death
signal (PR_SET_PDEATHSIG) would reach the children but not what these started, such as Celery's pool. So a second,
tiny process knows the children's groups. It reads them from a pipe whose other end the supervisor alone holds; when
that end closes, however it came to it, the janitor stops the groups that are still noted: ask, wait, kill; the
programs marked `last` after the others. After an orderly stop none is noted and it just leaves.

It also holds the data directory's lock, so that nobody starts on the same data before all is over.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Final

GRACE_S: Final = 5.0


class Janitor:
    """The supervisor's end of the pipe."""

    def __init__(self, *, keep_open: Collection[int] = ()) -> None:
        """Start the janitor. It inherits the descriptors in `keep_open`."""
        self._process = subprocess.Popen(  # noqa: S603 - our own file
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=tuple(keep_open),
            start_new_session=True,
        )

    def note(self, pid: int, *, last: bool) -> None:
        """Tell of a child."""
        self._tell({"pid": pid, "last": last})

    def forget(self, pid: int) -> None:
        """Tell of a child's end."""
        self._tell({"pid": pid, "gone": True})

    def close(self) -> None:
        """Let the janitor go, and wait until it has."""
        with suppress(BrokenPipeError):
            self._process.communicate()

    def _tell(self, message: dict[str, object]) -> None:
        assert self._process.stdin is not None  # noqa: S101 - a PIPE
        with suppress(BrokenPipeError):  # somebody killed the janitor: the supervisor still does its part
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()


def clean_up(lines: Iterable[str], *, grace_s: float = GRACE_S) -> None:
    """Follow the supervisor's notes to their end, then stop what is still noted."""
    noted: dict[int, bool] = {}
    for line in lines:
        message = json.loads(line)
        if message.get("gone"):
            noted.pop(message["pid"], None)
        else:
            noted[message["pid"]] = message["last"]
    for last in (False, True):
        _stop([pid for pid, is_last in noted.items() if is_last is last], grace_s=grace_s)


def _stop(pids: Collection[int], *, grace_s: float) -> None:
    with selectors.DefaultSelector() as selector:
        for pid in pids:
            with suppress(ProcessLookupError):
                # Readable once the process has ended, whoever its parent is by now.
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ)
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                selector.unregister(key.fileobj)
                os.close(key.fd)
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # only the pipe's end ends it
    clean_up(sys.stdin)
