"""Any picture to eight bits a colour."""

from PIL import Image


def plain(image: Image.Image) -> Image.Image:
    """Return the picture as RGB, or as RGBA where it has transparency."""
    if image.mode.startswith("I"):
        # Of 16 bits the upper eight, as Pillow does for colours; for grey its `convert` clips.
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("L").convert("RGB")
    if image.mode == "F":
        return image.convert("L").convert("RGB")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")
