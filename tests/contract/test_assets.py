"""LoRAs, VAEs and textual inversions: against diffusers, by their effect, and leaving nothing behind."""

import gc
import itertools
import json
import random

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from shared.catalog import Kind
from shared.spec import JobSpec, Lora
from tests import assetrig
from tests.worker_rig import Rig
from worker.assets import AssetIncompatible, AssetLoadFailed
from worker.assets.kept import Kept
from worker.demo_model.bundle import build_random_bundle
from worker.pipelines import Shot
from worker.pipelines.tasks import DRAW
from worker.pipelines.text_to_image import draw as draw_from_text

#: diffusers' own ways with numpy 2, and PEFT's with names.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
]

SPEC = JobSpec(prompt="a red circle", model="tiny", width=64, height=64, num_inference_steps=3, seed=7)
CATALOG = """
[models.tiny]
source = "{bundle}"
[[folders]]
path = "./assets"
[vaes.broken]
source = "./assets/broken.safetensors"
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    torch.set_num_threads(1)
    return build_random_bundle(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, bundle):
    home = tmp_path_factory.mktemp("home")
    for name in ("loras", "vaes", "textual_inversions"):
        (home / "assets" / name).mkdir(parents=True)
    pipeline = assetrig.plain(bundle)
    loras = home / "assets" / "loras"
    assetrig.peft_lora(loras / "peft.safetensors", pipeline)
    assetrig.peft_lora(loras / "other.safetensors", pipeline, rank=2, seed=5)
    assetrig.peft_lora(loras / "unet.safetensors", pipeline, text=False, seed=6)
    assetrig.kohya_lora(loras / "kohya.safetensors", pipeline)
    assetrig.kohya_lora(loras / "kohya-unet.safetensors", pipeline, text=())
    assetrig.inversion(home / "assets/textual_inversions/toy.safetensors", count=3)
    assetrig.inversion(home / "assets/textual_inversions/hat.safetensors", count=1, seed=1, name="<hat>")
    assetrig.contrast_vae(home / "assets/vaes/contrast", bundle)
    return home


@pytest.fixture(scope="module")
def engine(folder, bundle):
    (folder / "assets/loras/twin.safetensors").touch()
    (folder / "assets/broken.safetensors").write_bytes(b"nothing like it")
    return assetrig.engine(folder, CATALOG.format(bundle=bundle))


@pytest.fixture(scope="module")
def model(engine):
    return engine.model("tiny")[0]


def pixels(engine, model, spec=SPEC, **changes):
    spec = spec.evolve(**changes)
    shot = Shot(
        prompt=spec.prompt,
        negative_prompt=spec.negative_prompt,
        seed=spec.seed,
        weighting=spec.prompt_weighting,
        clip_skip=spec.clip_skip or 0,
    )
    with engine.dressed(model, spec):
        (image,) = DRAW[spec.task](model, spec, [shot], on_step=lambda: None)
    return np.asarray(image).astype(int)


def embeddings(engine, model, prompt, negative="", weighting="none", clip_skip=0, **spec):
    with engine.dressed(model, SPEC.evolve(**spec)), torch.inference_mode():
        return model.embeddings(prompt, negative, weighting=weighting, clip_skip=clip_skip)


def theirs(pipeline, prompt="a red circle", negative=""):
    picture = pipeline(
        prompt,
        negative_prompt=negative,
        width=64,
        height=64,
        num_inference_steps=3,
        generator=torch.Generator("cpu").manual_seed(7),
    ).images[0]
    return np.asarray(picture).astype(int)


@pytest.mark.parametrize(
    "loras",
    [
        (("peft", 1.0),),
        (("peft", -0.6),),
        (("peft", 0.7), ("other", 1.5)),
        (("unet", 1.0),),
        (("kohya-unet", 0.8),),
        (("kohya-unet", 0.8), ("peft", 1.2)),
    ],
)
def test_loras_draw_as_diffusers_draws_them(engine, model, bundle, folder, loras):
    pipeline = assetrig.plain(bundle)
    for name, _ in loras:
        pipeline.load_lora_weights(folder / "assets/loras", weight_name=f"{name}.safetensors", adapter_name=name)
    pipeline.set_adapters([name for name, _ in loras], [weight for _, weight in loras])
    expected = theirs(pipeline)

    found = pixels(engine, model, loras=tuple(itertools.starmap(Lora, loras)))

    assert np.abs(found - expected).max() <= 1
    assert np.abs(found - pixels(engine, model)).max() > 5


def merged(pipeline, file, weight):
    """Add a kohya LoRA to a pipeline's weights, tensor by tensor as its format says, and return how many were used."""
    tensors, used = load_file(file), 0
    for prefix, network in (("lora_unet_", pipeline.unet), ("lora_te_text_model_", pipeline.text_encoder)):
        for name, module in network.named_modules():
            flat = prefix + name.replace(".", "_")
            if f"{flat}.alpha" not in tensors:
                continue
            down, up = tensors[f"{flat}.lora_down.weight"], tensors[f"{flat}.lora_up.weight"]
            change = (up.flatten(1) @ down.flatten(1)).reshape(module.weight.shape)
            module.weight.data += weight * float(tensors[f"{flat}.alpha"]) / down.shape[0] * change
            used += 3
    assert used == len(tensors)
    return pipeline


