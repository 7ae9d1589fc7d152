"""Token merging for speed (Bolya and Hoffman, arXiv 2303.17604), by the authors' own package.

Similar tokens are merged before self-attention and spread out again after it; the picture changes a little. Which
tokens stay is chosen without chance: with it, the same seed would draw another picture at each call and in each batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import tomesd

if TYPE_CHECKING:
    from shared.spec import JobSpec
    from worker.engine import Model

#: Share of the tokens that is merged away.
RATIO: Final = 0.5
#: Layers that are downsampled further keep all their tokens: there are few of them.
MAX_DOWNSAMPLE: Final = 1


@contextmanager
def token_merging(model: Model, spec: JobSpec) -> Iterator[None]:
    """Merge tokens while a call runs, if the job asks for it. The network is as before afterwards."""
    if not spec.tomesd:
        yield
        return
    unet = model.pipeline.unet
    tomesd.apply_patch(unet, ratio=RATIO, max_downsample=MAX_DOWNSAMPLE, use_rand=False)
    try:
        yield
    finally:
        tomesd.remove_patch(unet)
