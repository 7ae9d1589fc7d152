"""Darkroom's own wire format: how a batch reads."""

from typing import Any

from shared.batch import BATCH_EVENTS, ArchivePart, Batch, BatchRow
from shared.dialects.links import Links
from shared.dialects.native import render_job, rfc3339


def render_batch(batch: Batch, links: Links) -> dict[str, Any]:
    """Return a batch as `/v1/batches` answers it."""
    return {
        "id": batch.id,
        "name": batch.options.name,
        "status": batch.status.value,
        "total": batch.total,
        "counts": {status.value: count for status, count in batch.counts.items()},
        "price": batch.price,
        "spent": batch.spent,
        "budget": batch.options.budget,
        "archive": None if batch.archive is None else [_part(batch, part, links) for part in batch.archive],
        "created_at": rfc3339(batch.created_ms),
        "finished_at": rfc3339(batch.finished_ms),
        "links": {
            "self": links.api("v1", "batches", batch.id),
            "jobs": links.api("v1", "batches", batch.id, "jobs"),
            "results": links.api("v1", "batches", batch.id, "results"),
            "cancel": links.api("v1", "batches", batch.id, "cancel"),
        },
    }


def _part(batch: Batch, part: ArchivePart, links: Links) -> dict[str, Any]:
    link = links.file(part.key, filename=f"batch-{batch.id}-{part.first}-{part.last}.zip")
    return {
        "url": link.url,
        "expires_at": rfc3339(link.expires_ms),
        "first_line": part.first,
        "last_line": part.last,
        "images": part.images,
        "bytes": part.size,
    }


def render_batch_webhook(batch: Batch, links: Links, *, event: str) -> dict[str, Any]:
    """Return what a batch's webhook is sent. It tells the end that is announced, should the batch run again since."""
    return {"event": event, **render_batch(batch, links), "status": event.removeprefix(BATCH_EVENTS)}


def render_row(row: BatchRow, links: Links) -> dict[str, Any]:
    """Return a line of a batch as `/v1/batches/{id}/jobs` answers it."""
    submission = row.job.submission if row.job else row.submission
    return {
        "line": row.line,
        "uid": row.uid,
        "status": row.status.value if row.status else None,
        "track_id": submission.track_id if submission else None,
        "job": render_job(row.job, links) if row.job else None,
    }
