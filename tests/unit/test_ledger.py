"""Prices: a test per rule, and what an operator's file may say."""

import pytest

from shared.dialects.samplers import OCTOAI, OCTOAI_PREMIUM
from shared.errors import ConfigurationError
from shared.job import Submission
from shared.ledger import Prices
from shared.settings import Settings
from shared.spec import JobSpec, Lora

SHIPPED = Prices.load(Settings())


def price(dialect="native", prices=SHIPPED, **fields):
    return prices.of(Submission(spec=JobSpec(prompt="x", **fields), dialect=dialect))


@pytest.fixture
def load(tmp_path):
    def load(text):
        path = tmp_path / "prices.toml"
        path.write_text(text)
        return Prices.load(Settings(prices_file=path))

    return load


@pytest.mark.parametrize("dialect", ["native", "octoai", "opensourceais", "modelslab", "stability"])
@pytest.mark.parametrize(
    ("width", "height", "steps", "images", "millicredits"),
    [
        (512, 512, 30, 1, 150),  # $0.0015 at 100 credits a dollar
        (512, 512, 30, 4, 600),  # per image
        (1024, 512, 30, 1, 300),  # by pixels
        (512, 512, 60, 1, 300),  # by steps
        (512, 512, 31, 1, 155),
        (512, 512, 1, 1, 5),
        (64, 64, 1, 1, 1),  # rounded up
        (320, 320, 20, 4, 160),  # each image is rounded up by itself
    ],
)
def test_an_image_costs_by_its_pixels_and_steps(dialect, width, height, steps, images, millicredits):
    fields = {"width": width, "height": height, "num_inference_steps": steps, "num_images": images}

    assert price(dialect, **fields) == millicredits


@pytest.mark.parametrize("name", sorted(OCTOAI))
def test_octoais_premium_samplers_cost_twice_as_much(name):
    scheduler = OCTOAI[name]["scheduler"]

    assert price("octoai", scheduler=scheduler) == (300 if name in OCTOAI_PREMIUM else 150)


@pytest.mark.parametrize("dialect", ["native", "opensourceais", "modelslab", "stability"])
def test_elsewhere_premium_samplers_cost_the_same(dialect):
    assert price(dialect, scheduler="HeunDiscreteScheduler") == 150


@pytest.mark.parametrize(
    "fields",
    [
        {"loras": (Lora("a", 1.0),)},
        {"vae": "v"},
        {"image": "inputs/a.png", "mask_image": "inputs/b.png"},
        {"image": "inputs/a.png", "mask_image": "inputs/b.png", "outpainting": True},
    ],
    ids=["lora", "vae", "inpaint", "outpaint"],
)
def test_custom_assets_inpainting_and_outpainting_cost_the_same(fields):
    assert price("octoai", **fields) == 150


@pytest.mark.parametrize(("steps", "millicredits"), [(500, 10_000), (1000, 20_000), (1, 20)])
def test_a_tune_costs_by_its_steps(steps, millicredits):
    assert SHIPPED.tune.price(steps) == millicredits


@pytest.mark.parametrize(
    ("width", "height", "steps", "millicredits"),
    [
        (512, 512, 30, 400),
        (320, 320, 10, 400),  # at least 0.4 credits
        (512, 512, 31, 500),  # in tenths, rounded up
        (1024, 512, 30, 800),
        (1536, 1536, 50, 2000),  # at most 2
    ],
)
def test_aithriving_costs_by_the_success(width, height, steps, millicredits):
    assert price("aithriving", width=width, height=height, num_inference_steps=steps) == millicredits


def test_a_dollar_buys_a_hundred_credits():
    assert SHIPPED.credits_per_dollar == 100


def test_a_model_may_have_a_price_of_its_own(load):
    prices = load("[models.big]\nmillicredits = 600\npixels = 1048576\n")

    assert price(model="big", width=1024, height=1024, prices=prices) == 600
    assert price(model="demo", prices=prices) == 150
    assert (
        price("octoai", model="big", width=1024, height=1024, scheduler="LMSDiscreteScheduler", prices=prices) == 1200
    )


def test_an_operators_file_replaces_what_it_names(load):
    prices = load(
        "[image]\nmillicredits = 100\nasset_percent = 150\ninpaint_percent = 110\n[dialects.native]\npremium = true\n"
    )

    assert price(prices=prices) == 100
    assert price(vae="v", prices=prices) == 150
    assert price(image="inputs/a.png", mask_image="inputs/b.png", vae="v", prices=prices) == 165
    assert price(scheduler="HeunDiscreteScheduler", prices=prices) == 200
    assert price("octoai", scheduler="HeunDiscreteScheduler", prices=prices) == 200
    assert price("aithriving", prices=prices) == 400


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[image]\nmillicredits = 1.5", r"\[image\] millicredits must be a whole number"),
        ("[image]\npixels = 0", r"\[image\] pixels must be at least 1"),
        ("[image]\nmilicredits = 1", "does not take milicredits"),
        ("[images]\nmillicredits = 1", "does not take images"),
        ("[models.big]\npixels = 4", r"\[models.big\] needs millicredits"),
        ('[dialects.octoai]\nrule = "free"', "rule must be image or success"),
        ("credits_per_dollar = true", "credits_per_dollar must be a whole number"),
        ("image = 3", r"\[image\] must be a table"),
        ("models = 3", "models must be a table"),
        ("not toml", "prices.toml"),
    ],
)
def test_a_file_that_cannot_be_stops_the_start(load, text, says):
    with pytest.raises(ConfigurationError, match=says) as caught:
        load(text)
    assert caught.value.variable == "PRICES_FILE"
