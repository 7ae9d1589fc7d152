"""What a job draws from: its images, fetched from storage and brought to its size."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from PIL.Image import Resampling

from shared.errors import InvalidField, JobError
from shared.inputs import check_image
from shared.spec import Task
from worker.controlnet.hints import hint
from worker.images import fit, fit_mask, open_stored
from worker.insist import insist
from worker.pipelines.regions import region, zoomed_in

if TYPE_CHECKING:
    from PIL.Image import Image

    from shared.spec import ControlNet, JobSpec
    from shared.storage import Storage


class InputUnusable(JobError):
    """An image that the job draws from cannot be used."""

    code = "input_unusable"


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """A job's images, of its width and height, and what its record tells of them."""

    image: Image | None = None
    mask: Image | None = None
    #: What each of the spec's `controlnets_used` looks at.
    hints: tuple[Any, ...] = ()
    #: field -> the SHA-256 of what was stored
    told: Mapping[str, str] = field(default_factory=dict)


NO_INPUTS: Final = Inputs()


def prepare(
    spec: JobSpec,
    storage: Storage,
    *,
    pause: Callable[[float], None],
    hint_kind: Callable[[str], str],
) -> Inputs:
    """Return what the spec draws from. `pause` waits so many seconds where storage is away; what it raises ends that.

    `hint_kind` tells what a ControlNet, by its name, looks at; it may raise as well.

    Raises `InputUnusable` where an image is not stored any more, is no picture, or is one of which a ControlNet's hint
    cannot be made, and `StorageUnavailable`.
    """
    keys = spec.images()
    if not keys:
        return NO_INPUTS
    # One picture may serve several fields.
    first = {key: name for name, key in reversed(keys.items())}
    stored = {key: _get(storage, name, key, pause=pause) for key, name in first.items()}
    decoded = {key: _decoded(first[key], data) for key, data in stored.items()}
    size = (spec.width, spec.height)
    mask = None if spec.mask_image is None else fit_mask(decoded[spec.mask_image], *size)
    controls = [(net, fit(decoded[net.image], *size)) for net in spec.controlnets_used]
    return Inputs(
        image=None if spec.image is None else fit(decoded[spec.image], *size),
        mask=mask,
        hints=tuple(_hint(spec, net, picture, mask=mask, kind=hint_kind(net.name)) for net, picture in controls),
        told={name: f"sha256:{hashlib.sha256(stored[key]).hexdigest()}" for name, key in keys.items()},
    )


def _hint(spec: JobSpec, net: ControlNet, picture: Image, *, mask: Image | None, kind: str) -> Any:
    """Return what a ControlNet looks at: of a picture that is painted in part at full size, that part."""
    if mask is not None and spec.task is Task.INPAINT and spec.inpaint_full_res:
        box = region(mask, spec.inpaint_full_res_padding)
        picture = zoomed_in(picture, box, resample=Resampling.LANCZOS)
        mask = zoomed_in(mask, box, resample=Resampling.NEAREST)
    try:
        return hint(picture, kind=kind, preprocess=net.preprocess, mask=mask)
    except KeyError as error:
        raise InputUnusable(f"{net.name}: no {kind} hint can be made here out of a picture") from error


def _get(storage: Storage, name: str, key: str, *, pause: Callable[[float], None]) -> bytes:
    try:
        return insist(partial(storage.get, key), storage, pause=pause).data
    except KeyError as error:
        raise InputUnusable(f"{name} is not stored any more") from error


def _decoded(name: str, data: bytes) -> Image:
    """Return a picture, held once more to the limits that held when it came in."""
    try:
        return open_stored(check_image(data, field=name).data)
    except InvalidField as error:
        raise InputUnusable(f"{name} {error.message}") from error