def test_every_tensor_of_a_kohya_lora_works_attention_of_the_text_encoder_too(engine, model, bundle, folder):
    pipeline = merged(assetrig.plain(bundle), folder / "assets/loras/kohya.safetensors", 0.7)
    expected, _ = pipeline.encode_prompt("a red circle", "cpu", 1, False)

    found = pixels(engine, model, loras=(Lora("kohya", 0.7),))
    encoded = embeddings(engine, model, "a red circle", loras=(Lora("kohya", 0.7),)).positive

    assert torch.allclose(encoded, expected, atol=1e-4)
    assert np.abs(found - theirs(pipeline)).max() <= 1
    assert np.abs(found - pixels(engine, model, loras=(Lora("kohya-unet", 0.7),))).max() > 1


def test_a_convolution_may_have_a_third_part(engine, model, bundle, folder):
    pipeline = assetrig.plain(bundle)
    name, layer = "down_blocks.0.resnets.0.conv1", pipeline.unet.down_blocks[0].resnets[0].conv1
    draws = torch.Generator().manual_seed(3)
    down, mid, up = (
        torch.randn(shape, generator=draws) / 4
        for shape in ((4, layer.in_channels, 1, 1), (4, 4, 3, 3), (layer.out_channels, 4, 1, 1))
    )
    flat = f"lora_unet_{name.replace('.', '_')}"
    parts = {"lora_down.weight": down, "lora_mid.weight": mid, "lora_up.weight": up, "alpha": torch.tensor(8.0)}
    save_file({f"{flat}.{part}": t for part, t in parts.items()}, folder / "assets/loras/twin.safetensors")
    layer.weight.data += 2 * torch.einsum("or,rskl,si->oikl", up[..., 0, 0], mid, down[..., 0, 0])

    found = pixels(engine, model, loras=(Lora("twin"),))

    assert np.abs(found - theirs(pipeline)).max() <= 1
    assert np.abs(found - pixels(engine, model)).max() > 1


RENAMED = {
    "peft's own adapter name": lambda key: key.replace(".lora_A.", ".lora_A.default."),
    "diffusers before PEFT": lambda key: key.replace(".lora_A.", ".lora.down.").replace(".lora_B.", ".lora.up."),
    "attention processors": lambda key: (
        key.replace(".to_out.0.lora", ".to_out.lora")
        .replace(".to_", ".processor.to_")
        .replace(".lora_A.", "_lora.down.")
        .replace(".lora_B.", "_lora.up.")
    ),
    "without the network": lambda key: key.removeprefix("unet."),
}


