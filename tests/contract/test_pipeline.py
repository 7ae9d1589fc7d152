"""The text-to-image pipeline against diffusers itself, on the embedded model's bundle."""

import diffusers
import numpy as np
import pytest
import torch

from shared.catalog import Catalog
from shared.errors import ConfigurationError, GenerationFailed, ModelLoadFailed, OutOfMemory
from shared.schedulers import ALGORITHM_TYPES, SCHEDULERS
from shared.settings import Settings
from shared.spec import JobSpec
from tests.worker_rig import Rig
from worker import schedulers
from worker.demo_model.bundle import bundle_path
from worker.device import open_device
from worker.engine import Engine, weights_hash
from worker.pipelines import Interrupted, Shot
from worker.pipelines.text_to_image import draw, token_length
from worker.samplers import SAMPLERS

#: diffusers' own ways with numpy 2, and with options it will drop one day.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.algorithm_type:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Should have t:UserWarning"),
]

FROM_TEXT = [name for name, info in SCHEDULERS.items() if not info.needs_image]
SPEC = JobSpec(prompt="a red circle", width=64, height=64, num_inference_steps=2, seed=7)
LONG_PROMPT = "a red circle left of a blue square, " * 12


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    torch.set_num_threads(1)  # small pictures on a busy machine: threads would wait for each other
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), device="cpu")
    return Engine(settings, Catalog.load(settings))


@pytest.fixture(scope="module")
def model(engine):
    return engine.model("demo")[0]


@pytest.fixture(scope="module")
def bundle(engine):
    return bundle_path(engine._settings.data_dir / "models")


def pixels(model, spec=SPEC, seeds=(7,), prompt=None, negative="", on_step=lambda: None):
    shots = [Shot(prompt=prompt or spec.prompt, negative_prompt=negative, seed=seed) for seed in seeds]
    return [np.asarray(image) for image in draw(model, spec, shots, on_step=on_step)]


@pytest.mark.parametrize("name", FROM_TEXT)
def test_every_scheduler_draws(model, name):
    steps = []
    spec = SPEC.evolve(scheduler=name)
    (image,) = pixels(model, spec, on_step=lambda: steps.append(1))
    assert image.shape == (64, 64, 3)
    assert image.std() > 0
    assert type(model.pipeline.scheduler).__name__ == name
    assert len(steps) == schedulers.evaluations(model.scheduler(spec), 2)


def test_schedulers_differ(model):
    spec = SPEC.evolve(num_inference_steps=4)
    drawn = [
        pixels(model, spec.evolve(scheduler=name))[0]
        for name in ("DDIMScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler")
    ]
    assert all(not np.array_equal(one, other) for index, one in enumerate(drawn) for other in drawn[index + 1 :])


@pytest.mark.parametrize("name", [name for name, info in SCHEDULERS.items() if info.karras])
def test_karras_sigmas_are_taken_and_do_not_leak(model, name):
    wanted = model.scheduler(SPEC.evolve(scheduler=name, use_karras_sigmas=True))
    assert schedulers.effective(wanted)["use_karras_sigmas"] is True
    plain = model.scheduler(SPEC.evolve(scheduler=name))
    assert schedulers.effective(plain)["use_karras_sigmas"] is False


@pytest.mark.parametrize("algorithm", ALGORITHM_TYPES)
def test_algorithm_types_draw(model, algorithm):
    spec = SPEC.evolve(scheduler="DPMSolverMultistepScheduler", algorithm_type=algorithm)
    assert pixels(model, spec)[0].std() > 0
    assert schedulers.effective(model.scheduler(spec))["algorithm_type"] == algorithm


def test_options_a_scheduler_does_not_take_have_no_effect(model):
    spec = SPEC.evolve(scheduler="DDIMScheduler", use_karras_sigmas=True, algorithm_type="dpmsolver++")
    assert schedulers.effective(model.scheduler(spec)) == {"scheduler": "DDIMScheduler"}
    assert np.array_equal(pixels(model, spec)[0], pixels(model, SPEC.evolve(scheduler="DDIMScheduler"))[0])


@pytest.mark.parametrize("name", FROM_TEXT)
def test_schedulers_start_from_the_models_own_file(model, bundle, name):
    own = diffusers.PNDMScheduler.load_config(bundle, subfolder="scheduler")
    kind = SAMPLERS.get(name) or getattr(diffusers, name)
    expected = kind.from_config(own, **schedulers.OPTIONS.get(name, {}))
    built = model.scheduler(SPEC.evolve(scheduler=name))
    ignored = {"_use_default_values", "_diffusers_version", "_class_name", "noise_sampler_seed"}
    assert {k: v for k, v in built.config.items() if k not in ignored} == {
        k: v for k, v in expected.config.items() if k not in ignored
    }


