"""What a dialect reads out of a request: a submission, and the images that came along with it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.inputs import Inline, Remote
from shared.job import Submission
from shared.spec import INPUT_PREFIX


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """A request, read but not yet judged by what only the installation knows: its models, its limits, its network."""

    #: Its spec names an image to be fetched by its URL, and one that came along by `content_name`.
    submission: Submission
    #: field -> the bytes that came along
    inputs: Mapping[str, bytes] = field(default_factory=dict)
    #: Images are fetched over https, or from an address that the operator allows.
    https_only: bool = False


def content_name(data: bytes) -> str:
    """Return a name equal for equal bytes, so that a repeated request is known as one."""
    return f"{INPUT_PREFIX}sha256-{hashlib.sha256(data).hexdigest()}"


def named(sources: Mapping[str, Inline | Remote]) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return field -> what the spec calls the image, and field -> bytes for those that came along."""
    names, inputs = {}, {}
    for name, source in sources.items():
        if isinstance(source, Inline):
            names[name], inputs[name] = content_name(source.data), source.data
        else:
            names[name] = source.url
    return names, inputs