@pytest.mark.parametrize("renamed", RENAMED.values(), ids=RENAMED)
def test_older_names_mean_the_same(bundle, folder, tmp_path, engine, model, renamed):
    (tmp_path / "assets/loras").mkdir(parents=True)
    tensors = load_file(folder / "assets/loras/unet.safetensors")
    save_file({renamed(key): tensor for key, tensor in tensors.items()}, tmp_path / "assets/loras/unet.safetensors")
    other = assetrig.engine(tmp_path, CATALOG.format(bundle=bundle))

    found = pixels(other, other.model("tiny")[0], loras=(Lora("unet"),))

    assert np.array_equal(found, pixels(engine, model, loras=(Lora("unet"),)))


def test_alpha_may_be_told_in_the_files_header(bundle, folder, tmp_path, engine, model):
    (tmp_path / "assets/loras").mkdir(parents=True)
    config = {"unet.r": 4, "unet.lora_alpha": 2, "unet.alpha_pattern": {}, "unet.use_dora": False}
    metadata = {"lora_adapter_metadata": json.dumps(config)}
    tensors = load_file(folder / "assets/loras/unet.safetensors")
    save_file(tensors, tmp_path / "assets/loras/unet.safetensors", metadata=metadata)
    other = assetrig.engine(tmp_path, CATALOG.format(bundle=bundle))

    found = pixels(other, other.model("tiny")[0], loras=(Lora("unet"),))

    assert np.array_equal(found, pixels(engine, model, loras=(Lora("unet", 0.5),)))


def broken(tensors, how):
    key = next(key for key in tensors if key.endswith("lora_A.weight"))
    if how == "a stranger":
        return tensors | {"unet.down_blocks.9.to_q.lora_A.weight": tensors[key].clone()}
    if how == "another network":
        return tensors | {"lora_te2_text_model_encoder_layers_0_mlp_fc1.alpha": torch.tensor(1.0)}
    if how == "a decomposition":
        return tensors | {key.replace("lora_A.weight", "dora_scale"): tensors[key].clone()}
    if how == "half":
        return {name: tensor for name, tensor in tensors.items() if name != key}
    if how == "another width":
        return tensors | {key: torch.zeros(4, 5)}
    return {}


@pytest.mark.parametrize(
    "how", ["a stranger", "another network", "a decomposition", "half", "another width", "nothing"]
)
def test_a_lora_that_does_not_fit_is_refused_whole(bundle, folder, tmp_path, how):
    (tmp_path / "assets/loras").mkdir(parents=True)
    tensors = load_file(folder / "assets/loras/peft.safetensors")
    save_file(broken(tensors, how), tmp_path / "assets/loras/bad.safetensors")
    engine = assetrig.engine(tmp_path, CATALOG.format(bundle=bundle))
    model = engine.model("tiny")[0]

    with pytest.raises(AssetIncompatible, match="bad") as refusal:
        pixels(engine, model, loras=(Lora("bad"),))
    assert str(tmp_path) not in refusal.value.message
    assert not any(module._forward_hooks for module in model.pipeline.unet.modules())


def test_a_file_that_cannot_be_read_is_named_without_its_path(bundle, tmp_path):
    (tmp_path / "assets/loras").mkdir(parents=True)
    (tmp_path / "assets/loras/bad.safetensors").write_bytes(b"nothing like it")
    engine = assetrig.engine(tmp_path, CATALOG.format(bundle=bundle))

    with pytest.raises(AssetLoadFailed, match="'bad'") as refusal:
        pixels(engine, engine.model("tiny")[0], loras=(Lora("bad"),))
    assert str(tmp_path) not in refusal.value.message


def test_nothing_is_left_behind(engine, model):
    before, encoded = pixels(engine, model), embeddings(engine, model, "a red circle").positive
    weights = {key: tensor.clone() for key, tensor in model.pipeline.unet.state_dict().items()}
    worn = pixels(
        engine,
        model,
        prompt="a red toy circle",
        loras=(Lora("kohya"), Lora("peft")),
        vae="contrast",
        textual_inversions=(("toy", "toy"),),
    )

    assert not np.array_equal(worn, before)
    assert np.array_equal(pixels(engine, model), before)
    assert torch.equal(embeddings(engine, model, "a red circle").positive, encoded)
    assert all(torch.equal(weights[key], tensor) for key, tensor in model.pipeline.unet.state_dict().items())