@pytest.mark.parametrize("guidance", [7.5, 1.0])
def test_equals_a_plain_diffusers_call(model, bundle, guidance):
    plain = diffusers.StableDiffusionPipeline.from_pretrained(
        bundle, dtype=torch.float32, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    plain.set_progress_bar_config(disable=True)
    expected = plain(
        "a red circle",
        negative_prompt="blue",
        width=64,
        height=64,
        num_inference_steps=4,
        guidance_scale=guidance,
        generator=torch.Generator("cpu").manual_seed(7),
    ).images[0]
    spec = SPEC.evolve(num_inference_steps=4, guidance_scale=guidance)
    (image,) = pixels(model, spec, negative="blue")
    assert np.abs(image.astype(int) - np.asarray(expected).astype(int)).max() <= 1


def test_the_same_seed_gives_the_same_pixels(model):
    first, second = (pixels(model, SPEC, seeds=(3,))[0] for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, pixels(model, SPEC, seeds=(4,))[0])


@pytest.mark.parametrize("name", FROM_TEXT)
def test_batch_mates_change_no_more_than_rounding(model, name):
    spec = SPEC.evolve(scheduler=name)
    together = pixels(model, spec, seeds=(1, 2))
    alone = [pixels(model, spec, seeds=(seed,))[0] for seed in (1, 2)]
    for one, other in zip(together, alone, strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 1


def test_a_workers_pictures_are_the_same_alone_and_in_a_batch(engine, valkey):
    rig = Rig(valkey, engine=engine)

    def run(*seeds, **spec):
        uids = [rig.submit(seed=seed, num_inference_steps=2, **spec) for seed in seeds]
        rig.runner.run(rig.claim())
        assert rig.delivery.drain(600)
        return [rig.storage.objects[a.key].data for uid in uids for a in rig.read(uid).result.artifacts]

    (alone,) = run(8)
    first, second, third = run(7, 8, 9)
    pair = run(7, num_images=2)
    assert alone == second == pair[1]
    assert first == pair[0]
    assert len({first, second, third}) == 3


@pytest.mark.parametrize("guidance", [0, 0.5])
def test_guidance_up_to_one_is_none(model, guidance):
    assert np.array_equal(
        pixels(model, SPEC.evolve(guidance_scale=guidance))[0], pixels(model, SPEC.evolve(guidance_scale=1))[0]
    )


@pytest.mark.parametrize("prompt", ["", "a red circle", "a red circle, " * 15, "circle " * 75])
def test_prompts_that_fit_are_encoded_as_diffusers_does(model, prompt):
    assert len(model.pipeline.tokenizer(prompt, verbose=False).input_ids) <= 77
    with torch.inference_mode():
        expected, negative = model.pipeline.encode_prompt(prompt, "cpu", 1, True, "blue")
        ours = model.embeddings(prompt, "blue")
    assert torch.equal(ours.positive, expected)
    assert torch.equal(ours.negative, negative)


def test_a_long_prompt_is_encoded_in_chunks_to_its_end(model):
    tokenizer = model.pipeline.tokenizer
    content = tokenizer(LONG_PROMPT, add_special_tokens=False, verbose=False).input_ids
    chunks = -(-len(content) // 75)
    assert chunks > 1
    with torch.inference_mode():
        ours = model.embeddings(LONG_PROMPT, "")
        first = model.embeddings("a red circle", "").positive
    assert ours.positive.shape == ours.negative.shape == (1, chunks * 77, first.shape[2])
    assert token_length(model, Shot(prompt="", negative_prompt=LONG_PROMPT, seed=0)) == chunks * 77
    assert pixels(model, prompt=LONG_PROMPT)[0].std() > 0
    assert not np.array_equal(
        pixels(model, prompt=LONG_PROMPT + "green")[0], pixels(model, prompt=LONG_PROMPT + "yellow")[0]
    )


def test_an_exception_from_on_step_ends_the_call_within_that_step(model):
    steps = []

    def on_step():
        steps.append(1)
        if len(steps) == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        pixels(model, SPEC.evolve(num_inference_steps=50), on_step=on_step)
    assert len(steps) == 3


def test_a_result_that_is_no_number_is_a_failure(model, monkeypatch):
    decode = model.pipeline.vae.decode
    monkeypatch.setattr(
        model.pipeline.vae, "decode", lambda latents, **options: decode(latents * float("nan"), **options)
    )
    with pytest.raises(GenerationFailed):
        pixels(model)


def test_too_little_memory_halves_the_call_once(model, monkeypatch):
    room, forward = 1, model.pipeline.unet.forward

    def cramped(sample, *args, **options):
        if sample.shape[0] > 2 * room:  # both halves of the guidance
            raise torch.OutOfMemoryError
        return forward(sample, *args, **options)

    expected = pixels(model, seeds=(1,)) + pixels(model, seeds=(2,))
    monkeypatch.setattr(model.pipeline.unet, "forward", cramped)
    drawn = pixels(model, seeds=(1, 2))
    assert all(np.array_equal(one, other) for one, other in zip(drawn, expected, strict=True))
    with pytest.raises(OutOfMemory):
        pixels(model, seeds=(1, 2, 3, 4))
    room = 0
    with pytest.raises(OutOfMemory):
        pixels(model, seeds=(1,))


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(ConfigurationError, match="DEVICE"):
        open_device("cuda:99")
    assert open_device("cpu").one_by_one


def test_models_are_loaded_once(engine, model):
    again, load_s = engine.model("demo")
    assert again is model
    assert load_s == 0
    assert engine.loaded_model == "demo"
    assert set(model.fingerprint) == {"torch", "diffusers", "device", "dtype", "model_hash"}


@pytest.mark.parametrize("content", [b"", b"nothing like it", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_model_that_cannot_be_read_is_named_without_its_path(tmp_path, content):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(content)
    operators = tmp_path / "models.toml"
    operators.write_text(f'[models.mine]\nsource = "{broken}"\n')
    settings = Settings(data_dir=tmp_path, device="cpu", models_catalog=operators)
    with pytest.raises(ModelLoadFailed, match="'mine'") as failure:
        Engine(settings, Catalog.load(settings)).model("mine")
    assert str(tmp_path) not in str(failure.value)


def test_the_hash_tells_weights_apart(tmp_path):
    one, other = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    header = b'{"__metadata__":{}}'
    prefix = len(header).to_bytes(8, "little") + header
    one.write_bytes(prefix + bytes(1_000_000))
    other.write_bytes(prefix + bytes(500_000) + b"\1" * 500_000)
    hashes = {weights_hash(one), weights_hash(other)}
    assert len(hashes) == 2
    assert weights_hash(one) == weights_hash(one)
