"""The parent's word to its child that the worker shuts down.

Celery tells the parent alone. A pipe made before the fork carries the word: the child reads its end as soon as the
parent closes the other, and no lock is shared that a killed process could leave locked.
"""

import os
import threading


class GivenUp(Exception):
    """The worker shuts down, or the job was taken away; its lease says what becomes of it."""


class Stopping:
    """Made before the fork; `tell` is the parent's part, `listen` the child's."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._told = False

    def tell(self) -> None:
        """Let every child know, those forked later too. Safe in a signal handler."""
        if not self._told:
            self._told = True
            os.close(self._write)

    def listen(self) -> threading.Event:
        """Return an event that is set once the parent has told, or has died."""
        event = threading.Event()
        if not self._told:
            os.close(self._write)  # the child's copy: the end comes when nobody holds one
            self._told = True

        def wait() -> None:
            os.read(self._read, 1)
            event.set()

        threading.Thread(target=wait, name="stopping", daemon=True).start()
        return event
