"""Names that requests may use, and what they mean."""

import pytest

from shared.catalog import Catalog, Kind, fitted
from shared.catalog import catalog as catalog_module
from shared.errors import ConfigurationError, InvalidField
from shared.settings import Settings
from shared.spec import ControlNet, JobSpec, Lora

OWN = '[models.mine]\nsource = "someone/model"\naliases = ["m"]\n'
WARDROBE = """
[loras.ink]
source = "./ink.safetensors"
aliases = ["i"]
[loras.tiny]
source = "a/b"
file = "tiny.safetensors"
base = "demo"
[loras.acme-ink]
source = "./acme.safetensors"
aliases = ["ink", "ours"]
owner = "acme"
[vaes.soft]
source = "a/soft"
[textual_inversions.cat]
source = "a/cat"
triggers = ["<cat>", "cat"]
[textual_inversions.dog]
source = "a/dog"
[controlnets.canny]
source = "a/canny"
[models.acme-model]
source = "a/m"
owner = "acme"
[aliases.loras]
"octoai:add-detail" = "ink"
"""


def catalog(tmp_path, text="", **settings):
    (tmp_path / "models.toml").write_text(text)
    return Catalog.load(Settings(models_catalog=tmp_path / "models.toml", **settings))


@pytest.fixture
def full(tmp_path):
    return catalog(tmp_path, OWN + WARDROBE)


@pytest.mark.parametrize(
    "name",
    [
        *("demo", "default", "sd-v1-4.ckpt", "octoai:crystal-clear", "midjourney-v4-painta"),
        *("stable-diffusion-v1-5", "stable-diffusion-v1-6"),
    ],
)
def test_the_shipped_names(tmp_path, name):
    assert catalog(tmp_path).resolve(name).name == "demo"


def test_other_services_names_follow_the_default(tmp_path):
    own = catalog(tmp_path, OWN, models_default="m")
    assert own.resolve("sd-v1-4.ckpt").name == own.resolve("default").name == own.default.name == "mine"
    assert "sd-v1-4.ckpt" in own.resolve("mine").aliases
    assert own.resolve("demo").aliases == ()


def test_an_operators_names_come_first(tmp_path):
    own = catalog(tmp_path, OWN + '[aliases]\n"octoai:crystal-clear" = "mine"\n')
    assert own.resolve("octoai:crystal-clear").name == "mine"
    assert own.resolve("sd-v1-4.ckpt").name == "demo"
    claimed = catalog(tmp_path, '[models.mine]\nsource = "a/b"\naliases = ["sd-v1-4.ckpt"]\n')
    assert claimed.resolve("sd-v1-4.ckpt").name == "mine"


def test_every_kind_is_found_by_name_and_alias(full, tmp_path):
    assert full.resolve_asset(Kind.LORA, "i").source == str(tmp_path / "ink.safetensors")
    assert full.resolve_asset(Kind.LORA, "octoai:add-detail").name == "ink"
    assert full.resolve_asset(Kind.LORA, "ink").aliases == ("i", "octoai:add-detail")
    assert full.resolve_asset(Kind.VAE, "soft").source == "a/soft"
    assert full.resolve_asset(Kind.TEXTUAL_INVERSION, "cat").triggers == ("<cat>", "cat")
    assert full.resolve_asset(Kind.CONTROLNET, "canny").kind is Kind.CONTROLNET


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.MODEL])
def test_an_unknown_name_is_refused_by_its_field(full, kind):
    with pytest.raises(InvalidField, match=kind.noun) as refusal:
        full.resolve_asset(kind, "nope")
    assert refusal.value.field == kind.field


def test_an_unknown_model_is_refused_by_field(tmp_path):
    with pytest.raises(InvalidField) as refusal:
        catalog(tmp_path).resolve("nope")
    assert refusal.value.field == "model"


def test_an_accounts_own_names_come_first_and_are_nobody_elses(full):
    assert full.resolve_asset(Kind.LORA, "ink", account="acme").name == "acme-ink"
    assert full.resolve_asset(Kind.LORA, "i", account="acme").name == "ink"
    assert full.resolve_asset(Kind.LORA, "ink", account="other").name == "ink"
    for name in ("acme-ink", "ours"):
        with pytest.raises(InvalidField) as refusal:
            full.resolve_asset(Kind.LORA, name, account="other")
        assert "acme" not in refusal.value.message.replace(repr(name), "")
    assert {model.name for model in full.models("acme")} - {model.name for model in full.models()} == {"acme-model"}
    assert {asset.name for asset in full.assets("acme")} - {asset.name for asset in full.assets("b")} == {"acme-ink"}
    assert "acme-model" in {model.name for model in full}


def test_a_job_gets_the_catalogs_own_names(full):
    spec = JobSpec(
        prompt="x",
        model="m",
        loras=(Lora("i", 0.5), Lora("ink")),
        vae="soft",
        textual_inversions=(("cat", ""), ("dog", "")),
        controlnets=(ControlNet("canny", "inputs/a.png"),),
    )
    found = fitted(spec, full, account="acme")
    assert found.model == "mine"
    assert found.loras == (Lora("ink", 0.5), Lora("acme-ink"))
    assert found.textual_inversions == (("cat", "<cat>"), ("dog", "dog"))
    assert fitted(spec.evolve(textual_inversions=(("cat", "c"),)), full).textual_inversions == (("cat", "c"),)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"model": "demo", "loras": (Lora("ink"),)}, "loras"),
        ({"model": "m", "loras": (Lora("ink"), Lora("tiny"))}, "loras"),
        ({"model": "demo", "vae": "soft"}, "vae"),
        ({"model": "demo", "textual_inversions": (("cat", ""),)}, "textual_inversions"),
        ({"model": "demo", "controlnets": (ControlNet("canny", "inputs/a.png"),)}, "controlnets"),
        ({"model": "m", "textual_inversions": (("cat", "x"), ("dog", "X"))}, "textual_inversions"),
        ({"model": "acme-model"}, "model"),
    ],
)
def test_what_does_not_go_together_is_refused_by_field(full, fields, field):
    with pytest.raises(InvalidField) as refusal:
        fitted(JobSpec(prompt="x", **fields), full)
    assert refusal.value.field == field


