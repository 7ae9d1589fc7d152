"""Stored pictures and masks brought to a size: which pixels come out, from every mode and shape."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shared.inputs import check_image, normalized
from worker.images import fit, fit_mask, open_stored, over_white

MODES = ("1", "L", "P", "RGB", "RGBA", "LA", "PA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16")


def gradient(width=64, height=48):
    """Red grows to the right, green downwards."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([across, down, np.full_like(across, 99)], axis=2).astype(np.uint8))


def with_exif(image, orientation, format_="PNG"):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    image.save(stream, format_, exif=exif)
    return open_stored(stream.getvalue())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(64, 48), (8, 8), (96, 96)])
def test_every_mode_comes_out_as_rgb_and_as_a_mask(mode, size):
    image = Image.new(mode, (64, 48))

    assert (fit(image, *size).mode, fit(image, *size).size) == ("RGB", size)
    assert (fit_mask(image, *size).mode, fit_mask(image, *size).size) == ("L", size)


@pytest.mark.parametrize(
    ("image", "colour"),
    [
        (Image.new("RGBA", (2, 2), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (2, 2), (255, 0, 0, 255)), (255, 0, 0)),
        (Image.new("RGBA", (2, 2), (255, 0, 0, 128)), (255, 127, 127)),
        (Image.new("LA", (2, 2), (0, 0)), (255, 255, 255)),
        (Image.new("LA", (2, 2), (0, 255)), (0, 0, 0)),
        (Image.new("1", (2, 2), 1), (255, 255, 255)),
        (Image.new("CMYK", (2, 2), (0, 255, 255, 0)), (255, 0, 0)),
        (Image.new("I;16", (2, 2), 0x8000), (128, 128, 128)),
        (Image.new("I;16", (2, 2), 255), (0, 0, 0)),
        (Image.new("I", (2, 2), 65_535), (255, 255, 255)),
    ],
)
def test_what_is_transparent_lies_over_white(image, colour):
    flat = over_white(image)

    assert flat.mode == "RGB"
    assert flat.getpixel((1, 1)) == pytest.approx(colour, abs=1)


