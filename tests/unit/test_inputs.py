"""Images that callers send as text or bytes: what is taken, with which pixels, and what is refused by name."""

import base64
import io
import struct
import threading
import warnings
import zipfile
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile, PngImagePlugin

from shared.errors import InvalidField
from shared.inputs import Inline, Remote, check_image, normalized, parse_source
from shared.inputs.check import _one_large
from shared.inputs.container import exif_of, orientation_of
from shared.inputs.jpeg import MAX_SCANS

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
BOMB = zlib.compress(bytes(64 * 2**20), 9)
QUARTERS = {"red": (0, 0), "lime": (16, 0), "blue": (0, 8), "yellow": (16, 8)}
#: EXIF orientation -> what makes an upright picture lie so
LAID = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def picture(mode="RGB"):
    """32 x 16, each quarter of another colour."""
    image = Image.new("RGB", (32, 16))
    for colour, corner in QUARTERS.items():
        image.paste(colour, (*corner, corner[0] + 16, corner[1] + 8))
    return image.convert(mode)


def saved(image=None, format_="PNG", **options):
    stream = io.BytesIO()
    (image or picture()).save(stream, format_, **options)
    return stream.getvalue()


def film(format_):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    return saved(frames[0], format_, save_all=True, append_images=frames[1:], duration=100)


def chunk(kind, body=b""):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def header(width, height, depth=8, colour=2, interlaced=0):
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))


def png(*chunks):
    return PNG_SIGNATURE + b"".join(chunks) + chunk(b"IEND")


def png_with(*extra):
    """A good PNG with more chunks after its header."""
    good = saved()
    return good[:33] + b"".join(extra) + good[33:]


