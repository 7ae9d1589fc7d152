"""`darkroom models add` and `rm`: the catalog's file, before and after."""

import json
import struct

import pytest
from click.testing import CliRunner

from shared.catalog.editing import added, removed
from shared.catalog.entries import Kind
from shared.cli import main

BEFORE = """\
# Ours.
[models.first]  # keep
source = "/models/first"

[loras."odd name"]
source = "/loras/odd"
triggers = [
    "x",
]

[aliases]
one = "first"
"""


def safetensors(path):
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments, exit_code=0):
        environment = {"MODELS_CATALOG": str(tmp_path / "models.toml"), "DARKROOM_DATA_DIR": str(tmp_path / "data")}
        result = CliRunner().invoke(main, ["models", *arguments], env={**environment, "DEVICE": "cpu"})
        assert result.exit_code == exit_code, result.output
        assert [path.name for path in tmp_path.glob(".*")] == []
        return result.output

    return run


def test_what_is_added_and_removed_leaves_the_rest_as_it_was():
    more = added(BEFORE, Kind.MODEL, "new one", {"source": "/models/näw", "aliases": ["a", "b"]})

    assert more.startswith(BEFORE)
    assert removed(more, Kind.MODEL, "new one") == BEFORE
    assert "odd" not in removed(BEFORE, Kind.LORA, "odd name")
    assert added("", Kind.VAE, "v", {"source": "s"}) == '[vaes.v]\nsource = "s"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "there is no"), ('models.first.source = "x"\n', "edit the file by hand"), ("[", "at end of document")],
)
def test_what_cannot_be_removed_safely_is_left(text, says):
    with pytest.raises(ValueError, match=says):
        removed(text, Kind.MODEL, "first")


def test_an_entry_with_its_files_is_added(run, tmp_path):
    safetensors(tmp_path / "ink.safetensors")

    told = run("add", "ink", "./ink.safetensors", "--kind", "lora", "--alias", "pen", "--no-load", "--json")

    assert json.loads(told) == {"kind": "lora", "name": "ink", "source": "./ink.safetensors", "aliases": ["pen"]}
    assert (tmp_path / "models.toml").read_text() == ('[loras.ink]\nsource = "./ink.safetensors"\naliases = ["pen"]\n')
    assert "already" in run("add", "ink", "./ink.safetensors", "--kind", "lora", "--no-load", exit_code=1)
    run("rm", "ink", "--kind", "lora")
    assert (tmp_path / "models.toml").read_text().strip() == ""


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("./nowhere.safetensors", "is not there"),
        ("./page.safetensors", "no .safetensors file"),
        ("./old.ckpt", "is a pickle"),
        ("https://example.com/a.bin", "is a pickle"),
    ],
)
def test_what_cannot_be_loaded_is_not_added(run, tmp_path, source, says):
    (tmp_path / "models.toml").write_text(BEFORE)
    (tmp_path / "page.safetensors").write_text("<html>not found</html>")
    (tmp_path / "old.ckpt").write_bytes(b"\x80\x04.")

    assert says in run("add", "mine", source, "--no-load", exit_code=1)
    assert (tmp_path / "models.toml").read_text() == BEFORE


@pytest.mark.slow  # diffusers is loaded in a process of its own
def test_what_has_the_right_form_and_is_no_model_is_not_added(run, tmp_path):
    (tmp_path / "mine").mkdir()
    safetensors(tmp_path / "mine" / "unet.safetensors")

    output = run("add", "mine", "./mine", exit_code=1)

    assert "mine was not added: ./mine: the model 'mine' could not be loaded" in output
    assert not (tmp_path / "models.toml").exists()


def test_what_an_alias_needs_is_not_removed(run, tmp_path):
    (tmp_path / "models.toml").write_text(BEFORE)

    assert "the alias 'one' names no model" in run("rm", "first", exit_code=1)
    assert "there is no model 'demo'" in run("rm", "demo", exit_code=1)
    assert (tmp_path / "models.toml").read_text() == BEFORE


def test_a_catalog_must_be_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MODELS_CATALOG", raising=False)

    result = CliRunner().invoke(main, ["models", "rm", "x"])

    assert result.exit_code == 2
    assert "--catalog or MODELS_CATALOG" in result.output
