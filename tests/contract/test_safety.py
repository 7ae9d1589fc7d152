"""The safety checker: which pictures it flags, what is shown in their place, and what the record says."""

import io
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from shared.catalog import Catalog
from shared.errors import ModelLoadFailed
from shared.job import Status
from shared.settings import Settings
from shared.spec import SAFETY, JobSpec
from tests.worker_rig import Rig
from worker import safety
from worker.demo_model.bundle import build_random_bundle
from worker.engine import Engine
from worker.pipelines import Shot
from worker.pipelines.tasks import DRAW
from worker.safety import checked, replaced, screened

#: diffusers' own ways with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")

SPEC = JobSpec(prompt="a red circle", model="demo", width=64, height=64, num_inference_steps=2, seed=7)
FLAGGED, CLEAN = 7, 8
REPLACING = [kind for kind in SAFETY if kind != "off"]


def draw(model, seed, spec=SPEC):
    shots = [Shot(prompt=spec.prompt, negative_prompt="", seed=seed)]
    return DRAW[spec.task](model, spec, shots, on_step=lambda: None)[0]


def embedding(model, image):
    checker = model.checker
    with torch.inference_mode():
        pixels = checker._processor(image, return_tensors="pt").pixel_values
        pooled = checker._network.vision_model(pixels)[1]
        return torch.nn.functional.normalize(checker._network.visual_projection(pooled))[0]


def teach(folder, *, concept, threshold):
    """Give the checker in a folder one concept, flagged where the cosine passes the threshold."""
    file = folder / "safety_checker" / "model.safetensors"
    weights = load_file(file)
    weights["concept_embeds"][0] = concept
    weights["concept_embeds_weights"][0] = threshold
    save_file(weights, file, metadata={"format": "pt"})


