"""What only a GPU can show. Skipped where there is none."""

import numpy as np
import pytest
import torch

from shared.catalog import Catalog
from shared.settings import Settings
from shared.spec import JobSpec
from worker.engine import Engine
from worker.pipelines import Shot
from worker.pipelines.text_to_image import draw

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
]

SPEC = JobSpec(prompt="a red circle", width=256, height=256, num_inference_steps=8, seed=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), device="cuda")
    return Engine(settings, Catalog.load(settings)).model("demo")[0]


def pixels(model, *seeds):
    shots = [Shot(prompt=SPEC.prompt, negative_prompt="", seed=seed) for seed in seeds]
    return [np.asarray(image).astype(int) for image in draw(model, SPEC, shots, on_step=lambda: None)]


def test_half_precision_is_used(model):
    assert model.fingerprint["dtype"] == "float16"
    assert model.pipeline.unet.dtype == torch.float16


def test_an_equal_batch_gives_equal_pixels(model):
    for first, second in zip(pixels(model, 1, 2, 3), pixels(model, 1, 2, 3), strict=True):
        assert np.array_equal(first, second)


def test_batch_mates_change_no_more_than_rounding(model):
    together = pixels(model, 1, 2, 3, 4)
    for seed, picture in enumerate(together, start=1):
        difference = np.abs(picture - pixels(model, seed)[0])
        assert difference.mean() < 1  # of 255
