"""Prompts to embeddings, on the random bundle: against diffusers, and each option's own effect."""

import itertools
import time

import diffusers
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import InvalidField, PromptTooLong
from shared.weighting import without_syntax
from worker.demo_model.bundle import build_random_bundle
from worker.prompt import Encoder

LONG = "a red circle to the left of a blue square, " * 12
PROMPTS = ["", " ", "a red circle", "a red circle, " * 15, "circle " * 75, "Ünïcödé 日本語 4k (don't)", "((( [:"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    torch.set_num_threads(1)  # small tensors on a busy machine: threads would wait for each other
    return build_random_bundle(tmp_path_factory.mktemp("models") / "bundle")


def load(bundle, dtype=torch.float32):
    nothing = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return diffusers.StableDiffusionPipeline.from_pretrained(bundle, dtype=dtype, **nothing)


@pytest.fixture(scope="module")
def pipeline(bundle):
    return load(bundle)


@pytest.fixture(scope="module")
def encoder(pipeline):
    return Encoder(pipeline.tokenizer, pipeline.text_encoder)


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.inference_mode():
        yield


def encode(encoder, prompt, **options):
    return encoder.encode(prompt, "", **options).positive


def distance(one, other):
    return float((one - other).norm())


@pytest.mark.parametrize("weighting", ["none", "octoai", "a1111"])
@pytest.mark.parametrize("prompt", PROMPTS[:5])
def test_a_prompt_without_brackets_is_encoded_as_diffusers_does(pipeline, encoder, prompt, weighting):
    expected, negative = pipeline.encode_prompt(prompt, "cpu", 1, True, "blue")
    ours = encoder.encode(prompt, "blue", weighting=weighting, clip_skip=0)

    assert torch.equal(ours.positive, expected)
    assert torch.equal(ours.negative, negative)


@pytest.mark.parametrize("prompt", [*PROMPTS, LONG])
def test_without_weighting_tokens_are_the_tokenizers(pipeline, encoder, prompt):
    expected = pipeline.tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids
    chunks = encoder.chunks(prompt)

    assert [token for chunk in chunks for token, _ in chunk] == expected
    assert {weight for chunk in chunks for _, weight in chunk} <= {1.0}
    assert [len(chunk) for chunk in chunks[:-1]] == [75] * (len(chunks) - 1)
    assert encoder.count_tokens(prompt) == len(expected)


@pytest.mark.parametrize("weighting", ["octoai", "a1111"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text(st.sampled_from("ab ,'()[]\\:.12-\n"), max_size=40))
def test_brackets_end_words_and_change_no_other_tokens(encoder, weighting, text):
    tokens = [token for chunk in encoder.chunks(text, weighting) for token, _ in chunk]
    words = [token for chunk in encoder.chunks(without_syntax(text, weighting)) for token, _ in chunk]

    assert tokens == words
    assert encoder.count_tokens(text, weighting) == len(words)


def test_a_tokenizer_that_knows_no_length_is_cut_to_the_encoders(bundle):
    pipeline = load(bundle)
    pipeline.tokenizer.model_max_length = int(1e30)

    assert encode(Encoder(pipeline.tokenizer, pipeline.text_encoder), "circle " * 76).shape[1] == 2 * 77


def test_brackets_and_weights_are_no_tokens(encoder):
    text = "(A tall (beautiful:1.5) woman:1.0) (some other prompt with weight:0.8)"
    plain = "A tall beautiful woman some other prompt with weight"

    assert encoder.count_tokens(text, "octoai") == encoder.count_tokens(plain)
    assert encoder.count_tokens("(circle:1.3) " * 75, "octoai") == 75
    assert encode(encoder, "(circle:1.3) " * 75, weighting="octoai").shape[1] == 77


def test_a_prompt_may_have_so_many_tokens_and_the_text_encoder_so_many_layers(encoder):
    encoder.check("(circle:1.3) " * 75, weighting="octoai", clip_skip=8, most=75)
    encoder.check("circle " * 76)
    with pytest.raises(PromptTooLong, match="75 tokens; this has 76"):
        encoder.check("(circle:1.3) " * 76, weighting="octoai", most=75)
    with pytest.raises(InvalidField, match="9 layers") as refused:
        encoder.check("circle", clip_skip=9)
    assert refused.value.field == "clip_skip"


@pytest.mark.parametrize("clip_skip", [0, 3])
@pytest.mark.parametrize("prompt", ["a (red:1.0) circle", "((a red) circle:1)", "a red (circle)", "(a) (red circle)"])
def test_a_weight_of_one_is_no_weight(encoder, prompt, clip_skip):
    weighted = encode(encoder, prompt, weighting="octoai", clip_skip=clip_skip)

    assert torch.equal(weighted, encode(encoder, "a red circle", clip_skip=clip_skip))


@pytest.mark.parametrize("weights", [[1, 1.05, 1.1, 1.3, 1.5, 2, 3, 10, 1000], [1, 0.9, 0.5, 0.1, 0, -0.5, -1]])
def test_the_further_the_weight_from_one_the_further_the_embedding(encoder, weights):
    plain = encode(encoder, "a red circle on a blue background")
    distances = [
        distance(plain, encode(encoder, f"a (red:{weight}) circle on a blue background", weighting="octoai"))
        for weight in weights
    ]

    assert distances[0] == 0
    assert all(nearer < further for nearer, further in itertools.pairwise(distances))


def test_a_weight_scales_its_tokens_against_the_rest_and_keeps_the_magnitude(encoder):
    plain = encode(encoder, "a red circle")
    weighted = encode(encoder, "a (red:1.5) circle", weighting="a1111")
    ratios = (weighted / plain)[0].median(dim=1).values

    assert float(weighted.abs().mean()) == pytest.approx(float(plain.abs().mean()), rel=1e-5)
    assert float(ratios[2] / ratios[1]) == pytest.approx(1.5, rel=1e-4)
    assert torch.allclose(ratios[[0, 1, *range(3, 77)]], ratios[0], rtol=1e-4)


def test_the_negative_prompt_is_weighted_too(encoder):
    plain, weighted = (encoder.encode("a", "((blue))", weighting=weighting).negative for weighting in ("none", "a1111"))

    assert distance(plain, weighted) > 0.1


def test_the_syntaxes_differ(encoder):
    prompt = "a ((red)) [circle]"
    one, two, three = (encode(encoder, prompt, weighting=weighting) for weighting in ("none", "octoai", "a1111"))

    assert min(distance(one, two), distance(one, three), distance(two, three)) > 0.1


def test_weights_reach_the_later_chunks_and_only_theirs(encoder):
    plain = encode(encoder, LONG + "(green)", weighting="octoai")
    weighted = encode(encoder, LONG + "(green:1.5)", weighting="octoai")

    assert plain.shape[1] > 77
    assert torch.equal(plain[:, :-77], weighted[:, :-77])
    assert distance(plain[:, -77:], weighted[:, -77:]) > 0.1


def test_single_precision_carries_large_weights_into_half(bundle):
    half = load(bundle, torch.float16)
    embedding = encode(Encoder(half.tokenizer, half.text_encoder), "a (red:1000) circle", weighting="octoai")

    assert embedding.dtype == torch.float16
    assert bool(embedding.isfinite().all())


def test_every_clip_skip_gives_another_embedding(encoder):
    skipped = [encoder.encode("a red circle", "blue", clip_skip=count) for count in range(9)]

    for one, other in itertools.combinations(skipped, 2):
        assert distance(one.positive, other.positive) > 0.1
        assert distance(one.negative, other.negative) > 0.1
    plain = encoder.encode("a red circle", "blue")
    assert torch.equal(skipped[0].positive, plain.positive)


@pytest.mark.parametrize("count", [1, 4, 8])
def test_skipping_layers_is_having_fewer(bundle, encoder, count):
    shorter = load(bundle)
    del shorter.text_encoder.encoder.layers[-count:]
    expected, _ = shorter.encode_prompt("a red circle", "cpu", 1, False)

    assert torch.equal(encode(encoder, "a red circle", clip_skip=count), expected)


@pytest.mark.parametrize("clip_skip", [9, 12, -1])
def test_more_layers_than_there_are_cannot_be_skipped(encoder, clip_skip):
    with pytest.raises(InvalidField, match="has 9 layers") as refused:
        encoder.encode("a", "", clip_skip=clip_skip)
    assert refused.value.field == "clip_skip"


TOY = torch.randn(3, 128, generator=torch.Generator().manual_seed(0))
HAT = torch.randn(1, 128, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def inverted(bundle):
    """A pipeline that knows a textual inversion of three vectors, and one of one."""
    pipeline = load(bundle)
    pipeline.load_textual_inversion({"<toy>": TOY}, token="<toy>")
    pipeline.load_textual_inversion({"<hat>": HAT}, token="<hat>")
    return pipeline


@pytest.fixture
def knowing(pipeline):
    """Return an encoder of a pipeline that knows them not, by triggers."""

    def build(toy="<toy>", hat="<hat>"):
        return Encoder(pipeline.tokenizer, pipeline.text_encoder, inversions=[(toy, TOY), (hat, HAT)])

    return build


@pytest.mark.parametrize("prompt", ["a red <toy> circle", "<toy> and <toy>, with a <hat>", "a<toy>b"])
def test_textual_inversions_are_encoded_as_diffusers_does(inverted, knowing, prompt):
    expected, _ = inverted.encode_prompt(prompt, "cpu", 1, False)

    assert torch.equal(encode(knowing(), prompt), expected)
    assert torch.equal(encode(knowing(), prompt, weighting="octoai"), expected)


def test_a_weight_is_that_of_all_an_inversions_vectors(knowing):
    (chunk,) = knowing().chunks("a (<toy>:1.5) <hat>", "octoai")

    assert [weight for _, weight in chunk] == [1.0, 1.5, 1.5, 1.5, 1.0]
    assert len({token for token, _ in chunk}) == 5


def test_an_inversion_is_not_split_between_chunks(knowing):
    ours = knowing()

    assert [len(chunk) for chunk in ours.chunks("circle " * 72 + "<toy>")] == [75]
    assert [len(chunk) for chunk in ours.chunks("circle " * 73 + "<toy> a")] == [73, 4]
    assert ours.count_tokens("circle " * 73 + "<toy> a") == 77


def test_only_the_encoder_that_was_told_knows_an_inversion(pipeline, encoder, knowing):
    before = encode(encoder, "a <toy>")
    known, table = pipeline.tokenizer.added_tokens_encoder, pipeline.text_encoder.get_input_embeddings()

    assert not torch.equal(encode(knowing(), "a <toy>"), before)
    assert torch.equal(encode(encoder, "a <toy>"), before)
    assert pipeline.tokenizer.added_tokens_encoder == known
    assert pipeline.text_encoder.get_input_embeddings() is table


@pytest.mark.parametrize(
    ("trigger", "prompt", "triggered"),
    [
        ("circle", "a Circle", True),
        ("circle", "a (circle:1.2)", True),
        ("circle", "a semicircle", False),
        ("circle", "circles", False),
        ("red circle", "a red circle", True),
        ("octoai:thing", "an octoai:thing", True),
        ("yae-miko", "a yae-miko-genshin", True),
        ("(x)", "a (x) b", True),
        ("\ue000", "a \ue000 b", True),
        ("x", "\ue000\ue001", False),
    ],
)
def test_triggers_are_words_in_whatever_case(encoder, knowing, trigger, prompt, triggered):
    ours, plain = (one.chunks(prompt, "octoai") for one in (knowing(trigger), encoder))

    assert (ours != plain) is triggered


def test_the_longest_trigger_is_found_first(knowing):
    (chunk,) = knowing(toy="neon", hat="neon light").chunks("a neon light")

    assert len(chunk) == 2


@pytest.mark.parametrize("prompt", ["(" * 10_000, "(a)" * 3333, "[(a:1.1)]" * 1111, ")" * 10_000])
@pytest.mark.parametrize("weighting", ["octoai", "a1111"])
def test_hostile_prompts_are_cut_quickly(encoder, prompt, weighting):
    started = time.process_time()
    encoder.chunks(prompt, weighting)

    assert time.process_time() - started < 5
