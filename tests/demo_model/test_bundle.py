"""The bundle's layout, and the stand-in of random weights."""

import json

import pytest

from tests.demo_model.drawing import draw_prompts, load
from worker.demo_model import bundle as bundles

#: SD 1.5's own file, key for key.
SD15_SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def random_bundle(tmp_path_factory):
    return bundles.build_random_bundle(tmp_path_factory.mktemp("models") / "random")


@pytest.fixture(scope="module", params=["random", "trained"])
def bundle(request, random_bundle):
    if request.param == "random":
        return random_bundle
    if not bundles.is_shipped():
        pytest.skip("no trained bundle was shipped")
    return bundles.TRAINED_BUNDLE


def test_the_scheduler_has_exactly_the_keys_of_sd15(bundle):
    config = json.loads((bundle / "scheduler" / "scheduler_config.json").read_text())

    assert config == SD15_SCHEDULER


def test_weights_are_safetensors_only_and_fit(bundle):
    weights = {path: path.stat().st_size for path in bundle.rglob("*") if path.stat().st_size > 100_000}
    parts = {bundle / name for name in ("unet", "vae", "text_encoder")}
    core = sum(size for path, size in weights.items() if path.parent in parts)

    assert all(path.suffix == ".safetensors" for path in weights)
    assert max(weights.values()) < 16 * MEBIBYTE
    assert core <= 20e6
    assert sum(weights.values()) <= 40e6


def test_the_same_seed_builds_the_same_bundle(random_bundle, tmp_path):
    again = bundles.build_random_bundle(tmp_path / "again")

    for path in random_bundle.rglob("*.safetensors"):
        assert path.read_bytes() == (again / path.relative_to(random_bundle)).read_bytes()


def test_a_bundle_loads_offline_and_draws(bundle):
    (picture,) = draw_prompts(load(bundle), ["a red circle"], width=128, height=64, steps=2)

    assert picture.shape == (64, 128, 3)


def test_the_text_tower_is_deep_enough_and_attention_begins_at_full_resolution(bundle):
    text = json.loads((bundle / "text_encoder" / "config.json").read_text())
    unet = json.loads((bundle / "unet" / "config.json").read_text())

    assert text["num_hidden_layers"] >= 9
    assert "CrossAttn" in unet["down_block_types"][0]
    assert unet["in_channels"] == 4


def test_without_a_trained_bundle_a_random_one_is_built_once(tmp_path, monkeypatch):
    monkeypatch.setattr(bundles, "TRAINED_BUNDLE", tmp_path / "missing")

    first = bundles.bundle_path(tmp_path / "cache")
    made = (first / "model_index.json").stat().st_mtime_ns

    assert bundles.bundle_path(tmp_path / "cache") == first
    assert (first / "model_index.json").stat().st_mtime_ns == made
    assert not list((tmp_path / "cache").glob(".*"))


def test_a_trained_bundle_is_preferred(tmp_path, monkeypatch):
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "model_index.json").write_text("{}")
    monkeypatch.setattr(bundles, "TRAINED_BUNDLE", tmp_path / "trained")

    assert bundles.bundle_path(tmp_path / "cache") == tmp_path / "trained"


def test_a_failed_build_leaves_nothing_behind(tmp_path):
    def build_and_fail():
        with bundles.atomic_directory(tmp_path / "half") as temporary:
            (temporary / "file").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        build_and_fail()

    assert list(tmp_path.iterdir()) == []
