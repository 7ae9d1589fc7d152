"""gunicorn's own lines, in the form and the place that every other line has."""

from typing import Any

from gunicorn.glogging import Logger  # type: ignore[import-untyped]


class Log(Logger):
    """Leaves to the root logger what gunicorn would write by itself."""

    def setup(self, cfg: Any) -> None:
        """Set levels as gunicorn does, and take its handler away."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
