"""The trainer's loop, and training that goes on from a bundle."""

import json
from random import Random
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDPMScheduler
from safetensors.torch import load_file, save_file
from torch import nn

from worker.demo_model import bundle as bundles
from worker.demo_model.architecture import SCHEDULER_CONFIG
from worker.demo_model.training import loop, unet
from worker.demo_model.training.adopt import adopt
from worker.demo_model.training.clip import load_towers
from worker.demo_model.training.latents import latent_scale
from worker.demo_model.training.loras import LORA_RANK, to_kohya
from worker.demo_model.training.unet import load_unet
from worker.demo_model.training.vae import load_vae

STEPS = {"vae": 250, "text": 500, "clip": 100, "unet": 1200, "decoder": 0}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    directory = bundles.build_random_bundle(tmp_path_factory.mktemp("models") / "bundle", seed=4)
    (directory / bundles.MODEL_CARD).write_text(json.dumps({"steps": STEPS}))
    return directory


def run(work_dir, *, steps, rates=None, **plan):
    """A line fitted to noisy points, so that the order of the draws matters."""
    torch.manual_seed(0)
    model = nn.Linear(3, 1)

    def parts_of(_, chance):
        points = torch.randn(8, 3, generator=chance.torch)
        if rates is not None:
            rates.append(chance.done)
        return loop.in_parts(lambda batch: (model(batch) - batch.sum(1, keepdim=True)).square().mean(), points)

    plan = loop.Plan(name="line", steps=steps, learning_rate=0.05, warmup_steps=2, save_every=5, **plan)
    loop.train(model, parts_of, plan=plan, work_dir=work_dir)
    return model


def test_a_run_comes_out_the_same_each_time(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()

    first, second = (run(tmp_path / name, steps=20) for name in ("one", "two"))

    assert torch.equal(first.weight, second.weight)


def test_a_finished_stage_goes_on_when_more_steps_are_asked_for(tmp_path):
    run(tmp_path, steps=5)
    done = []

    run(tmp_path, steps=8, rates=done)

    assert done == [5 / 8, 6 / 8, 7 / 8]
    assert loop.steps_done(tmp_path / "line.pt") == 8


def test_a_stage_with_no_time_left_ends_at_once_and_is_saved(tmp_path):
    done = []

    run(tmp_path, steps=1000, rates=done, minutes=1e-9)

    assert done == [1.0]
    assert loop.steps_done(tmp_path / "line.pt") == 1


def test_the_clock_and_the_steps_both_end_a_run():
    plan = loop.Plan(name="x", steps=100, learning_rate=1, minutes=10)

    assert plan.done(50, seconds=60) == 0.5
    assert plan.done(10, seconds=300) == 0.5
    assert plan.done(10, seconds=6000) == 1


def test_training_goes_on_from_a_bundle_with_its_weights(bundle, tmp_path):
    adopt(bundle, work_dir=tmp_path)

    clip, _ = load_towers(tmp_path)
    found = {"unet": load_unet(tmp_path), "vae": load_vae(tmp_path)}
    for name, model in found.items():
        stored = load_file(bundle / name / "diffusion_pytorch_model.safetensors")
        state = model.state_dict()
        # The projections that read captions were in other coordinates meanwhile.
        assert all(torch.allclose(state[key], tensor.float(), atol=1e-5) for key, tensor in stored.items())
    stored = load_file(bundle / "clip" / "model.safetensors")
    state = clip.state_dict()
    assert all(torch.equal(state[name].half(), tensor) for name, tensor in stored.items())
    assert {name: loop.steps_done(tmp_path / f"{name}.pt") for name in STEPS} == STEPS
    assert latent_scale(tmp_path) == json.loads((bundle / "vae" / "config.json").read_text())["scaling_factor"]


def test_what_was_trained_already_is_not_overwritten(bundle, tmp_path):
    run(tmp_path, steps=3)
    (tmp_path / "line.pt").rename(tmp_path / "unet.pt")

    adopt(bundle, work_dir=tmp_path)

    assert loop.steps_done(tmp_path / "unet.pt") == 3


def test_an_adopted_stage_warms_up_anew(tmp_path):
    torch.manual_seed(0)
    loop.save_adopted(tmp_path / "line.pt", nn.Linear(3, 1), step=90)
    before = torch.load(tmp_path / "line.pt")["average"]["weight"]

    after = run(tmp_path, steps=91).weight

    # Adam's first step is as long as the rate, which half a warm-up and the schedule's end keep small.
    assert 0 < (after - before).abs().max() < 0.05 * 0.5 * 0.1


def test_kohyas_names_say_the_same(tmp_path):
    up, down = torch.randn(6, LORA_RANK), torch.randn(LORA_RANK, 4)
    layer = "unet.down_blocks.0.attentions.0.to_q"
    save_file({f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up}, tmp_path / "diffusers.safetensors")

    to_kohya(tmp_path / "diffusers.safetensors", tmp_path / "kohya.safetensors")

    kohya = load_file(tmp_path / "kohya.safetensors")
    name = "lora_unet_down_blocks_0_attentions_0_to_q"
    assert set(kohya) == {f"{name}.lora_down.weight", f"{name}.lora_up.weight", f"{name}.alpha"}
    assert torch.equal(kohya[f"{name}.lora_up.weight"] @ kohya[f"{name}.lora_down.weight"], up @ down)
    assert kohya[f"{name}.alpha"] == LORA_RANK


def test_captions_are_left_out_and_lied_about_as_often_as_said():
    rows = list(range(1, 5001))
    cached = SimpleNamespace(captions=["a red circle in the middle on a blue background"] * len(rows))
    embedded = unet.Embedded(cached=cached, rows=rows, basics=rows[:10])

    heard = [unet.heard(embedded, index, Random(index)) for index in range(len(rows))]

    assert heard.count(0) / len(rows) == pytest.approx(unet.EMPTY_SHARE, abs=0.03)
    right = sum(row == index + 1 for index, row in enumerate(heard)) / len(rows)
    assert right == pytest.approx(1 - unet.EMPTY_SHARE - unet.WRONG_SHARE, abs=0.03)


def test_larger_pictures_are_learnt_at_noisier_steps():
    alphas = DDPMScheduler.from_config(SCHEDULER_CONFIG).alphas_cumprod
    ratios = alphas / (1 - alphas)

    for emphasis in (unet.LAYOUT, unet.ALL):
        assert emphasis.at(16 * 16, alphas_cumprod=alphas) == emphasis.at(32 * 32, alphas_cumprod=alphas) == emphasis
        larger = emphasis.at(64 * 64, alphas_cumprod=alphas)
        assert float(ratios[larger.noisy_from]) == pytest.approx(float(ratios[emphasis.noisy_from]) / 4, rel=0.02)
        assert larger.most_weight == 4 * emphasis.most_weight
        assert larger.noisy_share == emphasis.noisy_share
