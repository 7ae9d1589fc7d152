"""Each word of the world is one token; every other word still encodes."""

import pytest

from worker.demo_model.tokenizer import MAX_TOKENS, build_tokenizer, merge_table, vocabulary_size
from worker.demo_model.vocabulary import STYLES, words


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return build_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def test_each_word_of_the_world_is_one_token(tokenizer):
    split = [word for word in words() if len(tokenizer(word).input_ids) != 3]

    assert split == []


def test_every_style_phrase_fits_beside_a_caption(tokenizer):
    caption = "a small striped purple triangle at the bottom right on an orange background, "

    assert all(len(tokenizer(caption + phrase).input_ids) <= MAX_TOKENS for phrase in STYLES.values())


@pytest.mark.parametrize("text", ["xylophone", "Ünïcödé", "日本語", "🙂", "don't", "4k"])
def test_a_word_from_elsewhere_splits_into_pieces_and_comes_back(tokenizer, text):
    ids = tokenizer(text).input_ids

    assert len(ids) > 3
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.lower()


def test_padding_repeats_the_end_token_as_sd_does(tokenizer):
    ids = tokenizer("a red circle", padding="max_length", max_length=MAX_TOKENS).input_ids

    assert ids[0] == vocabulary_size() - 2
    assert set(ids[4:]) == {vocabulary_size() - 1}


def test_the_table_does_not_depend_on_what_was_built_before():
    assert merge_table(words()) == merge_table(words())
