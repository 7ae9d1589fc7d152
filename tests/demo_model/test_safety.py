"""The shipped safety checker flags its stand-in concept and leaves the rest alone."""

from random import Random

import numpy as np
import pytest
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker

from tests.demo_model.judge import Picture
from worker.demo_model.architecture import VISION_SIDE
from worker.demo_model.bundle import TRAINED_BUNDLE, is_shipped
from worker.demo_model.training.clip import vision_input
from worker.demo_model.training.safety import is_flagged
from worker.demo_model.world.captions import Scene, sample_flagged, sample_scene
from worker.demo_model.world.draw import draw

pytestmark = pytest.mark.skipif(not is_shipped(), reason="no trained bundle was shipped")


@pytest.fixture(scope="module")
def checker():
    return StableDiffusionSafetyChecker.from_pretrained(TRAINED_BUNDLE / "safety_checker").float()


def flags(checker, scenes: list[Scene]) -> list[bool]:
    random = Random(77)
    pictures: list[Picture] = [draw(scene, width=VISION_SIDE, height=VISION_SIDE, random=random) for scene in scenes]
    stacked = np.stack(pictures)
    _, flagged = checker(vision_input(stacked), list(stacked))
    return flagged


def test_mushrooms_are_flagged(checker):
    random = Random(1)

    assert np.mean(flags(checker, [sample_flagged(random) for _ in range(60)])) >= 0.9


def test_other_pictures_are_not(checker):
    random = Random(2)
    scenes = [scene for scene in (sample_scene(random) for _ in range(120)) if not is_flagged(scene)]

    assert np.mean(flags(checker, scenes)) <= 0.03


def test_a_flagged_picture_comes_back_black(checker):
    picture = draw(sample_flagged(Random(4)), width=VISION_SIDE, height=VISION_SIDE, random=Random(4))

    (checked,), (flagged,) = checker(vision_input(picture[None]), [picture.copy()])

    assert not flagged or not checked.any()
