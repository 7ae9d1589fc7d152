"""What ControlNets look at, pixel by pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from shared.controlnets import MADE_HINTS
from worker.controlnet.hints import CANNY_HIGH, MAKERS, hint

SIZE = 64
LINES = ("canny", "scribble", "lineart")


def photo(width=SIZE, height=SIZE):
    """Return a red disc on light blue: flat, without lines."""
    image = Image.new("RGB", (width, height), (200, 220, 240))
    ImageDraw.Draw(image).ellipse((16, 16, 47, 47), fill=(210, 40, 40))
    return image


def drawing():
    """Return a black stroke of three pixels across white."""
    image = Image.new("RGB", (SIZE, SIZE), "white")
    image.paste("black", (30, 0, 33, SIZE))
    return image


def test_what_is_promised_is_made():
    assert set(MAKERS) == set(MADE_HINTS)


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(sorted(MAKERS)), width=st.integers(8, 200), height=st.integers(8, 200))
def test_a_hint_has_its_pictures_size_and_a_networks_numbers(kind, width, height):
    found = hint(photo(width, height), kind=kind)
    assert (found.shape, found.dtype) == ((height, width, 3), np.float32)
    assert 0 <= found.min() <= found.max() <= 1


@pytest.mark.parametrize("kind", LINES)
def test_lines_are_white_on_black_and_where_the_picture_changes(kind):
    found = hint(photo(), kind=kind)
    assert (found == found[..., :1]).all()
    across, down = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
    from_edge = np.abs(np.hypot(across - 31.5, down - 31.5) - 16)
    assert found[from_edge < 2].mean() > 0.2
    assert found[from_edge > 12].max() < 0.1


@pytest.mark.parametrize("kind", LINES)
def test_a_plain_picture_has_no_lines(kind):
    assert hint(Image.new("RGB", (SIZE, SIZE), (90, 140, 60)), kind=kind).max() == 0


@pytest.mark.parametrize("kind", ["scribble", "lineart"])
def test_a_stroke_is_one_line(kind):
    row = hint(drawing(), kind=kind)[SIZE // 2, :, 0]
    assert row[30:33].min() > 0.3
    assert row[:28].max() == row[35:].max() == 0


def test_canny_has_one_pixel_on_either_side_of_a_stroke():
    row = hint(drawing(), kind="canny")[SIZE // 2, :, 0]
    assert sorted(set(row.tolist())) == [0, 1]
    assert row.sum() == 2


def test_canny_passes_over_what_is_faint():
    faint = Image.new("RGB", (SIZE, SIZE), (100, 100, 100))
    faint.paste((100 + CANNY_HIGH // 8,) * 3, (20, 20, 44, 44))
    assert hint(faint, kind="canny").max() == 0


def test_lineart_tells_weak_lines_from_strong_ones():
    image = drawing()
    image.paste((170, 170, 170), (10, 0, 13, SIZE))
    row = hint(image, kind="lineart")[SIZE // 2, :, 0]
    assert 0 < row[11] < row[31]


def test_tile_keeps_the_colours_and_none_of_the_details():
    noise = np.random.default_rng(1).integers(-40, 40, (SIZE, SIZE, 3))
    noisy = Image.fromarray(np.clip(np.asarray(photo()).astype(int) + noise, 0, 255).astype("uint8"))
    found, plain = hint(noisy, kind="tile"), hint(photo(), kind="tile")
    assert np.abs(found - plain).mean() < 0.03 < np.abs(np.asarray(noisy) / 255 - np.asarray(photo()) / 255).mean()
    assert np.abs(found[31, 31] - np.array([210, 40, 40]) / 255).max() < 0.1


def test_inpaint_shows_what_is_kept_and_nothing_where_it_is_painted():
    mask = Image.new("L", (SIZE, SIZE))
    mask.paste(255, (0, 0, 20, SIZE))
    found = hint(photo(), kind="inpaint", mask=mask)
    assert (found[:, :20] == -1).all()
    assert np.array_equal(found[:, 20:], np.asarray(photo())[:, 20:].astype(np.float32) / 255)
    assert np.array_equal(hint(photo(), kind="inpaint"), hint(photo(), kind="ip2p"))
    assert hint(photo(), kind="canny", mask=mask).min() == 0


@pytest.mark.parametrize("kind", [*MAKERS, "depth"])
def test_what_is_a_hint_already_stays_as_it_is(kind):
    expected = np.asarray(photo()).astype(np.float32) / 255
    assert np.array_equal(hint(photo(), kind=kind, preprocess=False), expected)


def test_a_hint_that_cannot_be_made_is_none():
    with pytest.raises(KeyError):
        hint(photo(), kind="depth")
