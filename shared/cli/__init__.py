"""The `darkroom` command: one file per command or group of commands."""

import sys
from typing import Any, Final

import click
import structlog

from shared.cli.accounts import accounts
from shared.cli.api import Unreachable
from shared.cli.batch import batch
from shared.cli.demo import demo
from shared.cli.doctor import doctor
from shared.cli.jobs import jobs
from shared.cli.keys import keys
from shared.cli.models import models
from shared.cli.queue import queue
from shared.cli.submit import submit
from shared.cli.up import up
from shared.cli.webhooks import webhooks
from shared.errors import BacklogUnavailable, DarkroomError

REDIS_IS_AWAY: Final = "Redis cannot be reached: is it up, and is REDIS_URL where it is? `darkroom doctor` tells more"


class Commands(click.Group):
    """Commands whose errors are shown as one line, not as a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; exit status 1 where one of our errors ends it, 3 where Redis is away."""
        try:
            return super().invoke(ctx)
        except BacklogUnavailable as error:
            why = f" ({error.__cause__})" if error.__cause__ else ""
            raise Unreachable(REDIS_IS_AWAY + why) from error
        except DarkroomError as error:
            raise click.ClickException(error.message) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="darkroom", message="Darkroom %(version)s")
def main() -> None:
    """Darkroom: a job queue for Stable Diffusion.

    `darkroom up` runs everything on this machine; the other commands find it by its data directory.
    """
    if not structlog.is_configured():
        # What a command answers is for other programs to read: nothing else may stand in its output.
        structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))


for command in (up, doctor, submit, batch, jobs, accounts, keys, models, demo, queue, webhooks):
    main.add_command(command)
