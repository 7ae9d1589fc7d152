"""Darkroom's own wire format: how a job reads in `/v1` and in its webhook.

Times are RFC 3339 with milliseconds, in UTC; durations are seconds. Fields are added over time, never renamed.
"""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from shared.dialects.links import SUFFIXES, Links
from shared.job import Job, Preview, Status


def render_job(job: Job, links: Links) -> dict[str, Any]:
    """Return a job as `/v1/jobs` answers it. Links to images are signed anew."""
    return {
        "uid": job.uid,
        "status": job.status.value,
        "track_id": job.submission.track_id,
        "attempts": job.attempts,
        "progress": _progress(job),
        "position": job.position if job.status is Status.QUEUED else None,
        "waits_for": job.waits_for,
        "eta_s": job.eta_s,
        **_times(job),
        "parameters": _parameters(job),
        "outputs": render_outputs(job, links),
        "previews": [_preview(job, preview, links) for preview in job.previews],
        "timings": _timings(job),
        "error": render_failure(job),
        "links": render_links(job.uid, links),
    }


def render_webhook(job: Job, links: Links) -> dict[str, Any]:
    """Return what the caller's webhook is sent: how the job ended, and where its images are."""
    return {
        "uid": job.uid,
        "status": job.status.value,
        "track_id": job.submission.track_id,
        **_times(job),
        "outputs": render_outputs(job, links),
        "timings": _timings(job),
        "error": render_failure(job),
    }


def with_event(webhook: dict[str, Any], job: Job, event: str) -> dict[str, Any]:
    """Return a webhook with what it tells of: `event`, and until the job has ended how far it is."""
    progress = {} if job.status.is_terminal else {"progress": _progress(job)}
    return {"event": event, **webhook, **progress}


def render_links(uid: int, links: Links) -> dict[str, str]:
    """Return where to read, follow and cancel a job."""
    return {
        "self": links.api("v1", "jobs", uid),
        "events": links.api("v1", "jobs", uid, "events"),
        "cancel": links.api("v1", "jobs", uid, "cancel"),
    }


def rfc3339(epoch_ms: int | None) -> str | None:
    """Return a time as 2026-01-31T12:00:00.123Z; None stays None."""
    if epoch_ms is None:
        return None
    seconds, milliseconds = divmod(epoch_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"


def _times(job: Job) -> dict[str, str | None]:
    return {
        "created_at": rfc3339(job.created_ms),
        "started_at": rfc3339(job.started_ms),
        "finished_at": rfc3339(job.finished_ms),
    }


def _progress(job: Job) -> dict[str, int | float]:
    steps = job.steps or job.submission.spec.num_inference_steps
    # The last report may have come before the last step; a job that succeeded is complete all the same.
    step = steps if job.status is Status.SUCCEEDED else min(job.step, steps)
    return {"step": step, "steps": steps, "fraction": round(step / steps, 4)}


def _parameters(job: Job) -> dict[str, Any]:
    """Return what had an effect, once a worker has told; before that, what was asked, with the seeds drawn."""
    if job.result.parameters:
        return dict(job.result.parameters)
    asked = asdict(job.submission.spec) | {"textual_inversions": dict(job.submission.spec.textual_inversions)}
    return {name: _listed(value) for name, value in asked.items() if value is not None}


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def render_outputs(job: Job, links: Links) -> list[dict[str, Any]]:
    """Return a job's images, with links that are signed anew."""
    artifacts = job.result.artifacts if job.status is Status.SUCCEEDED else ()
    outputs = []
    for index, artifact in enumerate(artifacts):
        # The handle, not the uid: links get passed on, and a uid can be guessed from another.
        link = links.image(artifact, name=f"{job.handle}-{index}")
        outputs.append(
            {
                "index": index,
                "url": link.url,
                "seed": artifact.seed,
                "width": artifact.width,
                "height": artifact.height,
                "content_type": artifact.content_type,
                "flagged": artifact.flagged,
                "expires_at": rfc3339(link.expires_ms),
            }
        )
    return outputs


def _preview(job: Job, preview: Preview, links: Links) -> dict[str, Any]:
    suffix = SUFFIXES.get(preview.content_type, "bin")
    link = links.file(preview.key, filename=f"{job.handle}-{preview.index}-{preview.step}.{suffix}")
    return {
        "index": preview.index,
        "step": preview.step,
        "url": link.url,
        "expires_at": rfc3339(link.expires_ms),
    }


def _timings(job: Job) -> dict[str, float]:
    """Return the worker's stages, framed by what only the record knows: the wait before and the whole."""
    timings = {}
    if job.started_ms is not None:
        timings["queued"] = (job.started_ms - job.created_ms) / 1000
    timings |= {stage: round(seconds, 3) for stage, seconds in job.result.timings.items()}
    if job.finished_ms is not None:
        timings["total"] = (job.finished_ms - job.created_ms) / 1000
    return timings


def render_failure(job: Job) -> dict[str, Any] | None:
    """Return why a job failed, None where it did not."""
    error = job.result.error
    if error is None:
        return None
    return {
        "code": str(error["code"]),
        "message": str(error["message"]),
        "retryable": bool(error.get("retryable", False)),
    }
