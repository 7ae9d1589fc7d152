"""Darkroom's own wire format: how a batch reads."""

from typing import Any

from shared.batch import Batch
from shared.dialects.links import Links
from shared.dialects.native import rfc3339


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
        "created_at": rfc3339(batch.created_ms),
        "finished_at": rfc3339(batch.finished_ms),
        "links": {"self": links.api("v1", "batches", batch.id)},
    }