def test_a_failure_leaves_nothing_behind_either(engine, model):
    before = pixels(engine, model)
    with (
        pytest.raises(ZeroDivisionError),
        engine.dressed(model, SPEC.evolve(loras=(Lora("kohya"),), vae="contrast")),
    ):
        raise ZeroDivisionError
    assert np.array_equal(pixels(engine, model), before)


def test_a_weight_of_zero_is_no_lora_and_more_weight_has_more_effect(engine, model):
    before = pixels(engine, model)
    moved = [np.abs(pixels(engine, model, loras=(Lora("peft", w),)) - before).mean() for w in (0, 0.25, 0.5, 1)]

    assert moved[0] == 0
    assert moved == sorted(moved)
    assert moved[1] > 0


def test_switching_keeps_memory_flat(engine, model):
    def counted():
        gc.collect()
        # Not isinstance, which asks each thing, and some of torch's warn when they are asked.
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    names = ("peft", "other", "unet", "kohya", "kohya-unet")
    draws = random.Random(0)

    def switch():
        worn = tuple(Lora(name, draws.random()) for name in draws.sample(names, 2))
        with engine.dressed(model, SPEC.evolve(loras=worn, vae=draws.choice([None, "contrast"]))):
            pass

    for name in names:
        with engine.dressed(model, SPEC.evolve(loras=(Lora(name),), vae="contrast")):
            pass
    before = counted()
    for _ in range(200):
        switch()
    assert counted() <= before
    assert not any(module._forward_hooks for module in model.pipeline.unet.modules())


def test_prompts_are_encoded_anew_for_another_outfit(engine, model):
    plain = embeddings(engine, model, "a red toy").positive
    worn = [
        embeddings(engine, model, "a red toy", **spec).positive
        for spec in (
            {"loras": (Lora("peft"),)},
            {"loras": (Lora("peft", 0.5),)},
            {"loras": (Lora("kohya"),)},
            {"textual_inversions": (("toy", "toy"),)},
            {"textual_inversions": (("hat", "toy"),)},
        )
    ]
    assert all(not torch.equal(one, other) for one, other in itertools.combinations([plain, *worn], 2))
    # What changes nothing of the text is encoded once.
    assert embeddings(engine, model, "a red toy", loras=(Lora("unet"),), vae="contrast").positive is plain


def test_a_vae_decodes_in_place_of_the_models_own(engine, model, bundle, folder):
    from diffusers import AutoencoderKL

    pipeline = assetrig.plain(bundle)
    pipeline.vae = AutoencoderKL.from_pretrained(folder / "assets/vaes/contrast")
    found = pixels(engine, model, vae="contrast")

    assert np.abs(found - theirs(pipeline)).max() <= 1
    assert found.std() > pixels(engine, model).std() * 1.2


