"""What a demo has shown: the webhook's check, the timeline, where everything is."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from standardwebhooks import Webhook, WebhookVerificationError

from shared.cli.receiver import Received
from shared.stack.procfile import ROOT
from shared.stack.stack import Address

#: Without it, seeded random weights of the same architecture stand in.
#: There once the trained weights ship; parts of them may lie beside it before, for training to go on from.
_TRAINED: Final = ROOT / "worker" / "demo_model" / "bundle" / "model_index.json"
_BAR_WIDTH: Final = 40
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    """A demo that went well. `webhook_at` is epoch seconds."""

    job: dict[str, Any]
    set_up_s: float
    webhook_at: float
    picture: Path
    address: Address

    def stages(self) -> dict[str, float]:
        """Return stage -> seconds, in the order in which they happened."""
        timings = self.job["timings"]
        finished = datetime.fromisoformat(self.job["finished_at"]).timestamp()
        return {
            "set-up": self.set_up_s,
            "queued": timings["queued"],
            "generate": timings.get("load", 0.0) + timings["generate"],
            "store": timings.get("encode", 0.0) + timings.get("store", 0.0),
            "webhook": max(0.0, self.webhook_at - finished),
        }


def verify(received: Received, *, secret: str, job: dict[str, Any]) -> dict[str, Any]:
    """Return a webhook's message; refuse one that is not signed with the secret or is not about this job."""
    try:
        message: dict[str, Any] = Webhook(secret).verify(received.body, dict(received.headers))
    except WebhookVerificationError as error:
        raise click.ClickException(f"the webhook's signature does not hold: {error}") from error
    for name in ("uid", "status", "track_id"):
        if message[name] != job[name]:
            raise click.ClickException(f"the webhook's {name} is {message[name]!r}, the job's {job[name]!r}")
    return message


def tell(console: Console, story: Story, *, folder: Path) -> None:
    """Print the timeline, and where everything is."""
    stages = story.stages()
    longest = max(stages.values())
    timeline = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    timeline.add_column(style="bold")
    timeline.add_column(style="cyan", no_wrap=True)
    timeline.add_column(justify="right")
    for name, seconds in stages.items():
        timeline.add_row(name, bar(seconds / longest), f"{seconds:.3f} s")
    places = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    places.add_column(style="bold")
    places.add_column(overflow="fold")
    image = story.job["outputs"][0]
    places.add_row("picture", f"{story.picture} ({image['width']}x{image['height']}, seed {image['seed']})")
    places.add_row("job", f"uid {story.job['uid']}, track_id {story.job['track_id']}")
    places.add_row("data, logs", str(folder))
    for table in (timeline, places):
        console.print()
        console.print(table)
        if table is timeline:
            console.print("[dim]The first job waits until the worker has loaded PyTorch and the model.[/]")
    if not _TRAINED.exists():
        console.print("\n[yellow]The demo model's trained weights are not here; random ones drew noise.[/]")
    console.print("\nEverything is stopped. `make up` runs Darkroom for good.\n", markup=False)


def bar(share: float) -> str:
    """Return a bar for a share of 1, exact to an eighth of a character; never nothing."""
    eighths = max(1, round(share * _BAR_WIDTH * 8))
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
