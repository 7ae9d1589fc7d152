"""aithriving's golden files, and its documents' own programs as they are printed there, against a server."""

import base64
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from shared.dialects.aithriving import DIALECT
from tests.apibench import png
from tests.dialects import gold, rig

FOLDER = Path(__file__).parent / "golden" / "aithriving"
GOLDEN = sorted(FOLDER.glob("*.json"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden(path):
    gold.check(DIALECT, path)


def run(example, *, address, key, folder, missing_import=""):
    """Run a document's program in a folder, with nothing but address and key replaced, and the import that it lacks."""
    program = missing_import + (FOLDER / example).read_text()
    assert program.count("https://www.aithriving.com") == program.count("your-auth-token") == 1
    program = program.replace("https://www.aithriving.com", address).replace("your-auth-token", key)
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("", "")
    return (folder / "result.png").read_bytes()


def test_the_documented_text_to_image(bench, worker, tmp_path):
    with rig.listening(bench) as address:
        saved = run("seed_text_to_image.txt", address=address, key=bench.credentials.key, folder=tmp_path)

    # The program saves base64 under a picture's name.
    with Image.open(io.BytesIO(base64.b64decode(saved, validate=True))) as picture:
        assert (picture.format, picture.size) == ("PNG", (1024, 1024))
    (spec,) = worker.specs
    assert (spec.prompt, spec.num_inference_steps, spec.guidance_scale) == ("A lighthouse on a cliff", 20, 7)


def test_the_documented_image_to_image(bench, worker, tmp_path):
    (tmp_path / "init_image.png").write_bytes(png("black", size=(500, 380)))
    with rig.listening(bench) as address:
        saved = run(
            "seed_image_to_image.txt",
            address=address,
            key=bench.credentials.key,
            folder=tmp_path,
            missing_import="import base64\n",
        )

    with Image.open(io.BytesIO(saved)) as picture:
        assert (picture.format, picture.size) == ("PNG", (512, 384))
    (spec,) = worker.specs
    assert (spec.task, spec.prompt, spec.strength) == ("image_to_image", "black hair", 0.65)