@pytest.mark.parametrize("old", [False, True], ids=["today's names", "the names before 0.17"])
def test_a_single_files_names_are_known(bundle, tmp_path, old):
    """A VAE with attention, since only attention has old names."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    vae = AutoencoderKL(block_out_channels=(16, 32, 64, 80), down_block_types=("DownEncoderBlock2D",) * 4,
                        up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=1)  # fmt: skip
    weights = vae.state_dict()
    if old:
        names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        weights = {
            next((key.replace(new, was) for new, was in names.items() if f".{new}." in key), key): tensor
            for key, tensor in weights.items()
        }
    folder = tmp_path / "assets/vaes/old"
    folder.mkdir(parents=True)
    vae.save_config(folder)
    save_file(weights, folder / "diffusion_pytorch_model.safetensors")
    engine = assetrig.engine(tmp_path, CATALOG.format(bundle=bundle))
    model = engine.model("tiny")[0]

    with engine.dressed(model, SPEC.evolve(vae="old")):
        assert all(
            torch.equal(tensor, model.pipeline.vae.state_dict()[key]) for key, tensor in vae.state_dict().items()
        )


def test_a_vae_of_other_latents_is_refused(bundle, tmp_path):
    from diffusers import AutoencoderKL

    AutoencoderKL(block_out_channels=(16, 16), down_block_types=("DownEncoderBlock2D",) * 2,
                  up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=1
                  ).save_pretrained(tmp_path / "assets/vaes/small")  # fmt: skip
    engine = assetrig.engine(tmp_path, CATALOG.format(bundle=bundle))
    with pytest.raises(AssetIncompatible, match="'small' makes other latents"):
        pixels(engine, engine.model("tiny")[0], vae="small")


def test_a_vae_with_a_tensor_too_many_is_refused(bundle, folder, tmp_path):
    place = tmp_path / "assets/vaes/odd"
    place.mkdir(parents=True)
    source = folder / "assets/vaes/contrast"
    (place / "config.json").write_text((source / "config.json").read_text())
    tensors = load_file(source / "diffusion_pytorch_model.safetensors") | {"stranger": torch.zeros(1)}
    save_file(tensors, place / "diffusion_pytorch_model.safetensors")
    engine = assetrig.engine(tmp_path, CATALOG.format(bundle=bundle))
    with pytest.raises(AssetIncompatible, match="stranger"):
        pixels(engine, engine.model("tiny")[0], vae="odd")


@pytest.mark.parametrize("tensors", [{"a": torch.zeros(2, 128), "b": torch.zeros(128)}, {"a": torch.zeros(2, 768)}])
def test_an_inversion_that_does_not_fit_is_refused(bundle, tmp_path, tensors):
    (tmp_path / "assets/textual_inversions").mkdir(parents=True)
    save_file(tensors, tmp_path / "assets/textual_inversions/bad.safetensors")
    engine = assetrig.engine(tmp_path, CATALOG.format(bundle=bundle))
    with pytest.raises(AssetIncompatible, match="'bad'"):
        pixels(engine, engine.model("tiny")[0], textual_inversions=(("bad", "x"),))


def test_an_inversion_draws_as_diffusers_draws_it_in_both_prompts(engine, model, bundle, folder):
    pipeline = assetrig.plain(bundle)
    for name in ("toy", "hat"):
        pipeline.load_textual_inversion(folder / f"assets/textual_inversions/{name}.safetensors", token=f"<{name}>")
    expected = theirs(pipeline, "a red <toy> circle", "blue <hat>")

    found = pixels(
        engine,
        model,
        prompt="a red <toy> circle",
        negative_prompt="blue <hat>",
        textual_inversions=(("toy", "<toy>"), ("hat", "<hat>")),
    )
    assert np.abs(found - expected).max() <= 1
    for prompt, negative in (("a red circle", "blue <hat>"), ("a red <toy> circle", "blue")):
        inversions = (("toy", "<toy>"), ("hat", "<hat>"))
        other = pixels(engine, model, prompt=prompt, negative_prompt=negative, textual_inversions=inversions)
        assert not np.array_equal(other, found)


def test_two_jobs_with_one_trigger_do_not_share_its_meaning(engine, model):
    prompts = {
        name: embeddings(engine, model, "a thing", textual_inversions=((name, "thing"),)).positive
        for name in ("toy", "hat", "toy")
    }
    plain = embeddings(engine, model, "a thing").positive
    assert not torch.equal(prompts["toy"], prompts["hat"])
    assert not torch.equal(prompts["toy"], plain)
    assert torch.equal(
        prompts["toy"], embeddings(engine, model, "a thing", textual_inversions=(("toy", "thing"),)).positive
    )
    assert len(model.pipeline.tokenizer.added_tokens_encoder) == 2  # nothing was taught


def test_jobs_of_different_outfits_are_no_batch():
    worn = [
        SPEC,
        SPEC.evolve(loras=(Lora("a"),)),
        SPEC.evolve(loras=(Lora("a", 0.5),)),
        SPEC.evolve(loras=(Lora("b"),)),
        SPEC.evolve(vae="a"),
        SPEC.evolve(textual_inversions=(("a", "x"),)),
        SPEC.evolve(textual_inversions=(("a", "y"),)),
    ]
    assert len({spec.batch_key() for spec in worn}) == len(worn)


def test_a_workers_jobs_wear_what_they_asked_for_and_the_record_tells(folder, bundle, valkey):
    home = folder / "rig"
    home.mkdir()
    text = CATALOG.format(bundle=bundle).replace("[models.tiny]", "[models.demo]").replace("./assets", "../assets")
    engine = assetrig.engine(home, text)
    rig = Rig(valkey, engine=engine)
    plain = rig.submit()
    worn = rig.submit(loras=(Lora("kohya", 0.5), Lora("peft")), vae="contrast", textual_inversions=(("toy", "red"),))
    missing = rig.submit(vae="broken")
    again = rig.submit()
    while leases := rig.claim():
        rig.runner.run(leases)
    assert rig.delivery.drain(600)

    def picture(uid):
        (artifact,) = rig.read(uid).result.artifacts
        return rig.storage.objects[artifact.key].data

    assert picture(plain) == picture(again)
    assert picture(plain) != picture(worn)
    told = rig.read(worn).result
    assert told.parameters["loras"] == [{"name": "kohya", "weight": 0.5}, {"name": "peft", "weight": 1.0}]
    assert told.parameters["vae"] == "contrast"
    assert told.parameters["textual_inversions"] == {"toy": "red"}
    assert set(told.engine["assets"]) == {"lora kohya", "lora peft", "vae contrast", "textual_inversion toy"}
    assert "assets" not in rig.read(plain).result.engine
    assert rig.statuses(missing) == ["failed"]
    assert rig.read(missing).result.error["code"] == "asset_load_failed"


def test_assets_are_loaded_once_and_the_least_used_go(folder, bundle):
    engine = assetrig.engine(folder, CATALOG.format(bundle=bundle))
    model = engine.model("tiny")[0]
    kept = engine._wardrobe.kept
    for name in ("peft", "unet"):
        pixels(engine, model, loras=(Lora(name),), num_inference_steps=1)
    with engine.dressed(model, SPEC.evolve(loras=(Lora("peft"),))) as load_s:
        assert load_s < 0.1
    assert [key[1] for key in kept] == ["unet", "peft"]
    kept._limit = kept.size
    with engine.dressed(model, SPEC.evolve(textual_inversions=(("toy", "x"),))):
        pass
    assert [key[:2] for key in kept] == [(Kind.LORA, "peft"), (Kind.TEXTUAL_INVERSION, "toy")]


def test_what_was_used_longest_ago_goes_first_and_the_newest_always_stays():
    kept = Kept(10)
    kept.put("a", 1, size=4)
    kept.put("b", 2, size=4)
    assert kept.get("a") == 1
    kept.put("c", 3, size=4)
    assert list(kept) == ["a", "c"]
    kept.put("d", 4, size=100)
    assert list(kept) == ["d"]
    assert (len(kept), kept.size, kept.get("a")) == (1, 100, None)
    kept.put("d", 5, size=3)
    assert (kept.get("d"), kept.size) == (5, 3)


def test_a_long_prompt_and_weights_work_on_a_trigger(engine, model):
    inversions = (("toy", "toy"),)
    long = "circle " * 90
    plain = embeddings(engine, model, long + "toy", textual_inversions=inversions, weighting="octoai").positive
    weighted = embeddings(engine, model, long + "(toy:1.5)", textual_inversions=inversions, weighting="octoai").positive
    untaught = embeddings(engine, model, long + "toy", weighting="octoai").positive

    assert plain.shape[1] == 2 * 77
    assert torch.equal(plain[:, :77], weighted[:, :77])
    assert torch.equal(plain[:, :77], untaught[:, :77])
    assert not torch.equal(plain[:, 77:], weighted[:, 77:])
    assert not torch.equal(plain[:, 77:], untaught[:, 77:])


def test_draw_is_the_same_function_for_a_plain_outfit(engine, model):
    with engine.dressed(model, SPEC) as load_s:
        shot = Shot(prompt=SPEC.prompt, negative_prompt="", seed=7)
        (image,) = draw_from_text(model, SPEC, [shot], on_step=lambda: None)
    assert load_s == 0
    assert np.array_equal(np.asarray(image), pixels(engine, model))
