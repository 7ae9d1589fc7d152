"""Darkroom's own wire format: a batch's manifest, which tells of each of its lines what has become of it.

Written as JSON Lines or as CSV (RFC 4180), in the order of the lines, a piece at a time.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from io import StringIO
from typing import Any, Final

from shared.batch import BatchRow
from shared.dialects.links import SUFFIXES, Links
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


#: The columns of a table that lies beside the images.
FILE_COLUMNS: Final = tuple("files" if name == "urls" else name for name in COLUMNS)


def file_names(result: Mapping[str, Any], *, total: int) -> list[str]:
    """Return what the images of a line are called as files, in their order: 0042.png, or 0042-0.png, 0042-1.png.

    `total` is how many lines there are.
    """
    outputs, line = result["outputs"], f"{result['line']:0{len(str(total))}}"
    names = [line] if len(outputs) == 1 else [f"{line}-{output['index']}" for output in outputs]
    suffixes = [SUFFIXES.get(output["content_type"], "bin") for output in outputs]
    return [f"{name}.{suffix}" for name, suffix in zip(names, suffixes, strict=True)]


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
        cells = _cells(result)
        yield _csv_row(cells[name] for name in COLUMNS)


def write_table(results: Iterable[Mapping[str, Any]], *, total: int) -> Iterator[str]:
    """Yield a header, and a row for each result with the names of its files in place of links."""
    yield _csv_row(FILE_COLUMNS)
    for result in results:
        cells = {**_cells(result), "files": " ".join(file_names(result, total=total))}
        yield _csv_row(cells[name] for name in FILE_COLUMNS)


def _cells(result: Mapping[str, Any]) -> dict[str, Any]:
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