def riff(*chunks):
    parts = (kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks)
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def canvas(width, height, flags=0):
    return b"VP8X", bytes([flags, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def lossless(width, height):
    return b"VP8L", b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + bytes(11)


def jpeg_segment(marker, body):
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def jpeg_with(segment):
    """A good JPEG with something more before its tables."""
    good = saved(format_="JPEG", quality=95)
    tables = good.index(b"\xff\xdb")
    return good[:tables] + segment + good[tables:]


def jpeg_sized(width, height):
    good = saved(format_="JPEG")
    frame = good.index(b"\xff\xc0") + 5
    return good[:frame] + struct.pack(">HH", height, width) + good[frame + 4 :]


def many_scans():
    good = saved(format_="JPEG", progressive=True)
    last = good[good.rindex(b"\xff\xda") : -2]
    return good[:-2] + last * MAX_SCANS + good[-2:]


def second_frame():
    good = saved(format_="JPEG")
    start = good.index(b"\xff\xc0")
    return good[:start] + good[start : start + 19] + good[start:]


def archive():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("evil.html", "<script>alert(1)</script>")
    return stream.getvalue()


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


REFUSED = {
    "nothing": (lambda: b"", "is empty"),
    "text": (lambda: b"hello world", "must be a PNG or JPEG or WEBP picture$"),
    "one byte": (lambda: b"\x89", "must be a PNG"),
    "GIF": (lambda: saved(format_="GIF"), "looks like GIF"),
    "BMP": (lambda: saved(format_="BMP"), "looks like BMP"),
    "TIFF": (lambda: saved(format_="TIFF"), "looks like TIFF"),
    "AVIF": (lambda: saved(format_="AVIF"), "looks like AVIF"),
    "SVG": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "looks like HTML or SVG"),
    "HTML": (lambda: b"<!doctype html>", "looks like HTML or SVG"),
    "PDF": (lambda: b"%PDF-1.7\n", "looks like PDF"),
    "ZIP": (archive, "looks like ZIP"),
    "ZIP before PNG": (lambda: archive() + saved(), "looks like ZIP"),
    "EPS behind PNG magic": (lambda: PNG_SIGNATURE + b"%!PS-Adobe-3.0 EPSF-3.0\n" * 9, "PNG picture"),
    "too many bytes": (lambda: saved() + bytes(20 * 2**20), "at most 20,971,520 bytes"),
    "PNG: signature only": (lambda: PNG_SIGNATURE, "cut short"),
    "PNG: no header": (lambda: png(chunk(b"IDAT", BOMB)), "broken"),
    "PNG: nothing but an end": (png, "broken"),
    "PNG: short header": (lambda: png(chunk(b"IHDR", b"1234")), "broken"),
    "PNG: no pixels": (lambda: png(header(0, 5), chunk(b"IDAT", BOMB)), "has no pixels"),
    "PNG: bomb of 2^31 squared": (
        lambda: png(header(2**31 - 1, 2**31 - 1), chunk(b"IDAT", BOMB)),
        "16,383 pixels wide",
    ),
    "PNG: bomb of 16,000 squared": (lambda: png(header(16_000, 16_000), chunk(b"IDAT", BOMB)), "50,000,000 pixels"),
    "PNG: a line": (lambda: png(header(50_000_000, 1), chunk(b"IDAT", BOMB)), "16,383 pixels wide"),
    "PNG: no data": (lambda: png(header(8, 8)), "cannot be decoded"),
    "PNG: too little data": (lambda: png(header(99, 99), chunk(b"IDAT", zlib.compress(b"1"))), "cannot be decoded"),
    "PNG: data that is no zlib": (lambda: png(header(8, 8), chunk(b"IDAT", b"nonsense")), "cannot be decoded"),
    "PNG: unknown colours": (lambda: png(header(8, 8, 7, 9), chunk(b"IDAT", BOMB)), "cannot be decoded"),
    "PNG: palette missing": (lambda: png(header(8, 8, 8, 3), chunk(b"IDAT", zlib.compress(bytes(72)))), None),
    "PNG: wrong checksum": (lambda: flipped(saved(), 29), "no whole PNG"),
    "PNG: chunk beyond the end": (lambda: PNG_SIGNATURE + b"\xff\xff\xff\xffIHDR", "cut short"),
    "PNG: 60,000 chunks": (lambda: png_with(chunk(b"tEXt") * 60_000), "broken"),
    "PNG: animated": (lambda: film("PNG"), "not an animation"),
    "PNG: animated, no frames": (lambda: png_with(chunk(b"acTL", bytes(8))), "not an animation"),
    "JPEG: magic only": (lambda: b"\xff\xd8\xff", "cut short"),
    "JPEG: no frame": (lambda: b"\xff\xd8\xff\xd9", "broken"),
    "JPEG: two frames": (second_frame, "no whole JPEG"),
    "JPEG: no height": (lambda: jpeg_sized(8, 0), "has no pixels"),
    "JPEG: 65,535 squared": (lambda: jpeg_sized(65_535, 65_535), "16,383 pixels wide"),
    "JPEG: 9,000 squared": (lambda: jpeg_sized(9_000, 9_000), "50,000,000 pixels"),
    "JPEG: more scans than any": (many_scans, "broken"),
    "JPEG: segments of length 0": (lambda: b"\xff\xd8" + b"\xff\xe1\0\0" * 99_999, "broken"),
    "JPEG: 2 MB of fill bytes": (lambda: b"\xff\xd8" + b"\xff" * 2_000_000, "cut short"),
    "JPEG: no end": (lambda: saved(format_="JPEG")[:-2], "cut short"),
    "WebP: animated": (lambda: film("WEBP"), "not an animation"),
    "WebP: hidden animation": (lambda: riff(canvas(8, 8), (b"ANMF", bytes(24))), "not an animation"),
    "WebP: 16,383 squared": (lambda: riff(lossless(16_383, 16_383)), "50,000,000 pixels"),
    "WebP: 2^24 squared": (lambda: riff(canvas(2**24, 2**24), lossless(8, 8)), "broken"),
    "WebP: header for another size": (lambda: riff(canvas(9, 8), lossless(8, 8)), "broken"),
    "WebP: frame larger than its canvas": (lambda: riff(canvas(8, 8), lossless(4_000, 4_000)), "broken"),
    "WebP: no frame": (lambda: riff(canvas(8, 8)), "broken"),
    "WebP: no content": (riff, "broken"),
    "WebP: frame without bits": (lambda: riff((b"VP8L", b"")), "cut short"),
    "WebP: wrong start code": (lambda: riff((b"VP8 ", bytes(10))), "broken"),
    "WebP: lossless in name only": (lambda: riff((b"VP8L", bytes(10))), "broken"),
    "WebP: no width": (lambda: riff(canvas(8, 8), (b"VP8 ", b"\0\0\0\x9d\x01\x2a" + bytes(9))), "broken"),
    "WebP: noise": (lambda: riff(lossless(8, 8)), "cannot be decoded"),
    "WebP: a header of one byte": (lambda: riff((b"VP8X", b"\0"), lossless(8, 8)), "broken"),
    "WebP: an empty header": (lambda: riff((b"VP8X", b""), lossless(8, 8)), "broken"),
    "WebP: a chunk of 4 GiB": (lambda: b"RIFF\x20\0\0\0WEBPVP8 \xff\xff\xff\xff" + bytes(30), "cut short"),
    "WebP: endless small chunks": (lambda: riff(*[(b"VP8 ", b"")] * 60_000), "broken"),
    "WebP: sound": (lambda: b"RIFF\x24\0\0\0WAVEfmt " + bytes(30), "must be a PNG"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_single_whole_picture_is_refused_by_name(name):
    make, message = REFUSED[name]
    if message is None:  # whatever it is, it does no harm
        assert check_image(make(), field="init_image").width == 8
        return
    with pytest.raises(InvalidField, match=message) as caught:
        check_image(make(), field="init_image")

    assert caught.value.field == "init_image"


@pytest.mark.parametrize("name", [name for name in REFUSED if "squared" in name or "line" in name or "larger" in name])
def test_bombs_are_told_from_their_headers_before_any_decoder_sees_them(name, monkeypatch):
    monkeypatch.setattr("shared.inputs.check.Image.open", lambda *_args, **_options: pytest.fail("was opened"))

    with pytest.raises(InvalidField):
        check_image(REFUSED[name][0](), field="image")


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP"])
def test_a_file_cut_anywhere_is_refused(format_):
    noise = Image.effect_noise((64, 64), 90).convert("RGB")
    whole = saved(noise, format_)
    places = {*range(1, 64), *range(64, len(whole), 97), *range(len(whole) - 16, len(whole))}

    for place in places:
        with pytest.raises(InvalidField):
            check_image(whole[:place], field="image")


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("tail", [archive(), b"<script>alert(1)</script>", saved(), bytes(9)], ids=len)
def test_what_follows_a_picture_is_left_behind(format_, tail):
    whole = saved(format_=format_)
    image = check_image(whole + tail, field="image")

    assert image == check_image(whole, field="image")
    assert len(image.data) <= len(whole)


def test_only_the_asked_formats_are_taken():
    with pytest.raises(InvalidField, match="must be a PNG or JPEG picture; this looks like WEBP"):
        check_image(saved(format_="WEBP"), field="url_upload", formats=("PNG", "JPEG"))


def test_bounds_are_exact():
    data = saved()
    assert check_image(data, field="image", max_bytes=len(data), max_pixels=32 * 16).width == 32
    with pytest.raises(InvalidField, match="at most 511 pixels, not 32 x 16"):
        check_image(data, field="image", max_pixels=511)
    with pytest.raises(InvalidField, match="bytes"):
        check_image(data, field="image", max_bytes=len(data) - 1)


def test_large_pictures_are_decoded_one_at_a_time():
    large, small = saved(Image.new("1", (2_100, 2_000))), saved()
    done = threading.Event()

    def check():
        normalized(check_image(large, field="image"))
        done.set()

    thread = threading.Thread(target=check)
    with _one_large:  # as if another were at it
        thread.start()
        normalized(check_image(small, field="image"))
        assert not done.wait(0.2)
    thread.join()

    assert done.is_set()


def palette_with_transparency():
    image = picture().quantize(4)
    first = image.getpixel((0, 0))
    return saved(image, transparency=bytes(0 if index == first else 255 for index in range(4)))


def sixteen_bit_grey():
    row = b"\0" + struct.pack(">4H", 0, 255, 0x8000, 0xFFFF)
    return png(header(4, 1, 16, 0), chunk(b"tRNS", b"\0\0"), chunk(b"IDAT", zlib.compress(row)))


def two_bit_grey():
    row = b"\0" + bytes([0b00_01_10_11])
    return png(header(4, 1, 2, 0), chunk(b"tRNS", b"\0\1"), chunk(b"IDAT", zlib.compress(row)))


def sixteen_bit_colour():
    row = b"\0" + struct.pack(">6H", 0xFFFF, 0, 0x8000, 1, 2, 3)
    return png(header(2, 1, 16, 2), chunk(b"tRNS", bytes(6)), chunk(b"IDAT", zlib.compress(row)))


#: name -> a file, and the colour of some of its pixels
TAKEN = {
    "RGB": (saved, {(0, 0): (255, 0, 0), (31, 15): (255, 255, 0)}),
    "RGBA": (lambda: saved(Image.new("RGBA", (2, 1), (1, 2, 3, 4))), {(0, 0): (1, 2, 3, 4)}),
    "palette": (lambda: saved(picture().quantize(4)), {(0, 0): (255, 0, 0), (31, 0): (0, 255, 0)}),
    "palette with transparency": (palette_with_transparency, {(0, 0): (255, 0, 0, 0), (31, 0): (0, 255, 0, 255)}),
    "palette with one clear colour": (
        lambda: saved(picture().quantize(4), transparency=picture().quantize(4).getpixel((0, 0))),
        {(0, 0): (255, 0, 0, 0), (31, 0): (0, 255, 0, 255)},
    ),
    "1 bit": (lambda: saved(Image.new("1", (3, 3), 1)), {(0, 0): (255, 255, 255)}),
    "2 bits": (two_bit_grey, {(0, 0): (0, 0, 0), (1, 0): (85, 85, 85), (3, 0): (255, 255, 255)}),
    "grey": (lambda: saved(Image.new("L", (3, 3), 77)), {(0, 0): (77, 77, 77)}),
    "grey with a clear one": (lambda: saved(Image.new("L", (3, 3), 77), transparency=77), {(0, 0): (77, 77, 77, 0)}),
    "grey with alpha": (lambda: saved(Image.new("LA", (3, 3), (77, 9))), {(0, 0): (77, 77, 77, 9)}),
    "16 bits grey": (
        sixteen_bit_grey,
        {(0, 0): (0, 0, 0), (1, 0): (0, 0, 0), (2, 0): (128, 128, 128), (3, 0): (255, 255, 255)},
    ),
    "16 bits": (sixteen_bit_colour, {(0, 0): (255, 0, 128), (1, 0): (0, 0, 0)}),
    "interlaced": (
        lambda: png(header(1, 1, interlaced=1), chunk(b"IDAT", zlib.compress(b"\0\xff\0\0"))),
        {(0, 0): (255, 0, 0)},
    ),
    "JPEG": (lambda: saved(format_="JPEG", quality=95), {(4, 4): (254, 0, 0), (28, 12): (255, 255, 0)}),
    "JPEG, progressive": (lambda: saved(format_="JPEG", quality=95, progressive=True), {(4, 4): (254, 0, 0)}),
    "JPEG, CMYK": (lambda: saved(picture("CMYK"), "JPEG", quality=95), {(4, 4): (255, 0, 0), (4, 12): (0, 0, 255)}),
    "JPEG, grey": (lambda: saved(picture("L"), "JPEG", quality=95), {(4, 4): (76, 76, 76)}),
    "JPEG, RGB by Adobe's word": (lambda: saved(format_="JPEG", quality=95, keep_rgb=True), {(4, 4): (255, 0, 0)}),
    "JPEG with noise between segments": (lambda: jpeg_with(b"\0noise\0"), {(4, 4): (254, 0, 0)}),
    "JPEG with a broken header": (lambda: jpeg_with(jpeg_segment(0xE0, b"JFIF\0")), {(4, 4): (254, 0, 0)}),
    "JPEG with two pictures": (
        lambda: saved(picture(), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))], quality=95),
        {(4, 4): (254, 0, 0)},
    ),
    "JPEG with a huge profile": (
        lambda: saved(format_="JPEG", quality=95, icc_profile=bytes(2_000_000)),
        {(4, 4): (254, 0, 0)},
    ),
    "JPEG with broken EXIF": (
        lambda: jpeg_with(jpeg_segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff" + bytes(90))),
        {(4, 4): (254, 0, 0)},
    ),
    "WebP": (lambda: saved(format_="WEBP", lossless=True), {(0, 0): (255, 0, 0)}),
    "WebP, lossy with alpha": (
        lambda: saved(Image.new("RGBA", (4, 4), (255, 255, 255, 0)), "WEBP", exact=True),
        {(0, 0): (255, 255, 255, 0)},
    ),
    "WebP with a profile": (
        lambda: saved(format_="WEBP", lossless=True, icc_profile=bytes(999)),
        {(0, 0): (255, 0, 0)},
    ),
    "WebP with broken EXIF": (
        lambda: saved(format_="WEBP", lossless=True, exif=b"MM\0*nonsense"),
        {(0, 0): (255, 0, 0)},
    ),
    "PNG with a bomb for a profile": (lambda: png_with(chunk(b"iCCP", b"p\0\0" + BOMB)), {(0, 0): (255, 0, 0)}),
    "PNG with a broken profile": (lambda: png_with(chunk(b"iCCP", b"nonsense")), {(0, 0): (255, 0, 0)}),
    "PNG with bombs for texts": (lambda: png_with(chunk(b"zTXt", b"k\0\0" + BOMB) * 9), {(0, 0): (255, 0, 0)}),
    "PNG with broken EXIF": (lambda: png_with(chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff12")), {(0, 0): (255, 0, 0)}),
    "PNG with broken ancillary chunks": (
        lambda: png_with(*(chunk(kind) for kind in (b"gAMA", b"cHRM", b"pHYs", b"sRGB", b"bKGD", b"tIME", b"fcTL"))),
        {(0, 0): (255, 0, 0)},
    ),
    "PNG with more data than pixels": (
        lambda: png(header(1, 1), chunk(b"IDAT", zlib.compress(b"\0\xff\0\0" + bytes(64 * 2**20)))),
        {(0, 0): (255, 0, 0)},
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_picture_in_any_mode_is_taken_with_its_pixels(name):
    make, expected = TAKEN[name]
    image = check_image(make(), field="image")
    with Image.open(io.BytesIO(normalized(image)), formats=("PNG",)) as clean:
        pixels = {place: clean.getpixel(place) for place in expected}

    assert check_image(image.data, field="image") == image
    assert clean.size == (image.width, image.height)
    assert clean.info == {}
    for place, colour in expected.items():
        assert pixels[place] == pytest.approx(colour, abs=3), place


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", LAID)
def test_a_picture_is_set_upright(format_, orientation):
    laid = picture() if LAID[orientation] is None else picture().transpose(LAID[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "a camera's maker"
    lossless = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(format_, {})

    image = check_image(saved(laid, format_, exif=exif, **lossless), field="image")
    with Image.open(io.BytesIO(normalized(image))) as clean:
        corners = [clean.getpixel(place) for place in ((4, 4), (28, 4), (4, 12), (28, 12))]

    assert (image.width, image.height) == clean.size == (32, 16)
    assert b"maker" not in image.data
    for found, wanted in zip(corners, [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)], strict=True):
        assert found == pytest.approx(wanted, abs=3)


@pytest.mark.parametrize(
    "exif",
    [
        b"", b"Exif\0\0", b"XX*\0\0\0\0\x08", b"MM\0*", exif_of(9), exif_of(0), b"II" + exif_of(6)[2:],
        exif_of(6)[:-8], exif_of(6).replace(b"\0\3\0\0\0\1", b"\0\4\0\0\0\1"),
    ],
)  # fmt: skip
def test_an_orientation_that_cannot_be_read_is_none(exif):
    assert orientation_of(exif) == 1


@pytest.mark.parametrize("orientation", LAID)
def test_the_smallest_exif_tells_its_orientation(orientation):
    assert orientation_of(exif_of(orientation)) == orientation
    assert orientation_of(b"Exif\0\0" + exif_of(orientation)) == orientation


def test_nothing_of_the_process_is_changed_and_no_warning_arises():
    def state():
        limits = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, PngImagePlugin.MAX_TEXT_CHUNK)
        return (*limits, list(warnings.filters))

    before = state()
    for make, _ in TAKEN.values():
        normalized(check_image(make(), field="image"))

    assert state() == before


@given(st.binary(max_size=300), st.sampled_from([PNG_SIGNATURE, b"\xff\xd8\xff", b"RIFF\x90\0\0\0WEBPVP8X", b""]))
def test_any_bytes_are_a_picture_or_refused(data, magic):
    with pytest.raises(InvalidField):
        check_image(magic + data, field="image", max_pixels=1)


@given(
    st.sampled_from([make() for make, _ in TAKEN.values() if len(make()) < 5_000]),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_a_damaged_picture_is_a_picture_or_refused(data, damages):
    damaged = bytearray(data)
    for place, value in damages:
        damaged[int(place * len(data))] = value
    with suppress(InvalidField):
        image = check_image(bytes(damaged), field="image", max_pixels=100_000)
        assert normalized(image).startswith(PNG_SIGNATURE)


DATA = bytes(range(256)) + b"\xfb\xff"
PLAIN = base64.b64encode(DATA).decode()
URL_SAFE = base64.urlsafe_b64encode(DATA).decode()


@pytest.mark.parametrize(
    "text",
    [
        PLAIN, PLAIN.rstrip("="), URL_SAFE, URL_SAFE.rstrip("="), f"  {PLAIN}\n",
        base64.encodebytes(DATA).decode(), "\r\n".join(PLAIN), f"data:image/png;base64,{PLAIN}",
        f"data:;base64,{PLAIN}", f"DATA:image/jpeg;name=a.jpg;BASE64, {URL_SAFE}",
        f"data:text/html;base64,{PLAIN.replace('+', '%2B').replace('/', '%2F')}",
    ],
)  # fmt: skip
def test_every_form_of_base64_is_read(text):
    assert parse_source(text, field="image") == Inline(DATA)


@pytest.mark.parametrize("url", ["http://example.com/a.png", "HTTPS://example.com/b?c=d:e", " https://x.example/ "])
def test_addresses_are_told_from_base64(url):
    assert parse_source(url, field="image") == Remote(url.strip())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        (None, "must be a string"),
        (b"bytes", "must be a string"),
        (7, "must be a string"),
        ("file:///etc/passwd", "must be an http"),
        ("ftp://example.com/a.png", "must be an http"),
        ("javascript:alert(1)", "must be an http"),
        ("C:\\me\\picture.png", "must be an http"),
        ("/etc/passwd.", "no valid base64"),
        ("example.com/picture.png", "no valid base64"),
        ("//example.com/a.png", "no valid base64"),
        ("grün", "no valid base64"),
        (PLAIN + "!", "no valid base64"),
        (PLAIN[:8] + "=" + PLAIN[8:], "no valid base64"),
        ("A" * 5, "no valid base64"),
        ("AAAA====", "no valid base64"),
        ("====", "no valid base64"),
        ("\ud800", "no valid base64"),
        ("\0" * 8, "no valid base64"),
        ("data:", "data: URI of the form"),
        ("data:,", "data: URI of the form"),
        ("data:image/png,rawtext", "data: URI of the form"),
        (f"data:image/png;base64{PLAIN}", "data: URI of the form"),
        (f"data:{'x' * 300};base64,{PLAIN}", "data: URI of the form"),
        ("data:image/png;base64,", "no valid base64"),
        ("data:image/png;base64,%zz%", "no valid base64"),
        ("data:image/png;base64,%ff%fe", "no valid base64"),
        ("https://example.com/" + "a" * 4096, "at most 4,096 characters"),
        ("A" * 28_000_000, "at most 20,971,520 bytes"),
    ],
)
def test_any_other_text_is_refused_by_name(text, message):
    with pytest.raises(InvalidField, match=message) as caught:
        parse_source(text, field="init_image")

    assert caught.value.field == "init_image"


@given(st.one_of(st.text(), st.builds("data:{};base64,{}".format, st.text(max_size=9), st.text())))
def test_any_text_is_a_source_or_refused(text):
    with suppress(InvalidField):
        assert isinstance(parse_source(text, field="image"), (Inline, Remote))
