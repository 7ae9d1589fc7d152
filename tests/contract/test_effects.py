"""What turning a parameter does to the picture, in the direction that its documentation says, on the embedded model.

Its other parameters have tests of their own; docs/parameters.md names the test of each.
"""

import numpy as np
import pytest
import torch
from PIL import Image

from shared.catalog import Catalog
from shared.settings import Settings
from shared.spec import JobSpec
from worker.engine import Engine
from worker.pipelines import Shot
from worker.pipelines.tasks import DRAW

#: diffusers' own ways with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")

SPEC = JobSpec(prompt="a red circle", width=64, height=64, num_inference_steps=4, scheduler="DDIMScheduler")
WITH_IMAGE = SPEC.evolve(image="inputs/a.png", num_inference_steps=10, guidance_scale=1)
IMAGE = Image.merge("RGB", [Image.linear_gradient("L"), Image.radial_gradient("L"), Image.linear_gradient("L")])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.set_num_threads(1)  # small pictures on a busy machine: threads would wait for each other
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), device="cpu")
    return Engine(settings, Catalog.load(settings)).model("demo")[0]


@pytest.fixture
def draw(model):
    def drawn(spec=SPEC, *, negative="", seed=7, image=None):
        shot = Shot(prompt=spec.prompt, negative_prompt=negative, seed=seed, image=image)
        (picture,) = DRAW[spec.task](model, spec, [shot], on_step=lambda: None)
        return np.asarray(picture).astype(int)

    return drawn


def apart(one, other):
    return np.abs(one - other).mean()


def test_every_word_of_a_prompt_counts(draw):
    pictures = [draw(SPEC.evolve(prompt=f"a {word} circle")) for word in ("red", "blue", "large")]

    assert len({picture.tobytes() for picture in pictures}) == 3


def test_a_negative_prompt_leads_away_from_what_it_says(draw):
    """Away from the very prompt, guidance leads nowhere; away from something else, elsewhere than from nothing."""
    unguided, usual = draw(SPEC.evolve(guidance_scale=1)), draw()

    assert np.abs(draw(negative=SPEC.prompt) - unguided).max() <= 1
    assert apart(draw(negative="blue"), usual) > 0.1
    assert apart(usual, unguided) > 0.1


def test_more_guidance_leads_further_from_none(draw):
    unguided = draw(SPEC.evolve(guidance_scale=1))
    distances = [apart(draw(SPEC.evolve(guidance_scale=scale)), unguided) for scale in (1.5, 4, 12)]

    assert distances == sorted(distances)
    assert distances[-1] > 2 * distances[0]


def test_more_steps_come_nearer_to_what_many_would_draw(draw):
    pictures = [draw(SPEC.evolve(num_inference_steps=steps, guidance_scale=1)) for steps in (2, 4, 16)]
    distances = [apart(picture, pictures[-1]) for picture in pictures]

    assert distances == sorted(distances, reverse=True)


@pytest.mark.parametrize(("width", "height"), [(64, 128), (128, 64)])
def test_a_picture_has_the_size_asked_for(draw, width, height):
    assert draw(SPEC.evolve(width=width, height=height, num_inference_steps=1)).shape == (height, width, 3)


def test_another_seed_draws_another_picture_and_the_same_one_the_same(draw):
    first, second, other = draw(seed=1), draw(seed=1), draw(seed=2)

    assert np.array_equal(first, second)
    assert apart(first, other) > 0.1


def test_a_picture_changes_more_the_stronger_it_is_changed(draw):
    """From what the autoencoder makes of the image, which a picture of almost no strength is."""
    start = IMAGE.resize((64, 64))
    pictures = [draw(WITH_IMAGE.evolve(strength=strength), image=start) for strength in (0.1, 0.4, 0.7, 1)]
    distances = [apart(picture, pictures[0]) for picture in pictures]

    assert distances == sorted(distances)
    assert distances[1] > 0


def test_another_image_gives_another_picture(draw):
    spec = WITH_IMAGE.evolve(strength=0.3)
    start = IMAGE.resize((64, 64))

    assert apart(draw(spec, image=start), draw(spec, image=start.transpose(Image.Transpose.ROTATE_180))) > 1
