"""CLIP guidance on a bundle of random towers: likeness under those very towers rises, and no image tells its mates."""

import shutil

import numpy as np
import pytest
import torch
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from shared.catalog import Catalog, check_abilities
from shared.errors import InvalidField
from shared.settings import Settings
from shared.spec import CLIP_GUIDANCE_PRESETS, JobSpec
from worker.demo_model.bundle import build_random_bundle
from worker.engine import Engine
from worker.guidance import PRESETS
from worker.pipelines import Shot
from worker.pipelines.tasks import DRAW

#: diffusers' own ways with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")

SPEC = JobSpec(
    prompt="a red circle", width=64, height=64, num_inference_steps=8, guidance_scale=1.5, scheduler="DDIMScheduler"
)
PROMPTS = ("a red circle", "a green tree under a blue sky")


def engine_of(folder, data):
    data.mkdir(exist_ok=True)
    (data / "models.toml").write_text(f'[models.tiny]\nsource = "{folder}"\n')
    settings = Settings(data_dir=data, device="cpu", models_catalog=data / "models.toml")
    return Engine(settings, Catalog.load(settings))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    torch.set_num_threads(1)
    return build_random_bundle(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def model(bundle, tmp_path_factory):
    return engine_of(bundle, tmp_path_factory.mktemp("data")).model("tiny")[0]


def shot(prompt=SPEC.prompt, seed=7, **more):
    return Shot(prompt=prompt, negative_prompt="", seed=seed, **more)


def draw(model, spec, *shots, on_step=lambda: None):
    return DRAW[spec.task](model, spec, shots or [shot()], on_step=on_step)


def likeness(model, image, prompt):
    """Return the cosine as transformers' own processor and model have it."""
    clip = model.clip()
    side = clip._towers.config.vision_config.image_size
    processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    with torch.inference_mode():
        seen = processor(image, return_tensors="pt").pixel_values
        read = clip._tokenizer(prompt, return_tensors="pt").input_ids
        found = clip._towers(input_ids=read, pixel_values=seen)
        return float((found.image_embeds * found.text_embeds).sum())


@pytest.fixture(scope="module")
def drawn(model):
    return {name: draw(model, SPEC.evolve(clip_guidance_preset=name))[0] for name in CLIP_GUIDANCE_PRESETS}


def test_seven_presets_give_seven_pictures(drawn):
    assert set(PRESETS) == set(CLIP_GUIDANCE_PRESETS) - {"NONE"}
    assert len({picture.tobytes() for picture in drawn.values()}) == len(drawn) == 7


def test_more_guidance_is_more_like_the_prompt(model):
    def mean_likeness(preset):
        spec = SPEC.evolve(clip_guidance_preset=preset)
        return sum(likeness(model, draw(model, spec, shot(seed=seed))[0], spec.prompt) for seed in (7, 8, 9))

    rising = [mean_likeness(name) for name in ("NONE", "SLOW", "SLOWER", "SLOWEST")]
    assert rising == sorted(set(rising))


def test_the_cosine_is_transformers_own(model, drawn):
    picture, clip = drawn["NONE"].resize((96, 64)), model.clip()
    pixels = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        ours = float((clip.image(pixels) * clip.text(SPEC.prompt)).sum())
    assert ours == pytest.approx(likeness(model, picture, SPEC.prompt), abs=2e-3)


@pytest.mark.parametrize(
    ("name", "guided"),
    [
        ("SIMPLE", [0, 4, 8]),
        ("FAST_BLUE", [0, 2, 4]),
        ("FAST_GREEN", [0, 2, 4]),
        ("SLOW", list(range(9))),
        ("SLOWEST", list(range(9))),
    ],
)
def test_which_steps_are_guided(name, guided):
    assert [step for step in range(9) if PRESETS[name].guides(step, 9)] == guided


@pytest.mark.parametrize("scheduler", ["HeunDiscreteScheduler", "DPMPP2SAncestralScheduler", "LMSDiscreteScheduler"])
def test_other_schedulers_are_guided_as_well(model, scheduler):
    spec = SPEC.evolve(scheduler=scheduler, num_inference_steps=5)
    plain, guided = (draw(model, spec.evolve(clip_guidance_preset=name))[0] for name in ("NONE", "SLOWEST"))
    assert likeness(model, guided, SPEC.prompt) > likeness(model, plain, SPEC.prompt)


def test_an_image_does_not_depend_on_its_company(model):
    spec = SPEC.evolve(clip_guidance_preset="SLOW", num_inference_steps=3)
    shots = [shot(prompt, seed) for seed, prompt in enumerate(PROMPTS)]
    together = draw(model, spec, *shots)
    for one, mate in zip(together, shots, strict=True):
        (alone,) = draw(model, spec, mate)
        assert np.abs(np.asarray(one).astype(int) - np.asarray(alone).astype(int)).max() <= 1


def test_equal_calls_give_equal_pixels_and_leave_nothing_behind(model):
    spec = SPEC.evolve(clip_guidance_preset="SLOWER", num_inference_steps=3)
    plain = draw(model, spec.evolve(clip_guidance_preset="NONE"))[0]
    first, second = draw(model, spec)[0], draw(model, spec)[0]
    assert first.tobytes() == second.tobytes()
    assert not model.pipeline.unet._forward_hooks
    assert draw(model, spec.evolve(clip_guidance_preset="NONE"))[0].tobytes() == plain.tobytes()
    with pytest.raises(ZeroDivisionError):
        draw(model, spec, on_step=lambda: 1 / 0)
    assert not model.pipeline.unet._forward_hooks


def test_weights_in_the_prompt_are_not_read_by_clip(model):
    spec = SPEC.evolve(clip_guidance_preset="SLOW", num_inference_steps=2)
    plain, written = (draw(model, spec, shot(text, weighting="a1111"))[0] for text in ("red", "(red:1.0)"))
    assert plain.tobytes() == written.tobytes()


def test_images_are_guided_from_where_they_start(model):
    image = draw(model, SPEC.evolve(num_inference_steps=1))[0]
    spec = SPEC.evolve(image="inputs/a.png", strength=0.7)
    plain, guided = (
        draw(model, spec.evolve(clip_guidance_preset=name), shot(image=image))[0] for name in ("NONE", "SLOWEST")
    )
    assert likeness(model, guided, SPEC.prompt) > likeness(model, plain, SPEC.prompt)


def test_a_model_without_towers_is_refused_at_once_and_by_the_worker(bundle, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(bundle, bare, ignore=lambda _, names: [name for name in names if name == "clip"])
    engine = engine_of(bare, tmp_path / "data")
    spec = SPEC.evolve(clip_guidance_preset="SIMPLE", num_inference_steps=1)
    for refuse in (
        lambda: draw(engine.model("tiny")[0], spec),
        lambda: check_abilities(spec, engine._catalog.resolve("tiny")),
    ):
        with pytest.raises(InvalidField, match="'tiny' has no vision tower") as refused:
            refuse()
        assert refused.value.field == "clip_guidance_preset"
    check_abilities(SPEC, engine._catalog.resolve("tiny"))


def test_a_clip_skip_deeper_than_the_model_is_refused_at_once(bundle, tmp_path):
    catalog = engine_of(bundle, tmp_path)._catalog
    for name in ("tiny", "demo"):
        check_abilities(SPEC.evolve(clip_skip=8), catalog.resolve(name))
        with pytest.raises(InvalidField, match="9 layers") as refused:
            check_abilities(SPEC.evolve(clip_skip=9), catalog.resolve(name))
        assert refused.value.field == "clip_skip"
