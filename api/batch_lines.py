"""Reads a batch's body line by line, as it comes in: JSON Lines and CSV. What cannot be read is told per line."""

import codecs
import csv
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn

import flask
from marshmallow import Schema, fields
from werkzeug.exceptions import UnsupportedMediaType

from api.fields import ImageSource
from shared.errors import DarkroomError, MalformedBody, UnknownField

#: Longest line, in bytes; one that is longer is told and skipped.
MAX_LINE_BYTES: Final = 4 * 1024 * 1024
CHUNK_BYTES: Final = 64 * 1024
#: A job as its caller wrote it, or why the line holds none.
Line = dict[str, Any] | DarkroomError


def body_chunks(req: flask.Request) -> Iterator[bytes]:
    """Yield a body as it comes. Raises 413 past the limit, whether or not its length was announced."""
    if req.content_encoding not in {None, "", "identity"}:
        raise UnsupportedMediaType("Compressed bodies are not taken.")
    if req.mimetype_params.get("charset", "utf-8").lower() not in {"utf-8", "utf8", "us-ascii"}:
        raise UnsupportedMediaType("The body must be in UTF-8.")
    while chunk := req.stream.read(CHUNK_BYTES):
        yield chunk
    if req.content_length is None:
        req.stream.read(1)  # Werkzeug cuts a chunked body at the limit without a word; asked for more it raises


def read_jsonl(chunks: Iterator[bytes]) -> Iterator[Line]:
    """Yield the job in each line. Blank lines are faults, but for those at the end."""
    blank = 0
    for line in _physical_lines(chunks):
        if isinstance(line, bytes) and not line.strip():
            blank += 1
            continue
        yield from (MalformedBody("the line is empty") for _ in range(blank))
        blank = 0
        yield line if isinstance(line, DarkroomError) else _object_in(line)


def read_csv(chunks: Iterator[bytes], schema: Schema) -> Iterator[Line]:
    """Yield the job in each row below the header, which names the fields. An empty cell leaves its field out.

    Text is taken as it stands; numbers, lists and `true` are written as in JSON. `UnknownField` for a header that is no
    field, `MalformedBody` for what no reader of CSV can go on from.
    """
    rows = csv.reader(_texts(chunks), strict=True)
    try:
        header = [name.strip() for name in next(rows, [])]
        _check_header(header, schema)
        yield from (_row(header, cells, schema.fields) for cells in rows if cells)
    except csv.Error as error:
        raise MalformedBody(f"the body is not valid CSV: {error} (line {rows.line_num} of the file)") from error


def parse_object(text: str) -> dict[str, Any]:
    """Return the JSON object in a text; `MalformedBody` else."""
    try:
        found = json.loads(text, parse_constant=refuse_constant)
    except json.JSONDecodeError as error:
        raise MalformedBody(f"the line is not valid JSON: {error.msg} (column {error.colno})") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
        raise MalformedBody("the line is not valid JSON") from error
    if not isinstance(found, dict):
        raise MalformedBody("the line must be a JSON object")
    return found


def refuse_constant(name: str) -> NoReturn:
    """Refuse what Python takes for a number and JSON does not."""
    raise MalformedBody(f"{name} is no JSON number")


def _object_in(line: bytes) -> Line:
    try:
        return parse_object(line.decode())
    except UnicodeDecodeError as error:
        return MalformedBody(f"the line is not valid UTF-8 at byte {error.start}")
    except MalformedBody as error:
        return error


def _physical_lines(chunks: Iterator[bytes]) -> Iterator[bytes | DarkroomError]:
    """Yield lines without their ends; of one that is too long, that it is."""
    pending, skipping, first = b"", False, True
    for chunk in chunks:
        *whole, rest = chunk.split(b"\n")
        for part in whole:
            line, pending = pending + part, b""
            yield _too_long() if skipping or len(line) > MAX_LINE_BYTES else _without_mark(line, first=first)
            skipping = first = False
        pending += rest
        if len(pending) > MAX_LINE_BYTES:
            pending, skipping = b"", True
    if skipping:
        yield _too_long()
    elif pending:
        yield _without_mark(pending, first=first)


def _without_mark(line: bytes, *, first: bool) -> bytes:
    return line.removeprefix(codecs.BOM_UTF8) if first else line


def _too_long() -> MalformedBody:
    return MalformedBody(f"the line is longer than {MAX_LINE_BYTES:,} bytes")


def _texts(chunks: Iterator[bytes]) -> Iterator[str]:
    for number, line in enumerate(_physical_lines(chunks), 1):
        if isinstance(line, DarkroomError):
            raise MalformedBody(f"line {number} of the file: {line.message}")
        try:
            yield line.decode() + "\n"
        except UnicodeDecodeError as error:
            raise MalformedBody(f"line {number} of the file is not valid UTF-8 at byte {error.start}") from error


def _check_header(header: list[str], schema: Schema) -> None:
    for place, name in enumerate(header):
        if name not in schema.fields:
            raise UnknownField(name or f"column {place + 1}", "there is no such field; the first line names the fields")
        if name in header[:place]:
            raise UnknownField(name, "is named twice in the first line")


def _row(header: list[str], cells: list[str], kinds: Mapping[str, fields.Field[Any]]) -> Line:
    if len(cells) != len(header):
        return MalformedBody(
            f"the row has {len(cells)} cells; the first line has {len(header)} (text with commas needs quotes)"
        )
    return {name: _cell(cell, kinds[name]) for name, cell in zip(header, cells, strict=True) if cell != ""}


def _cell(text: str, kind: fields.Field[Any]) -> Any:
    if isinstance(kind, fields.String | ImageSource):
        return text
    try:
        return json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError, MalformedBody):
        return text  # and the field says what is wrong with it