@pytest.fixture
def folder(tmp_path):
    assets = tmp_path / "assets"
    for place in ("loras/ink.safetensors", "textual_inversions/cat.safetensors", "checkpoints/one.safetensors"):
        (assets / place).parent.mkdir(parents=True, exist_ok=True)
        (assets / place).touch()
    for place in ("checkpoints/two/unet", "vaes/soft", "controlnets/canny", "loras/no-lora", "vaes/.hidden"):
        (assets / place).mkdir(parents=True)
    (assets / "loras/notes.txt").touch()
    return assets


def test_what_lies_in_a_folder_is_an_entry(tmp_path, folder):
    found = catalog(
        tmp_path,
        '[[folders]]\npath = "./assets"\nbase = "b"\ncore = "demo"\n[loras.ink]\ntriggers = ["inked"]\n',
    )
    assert {model.name: model.source for model in found.models() if model.base == "b"} == {
        "one": str(folder / "checkpoints/one.safetensors"),
        "two": str(folder / "checkpoints/two"),
    }
    assert found.resolve("two").core == "demo"
    told = {(asset.kind, asset.name) for asset in found.assets() if asset.base == "b"}
    assert told == {
        (Kind.LORA, "ink"),
        (Kind.TEXTUAL_INVERSION, "cat"),
        (Kind.VAE, "soft"),
        (Kind.CONTROLNET, "canny"),
    }
    assert found.resolve_asset(Kind.LORA, "ink").triggers == ("inked",)


def test_the_demo_models_assets_appear_where_they_are(tmp_path, monkeypatch):
    shipped = tmp_path / "shared" / "catalog.toml"
    shipped.parent.mkdir()
    shipped.write_text(catalog_module.SHIPPED.read_text())
    monkeypatch.setattr(catalog_module, "SHIPPED", shipped)
    assert Catalog.load(Settings()).assets() == ()
    assert [model.name for model in Catalog.load(Settings())] == ["demo"]

    lora = tmp_path / "worker/demo_model/bundle/assets/loras/comic-book.safetensors"
    lora.parent.mkdir(parents=True)
    lora.touch()
    found = Catalog.load(Settings())
    (asset,) = found.assets()
    assert (asset.name, asset.base, asset.source) == ("comic-book", "demo", str(lora))
    assert asset.description
    assert found.resolve_asset(Kind.LORA, "octoai:add-detail") == asset


@pytest.mark.parametrize(
    ("text", "settings", "variable"),
    [
        ("[models.x]\n", {}, "MODELS_CATALOG"),
        ("[models.x]\nsource = 'a'\nwhat = 1\n", {}, "MODELS_CATALOG"),
        ("[models.x]\nsource = 'a'\nmax_pixels = '1'\n", {}, "MODELS_CATALOG"),
        ("[models.x]\nsource = 'a'\naliases = 'b'\n", {}, "MODELS_CATALOG"),
        ("[models.x]\nsource = 'a'\ntriggers = ['b']\n", {}, "MODELS_CATALOG"),
        ("[models]\nx = 'a'\n", {}, "MODELS_CATALOG"),
        ("[loras.x]\n", {}, "MODELS_CATALOG"),
        ("[vaes.x]\nsource = 1\n", {}, "MODELS_CATALOG"),
        ("[lora.x]\nsource = 'a'\n", {}, "MODELS_CATALOG"),
        ("[aliases]\na = 'nope'\n", {}, "MODELS_CATALOG"),
        ("[aliases.loras]\na = 'nope'\n", {}, "MODELS_CATALOG"),
        ("[aliases]\na = 1\n", {}, "MODELS_CATALOG"),
        ("[[folders]]\npath = './nope'\n", {}, "MODELS_CATALOG"),
        ("[[folders]]\nbase = 'b'\n", {}, "MODELS_CATALOG"),
        ("folders = 'x'\n", {}, "MODELS_CATALOG"),
        ("[", {}, "MODELS_CATALOG"),
        ("[models.'x#2']\nsource = 'a'\n", {}, "MODELS_CATALOG"),
        ("", {"models_default": "nope"}, "MODELS_DEFAULT"),
        ("[models.x]\nsource = 'a'\nowner = 'b'\n", {"models_default": "x"}, "MODELS_DEFAULT"),
    ],
)
def test_a_wrong_catalog_stops_the_start_by_name(tmp_path, text, settings, variable):
    with pytest.raises(ConfigurationError) as refusal:
        catalog(tmp_path, text, **settings)
    assert refusal.value.variable == variable


@pytest.mark.parametrize("suffix", ["ckpt", "pt", "bin", "PTH"])
@pytest.mark.parametrize("entry", ["[models.x]\nsource = 'a.{}'", "[loras.x]\nsource = 'a/b'\nfile = 'c.{}'"])
def test_pickles_are_refused_with_advice(tmp_path, entry, suffix):
    with pytest.raises(ConfigurationError, match="is a pickle"):
        catalog(tmp_path, entry.format(suffix))
