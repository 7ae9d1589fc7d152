"""The judge itself: right about pictures that are right, and no better than chance about the rest."""

from random import Random

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tests.demo_model.judge import judge, look, rates
from worker.demo_model.world.captions import Scene, held_out_basics
from worker.demo_model.world.draw import draw

#: One in eleven colours, one in eight shapes, one in nine positions, with room for luck in a small sample.
CHANCE = 0.3


@pytest.fixture(scope="module")
def asked():
    return held_out_basics(40, seed=3)


@pytest.fixture(scope="module")
def pictures(asked):
    return [draw(Scene(subject=basic), width=192, height=192, random=Random(1)) for basic in asked]


def test_it_is_right_about_pictures_that_are_right(asked, pictures):
    shares = rates([judge(picture, basic) for picture, basic in zip(pictures, asked, strict=True)])

    assert shares == {"background": 1, "colour": 1, "shape": 1, "position": 1}


def test_softness_and_noise_do_not_mislead_it(asked, pictures):
    rng = np.random.default_rng(0)
    spoilt = [
        np.clip(gaussian_filter(picture.astype(float), (1.5, 1.5, 0)) + rng.normal(0, 8, picture.shape), 0, 255)
        for picture in pictures
    ]

    shares = rates([judge(picture.astype(np.uint8), basic) for picture, basic in zip(spoilt, asked, strict=True)])

    assert min(shares.values()) >= 0.95


def test_the_wrong_captions_score_near_chance(asked, pictures):
    shares = rates([judge(picture, basic) for picture, basic in zip(pictures, asked[1:] + asked[:1], strict=True)])

    assert max(shares.values()) <= CHANCE


@pytest.mark.parametrize("size", [(128, 128), (128, 256), (320, 160)])
def test_other_sizes_are_judged_as_well(asked, size):
    height, width = size
    verdicts = [
        judge(draw(Scene(subject=basic), width=width, height=height, random=Random(1)), basic) for basic in asked[:12]
    ]

    assert rates(verdicts) == {"background": 1, "colour": 1, "shape": 1, "position": 1}


def test_on_an_empty_picture_nothing_stands_out():
    sight = look(np.full((128, 128, 3), (213, 38, 42), np.uint8))

    assert (sight.background, sight.colour, sight.shape, sight.position) == ("red", None, None, None)


def test_noise_is_no_shape():
    noise = np.random.default_rng(0).integers(0, 255, (128, 128, 3)).astype(np.uint8)

    assert look(noise).shape is None
