"""Checkpoints from wherever they lie: folders, parts, variants, single files, Hugging Face; bounded by memory."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from shared.errors import ModelLoadFailed
from tests import assetrig
from worker.demo_model.bundle import build_random_bundle
from worker.engine import MIB
from worker.loading.checkpoint import memory_needed, memory_taken

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = ("unet", "vae", "text_encoder")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    torch.set_num_threads(1)
    return build_random_bundle(tmp_path_factory.mktemp("models") / "tiny")


def weights(pipeline):
    return {f"{name}.{key}": t for name in NETWORKS for key, t in getattr(pipeline, name).state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(tensor, other[key]) for key, tensor in one.items())


@pytest.fixture(scope="module")
def expected(bundle):
    return weights(assetrig.plain(bundle))


def loaded(folder, catalog, name="one", **settings):
    return assetrig.engine(folder, catalog, **settings).model(name)[0]


def test_a_single_file_is_read_with_its_cores_configuration(bundle, tmp_path, expected):
    assetrig.single_file(tmp_path / "one.safetensors", bundle)
    core = f'[models.core]\nsource = "{bundle}"\n[models.one]\nsource = "./one.safetensors"\ncore = "core"\n'
    model = loaded(tmp_path, core)

    assert same(weights(model.pipeline), expected)
    assert (
        model.pipeline.tokenizer("a red circle").input_ids == assetrig.plain(bundle).tokenizer("a red circle").input_ids
    )
    config = json.loads((bundle / "scheduler/scheduler_config.json").read_text())
    assert model.pipeline.scheduler.config["beta_start"] == config["beta_start"]


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found | {"lora_unet_stranger": torch.zeros(1)},
        lambda found: found | {"model.diffusion_model.stranger.weight": torch.zeros(1)},
        lambda found: {key: t for key, t in found.items() if "decoder.conv_out.bias" not in key},
    ],
    ids=["of no network", "of no layer", "missing"],
)
def test_a_single_file_with_a_tensor_too_many_or_too_few_fails(bundle, tmp_path, change):
    file = assetrig.single_file(tmp_path / "one.safetensors", bundle)
    save_file(change(load_file(file)), file)
    with pytest.raises(ModelLoadFailed, match="'one'"):
        loaded(tmp_path, f'[models.one]\nsource = "./one.safetensors"\ncore = "{bundle}"\n')


def test_a_folder_of_parts_gets_the_rest_from_its_core(bundle, tmp_path, expected):
    other = build_random_bundle(tmp_path / "other", seed=1)
    shutil.copytree(other / "unet", tmp_path / "part" / "unet")
    text = f'[models.core]\nsource = "{bundle}"\n[models.one]\nsource = "./part"\ncore = "core"\n'
    model = loaded(tmp_path, text)
    found, others = weights(model.pipeline), weights(assetrig.plain(other))

    assert same({k: t for k, t in found.items() if k.startswith("unet.")},
                {k: t for k, t in others.items() if k.startswith("unet.")})  # fmt: skip
    assert same({k: t for k, t in found.items() if not k.startswith("unet.")},
                {k: t for k, t in expected.items() if not k.startswith("unet.")})  # fmt: skip


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("how", ["too many", "too few"])
def test_a_folder_with_a_tensor_too_many_or_too_few_fails(bundle, tmp_path, network, how):
    shutil.copytree(bundle, tmp_path / "one")
    (file,) = (tmp_path / "one" / network).glob("*.safetensors")
    found = load_file(file)
    found = found | {"stranger": torch.zeros(1)} if how == "too many" else dict(list(found.items())[1:])
    save_file(found, file, metadata={"format": "pt"})
    with pytest.raises(ModelLoadFailed, match="'one'"):
        loaded(tmp_path, '[models.one]\nsource = "./one"\n')


def test_a_variant_is_read_where_it_is_asked_for(bundle, tmp_path, expected):
    shutil.copytree(bundle, tmp_path / "one")
    for network in NETWORKS:
        (file,) = (tmp_path / "one" / network).glob("*.safetensors")
        save_file(load_file(file), file.with_suffix(".fp16.safetensors"), metadata={"format": "pt"})
        save_file({key: t + 1 for key, t in load_file(file).items()}, file, metadata={"format": "pt"})

    assert same(weights(loaded(tmp_path, '[models.one]\nsource = "./one"\nvariant = "fp16"\n').pipeline), expected)
    assert not same(weights(loaded(tmp_path, '[models.one]\nsource = "./one"\n').pipeline), expected)


def test_a_hugging_face_id_is_found_in_its_cache_without_a_network(bundle, tmp_path, expected):
    snapshot = tmp_path / "hf/hub/models--someone--tiny/snapshots/abc"
    shutil.copytree(bundle, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text("abc")
    (tmp_path / "models.toml").write_text('[models.one]\nsource = "someone/tiny"\n[models.none]\nsource = "no/one"\n')
    code = """
import sys
from pathlib import Path
from shared.catalog import Catalog
from shared.errors import ModelLoadFailed
from shared.settings import Settings
from worker.engine import Engine
home = Path(sys.argv[1])
settings = Settings(data_dir=home, device="cpu", models_catalog=home / "models.toml")
engine = Engine(settings, Catalog.load(settings))
print(engine.model("one")[0].fingerprint["model_hash"])
try:
    engine.model("none")
except ModelLoadFailed as error:
    print(error.message)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=900,
        env={**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "LOG_LEVEL": "ERROR"},
    )
    lines = done.stdout.splitlines()
    assert loaded(tmp_path, f'[models.one]\nsource = "{bundle}"\n').fingerprint["model_hash"] in lines
    assert lines[-1] == "the model 'none' could not be loaded"


def test_models_are_kept_as_far_as_memory_goes_and_room_is_made_before_one_is_read(bundle, tmp_path, monkeypatch):
    text = "".join(f'[models.m{index}]\nsource = "{bundle}"\n' for index in range(3))
    engine = assetrig.engine(tmp_path, text)
    size = memory_taken(engine.model("m0")[0].pipeline)
    assert memory_needed(bundle, engine.device) == pytest.approx(size, rel=0.01)

    engine = assetrig.engine(tmp_path, text, models_memory_mb=2 * size // MIB + 1)
    first = engine.model("m0")[0]
    engine.model("m1")
    assert engine.model("m0") == (first, 0.0)
    engine.model("m2")
    assert list(engine._models) == ["m0", "m2"]
    assert engine.loaded_model == "m2"

    engine = assetrig.engine(tmp_path, text, models_memory_mb=1)
    engine.model("m0")
    seen = []
    read = engine._models.make_room
    monkeypatch.setattr(engine._models, "make_room", lambda needed: (read(needed), seen.append(len(engine._models))))
    engine.model("m1")
    assert seen[0] == 0
    assert list(engine._models) == ["m1"]
