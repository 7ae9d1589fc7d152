"""A batch: jobs that are drawn together, and their pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker import parameters
from worker.heartbeat import Held
from worker.pipelines import Shot
from worker.pipelines.calls import token_length
from worker.prepare import NO_INPUTS, Inputs
from worker.stages import staged
from worker.wording import worded

if TYPE_CHECKING:
    from PIL.Image import Image

    from worker.engine import Model


@dataclass(eq=False, slots=True)
class Work(Held):
    """A claimed job, what it draws from, and what is drawn of it."""

    inputs: Inputs = NO_INPUTS
    images: dict[int, Image] = field(default_factory=dict)
    #: Indexes of the images that the safety checker flagged.
    flagged: set[int] = field(default_factory=set)
    prepare_s: float = 0.0
    generate_s: float = 0.0
    #: Its end is under way, or it was handed back.
    gone: bool = False

    @property
    def live(self) -> bool:
        """Whether there is still a point in drawing it."""
        return not (self.gone or self.lost.is_set())

    @property
    def timings(self) -> dict[str, float]:
        """Seconds by stage."""
        fetched = {"prepare": self.prepare_s} if self.inputs.told else {}
        return {**fetched, "generate": self.generate_s}


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of a job, to be drawn."""

    work: Work
    index: int
    shot: Shot


def calls(model: Model, batch: Sequence[Work], *, size: int) -> Iterator[list[Picture]]:
    """Yield what shares a call: at most so many pictures, of equally long prompts."""
    by_length: dict[int, list[Picture]] = {}
    for work in batch:
        if work.live:
            with staged("prompt", work):  # whose length its encoding tells
                for picture in _pictures(work):
                    by_length.setdefault(token_length(model, picture.shot), []).append(picture)
    for pictures in by_length.values():
        for start in range(0, len(pictures), size):
            yield pictures[start : start + size]


def _pictures(work: Work) -> Iterator[Picture]:
    spec = work.lease.submission.spec
    prompt, negative_prompt = worded(spec)
    for index, seed in enumerate(spec.image_seeds()):
        shot = Shot(
            prompt=prompt,
            # Without guidance the negative prompt has no effect, not even by its length.
            negative_prompt=negative_prompt if parameters.guided(spec) else "",
            seed=seed,
            weighting=spec.prompt_weighting,
            clip_skip=spec.clip_skip or 0,
            image=work.inputs.image,
            mask=work.inputs.mask,
            hints=work.inputs.hints,
        )
        yield Picture(work, index, shot)
