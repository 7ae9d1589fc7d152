"""How OpenSourceAIs tells of a job: when it is taken, when it is asked for, and in its callbacks."""

import re
from typing import Any, Final

from shared.dialects.base import Callback, Reply, View
from shared.dialects.links import SUFFIXES, Links
from shared.dialects.native import rfc3339
from shared.dialects.opensourceais_request import DEFAULT_MODEL, DEFAULT_OUTPUT, ENGINE
from shared.job import Artifact, Job, Status

#: The provider's stages.
SENT: Final = 0
ACKNOWLEDGED: Final = 1
STARTED: Final = 2
INIT_IMAGE: Final = 3
IMAGE_DONE: Final = 4
STOPPED: Final = 5
FAILED: Final = -1
_EXTENSION: Final = re.compile(r"\.(png|jpe?g|webp)$", re.IGNORECASE)


def render_created(job: Job, _view: View) -> Reply:
    """Answer a submit."""
    return Reply(status=201, body={"data": {"uid": job.uid, "created_at": rfc3339(job.created_ms)}})


def render_request(job: Job, view: View) -> Reply:
    """Answer a poll. `started_at` and `ended_at` are there once they have come, `error` where it ended badly."""
    data: dict[str, Any] = {
        "client_token": job.submission.option("client_token"),
        "uid_backlog": job.uid,
        "ai_engine": ENGINE,
        "params": params(job),
    }
    if job.started_ms is not None:
        data["started_at"] = rfc3339(job.started_ms)
    data |= {"response": response(job, view.links), "cost_in_sec": seconds(job)}
    if job.status.is_terminal:
        data["ended_at"] = rfc3339(job.finished_ms)
        if job.status is not Status.SUCCEEDED:
            data["error"] = failure(job)
    return Reply(body={"data": data})


def callbacks(job: Job, links: Links) -> tuple[Callback, ...]:
    """Return the calls that tell how a job stands.

    Once it waits: stage 0. Once it runs: 1 and 2, and 3 where it starts from a picture. At its end: each picture, sent
    and told of (4), and that it is over (5, or -1).
    """
    notify, upload = (str(job.submission.option(name) or "") for name in ("notify_url", "upload_url"))
    if not job.status.is_terminal:
        return tuple(Callback(url=notify, fields=notice) for notice in passing_notices(job)) if notify else ()
    calls = []
    for image, artifact in zip(response(job, links), job.result.artifacts, strict=False):
        if upload:
            calls.append(_upload(job, upload, artifact, cycle=image["cycle"]))
        if notify:
            calls.append(Callback(url=notify, fields=_notice(job, IMAGE_DONE, "AI made an image", qty=1, **image)))
    if notify:
        calls.append(Callback(url=notify, fields=render_closing(job, links)))
    return tuple(calls)


def passing_notices(job: Job) -> list[dict[str, Any]]:
    """Return what is told of a job that has not ended."""
    if job.status is Status.QUEUED:
        return [_notice(job, SENT, "AI request sent")]
    notices = [_notice(job, ACKNOWLEDGED, "AI request acknowledged"), _notice(job, STARTED, "AI started")]
    if job.submission.spec.image is not None:
        url = str(job.submission.option("url_upload") or "default")
        notices.append(_notice(job, INIT_IMAGE, "AI has the init image", filename=url))
    return notices


def render_closing(job: Job, _links: Links) -> dict[str, Any]:
    """Return the last notice: stage 5 where the pictures are there, -1 where there are none."""
    if job.status is not Status.SUCCEEDED:
        return _notice(job, FAILED, failure(job)["message"], cost=seconds(job))
    count = len(job.result.artifacts)
    return _notice(job, STOPPED, "AI stopped", cost=seconds(job), cycle=max(0, count - 1), qty=count)


def _notice(
    job: Job, stage: int, descr: str, *, cost: int = 0, cycle: int = 0, filename: str = "default", qty: int = 0
) -> dict[str, Any]:
    return {
        "cost": cost,
        "cycle": cycle,
        "descr": descr,
        "engine": ENGINE,
        "filename": filename,
        "qty": qty,
        "stage": stage,
        "uid": job.uid,
        "token": job.submission.option("client_token"),
        "username": job.submission.option("username"),
    }


def _upload(job: Job, url: str, artifact: Artifact, *, cycle: int) -> Callback:
    token = job.submission.option("client_token")
    name = download_names(job, len(job.result.artifacts))[cycle]
    suffix = SUFFIXES.get(artifact.content_type, "bin")
    fields = {"uid": job.uid, "token": token, "cycle": cycle, "engine": ENGINE}
    return Callback(url=url, fields=fields, picture=artifact, filename=f"{name}.{suffix}")


def params(job: Job) -> dict[str, Any]:
    """Return what was asked for by the provider's names, with the seed that was drawn."""
    spec, option = job.submission.spec, job.submission.option
    url, strength = option("url_upload"), option("strength")
    asked = {
        "word": spec.prompt,
        "width": spec.width,
        "height": spec.height,
        "model": option("model") or (DEFAULT_MODEL if job.submission.dialect == "opensourceais" else spec.model),
        "cimg": spec.num_images,
        "guidance": spec.guidance_scale,
        "strength": strength if spec.image is None else spec.strength_used,
        "seed": list(spec.seed) if isinstance(spec.seed, tuple) else spec.seed,
        "steps": spec.num_inference_steps,
        "saveinterval": spec.preview_every,
        "url_upload": url,
        "output": option("output"),
        "uid_backlog": job.uid,
    }
    return {name: value for name, value in asked.items() if value is not None}


def response(job: Job, links: Links) -> list[dict[str, Any]]:
    """Return a link to each picture; none before the job has succeeded."""
    artifacts = job.result.artifacts if job.status is Status.SUCCEEDED else ()
    names = download_names(job, len(artifacts))
    return [
        {"filename": links.image(artifact, name=name).url, "cycle": cycle}
        for cycle, (artifact, name) in enumerate(zip(artifacts, names, strict=True))
    ]


def download_names(job: Job, count: int) -> list[str]:
    """Return what browsers save the pictures as, without suffix: `output` names nothing but this."""
    output = str(job.submission.option("output") or DEFAULT_OUTPUT)
    stem = f"output_{job.uid}" if output == DEFAULT_OUTPUT else _EXTENSION.sub("", output)
    name = stem.replace("$", "_").lstrip(".") or "output"
    return [name] if count == 1 else [f"{name}-{cycle}" for cycle in range(count)]


def seconds(job: Job) -> int:
    """Return how long a worker was at it, rounded up; 0 until it has ended."""
    if job.started_ms is None or job.finished_ms is None:
        return 0
    return -(-(job.finished_ms - job.started_ms) // 1000)


def failure(job: Job) -> dict[str, str]:
    """Return why there are no pictures; `JobSpec`'s name for the init image becomes the provider's."""
    error = job.result.error or {"code": str(job.status), "message": f"The job was {job.status}."}
    message = str(error["message"])
    if message.startswith("image: "):
        message = f"url_upload: {message.removeprefix('image: ')}"
    return {"code": str(error["code"]), "message": message}
