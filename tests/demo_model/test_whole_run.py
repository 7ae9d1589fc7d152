"""Every stage of the trainer once, in miniature: from a bundle of random weights to a bundle that draws."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.demo_model.drawing import draw_prompts, load
from worker.demo_model import bundle as bundles
from worker.demo_model import train
from worker.demo_model.architecture import build_unet
from worker.demo_model.training import clip, controlnet, latents, loras, restyled, safety, samples, whitening
from worker.demo_model.training.controlnet import Steered, build_controlnet

STAGES = ("latents", "text", "unet", "clip", "checkpoint", "loras", "controlnet", "export")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The work directory after a run of one step a stage, and the bundle."""
    folder = tmp_path_factory.mktemp("run")
    start = bundles.build_random_bundle(folder / "start")
    (start / bundles.MODEL_CARD).write_text(json.dumps({"steps": dict.fromkeys(("vae", "text", "clip", "unet"), 0)}))
    with pytest.MonkeyPatch.context() as patch:
        bucket = latents.Bucket(width=128, height=128, pictures=12, batch=4, early=1, late=1)
        patch.setattr(latents, "BUCKETS", (bucket,))
        patch.setattr(loras, "_SETS", ((64, 4, 2), (128, 2, 2)))
        patch.setattr(restyled, "_CAPTIONS", 8)
        patch.setattr(controlnet, "_SIDE", 64)
        patch.setattr(controlnet, "_PICTURES", 4)
        patch.setattr(controlnet, "_BATCH", 2)
        patch.setattr(safety, "_PICTURES", {True: 40, False: 40})
        patch.setattr(safety, "_HELD_BACK", 10)
        patch.setattr(safety, "_STEPS", 40)
        patch.setattr(samples, "_SIDE", 64)
        patch.setattr(samples, "_STEPS", 2)
        patch.setattr(clip, "_FAMILIES_PER_BATCH", 4)
        patch.setattr(whitening, "_CAPTIONS", 32)
        patch.setattr(
            "sys.argv",
            ["train", "--work-dir", str(folder), "--from", str(start), "--steps", "1", "--to", str(folder / "made"),
             *STAGES],
        )  # fmt: skip
        train.main()
    return folder


def test_the_bundle_draws(made):
    (picture,) = draw_prompts(load(made / "made"), ["a red circle"], width=64, height=64, steps=2)

    assert picture.shape == (64, 64, 3)


def test_its_card_says_how_long_each_part_was_trained(made):
    card = json.loads((made / "made" / bundles.MODEL_CARD).read_text())

    assert card["steps"] == {"vae": 0, "text": 1, "unet": 1, "clip": 1, "decoder": 0}


def test_there_is_a_sheet_of_samples(made):
    with Image.open(made / "unet.png") as sheet:
        assert sheet.size == (8 * 64, 3 * 64)


def test_every_sample_asset_is_where_the_catalog_looks(made):
    assets = made / "made" / "assets"
    files = {str(path.relative_to(assets)) for path in assets.rglob("*.safetensors")}

    assert files == {
        "checkpoints/3d-model/text_encoder/model.safetensors",
        "controlnets/canny/diffusion_pytorch_model.safetensors",
        "loras/anime.safetensors",
        "loras/comic-book.safetensors",
        "textual_inversions/neon.safetensors",
        "vaes/contrast/diffusion_pytorch_model.safetensors",
    }


def test_the_whole_bundle_stays_small(made):
    assert sum(path.stat().st_size for path in (made / "made").rglob("*")) <= 40e6


def test_everyone_may_read_the_weights(made):
    assert {path.stat().st_mode & 0o777 for path in (made / "made").rglob("*.safetensors")} == {0o644}


def test_an_untrained_controlnet_changes_nothing():
    torch.manual_seed(0)
    unet = build_unet().eval()
    request = (torch.randn(1, 4, 8, 8), torch.tensor([500]), torch.randn(1, 77, 128))

    steered = Steered(unet, build_controlnet(unet).eval())(*request, torch.rand(1, 3, 64, 64)).sample

    assert np.allclose(steered.detach(), unet(*request).sample.detach(), atol=1e-5)
