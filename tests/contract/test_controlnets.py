"""ControlNets from files: what is loaded, what is refused, and what is kept."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel
from safetensors.torch import load_file, save_file

from shared.catalog import Catalog
from shared.settings import Settings
from shared.spec import ControlNet, JobSpec
from tests.controlnets import random_controlnet
from worker.assets import AssetIncompatible, AssetLoadFailed
from worker.demo_model.bundle import build_random_bundle
from worker.engine import Engine
from worker.pipelines import Shot
from worker.pipelines.tasks import DRAW

#: diffusers' own ways with numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")

SIZE = 64
WEIGHTS = "diffusion_pytorch_model.safetensors"
SPEC = JobSpec(
    prompt="a red circle",
    width=SIZE,
    height=SIZE,
    num_inference_steps=2,
    scheduler="DDIMScheduler",
    controlnets=(ControlNet("good", "inputs/c.png"),),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with a bundle, and ControlNets of which one is good."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models")
    bundle = build_random_bundle(folder / "tiny")
    good = random_controlnet(bundle, folder / "good", seed=1)
    tensors = load_file(good / WEIGHTS)
    first, *rest = sorted(tensors)
    for name, kept in (
        ("less", {key: tensors[key] for key in rest}),
        ("more", tensors | {"x": tensors[first].clone()}),
    ):
        shutil.copytree(good, folder / name)
        save_file(kept, folder / name / WEIGHTS)
        save_file(kept, folder / f"{name}.safetensors")
    save_file(tensors, folder / "one.safetensors")
    config = json.loads((good / "config.json").read_text())
    ControlNetModel.from_config({**config, "cross_attention_dim": 64}).save_pretrained(folder / "foreign")
    return folder


@pytest.fixture(scope="module")
def load(place):
    names = {name: name for name in ("good", "less", "more", "foreign", "missing")}
    names |= {"one": "one.safetensors", "less1": "less.safetensors", "more1": "more.safetensors"}
    names |= {"copy0": "good", "copy1": "good"}
    text = "".join(f'[controlnets.{name}]\nsource = "{place / file}"\nhint = "canny"\n' for name, file in names.items())
    (place / "models.toml").write_text(f'[models.tiny]\nsource = "{place / "tiny"}"\n{text}')

    def load(**options):
        settings = Settings(data_dir=place, device="cpu", models_catalog=place / "models.toml", **options)
        engine = Engine(settings, Catalog.load(settings))
        return engine, engine.model("tiny")[0]

    return load


def pixels(model, spec):
    hints = tuple(np.linspace(0, 1, SIZE * SIZE * 3, dtype=np.float32).reshape(SIZE, SIZE, 3) for _ in spec.controlnets)
    shot = Shot(prompt=spec.prompt, negative_prompt="", seed=7, hints=hints)
    return np.asarray(DRAW[spec.task](model, spec, [shot], on_step=lambda: None)[0])


def named(*names):
    return SPEC.evolve(controlnets=tuple(ControlNet(name, "inputs/c.png") for name in names))


def test_a_single_file_is_the_same_as_a_folder(load):
    _, model = load()
    assert np.array_equal(pixels(model, named("one")), pixels(model, named("good")))
    assert not np.array_equal(pixels(model, named("good")), pixels(model, named()))


@pytest.mark.parametrize("name", ["less", "more", "less1", "more1", "missing"])
def test_every_tensor_must_have_its_place(load, name):
    engine, model = load()
    with pytest.raises(AssetLoadFailed, match=name), engine.dressed(model, named(name)):
        pass


def test_one_for_another_kind_of_network_is_refused(load):
    engine, model = load()
    with pytest.raises(AssetIncompatible, match="foreign"), engine.dressed(model, named("foreign")):
        pass


def test_the_record_tells_their_weights(load):
    engine, model = load()
    with engine.dressed(model, named("good")) as load_s:
        assert load_s > 0
        (told,) = model.fingerprint["assets"].items()
    with engine.dressed(model, named("one")):
        assert model.fingerprint["assets"].keys() == {"controlnet one"}
    assert told[0] == "controlnet good"
    assert "assets" not in model.fingerprint


def test_the_last_few_that_fit_into_memory_are_kept(load):
    _, model = load()
    size = sum(weight.nbytes for weight in model.controlnets.get("good", model.pipeline.unet).state_dict().values())
    _, model = load(assets_memory_mb=int(2.5 * size) // 2**20)

    def fetch(name):
        return model.controlnets.get(name, model.pipeline.unet)

    first, other = fetch("good"), fetch("copy0")
    assert fetch("good") is first
    fetch("copy1")
    assert fetch("good") is first
    assert fetch("copy0") is not other


def test_they_follow_the_models_precision_and_come_back(load):
    _, model = load()
    for network in (model.pipeline.unet, model.pipeline.vae, model.pipeline.text_encoder):
        network.bfloat16()
    rough = pixels(model, SPEC)
    net = model.controlnets.get("good", model.pipeline.unet)
    weights = {name: weight.clone() for name, weight in net.state_dict().items()}
    with model.single_precision():
        precise = pixels(model, SPEC)
        assert net.dtype == torch.float32
    assert np.array_equal(pixels(model, SPEC), rough)
    assert not np.array_equal(precise, rough)
    assert net.dtype == torch.bfloat16
    assert all(torch.equal(weight, weights[name]) for name, weight in net.state_dict().items())


def test_it_works_more_the_more_it_is_asked_to(load):
    _, model = load()
    spec = SPEC.evolve(num_inference_steps=4)
    without = pixels(model, spec.evolve(controlnets=())).astype(int)

    def far(**asked):
        asked_for = spec.evolve(controlnets=(ControlNet("good", "inputs/c.png", **asked),))
        return np.abs(pixels(model, asked_for).astype(int) - without).mean()

    assert far(scale=0) == far(end=0) == 0
    assert 0 < far(scale=0.02) < far(scale=0.1)
    assert len({far(), far(end=0.5), far(start=0.5)}) == 3
