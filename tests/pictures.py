"""`python -m tests.pictures`: take docs/flower/*.png from a real run: worker, courier, Flower, jobs of every fate."""

import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from PIL import Image

from tests import services
from tests.conftest import need
from tests.deployment import NODE, Deployment

FOLDER: Final = Path(__file__).parents[1] / "docs/flower"
#: Debian's chromium without a GPU, a sandbox (root in a container) or calls home; scripts get five seconds.
FLAGS: Final = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"),
    "--virtual-time-budget=5000",
]
#: A palette is enough for a page, and a quarter of the size.
COLOURS: Final = 128


def work(deployment: Deployment) -> int:
    """Let jobs succeed, fail, be cancelled and run; return the uid of one that runs on."""
    for number, dialect in enumerate(("octoai", "stability", "modelslab")):
        done = deployment.submit(dialect=dialect, track_id=f"order-{number + 1}", seed=number)
        deployment.wait_for(done, "succeeded")
    deployment.wait_for(deployment.submit(track_id="order-4", image="inputs/none/image"), "failed")
    cancelled = deployment.submit(track_id="order-5", width=512, height=512, num_inference_steps=200)
    deployment.wait_for_step(cancelled)
    deployment.backlog.cancel(cancelled, account=deployment.account)
    deployment.row(cancelled, "REVOKED")
    running = deployment.submit(track_id="order-6", width=512, height=512, num_inference_steps=200, num_images=4)
    deployment.row(running, "STARTED")
    deployment.submit(track_id="order-7")
    return running


def take(url: str, name: str, *, height: int, profile: Path) -> None:
    """Take one picture."""
    path = FOLDER / f"{name}.png"
    size = f"--window-size=1500,{height}"
    command = [need("chromium"), *FLAGS, size, f"--user-data-dir={profile}", f"--screenshot={path}", url]
    subprocess.run(command, capture_output=True, timeout=300, check=True)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(COLOURS).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size:,} bytes")


def main() -> None:
    """Take them all."""
    FOLDER.mkdir(exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(services.valkey(aof=True))
        deployment = Deployment(server, folder, stack)
        uid = work(deployment)
        for name, page, height in (
            ("tasks", "/tasks", 680),
            ("task", f"/task/{uid}", 960),
            ("workers", "/workers", 620),
            ("worker", f"/worker/{NODE}", 840),
            ("broker", "/broker", 320),
        ):
            take(deployment.flower_url + page, name, height=height, profile=folder / "profile")
        deployment.backlog.cancel(uid, account=deployment.account)


if __name__ == "__main__":
    main()
