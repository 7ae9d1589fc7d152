"""Options that change the prompt or the arithmetic: each has its effect, and leaves nothing behind."""

import numpy as np
import pytest

from shared.catalog import Catalog
from shared.settings import Settings
from shared.spec import JobSpec
from worker import engine as engine_module
from worker import parameters
from worker.demo_model.bundle import build_random_bundle
from worker.engine import Engine
from worker.pipelines import Shot
from worker.pipelines.tasks import DRAW
from worker.preview import decode
from worker.token_merging import token_merging
from worker.wording import worded

SPEC = JobSpec(prompt="a red circle", width=128, height=128, num_inference_steps=3, seed=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    bundle = build_random_bundle(tmp_path_factory.mktemp("model") / "bundle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_module, "bundle_path", lambda _fallback: bundle)
        settings = Settings(device="cpu")
        return Engine(settings, Catalog.load(settings)).model("demo")[0]


def draw(model, spec, seeds=(1,)):
    shots = [Shot(prompt=spec.prompt, negative_prompt="", seed=seed) for seed in seeds]
    with token_merging(model, spec):
        return [np.asarray(image) for image in DRAW[spec.task](model, spec, shots, on_step=lambda: None)]


def test_token_merging_changes_the_picture_reproducibly_and_leaves_nothing_behind(model):
    (plain,) = draw(model, SPEC)
    (merged,) = draw(model, SPEC.evolve(tomesd=True))
    (again,) = draw(model, SPEC.evolve(tomesd=True))
    (after,) = draw(model, SPEC)
    assert not np.array_equal(plain, merged)
    assert np.array_equal(merged, again)
    assert np.array_equal(plain, after)


def test_a_merged_picture_does_not_depend_on_its_batch(model):
    spec = SPEC.evolve(tomesd=True)
    (alone,) = draw(model, spec)
    together = draw(model, spec, seeds=(5, 1, 9))
    assert np.abs(alone.astype(int) - together[1]).max() <= 1


def test_the_network_is_as_before_even_after_a_failure(model):
    kinds = [type(module) for module in model.pipeline.unet.modules()]
    spec = SPEC.evolve(tomesd=True)
    with pytest.raises(RuntimeError), token_merging(model, spec):
        raise RuntimeError
    assert [type(module) for module in model.pipeline.unet.modules()] == kinds


def test_style_and_enrichment_are_what_is_drawn_and_told():
    plain = worded(SPEC)
    styled = worded(SPEC.evolve(style_preset="neon-punk"))
    enhanced = worded(SPEC.evolve(enhance_prompt=True))
    assert plain == ("a red circle", "")
    assert styled[0].startswith("a red circle")
    assert len({plain, styled, enhanced}) == 3
    told = parameters.effective(SPEC.evolve(style_preset="neon-punk"), {})
    assert (told["prompt"], told["negative_prompt"]) == styled
    assert told["style_preset"] == "neon-punk"
    assert "enhance_prompt" not in told


def test_options_of_the_text_do_not_keep_jobs_apart():
    styled = SPEC.evolve(style_preset="anime", clip_skip=1, prompt_weighting="a1111", enhance_prompt=True)
    assert styled.batch_key() == SPEC.batch_key()
    assert SPEC.evolve(tomesd=True).batch_key() != SPEC.batch_key()


def test_previews_come_nearer_to_the_picture(model):
    """What a shot's watcher is given decodes to pictures on the way to the final one."""
    seen = []
    spec = SPEC.evolve(num_inference_steps=8, scheduler="DDIMScheduler")
    shot = Shot(
        prompt=spec.prompt,
        negative_prompt="",
        seed=1,
        watch=lambda step, latents: seen.append((step, np.asarray(decode(model, latents), dtype=int))),
    )
    (final,) = DRAW[spec.task](model, spec, [shot], on_step=lambda: None)
    distances = [np.abs(picture - np.asarray(final, dtype=int)).mean() for _, picture in seen]
    assert [step for step, _ in seen] == list(range(1, 9))
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1 < distances[0]


def test_each_image_of_a_batch_has_its_own_previews(model):
    alone, together = {}, {}

    def watcher(into, seed):
        return lambda step, latents: into.__setitem__((seed, step), np.asarray(decode(model, latents), dtype=int))

    def shots(into, *seeds):
        return [Shot(prompt="x", negative_prompt="", seed=s, watch=watcher(into, s)) for s in seeds]

    DRAW[SPEC.task](model, SPEC, shots(alone, 1), on_step=lambda: None)
    DRAW[SPEC.task](model, SPEC, shots(together, 5, 1), on_step=lambda: None)
    for key, picture in alone.items():
        assert np.abs(picture - together[key]).max() <= 1
