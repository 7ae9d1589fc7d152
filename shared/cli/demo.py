"""`darkroom demo`: one prompt through the whole service, from the first process to a verified webhook."""

import asyncio
import time
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import Progress, TaskID

from shared.cli.api import Api
from shared.cli.progress import follow, progress_bar
from shared.cli.receiver import Receiver
from shared.cli.story import Story, tell, verify
from shared.settings import VARIABLES, Settings
from shared.stack.folder import Folder
from shared.stack.output import Output
from shared.stack.ports import free_port
from shared.stack.stack import Address, Stack, StackFailed

PROMPT: Final = "a large red circle on a blue background"
_WEBHOOK_TIMEOUT_S: Final = 30.0
#: Settings of the caller's that a demo follows; of the others it has its own.
_FOLLOWED: Final = frozenset({"DEVICE", "LOG_LEVEL"})


@click.command()
@click.option("--prompt", default=PROMPT, show_default=True, help="What to draw.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("demo.png"),
    show_default=True,
    help="Where to save the picture.",
)
def demo(*, prompt: str, output: Path) -> None:
    """Show the whole way of one job, then stop everything.

    Starts a stack of its own on free ports, submits PROMPT with a webhook, follows it, checks the webhook's
    signature, saves the picture.
    """
    folder = Folder(Settings.from_env().data_dir / "demo")
    console = Console(highlight=False)
    console.print(f"\n[bold]Darkroom[/] draws “{prompt}”\n")
    with folder.locked() as lock:
        folder.wipe()
        with progress_bar(console) as progress, Receiver() as receiver:
            play = _Play(progress, receiver, prompt=prompt, output=output, logs=folder.logs)
            _run(play, folder, lock=lock)
    if play.story is None:
        raise click.Abort
    tell(console, play.story, folder=folder.path)


def _run(play: "_Play", folder: Folder, *, lock: int) -> None:
    settings = Settings(data_dir=folder.path, port=free_port(), flower_port=free_port())
    output = _Spinner(folder.logs, play)
    stack = Stack(settings, folder, output=output, environment=_environment())
    try:
        asyncio.run(stack.run(lock=lock, when_ready=play.perform))
    except StackFailed as failure:
        last = "\n".join(output.tail(failure.program))
        raise click.ClickException(f"{failure.message}. The end of its log:\n{last}") from failure
    finally:
        output.close()


def _environment() -> dict[str, str]:
    """Return what sets the demo's stack apart: no setting of the caller's, and webhooks to this machine allowed."""
    unset = {variable: "" for variable, _ in VARIABLES.values() if variable not in _FOLLOWED}
    return {**unset, "OUTBOUND_ALLOW": "127.0.0.0/8"}


class _Play:
    """What happens once the stack is up."""

    def __init__(self, progress: Progress, receiver: Receiver, *, prompt: str, output: Path, logs: Path) -> None:
        self._progress = progress
        self._receiver = receiver
        self._prompt = prompt
        self._output = output
        self._logs = logs
        self._started = time.monotonic()
        self._set_up = self._begin("set-up", detail="starting")
        self.story: Story | None = None

    def set_up_says(self, text: str) -> None:
        """Show what the start waits for."""
        self._progress.update(self._set_up, detail=text)

    async def perform(self, address: Address) -> None:
        """Do it, in a thread that ends early when the stack is stopped."""
        set_up_s = time.monotonic() - self._started
        self._done(self._set_up, detail="API, worker, courier, Flower, Valkey")
        with Api(address.api_url, address.account["key"]) as api:
            try:
                self.story = await asyncio.to_thread(self._perform, api, address, set_up_s)
            finally:
                self._receiver.cancel()

    def _perform(self, api: Api, address: Address, set_up_s: float) -> Story:
        track_id = f"demo-{time.time_ns() // 1_000_000}"
        accepted = api.submit({"prompt": self._prompt, "webhook_url": self._receiver.url, "track_id": track_id})
        job = follow(api, accepted["uid"], self._progress)
        if job["status"] != "succeeded":
            why = (job["error"] or {}).get("message", "")
            raise click.ClickException(f"the job {job['status']}: {why} The logs are in {self._logs}.")
        webhook = self._begin("webhook", detail="waiting for it")
        received = self._receiver.wait(_WEBHOOK_TIMEOUT_S)
        if received is None:
            raise click.ClickException(f"no webhook came within {_WEBHOOK_TIMEOUT_S:.0f} s")
        message = verify(received, secret=address.account["webhook_secret"], job=job)
        self._done(webhook, detail="signature verified, track_id came back")
        self._save(api, message)
        return Story(job=job, set_up_s=set_up_s, webhook_at=received.at, picture=self._output, address=address)

    def _save(self, api: Api, message: dict[str, Any]) -> None:
        """Save the picture from the link that the webhook brought."""
        self._output.write_bytes(api.fetch(message["outputs"][0]["url"]))

    def _begin(self, name: str, *, detail: str) -> TaskID:
        return self._progress.add_task(f"{name:<10}", total=None, detail=detail)

    def _done(self, task: TaskID, *, detail: str) -> None:
        self._progress.update(task, total=1, completed=1, detail=detail)
        self._progress.stop_task(task)


class _Spinner(Output):
    """Output that shows the supervisor's words beside the spinner; the programs' own go to their logs."""

    def __init__(self, logs: Path, play: _Play) -> None:
        super().__init__(logs, show_programs=False)
        self._play = play

    def say(self, text: str, *, bad: bool = False) -> None:
        """Show it."""
        del bad
        self._play.set_up_says(text)
