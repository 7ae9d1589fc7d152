"""A job that is through: its pictures and what is told of them, or the error that it ended with."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.errors import DarkroomError, InvalidField
from shared.job import Artifact, Result
from worker import parameters
from worker.encode import Caption, Encoded, encode

if TYPE_CHECKING:
    from PIL.Image import Image

    from worker.heartbeat import Held


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """A job whose pictures are drawn."""

    job: Held
    images: Sequence[Image]
    #: Indexes of those that stand in for pictures which the safety checker flagged.
    flagged: Collection[int] = ()
    parameters: Mapping[str, Any]
    timings: Mapping[str, float]
    engine: Mapping[str, Any]


def encoded(finished: Finished) -> tuple[Result, list[Encoded]]:
    """Return a job's result, as it is once its files are stored, and the files."""
    lease, spec = finished.job.lease, finished.job.lease.submission.spec
    seeds = spec.image_seeds()
    started = time.perf_counter()
    files = [encode(image, spec, caption(finished, seed)) for image, seed in zip(finished.images, seeds, strict=True)]
    timings = {**finished.timings, "encode": time.perf_counter() - started}
    artifacts = tuple(
        Artifact(
            key=f"results/{lease.handle}/{lease.fence}/{index}.{file.extension}",
            seed=seed,
            width=image.width,
            height=image.height,
            content_type=file.content_type,
            bytes=len(file.data),
            flagged=index in finished.flagged,
        )
        for index, (image, seed, file) in enumerate(zip(finished.images, seeds, files, strict=True))
    )
    result = Result(
        artifacts=artifacts,
        parameters=finished.parameters,
        timings={stage: round(seconds, 4) for stage, seconds in timings.items()},
        engine=finished.engine,
    )
    return result, files


def caption(finished: Finished, seed: int) -> Caption:
    """Return what the file of the job's image with that seed tells."""
    image = parameters.of_image(finished.parameters, seed=seed)
    return Caption(
        text=parameters.as_text(image, model_hash=str(finished.engine["model_hash"])), json=parameters.as_json(image)
    )


def told(error: DarkroomError) -> dict[str, Any]:
    """Return an error as a record shows it: no path, no traceback, and the field at fault where there is one."""
    message = f"{error.field}: {error.message}" if isinstance(error, InvalidField) else error.message
    return {"code": error.code, "message": message, "retryable": error.retryable}
