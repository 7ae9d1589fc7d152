"""`darkroom models add|ls|rm` with real files of every kind: what loads is added, what does not is refused by name."""

import json
import pickle
import shutil
import subprocess

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from shared.catalog import Kind
from shared.cli import main
from shared.settings import Settings
from tests import assetrig
from tests.controlnets import random_controlnet
from tests.unit.test_cli_operators import Desk
from worker import trial
from worker.demo_model.bundle import build_random_bundle

#: diffusers' own ways with numpy 2, and PEFT's with names.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
]

BEFORE = '# Ours.\n[models.tiny]\nsource = "./tiny"\n'
#: kind -> a source of it
SOURCES = {
    Kind.MODEL: "./tiny",
    Kind.LORA: "./ink.safetensors",
    Kind.VAE: "./vae",
    Kind.TEXTUAL_INVERSION: "./toy.safetensors",
    Kind.CONTROLNET: "./net",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("files")
    bundle = build_random_bundle(home / "tiny")
    pipeline = assetrig.plain(bundle)
    assetrig.peft_lora(home / "ink.safetensors", pipeline)
    assetrig.kohya_lora(home / "kohya.safetensors", pipeline)
    assetrig.inversion(home / "toy.safetensors")
    assetrig.contrast_vae(home / "vae", bundle)
    random_controlnet(bundle, home / "net", seed=1)
    assetrig.single_file(home / "single.safetensors", bundle)
    return home


@pytest.fixture
def home(files, tmp_path, monkeypatch):
    """A folder with the catalog, beside links to the files. What is loaded is loaded here, where torch is already."""
    for path in files.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "models.toml").write_text(BEFORE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("shared.cli.catalog.subprocess.run", in_this_process)
    return tmp_path


def in_this_process(command, env, **_):
    *_, kind, name = command
    why = trial.fault_of(Settings.from_env(env), Kind(kind), name)
    return subprocess.CompletedProcess(command, bool(why), stderr=why)


def run(home, *arguments, exit_code=0):
    environment = {
        "MODELS_CATALOG": str(home / "models.toml"),
        "MODELS_DEFAULT": "tiny",
        "DARKROOM_DATA_DIR": str(home / "data"),
        "DEVICE": "cpu",
    }
    result = CliRunner().invoke(main, ["models", *map(str, arguments)], env=environment)
    assert result.exit_code == exit_code, result.output
    return result.output


def refused(home, *arguments):
    """Return what is said, without the breaks of lines; the catalog is as it was."""
    output = run(home, "add", "mine", *arguments, exit_code=1)
    assert (home / "models.toml").read_text() == BEFORE
    assert "mine was not added" in output
    return " ".join(output.split())


@pytest.mark.parametrize(
    ("kind", "source", "more"),
    [
        *((kind, source, ()) for kind, source in SOURCES.items()),
        (Kind.LORA, "./kohya.safetensors", ()),
        (Kind.VAE, "./vae/diffusion_pytorch_model.safetensors", ()),
        (Kind.VAE, "./vae", ("--file", "diffusion_pytorch_model.safetensors")),
        (Kind.MODEL, "./single.safetensors", ("--core", "./tiny")),
    ],
)
def test_what_loads_is_added_and_removed(home, kind, source, more):
    shown = json.loads(run(home, "add", "mine", source, "--kind", kind, "--alias", "ours", *more, "--json"))

    assert (shown["kind"], shown["name"], shown["source"]) == (kind, "mine", source)
    text = (home / "models.toml").read_text()
    assert text.startswith(BEFORE)
    assert f'[{kind.table}.mine]\nsource = "{source}"' in text
    assert f"removed mine. {'Start the API'}" in run(home, "rm", "mine", "--kind", kind)
    assert (home / "models.toml").read_text() == BEFORE


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("found", Kind)
def test_a_file_of_another_kind_is_refused_by_its_name(home, files, kind, found):
    if kind is found:
        return
    told = refused(home, SOURCES[found], "--kind", kind)

    assert f"not of a {kind.noun}: its kind is {found}" in told
    assert str((files / SOURCES[found]).resolve()) in told


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("source", ["./old.ckpt", "./old.pt", "./old.bin", "./lies.safetensors", "./folder"])
def test_pickles_are_refused_by_name_whatever_they_say_they_are(home, kind, source):
    bomb = pickle.dumps(Bomb())
    for name in ("old.ckpt", "old.pt", "old.bin", "lies.safetensors", "folder/diffusion_pytorch_model.bin"):
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_bytes(bomb)

    output = run(home, "add", "mine", source, "--kind", kind, exit_code=1)

    assert source.removeprefix("./") in output
    assert ("no .safetensors file" if source == "./lies.safetensors" else "pickle") in output
    assert (home / "models.toml").read_text() == BEFORE
    assert not (home / "bang").exists()


class Bomb:
    """Leaves a file where it is unpickled."""

    def __reduce__(self):
        return (open, ("bang", "w"))


def changed(home, name, change):
    file = home / f"changed{'/diffusion_pytorch_model' if (home / name).is_dir() else ''}.safetensors"
    if (home / name).is_dir():
        shutil.copytree(home / name, home / "changed")
    save_file(change(load_file(home / name if file.parent == home else file)), file)
    return "./changed.safetensors" if file.parent == home else "./changed"


def with_a_stranger(tensors):
    return {**tensors, "stranger.weight": torch.zeros(4)}


def without_one(tensors):
    return dict(list(tensors.items())[1:])


@pytest.mark.parametrize(
    ("kind", "name", "change", "says"),
    [
        (Kind.LORA, "ink.safetensors", with_a_stranger, "belong to no layer of the model: stranger.weight"),
        (Kind.LORA, "ink.safetensors", without_one, "is not complete"),
        (Kind.VAE, "vae", with_a_stranger, "stranger.weight"),
        (Kind.VAE, "vae", without_one, "does not fit"),
        (Kind.TEXTUAL_INVERSION, "toy.safetensors", lambda _: {"emb_params": torch.zeros(2, 64)}, "64"),
        (Kind.TEXTUAL_INVERSION, "toy.safetensors", with_a_stranger, "has 2 tensors, not one"),
        (Kind.CONTROLNET, "net", without_one, "could not be loaded"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_name_and_why(home, kind, name, change, says):
    source = changed(home, name, change)

    told = refused(home, source, "--kind", kind)

    assert says in told
    assert f"mine was not added: {source}: the {kind.noun} 'mine'" in told


def test_a_folder_of_several_files_asks_which(home):
    (home / "several").mkdir()
    for name in ("a", "b"):
        shutil.copy(home / "ink.safetensors", home / "several" / f"{name}.safetensors")

    assert "it holds 2 .safetensors files: `file` says which" in refused(home, "./several", "--kind", "lora")
    run(home, "add", "mine", "./several", "--kind", "lora", "--file", "b.safetensors")


def test_what_no_model_can_wear_is_refused(home):
    told = refused(home, "./ink.safetensors", "--kind", "lora", "--base", "sdxl")

    assert "no model of the base 'sdxl'" in told


def test_all_kinds_are_listed_by_the_service_that_knows_them(home, valkey_server, valkey):
    for kind, source in SOURCES.items():
        run(home, "add", f"my {kind.noun}", source, "--kind", kind, "--no-load", "--description", f"a {kind}")
    settings = {"models_catalog": home / "models.toml", "models_default": "tiny"}
    desk = Desk(valkey_server, valkey, home / "data", **settings)
    try:
        listed = {(entry["kind"], entry["name"]) for entry in desk.json("models", "ls")}
        shown = desk.run("models", "ls")
    finally:
        desk.close()

    assert {(kind, f"my {kind.noun}") for kind in SOURCES} <= listed
    assert all(f"a {kind}" in shown for kind in SOURCES)
