"""A thread that makes rounds: does what is due, waits, and does so again until it is told to stop."""

import threading
from abc import ABC, abstractmethod


class Rounds(ABC):
    """What makes such rounds says in `_turn` what is due. It is daemonic: a process need not wait for it."""

    def __init__(self, name: str, *, first_s: float) -> None:
        """`name` is the thread's; the first round begins after `first_s` seconds."""
        self._first_s = first_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Stop, and wait for a round under way."""
        self._stopping.set()
        self._thread.join(timeout_s)

    @abstractmethod
    def _turn(self) -> float:
        """Do what is due; return the seconds until the next round. Must not raise: that would end the thread."""

    def _run(self) -> None:
        pause_s = self._first_s
        while not self._stopping.wait(pause_s):
            pause_s = self._turn()
