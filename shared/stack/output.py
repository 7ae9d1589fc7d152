"""What people see of the stack, and the log files of its programs."""

import logging
import os
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

import click

#: The supervisor's own lines bear this name.
SELF: Final = "darkroom"
_COLOURS: Final = ("cyan", "yellow", "green", "magenta", "blue", "bright_cyan", "bright_yellow")
_LOG_BYTES: Final = 5 * 1024 * 1024
_LOG_BACKUPS: Final = 2


class Output:
    """Prints prefixed lines and writes each program's to `logs/NAME.log`."""

    def __init__(self, logs: Path, *, show_programs: bool = True) -> None:
        self._logs = logs
        self._show_programs = show_programs
        self._handlers: dict[str, RotatingFileHandler] = {}

    def line(self, name: str, text: str) -> None:
        """Take a line that a program has written."""
        self._log(name, text)
        if self._show_programs and text.strip():
            self._print(name, text, colour=_COLOURS[list(self._handlers).index(name) % len(_COLOURS)])

    def say(self, text: str, *, bad: bool = False) -> None:
        """Tell something of the supervisor's own."""
        if self._show_programs or bad:
            self._print(SELF, text, colour="red" if bad else "white", bold=True)

    def show(self, text: str = "") -> None:
        """Print text as it is."""
        try:
            click.echo(text)
        except BrokenPipeError:  # nobody listens any more; the stack runs on
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)

    def tail(self, name: str, *, lines: int = 15) -> list[str]:
        """Return the last lines of a program's log."""
        path = self._logs / f"{name}.log"
        return path.read_text(encoding="utf-8").splitlines()[-lines:] if path.exists() else []

    def close(self) -> None:
        """Close the log files."""
        for handler in self._handlers.values():
            handler.close()

    def _print(self, name: str, text: str, *, colour: str, bold: bool = False) -> None:
        prefix = click.style(f"{name:<8} │ ", fg=colour, bold=bold)
        self.show(prefix + text)

    def _log(self, name: str, text: str) -> None:
        handler = self._handlers.get(name)
        if handler is None:
            handler = RotatingFileHandler(
                self._logs / f"{name}.log", maxBytes=_LOG_BYTES, backupCount=_LOG_BACKUPS, encoding="utf-8"
            )
            self._handlers[name] = handler
        handler.emit(logging.makeLogRecord({"msg": "%s", "args": (text,)}))
