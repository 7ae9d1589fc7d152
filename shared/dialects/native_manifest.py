"""Darkroom's own wire format: a batch's manifest, which tells of each of its lines what has become of it.

Written as JSON Lines or as CSV (RFC 4180), in the order of the lines, a piece at a time.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from io import StringIO
from typing import Any, Final

from shared.batch import BatchRow
from shared.dialects.links import Links
from shared.dialects.native import render_failure, render_outputs, rfc3339

#: The columns of the CSV form. `seeds` and `urls` are separated by spaces, as many as there are images.
COLUMNS: Final = (
    "line",
    "uid",
    "status",
    "track_id",
    "prompt",
    "seeds",
    "urls",
    "error_code",
    "error_message",
    "created_at",
    "finished_at",
)


def render_result(row: BatchRow, links: Links) -> dict[str, Any]:
    """Return what the manifest tells of a line. Links to images are signed anew."""
    job = row.job
    submission = job.submission if job else row.submission
    return {
        "line": row.line,
        "uid": row.uid,
        "status": row.status.value if row.status else None,
        "track_id": submission.track_id if submission else None,
        "prompt": submission.spec.prompt if submission else None,
        "outputs": render_outputs(job, links) if job else [],
        "error": render_failure(job) if job else None,
        "created_at": rfc3339(job.created_ms) if job else None,
        "finished_at": rfc3339(job.finished_ms) if job else None,
    }


def write_jsonl(results: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a JSON object a line."""
    for result in results:
        yield json.dumps(result, ensure_ascii=False, separators=(",", ":")) + "\n"


def write_csv(results: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a header, and a row for each result."""
    yield _csv_row(COLUMNS)
    for result in results:
        cells = cells_of(result)
        yield _csv_row(cells[name] for name in COLUMNS)


def cells_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the CSV form tells of a result, by its columns."""
    outputs, error = result["outputs"], result["error"] or {}
    return {
        **result,
        "seeds": " ".join(str(output["seed"]) for output in outputs),
        "urls": " ".join(output["url"] for output in outputs),
        "error_code": error.get("code"),
        "error_message": error.get("message"),
    }


def _csv_row(cells: Iterable[Any]) -> str:
    text = StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()
