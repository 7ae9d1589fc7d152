"""What enhancement adds, what it leaves alone, and that the embedded model understands it."""

from hypothesis import given
from hypothesis import strategies as st

from shared.enhance import PAIRS, enhance
from shared.styles import has_phrase
from shared.weighting import WEIGHTINGS, parse
from worker.demo_model import vocabulary

#: Texts that often have a phrase already, or nearly.
PIECES = st.sampled_from(
    [word for pair in PAIRS for word in pair] + ["low", "high", "a cat", ",", "(", ":1.2)", "Crisp"]
)
TEXTS = st.lists(PIECES, max_size=6).map(" ".join) | st.text(max_size=30)


def test_both_prompts_are_enriched():
    assert enhance("a red circle", "") == (
        "a red circle, crisp, high contrast, fine detail",
        "blurry, low contrast, dull",
    )
    assert enhance("a red circle, ", "blue") == (
        "a red circle, crisp, high contrast, fine detail",
        "blue, blurry, low contrast, dull",
    )


def test_what_is_there_is_not_added_again():
    assert enhance("a (Crisp:1.3) circle, fine detail", "low contrast") == (
        "a (Crisp:1.3) circle, fine detail, high contrast",
        "low contrast, blurry, dull",
    )


def test_who_asks_for_the_opposite_gets_it():
    assert enhance("a blurry circle", "high contrast") == (
        "a blurry circle, fine detail",
        "high contrast, dull",
    )


@given(TEXTS, TEXTS)
def test_twice_is_the_same_as_once(prompt, negative):
    once = enhance(prompt, negative)
    assert enhance(*once) == once


@given(TEXTS, TEXTS)
def test_a_prompt_never_has_what_its_enrichment_forbids(prompt, negative):
    enhanced, enhanced_negative = enhance(prompt, negative)
    for quality, opposite in PAIRS:
        contradicted = has_phrase(prompt, opposite) or has_phrase(negative, quality)
        assert contradicted or (has_phrase(enhanced, quality) and has_phrase(enhanced_negative, opposite))
        assert has_phrase(enhanced, opposite) == has_phrase(prompt, opposite)
        assert has_phrase(enhanced_negative, quality) == has_phrase(negative, quality)


def test_the_embedded_model_knows_every_word():
    known = set(vocabulary.words())
    assert {word for pair in PAIRS for phrase in pair for word in phrase.split()} <= known


def test_phrases_mean_the_same_in_every_syntax():
    for phrase in (phrase for pair in PAIRS for phrase in pair):
        assert all(parse(phrase, weighting) == [(phrase, 1.0)] for weighting in WEIGHTINGS)
