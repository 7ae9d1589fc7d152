"""The tasks with an image, on a bundle of random weights."""

import gc
import itertools
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shared.catalog import Catalog
from shared.errors import GenerationFailed, InvalidField, OutOfMemory
from shared.schedulers import SCHEDULERS
from shared.settings import Settings
from shared.spec import JobSpec, Task
from tests.covering import covering
from worker import engine as engine_module
from worker import schedulers
from worker.demo_model.bundle import build_random_bundle
from worker.engine import Engine
from worker.pipelines import Interrupted, Shot
from worker.pipelines.outpaint import SEAM_PX, canvas, filling
from worker.pipelines.sharing import ImageToImage, Inpaint, pipeline_of
from worker.pipelines.tasks import DRAW

#: diffusers' own ways with numpy 2, and with options it will drop one day.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.algorithm_type:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Should have t:UserWarning"),
]

SIZE = 64
SPEC = JobSpec(
    prompt="a red circle", width=SIZE, height=SIZE, num_inference_steps=3, image="inputs/a.png", strength=0.7
)
MASKED = SPEC.evolve(mask_image="inputs/b.png")
OUTPAINT = MASKED.evolve(outpainting=True, strength=1.0)
WITH_IMAGE = (SPEC, MASKED, OUTPAINT)
TASKS = [str(spec.task) for spec in WITH_IMAGE]


def box_mask(left=16, top=16, right=48, bottom=48):
    mask = Image.new("L", (SIZE, SIZE))
    mask.paste(255, (left, top, right, bottom))
    return mask


