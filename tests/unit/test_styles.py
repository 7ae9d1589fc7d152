"""The presets' phrases, which the embedded model must have been taught."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidField
from shared.styles import STYLES, apply, has_phrase, with_phrase
from shared.weighting import WEIGHTINGS, parse
from worker.demo_model import vocabulary

TEXTS = st.text(st.sampled_from("photo ,\t(smooth)"), max_size=30) | st.text(max_size=30)


def test_the_embedded_model_was_taught_these_phrases():
    assert {name: style.prompt for name, style in STYLES.items()} == vocabulary.STYLES
    assert {style.negative_prompt for style in STYLES.values()} == set(vocabulary.STYLE_NEGATIVES)
    assert len(STYLES) == 17


def test_a_preset_adds_its_phrases_at_the_ends():
    assert apply("origami", "a red boat", "blue") == (
        "a red boat, folded paper, creases",
        "blue, smooth, glossy",
    )


@pytest.mark.parametrize(("given_text", "expected"), [
    ("", "photo"), (" ,", "photo"), ("a, ", "a, photo"), ("photos", "photos, photo"), ("telephoto", "telephoto, photo"),
    ("a PHOTO of it", "a PHOTO of it"), ("(photo:1.3)", "(photo:1.3)"), ("a , ,\n", "a, photo"),
])  # fmt: skip
def test_a_phrase_is_added_once(given_text, expected):
    assert with_phrase(given_text, "photo") == expected


def test_a_phrase_is_found_in_any_spacing_and_only_whole():
    assert has_phrase("Low\n contrast!", "low contrast")
    assert not has_phrase("low, contrast", "low contrast")
    assert not has_phrase("below contrast", "low contrast")


@pytest.mark.parametrize("preset", STYLES)
@given(prompt=TEXTS, negative=TEXTS)
def test_twice_is_the_same_as_once(preset, prompt, negative):
    once = apply(preset, prompt, negative)
    assert apply(preset, *once) == once
    assert all(has_phrase(text, phrase) for text, phrase in zip(once, phrases(preset), strict=True))


@pytest.mark.parametrize("preset", STYLES)
def test_phrases_mean_the_same_in_every_syntax(preset):
    for phrase in phrases(preset):
        assert [parse(phrase, weighting) for weighting in WEIGHTINGS] == [[(phrase, 1.0)]] * len(WEIGHTINGS)


def test_an_unknown_preset_is_named():
    with pytest.raises(InvalidField, match="'baroque'") as refused:
        apply("baroque", "a", "b")
    assert refused.value.field == "style_preset"


def phrases(preset):
    return STYLES[preset].prompt, STYLES[preset].negative_prompt
