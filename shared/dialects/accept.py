"""What an Accept header prefers, of two kinds of answers.

https://www.rfc-editor.org/rfc/rfc9110#name-accept
"""

from collections.abc import Iterator


def prefers(kind: str, *, to: str, accept: str) -> bool:
    """Whether a caller would rather have `kind` than `to`; of two that are welcome alike, the one named first counts.

    Both are media types. `to` is what is answered where the header names neither; `*/*` means it too.
    """
    standing = {f"{kind.partition('/')[0]}/*": kind, f"{to.partition('/')[0]}/*": to, "*/*": to, kind: kind, to: to}
    ranked = sorted(_entries(accept), key=lambda entry: -entry[1])  # keeps the header's order among equals
    return next((standing[name] for name, quality in ranked if name in standing and quality > 0), to) == kind


def _entries(accept: str) -> Iterator[tuple[str, float]]:
    """Yield each entry's media type and quality, 1 where it names none; what cannot be read is 0, not wanted."""
    for entry in accept.split(","):
        name, *parameters = (part.strip().lower() for part in entry.split(";"))
        quality = next((text.removeprefix("q=") for text in parameters if text.startswith("q=")), "1")
        yield name, float(quality) if quality.replace(".", "", 1).isdecimal() and quality.isascii() else 0.0