def engine_of(folder, data, **more):
    lines = [f"{key} = {json.dumps(str(value))}" for key, value in {"source": folder, **more}.items()]
    data.mkdir(exist_ok=True)
    (data / "models.toml").write_text("\n".join(["[models.demo]", *lines]))
    settings = Settings(data_dir=data, device="cpu", models_catalog=data / "models.toml")
    return Engine(settings, Catalog.load(settings))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    torch.set_num_threads(1)
    return build_random_bundle(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def engine(bundle, tmp_path_factory):
    """An engine whose model's checker flags the picture of seed 7, and not that of seed 8."""
    folder = tmp_path_factory.mktemp("models") / "taught"
    shutil.copytree(bundle, folder)
    untaught = engine_of(folder, tmp_path_factory.mktemp("untaught")).model("demo")[0]
    hit, miss = (embedding(untaught, draw(untaught, seed)) for seed in (FLAGGED, CLEAN))
    concept = torch.nn.functional.normalize(hit - (hit @ miss) * miss, dim=0)
    teach(folder, concept=concept, threshold=float(hit @ concept) / 2)
    return engine_of(folder, tmp_path_factory.mktemp("taught"))


@pytest.fixture(scope="module")
def model(engine):
    return engine.model("demo")[0]


@pytest.fixture
def rig(valkey, engine):
    return Rig(valkey, engine=engine)


def stored(rig, artifact):
    return np.asarray(Image.open(io.BytesIO(rig.storage.objects[artifact.key].data)))


@pytest.mark.parametrize("kind", REPLACING)
def test_a_flagged_picture_is_replaced_and_another_is_not(model, kind):
    spec = SPEC.evolve(safety=kind)
    flagged, clean = draw(model, FLAGGED), draw(model, CLEAN)
    found = screened(model, spec, flagged)
    assert found.flagged
    assert found.image.tobytes() == replaced(flagged, kind).tobytes() != flagged.tobytes()
    assert screened(model, spec, clean) == safety.Screened(clean)


def test_off_checks_nothing(model, monkeypatch):
    monkeypatch.setattr(model.checker, "flags", lambda _: pytest.fail("it was asked"))
    picture = draw(model, FLAGGED)
    assert screened(model, SPEC.evolve(safety="off"), picture) == safety.Screened(picture)


def test_a_verdict_is_diffusers_own(model, bundle):
    theirs = model.checker._network
    for seed, verdict in ((FLAGGED, True), (CLEAN, False)):
        pixels = model.checker._processor(draw(model, seed), return_tensors="pt").pixel_values
        pictures, flags = theirs(pixels, [np.ones((2, 2, 3))])
        assert flags == [verdict] == [model.checker.flags(draw(model, seed))]
        assert pictures[0].any() != verdict


@pytest.mark.parametrize("size", [(64, 64), (512, 320), (64, 512)])
def test_what_is_shown_instead(size):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    shown = {kind: np.asarray(replaced(noise, kind)) for kind in REPLACING}
    assert all(pixels.shape == (size[1], size[0], 3) for pixels in shown.values())
    assert (shown["blank"] == 255).all()
    assert not shown["black"].any()
    assert shown["blur"].std() < np.asarray(noise).std() / 10
    assert len(np.unique(shown["pixelate"].reshape(-1, 3), axis=0)) <= (safety.BLOCKS + 1) ** 2
    rows, columns = np.nonzero(shown["sensitive_content_text"].max(axis=2) > 128)
    assert 0.7 < (columns.max() - columns.min()) / size[0] < 0.9
    assert abs((rows.max() + rows.min()) / 2 - size[1] / 2) < 0.1 * size[1]


def test_a_jobs_record_says_which_picture_was_flagged(rig):
    uid = rig.submit(num_inference_steps=2, seed=FLAGGED, num_images=2, safety="black", preview_every=1)
    rig.runner.turn()
    job = rig.read(uid)
    assert job.status is Status.SUCCEEDED
    assert [artifact.flagged for artifact in job.result.artifacts] == [True, False]
    assert not stored(rig, job.result.artifacts[0]).any()
    assert stored(rig, job.result.artifacts[1]).any()
    assert job.result.parameters["safety"] == "black"
    assert {preview.index for preview in job.previews} == {0, 1}


def test_previews_are_checked_too(rig, engine, monkeypatch):
    monkeypatch.setattr(engine.model("demo")[0].checker, "flags", lambda _: True)
    uid = rig.submit(num_inference_steps=3, safety="black", preview_every=1)
    rig.runner.turn()
    previews = rig.read(uid).previews
    assert previews
    assert all(stored(rig, preview).max() < 8 for preview in previews)


def test_jobs_of_other_safety_share_a_call_and_none_of_it(rig):
    off, on = (
        rig.submit(num_inference_steps=2, seed=FLAGGED, safety="off"),
        rig.submit(num_inference_steps=2, seed=FLAGGED, safety="blank"),
    )
    leases = rig.claim()
    assert len({lease.submission.spec.batch_key() for lease in leases}) == 1
    rig.runner.run(leases)
    assert rig.delivery.drain(60)
    results = [rig.read(uid).result for uid in (off, on)]
    assert [result.artifacts[0].flagged for result in results] == [False, True]
    assert [result.parameters["safety"] for result in results] == ["off", "blank"]


def test_unflagged_pictures_are_the_same_with_and_without_the_checker(rig):
    uids = [rig.submit(num_inference_steps=2, seed=CLEAN, safety=kind) for kind in ("off", "black", "blur")]
    rig.runner.turn()
    files = {rig.storage.objects[rig.read(uid).result.artifacts[0].key].data for uid in uids}
    assert len(files) == 1


def test_a_model_without_a_checker_says_so(bundle, tmp_path):
    folder = tmp_path / "bare"
    shutil.copytree(bundle, folder, ignore=lambda _, names: [n for n in names if n == "safety_checker"])
    bare = engine_of(folder, tmp_path / "data").model("demo")[0]
    picture = draw(bare, FLAGGED)
    assert screened(bare, SPEC, picture) == safety.Screened(picture)
    assert checked(bare, SPEC) == "unchecked"
    assert checked(bare, SPEC.evolve(safety="off")) == "off"


def test_the_catalog_may_name_a_checker(bundle, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(bundle, bare, ignore=lambda _, names: [n for n in names if n == "safety_checker"])
    model = engine_of(bare, tmp_path / "data", safety_checker=bundle / "safety_checker").model("demo")[0]
    assert checked(model, SPEC) == SPEC.safety


def test_an_older_files_names_are_read(bundle, tmp_path):
    folder = tmp_path / "older"
    shutil.copytree(bundle, folder)
    file = folder / "safety_checker" / "model.safetensors"
    weights = {name.replace("vision_model.", "vision_model.vision_model.", 1): t for name, t in load_file(file).items()}
    weights["vision_model.vision_model.embeddings.position_ids"] = torch.arange(65)[None]
    save_file(weights, file)
    older, model = (engine_of(place, tmp_path / place.name).model("demo")[0] for place in (folder, bundle))
    picture = Image.new("RGB", (64, 64), "red")
    assert torch.equal(embedding(older, picture), embedding(model, picture))


@pytest.mark.parametrize("change", ["missing", "more", "pickle"])
def test_a_checker_that_is_not_whole_fails_the_model(bundle, tmp_path, change):
    folder = tmp_path / "broken"
    shutil.copytree(bundle, folder)
    file = folder / "safety_checker" / "model.safetensors"
    weights = load_file(file)
    if change == "missing":
        del weights["visual_projection.weight"]
    weights["more"] = torch.zeros(1)
    if change != "more":
        del weights["more"]
    save_file(weights, file)
    if change == "pickle":
        file.rename(file.with_name("pytorch_model.bin"))
    with pytest.raises(ModelLoadFailed, match="'demo'"):
        engine_of(folder, tmp_path / "data").model("demo")