def test_a_clear_palette_colour_lies_over_white():
    image = Image.new("P", (2, 1), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((1, 0), 1)
    image.info["transparency"] = 0

    assert [over_white(image).getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (0, 255, 0)]


def test_a_picture_of_the_right_size_is_left_as_it_is():
    image = gradient()

    assert fit(image, 64, 48).tobytes() == image.tobytes()


@pytest.mark.parametrize("size", [(24, 24), (48, 16), (200, 200), (64, 8), (512, 64)])
def test_a_picture_is_scaled_to_cover_and_its_centre_kept(size):
    """Against the textbook's way: scale all of it, then cut."""
    image = gradient(96, 64)
    scale = max(size[0] / 96, size[1] / 64)
    whole = image.resize((round(96 * scale), round(64 * scale)), Image.Resampling.LANCZOS)
    left, top = (whole.width - size[0]) // 2, (whole.height - size[1]) // 2
    textbook = np.asarray(whole.crop((left, top, left + size[0], top + size[1])), np.int16)

    assert np.abs(np.asarray(fit(image, *size), np.int16) - textbook).max() <= 8


@pytest.mark.parametrize(("wide", "expected"), [((90, 30), (0, 255, 0)), ((30, 90), (0, 255, 0))])
def test_what_is_cut_off_are_both_edges(wide, expected):
    image = Image.new("RGB", wide, "red")
    left, top = (wide[0] - 30) // 2, (wide[1] - 30) // 2
    image.paste("lime", (left, top, left + 30, top + 30))

    corners = [fit(image, 64, 64).getpixel(place) for place in ((0, 0), (63, 0), (0, 63), (63, 63), (32, 32))]

    for corner in corners[:4]:
        assert corner == pytest.approx(expected, abs=120)
    assert corners[4] == expected


@pytest.mark.parametrize(
    ("orientation", "lay"),
    [
        (1, None),
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
        (3, Image.Transpose.ROTATE_180),
        (4, Image.Transpose.FLIP_TOP_BOTTOM),
        (5, Image.Transpose.TRANSPOSE),
        (6, Image.Transpose.ROTATE_90),
        (7, Image.Transpose.TRANSVERSE),
        (8, Image.Transpose.ROTATE_270),
    ],
)
def test_pictures_and_masks_are_set_upright(orientation, lay):
    upright = gradient()
    laid = with_exif(upright if lay is None else upright.transpose(lay), orientation)

    assert fit(laid, 64, 48).tobytes() == upright.tobytes()
    assert fit_mask(laid, 64, 48).tobytes() == fit_mask(upright, 64, 48).tobytes()


@pytest.mark.parametrize("shape", [(16_383, 1), (1, 16_383)])
def test_a_line_is_no_bomb(shape):
    assert fit(Image.new("RGB", shape, "red"), 512, 512).getpixel((511, 0)) == (255, 0, 0)
    assert fit_mask(Image.new("L", shape, 255), 2048, 64).getpixel((0, 63)) == 255


@pytest.mark.parametrize(
    ("mask", "value"),
    [
        (Image.new("L", (8, 8), 127), 0),
        (Image.new("L", (8, 8), 128), 255),
        (Image.new("1", (8, 8), 1), 255),
        (Image.new("RGB", (8, 8), "white"), 255),
        (Image.new("RGB", (8, 8), (0, 255, 0)), 255),
        (Image.new("RGB", (8, 8), (255, 0, 0)), 0),
        (Image.new("I;16", (8, 8), 0x8000), 255),
        (Image.new("I;16", (8, 8), 0x7FFF), 0),
        (Image.new("RGBA", (8, 8), (255, 255, 255, 0)), 0),
        (Image.new("RGBA", (8, 8), (255, 255, 255, 255)), 255),
        (Image.new("LA", (8, 8), (255, 100)), 0),
    ],
)
def test_light_and_opaque_means_paint(mask, value):
    assert fit_mask(mask, 16, 24).getcolors() == [(16 * 24, value)]


def test_a_mask_has_no_shades_and_keeps_its_edges():
    mask = Image.new("L", (64, 64))
    mask.paste(255, (16, 16, 48, 48))

    wanted = np.zeros((128, 128), np.uint8)
    wanted[32:96, 32:96] = 255
    assert np.array_equal(np.asarray(fit_mask(mask, 128, 128)), wanted)


def test_a_masks_pixels_are_picked_and_not_mixed():
    dots = np.zeros((64, 64), np.uint8)
    dots[2::4, 2::4] = 255

    assert fit_mask(Image.fromarray(dots), 16, 16).getcolors() == [(256, 255)]


@pytest.mark.parametrize("size", [(64, 64), (96, 32), (40, 200)])
def test_a_mask_lies_where_its_picture_lies(size):
    image = Image.new("RGB", (120, 90))
    image.paste("white", (50, 30, 80, 70))

    drawn = np.asarray(fit(image, *size).convert("L")) >= 128
    masked = np.asarray(fit_mask(image, *size)) == 255

    border = 2 * (drawn.shape[0] + drawn.shape[1])
    assert (drawn != masked).sum() <= border


@settings(deadline=None)
@given(st.sampled_from(MODES), *[st.integers(1, 70)] * 2, *[st.integers(1, 9)] * 2)
def test_any_shape_comes_out_at_any_size(mode, width, height, across, down):
    size = (8 * across, 8 * down)
    image = Image.new(mode, (width, height))

    assert fit(image, *size).size == fit_mask(image, *size).size == size


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP"])
def test_what_came_in_comes_out(format_):
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}.get(format_, {})
    stream = io.BytesIO()
    gradient().save(stream, format_, **options)
    checked = check_image(stream.getvalue(), field="image")

    as_sent = fit(open_stored(checked.data), 64, 48)
    assert as_sent.tobytes() == fit(open_stored(normalized(checked)), 64, 48).tobytes()
    assert np.abs(np.asarray(as_sent, np.int16) - np.asarray(gradient(), np.int16)).max() <= 6
