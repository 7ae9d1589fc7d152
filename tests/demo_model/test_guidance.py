"""Why the UNet is trained on captions of which most are wrong: guidance, in the best case there is."""

import pytest
from diffusers import DDIMScheduler, PNDMScheduler

from tests.demo_model.ideal import Ideal, palette
from worker.demo_model.architecture import SCHEDULER_CONFIG
from worker.demo_model.training.unet import EMPTY_SHARE, OFFSET_NOISE, WRONG_SHARE

#: Among the pictures that have a caption.
WRONG = WRONG_SHARE / (1 - EMPTY_SHARE)


def off(*, wrong, guidance, kind=PNDMScheduler, steps=20):
    """How far the colours drawn are from those asked for; two of them are some 2 apart."""
    scheduler = kind.from_config({**SCHEDULER_CONFIG, "_class_name": kind.__name__})
    drawn = Ideal(wrong=wrong, offset=OFFSET_NOISE).draw(scheduler, guidance=guidance, steps=steps)
    return (drawn - palette()).norm(dim=1)


def test_who_trusts_every_caption_is_led_astray_by_the_default_guidance():
    assert off(wrong=0, guidance=7.5).max() > 1


@pytest.mark.parametrize("guidance", [4, 5, 6, 7.5])
def test_who_was_lied_to_is_not(guidance):
    assert off(wrong=WRONG, guidance=guidance).max() < 0.3


def test_nor_by_the_strongest_default_of_the_hosted_apis():
    assert off(wrong=WRONG, guidance=12, kind=DDIMScheduler).max() < 0.3


def test_more_guidance_is_more_of_what_was_asked_for():
    distances = [float(off(wrong=WRONG, guidance=guidance).mean()) for guidance in (1, 2, 3)]

    assert distances == sorted(distances, reverse=True)
    assert distances[0] > 0.3
    assert distances[-1] < 0.1
