"""Whitened projections compute what they did, and learn from what varies little as fast as from what varies much."""

import pytest
import torch

from worker.demo_model import vocabulary as words
from worker.demo_model.architecture import build_clip, build_unet
from worker.demo_model.tokenizer import build_tokenizer
from worker.demo_model.training.text_table import encode
from worker.demo_model.training.whitening import settle, whiten

REQUEST = {"sample": torch.randn(1, 4, 8, 8), "timestep": 500, "encoder_hidden_states": torch.randn(1, 77, 128)}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    torch.manual_seed(3)
    return build_clip().text_model.eval(), build_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@torch.no_grad()
def test_nothing_changes_but_the_coordinates(encoder):
    unet = build_unet().eval()
    names = set(unet.state_dict())
    before = unet(**REQUEST).sample

    whiten(unet, encoder)
    assert torch.allclose(unet(**REQUEST).sample, before, atol=1e-5)
    settle(unet)

    assert torch.allclose(unet(**REQUEST).sample, before, atol=1e-5)
    assert set(unet.state_dict()) == names


@torch.no_grad()
def test_captions_vary_alike_along_every_axis(encoder):
    unet = build_unet()
    whiten(unet, encoder)
    (axes,) = {
        module.axes.numpy().tobytes(): module.axes for module in unet.modules() if hasattr(module, "axes")
    }.values()
    captions = [f"a {colour} {shape} on a white background" for colour in words.COLOURS for shape in words.SHAPES]
    seen = encode(captions, encoder).flatten(0, 1)

    def spread(hidden):
        squares = torch.linalg.eigvalsh(hidden.T @ hidden / len(hidden))
        return float(squares[-1] / squares[-20])

    assert spread(seen @ axes.T) < spread(seen) / 10
