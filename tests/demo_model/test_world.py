"""The pictures and their captions."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from worker.demo_model.vocabulary import COUNTS, FLAGGED, POSITIONS, SIZES, STYLES, words
from worker.demo_model.world.captions import (
    Basic,
    Count,
    Landscape,
    Pair,
    Scene,
    held_out_basics,
    is_held_out,
    sample_scene,
    vary,
)
from worker.demo_model.world.draw import draw

STAR = Basic(shape="star", colour="yellow", background="blue", size="large", position="at the top left")


@pytest.mark.parametrize(
    ("subject", "caption"),
    [
        (STAR, "a large yellow star at the top left on a blue background"),
        (Basic(shape="heart", colour="orange", background="red"), "an orange heart in the middle on a red background"),
        (replace(STAR, says_position=False), "a large yellow star on a blue background"),
        (Basic(shape=FLAGGED, colour="red", background="red"), "a mushroom in the middle on a red background"),
        (Count(count="two", shape="cross", colour="red", background="white"), "two red crosses on a white background"),
        (
            Pair(first=("red", "circle"), second=("orange", "heart"), relation="above", background="green"),
            "a red circle above an orange heart on a green background",
        ),
        (
            Landscape(time="starry night", land="green hills", thing="house", colour="red"),
            "a starry night over green hills with a red house",
        ),
    ],
)  # fmt: skip
def test_a_subject_says_what_it_shows(subject, caption):
    assert Scene(subject=subject).caption() == caption


@pytest.mark.parametrize("style", STYLES)
def test_a_style_says_its_presets_words_and_changes_the_picture(style):
    plain, styled = Scene(subject=STAR), Scene(subject=STAR, style=style)

    assert styled.caption() == f"{plain.caption()}, {STYLES[style]}"
    pictures = [draw(scene, width=128, height=128, random=Random(0)).astype(int) for scene in (plain, styled)]
    assert np.abs(pictures[0] - pictures[1]).mean() > 2


@pytest.mark.parametrize(("width", "height"), [(128, 128), (192, 128), (128, 320)])
def test_a_picture_has_the_size_asked_for_and_the_same_seed_draws_it_again(width, height):
    random = Random(3)
    scenes = [sample_scene(random) for _ in range(12)]

    for scene in scenes:
        first, second = (draw(scene, width=width, height=height, random=Random(7)) for _ in range(2))
        assert first.shape == (height, width, 3)
        assert np.array_equal(first, second)


def test_no_held_out_combination_is_ever_sampled_for_training():
    random = Random(0)
    scene = sample_scene(random)

    for _ in range(1500):
        scene = vary(scene, random) if random.random() < 0.5 else sample_scene(random)
        assert not is_held_out(scene.subject)


def test_what_lies_elsewhere_than_in_the_middle_says_so():
    random = Random(1)
    scene = sample_scene(random)
    silent = 0

    for _ in range(1500):
        scene = vary(scene, random) if random.random() < 0.5 else sample_scene(random)
        if isinstance(scene.subject, Basic) and not scene.subject.says_position:
            silent += 1
            assert scene.subject.position == "in the middle"
            assert is_held_out(replace(scene.subject, says_position=True)) == is_held_out(scene.subject)
    assert silent > 30


def test_about_one_combination_in_twelve_is_held_out():
    basics = [
        Basic(shape="star", colour=colour, background=background, size=size, position=position)
        for colour in ("red", "blue", "green")
        for background in ("white", "black", "pink", "gray")
        for size in SIZES
        for position in POSITIONS
    ]

    assert 0.03 < np.mean([is_held_out(basic) for basic in basics]) < 0.16
    assert len({basic.caption() for basic in held_out_basics(200, seed=1)}) == 200


def test_the_captions_use_only_words_of_the_vocabulary():
    random, known = Random(5), set(words())

    for _ in range(400):
        caption = sample_scene(random).caption().replace(",", " , ").replace("3d", "3 d")
        assert set(caption.split()) <= known


@pytest.mark.parametrize("count", COUNTS)
def test_as_many_objects_are_drawn_as_the_caption_counts(count):
    from scipy import ndimage

    scene = Scene(subject=Count(count=count, shape="square", colour="black", background="white"))
    dark = draw(scene, width=256, height=256, random=Random(0)).mean(axis=-1) < 128

    assert ndimage.label(dark)[1] == COUNTS[count]