#: The right half is new.
HALF = box_mask(SIZE // 2, 0, SIZE, SIZE)
ALL, NONE = box_mask(0, 0, SIZE, SIZE), box_mask(0, 0, 0, 0)
IMAGE = Image.merge("RGB", [Image.linear_gradient("L"), Image.radial_gradient("L"), Image.linear_gradient("L")]).resize(
    (SIZE, SIZE)
)
PIXELS = np.asarray(IMAGE)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    torch.set_num_threads(1)
    return build_random_bundle(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def load(bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "models.toml").write_text(f'[models.tiny]\nsource = "{bundle}"\n')
    tiny = Settings(data_dir=folder, device="cpu", models_catalog=folder / "models.toml")
    return lambda: Engine(tiny, Catalog.load(tiny)).model("tiny")[0]


@pytest.fixture(scope="module")
def model(load):
    return load()


@pytest.fixture
def half(load):
    """Return a model in a precision below single, as a GPU has it."""
    model = load()
    for network in (model.pipeline.unet, model.pipeline.vae, model.pipeline.text_encoder):
        network.bfloat16()
    return model


def shot(seed=7, image=IMAGE, mask=HALF, **text):
    return Shot(prompt=text.get("prompt", SPEC.prompt), negative_prompt="", seed=seed, image=image, mask=mask)


def pixels(model, spec, *shots, on_step=lambda: None):
    drawn = DRAW[spec.task](model, spec, shots or [shot()], on_step=on_step)
    return [np.asarray(image) for image in drawn]


def test_pipelines_share_every_network(model):
    for kind in (ImageToImage, Inpaint):
        shared = pipeline_of(kind, model, scheduler=model.scheduler(SPEC))
        for name in ("unet", "vae", "text_encoder", "tokenizer"):
            assert getattr(shared, name) is getattr(model.pipeline, name)
        assert shared.unet.dtype == model.pipeline.unet.dtype


def test_a_networks_weights_stay_where_they_are(model):
    before = [weight.data_ptr() for weight in model.pipeline.unet.parameters()]
    for spec in WITH_IMAGE:
        pixels(model, spec.evolve(num_inference_steps=1))
    assert [weight.data_ptr() for weight in model.pipeline.unet.parameters()] == before


def test_a_model_let_go_is_gone_at_once(load):
    model = load()
    for spec in WITH_IMAGE:
        pixels(model, spec.evolve(num_inference_steps=1))
    gc.collect()
    gc.disable()
    try:
        network = weakref.ref(model.pipeline.unet)
        del model
        assert network() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("spec", WITH_IMAGE, ids=TASKS)
def test_every_scheduler_runs_as_often_as_progress_says(model, spec, name):
    steps, spec = [], spec.evolve(scheduler=name)
    (image,) = pixels(model, spec, on_step=lambda: steps.append(1))
    assert image.shape == (SIZE, SIZE, 3)
    assert image.std() > 0
    assert len(steps) == schedulers.evaluations_of(spec, model.scheduler(spec)) > 0


def test_no_scheduler_is_another_in_disguise(model):
    spec = SPEC.evolve(num_inference_steps=8, strength=0.9)
    drawn = {name: pixels(model, spec.evolve(scheduler=name))[0] for name in SCHEDULERS}
    alike = [(a, b) for a, b in itertools.combinations(drawn, 2) if np.array_equal(drawn[a], drawn[b])]
    assert alike == []


@pytest.mark.parametrize("spec", WITH_IMAGE, ids=TASKS)
@pytest.mark.parametrize(("steps", "strength"), [(1, 0.5), (2, 0.3), (49, 0.01), (4, 1e-9)])
def test_some_strength_runs_one_step_at_least(model, spec, steps, strength):
    spec = spec.evolve(num_inference_steps=steps, strength=strength, scheduler="DDIMScheduler")
    ran = []
    pixels(model, spec, on_step=lambda: ran.append(1))
    assert len(ran) == 1 == spec.steps_used == schedulers.evaluations_of(spec, model.scheduler(spec))


@pytest.mark.parametrize("spec", [SPEC, MASKED, MASKED.evolve(inpaint_full_res=True)])
def test_no_strength_gives_the_prepared_image(model, spec):
    ran, spec = [], spec.evolve(strength=0)
    (image,) = pixels(model, spec, on_step=lambda: ran.append(1))
    assert np.array_equal(image, PIXELS)
    assert ran == []
    assert schedulers.evaluations_of(spec, model.scheduler(spec)) == 0


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(list(SCHEDULERS)),
    steps=st.integers(1, 200),
    strength=st.floats(0, 1, exclude_min=True),
    kind=st.sampled_from([ImageToImage, Inpaint]),
)
def test_what_runs_is_what_the_spec_says(model, name, steps, strength, kind):
    steps = min(steps, SCHEDULERS[name].max_steps)
    spec = SPEC.evolve(scheduler=name, num_inference_steps=steps, strength=strength)
    pipeline = pipeline_of(kind, model, scheduler=model.scheduler(spec, [1]))
    pipeline.scheduler.set_timesteps(steps)
    timesteps, ran = pipeline.get_timesteps(steps, strength, "cpu")
    upward = spec.steps_used if name == "DDIMInverseScheduler" else 0
    assert ran == spec.steps_used
    assert upward + len(timesteps) == schedulers.evaluations_of(spec, model.scheduler(spec))


@pytest.mark.parametrize("spec", WITH_IMAGE, ids=TASKS)
def test_equal_jobs_give_equal_pixels(model, load, spec):
    (first,), (second,), (elsewhere,) = (pixels(one, spec) for one in (model, model, load()))
    assert np.array_equal(first, second)
    assert np.array_equal(first, elsewhere)
    assert not np.array_equal(first, pixels(model, spec, shot(seed=8))[0])
    assert not np.array_equal(first, pixels(model, spec, shot(prompt="a blue square"))[0])
    assert not np.array_equal(first, pixels(model, spec, shot(image=IMAGE.transpose(Image.Transpose.ROTATE_90)))[0])


@pytest.mark.parametrize(("name", "task"), covering(SCHEDULERS, TASKS[:2]))
def test_batch_mates_change_no_more_than_rounding(model, name, task):
    spec = WITH_IMAGE[TASKS.index(task)].evolve(scheduler=name, strength=1)
    mates = [shot(seed=1), shot(seed=2, image=IMAGE.transpose(Image.Transpose.ROTATE_90), mask=box_mask())]
    together = pixels(model, spec, *mates)
    for one, mate in zip(together, mates, strict=True):
        assert np.abs(one.astype(int) - pixels(model, spec, mate)[0].astype(int)).max() <= 1


def test_ddim_inversion_draws_nothing_from_the_seed(model):
    inverse = SPEC.evolve(scheduler="DDIMInverseScheduler")
    masked = inverse.evolve(mask_image="inputs/b.png")
    for spec in (inverse, masked, masked.evolve(strength=1.0)):
        assert np.array_equal(pixels(model, spec, shot(seed=1))[0], pixels(model, spec, shot(seed=2))[0])
    with pytest.raises(InvalidField, match="init image"):
        model.scheduler(JobSpec(prompt="x", scheduler="DDIMInverseScheduler"))


@pytest.mark.parametrize("full_res", [False, True])
@pytest.mark.parametrize("mask", [HALF, box_mask(), box_mask(3, 5, 9, 50), ALL], ids=["half", "box", "thin", "all"])
def test_inpainting_keeps_what_the_mask_leaves_black(model, mask, full_res):
    spec = MASKED.evolve(strength=1.0, inpaint_full_res=full_res, inpaint_full_res_padding=4)
    (image,) = pixels(model, spec, shot(mask=mask))
    white = np.asarray(mask) == 255
    assert np.array_equal(image[~white], PIXELS[~white])
    assert (image[white] != PIXELS[white]).mean() > 0.5


@pytest.mark.parametrize("spec", [MASKED, MASKED.evolve(inpaint_full_res=True), OUTPAINT])
def test_a_black_mask_leaves_all_as_it_is(model, spec):
    assert np.array_equal(pixels(model, spec, shot(mask=NONE))[0], PIXELS)


def test_full_resolution_paints_the_part_around_the_mask(model):
    small = box_mask(20, 20, 28, 28)
    plain, near, far = (
        pixels(model, MASKED.evolve(inpaint_full_res=padding is not None, inpaint_full_res_padding=padding or 0), s)[0]
        for padding, s in ((None, shot(mask=small)), (2, shot(mask=small)), (256, shot(mask=small)))
    )
    assert np.array_equal(plain, far)  # so much padding is the whole picture
    assert not np.array_equal(plain, near)


def gradient(image):
    return np.abs(np.diff(np.asarray(image).astype(int), axis=1)).mean(axis=2)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_outpainting_fills_the_new_area_and_hides_the_seam(model, seed):
    (image,) = pixels(model, OUTPAINT, shot(seed=seed))
    edge = SIZE // 2
    assert np.array_equal(image[:, :edge], PIXELS[:, :edge])
    assert image[:, edge:].std(axis=(0, 1)).min() > 2
    across = gradient(image)
    interior = np.concatenate([across[:, : edge - 1], across[:, edge + SEAM_PX :]], axis=1)
    assert across[:, edge - 1].mean() <= interior.mean()
    assert across[:, edge - 1].max() <= interior.max()


@pytest.mark.parametrize("strength", [0, 0.5])
def test_outpainting_starts_from_the_edges_and_noise(model, strength):
    (image,) = pixels(model, OUTPAINT.evolve(strength=strength))
    assert np.array_equal(image[:, : SIZE // 2], PIXELS[:, : SIZE // 2])
    new = image[:, SIZE // 2 :].astype(int)
    assert new.std(axis=1).mean() > 2
    assert np.array_equal(pixels(model, OUTPAINT.evolve(strength=strength))[0], image)
    assert not np.array_equal(pixels(model, OUTPAINT.evolve(strength=strength), shot(seed=8))[0], image)


def test_an_area_with_nothing_kept_is_filled_with_noise_alone(model):
    filled = np.asarray(filling(canvas(IMAGE, ALL), seed=1)).astype(float)
    assert filled.std() > 10
    assert abs(filled.mean() - 127.5) < 5
    assert pixels(model, OUTPAINT, shot(mask=ALL))[0].std() > 0


def test_a_narrow_strip_is_painted_too():
    strip = box_mask(SIZE - 4, 0, SIZE, SIZE)
    depth = canvas(IMAGE, strip).depth
    assert depth[:, : SIZE - 4].max() == 0
    assert depth[:, -1].min() == 1


@pytest.mark.parametrize("spec", [*WITH_IMAGE, SPEC.evolve(scheduler="DDIMInverseScheduler")])
def test_an_exception_from_on_step_ends_the_call_within_that_step(model, spec):
    steps = []

    def on_step():
        steps.append(1)
        if len(steps) == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        pixels(model, spec.evolve(num_inference_steps=50), on_step=on_step)
    assert len(steps) == 3


@pytest.mark.parametrize("spec", WITH_IMAGE, ids=TASKS)
def test_too_little_memory_halves_the_call_once(model, monkeypatch, spec):
    room, forward = 1, model.pipeline.unet.forward

    def cramped(sample, *args, **options):
        if sample.shape[0] > 2 * room:  # both halves of the guidance
            raise torch.OutOfMemoryError
        return forward(sample, *args, **options)

    expected = [pixels(model, spec, shot(seed=seed))[0] for seed in (1, 2)]
    monkeypatch.setattr(model.pipeline.unet, "forward", cramped)
    drawn = pixels(model, spec, shot(seed=1), shot(seed=2))
    assert all(np.array_equal(one, other) for one, other in zip(drawn, expected, strict=True))
    with pytest.raises(OutOfMemory):
        pixels(model, spec, *(shot(seed=seed) for seed in range(4)))


def spoilt(model, monkeypatch, *, until=torch.float32):
    """Make the VAE give no numbers for the first image of a call; in a precision it is well again."""
    decode, calls = model.pipeline.vae.decode, []

    def spoil(latents, **options):
        (decoded,) = decode(latents, **options)
        calls.append((latents.dtype, len(latents)))
        if latents.dtype != until:
            decoded[0] = float("nan")
        return (decoded,)

    monkeypatch.setattr(model.pipeline.vae, "decode", spoil)
    return calls


@pytest.mark.parametrize("task", list(Task))
def test_what_is_no_number_is_drawn_again_in_single_precision(half, monkeypatch, task):
    spec = {spec.task: spec for spec in WITH_IMAGE}.get(task, JobSpec(prompt="x", width=SIZE, height=SIZE))
    spec = spec.evolve(num_inference_steps=2, scheduler="DDIMScheduler")
    with half.single_precision():
        precise = pixels(half, spec, shot(seed=1))[0]
    expected = pixels(half, spec, shot(seed=1), shot(seed=2))[1]
    weights = {name: weight.clone() for name, weight in half.pipeline.unet.state_dict().items()}
    calls = spoilt(half, monkeypatch)
    drawn = pixels(half, spec, shot(seed=1), shot(seed=2))
    assert calls == [(torch.bfloat16, 2), (torch.float32, 1)]
    assert np.array_equal(drawn[0], precise)
    assert np.array_equal(drawn[1], expected)
    assert half.pipeline.unet.dtype == half.pipeline.vae.dtype == half.pipeline.text_encoder.dtype == torch.bfloat16
    assert all(torch.equal(weights[name], weight) for name, weight in half.pipeline.unet.state_dict().items())


@pytest.mark.parametrize("spec", WITH_IMAGE, ids=TASKS)
def test_what_is_no_number_even_then_is_a_failure(half, monkeypatch, spec):
    calls = spoilt(half, monkeypatch, until=None)
    with pytest.raises(GenerationFailed):
        pixels(half, spec)
    assert len(calls) == 2
    assert half.pipeline.unet.dtype == torch.bfloat16


def test_too_little_memory_for_single_precision_is_told_as_such(half, monkeypatch):
    spoilt(half, monkeypatch)

    def cramped(network, dtype):
        if dtype == torch.float32:
            raise torch.OutOfMemoryError
        torch.nn.Module.to(network, dtype)

    monkeypatch.setattr(engine_module, "_cast", cramped)
    with pytest.raises(OutOfMemory):
        pixels(half, SPEC)


def test_single_precision_is_not_tried_twice(model, monkeypatch):
    calls = spoilt(model, monkeypatch, until=None)
    with pytest.raises(GenerationFailed):
        pixels(model, SPEC)
    assert len(calls) == 1


def test_how_the_text_is_read_is_part_of_what_is_kept(model):
    def encoded(**options):
        return model.embeddings("a (red:1.5) circle", "", **options).positive

    read = [encoded(), encoded(weighting="octoai"), encoded(clip_skip=2), encoded(weighting="octoai", clip_skip=2)]
    assert all(not torch.equal(a, b) for i, a in enumerate(read) for b in read[i + 1 :])
    assert encoded(clip_skip=2) is read[2]
