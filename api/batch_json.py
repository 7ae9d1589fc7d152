"""Reads a batch that is one JSON document, as it comes in: a list of jobs, or an object with `jobs` or a `matrix`.

Only one job at a time is in memory, however long the list is.
"""

import codecs
import json
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, Final

from api.batch_lines import MAX_LINE_BYTES, Line, refuse_constant
from shared.batch import MAX_LINES
from shared.errors import InvalidField, MalformedBody, MissingField

#: Longest member of the object that is no list of jobs, in characters: a matrix of many prompts.
MAX_MEMBER_CHARS: Final = 16 * 1024 * 1024
_BLANK: Final = " \t\r\n"


class JsonBatch:
    """A JSON body. `members` holds what the object says beside its jobs, as far as it was read.

    Raises `MalformedBody` where the body is no JSON, and `InvalidField` for members that do not go together.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.members: dict[str, Any] = {}
        self._text = _Text(chunks)

    def lines(self) -> Iterator[Line]:
        """Yield the jobs."""
        opening = self._text.peek()
        if opening == "[":
            yield from self._elements()
        elif opening == "{":
            self._text.take()
            yield from self._object()
        else:
            raise MalformedBody("the body must be a JSON list of jobs, or an object with `jobs` or a `matrix`")
        if self._text.peek():
            raise MalformedBody("the body is not valid JSON: there is something behind its end")

    def _object(self) -> Iterator[Line]:
        seen = False
        for name in self._names():
            if name == "jobs" and self._text.peek() == "[":
                if seen:
                    raise InvalidField("jobs", "is given twice")
                seen = True
                yield from self._elements()
            else:
                self._member(name, behind_jobs=seen)
        matrix = self.members.pop("matrix", None)
        if matrix is not None and seen:
            raise InvalidField("matrix", "must not be given together with `jobs`")
        if matrix is not None:
            yield from expand(matrix)
        elif not seen:
            raise MissingField("jobs", "is required, or a `matrix`")

    def _member(self, name: str, *, behind_jobs: bool) -> None:
        """Take a member that is no list of jobs. Null stands for none, as everywhere."""
        value = self._text.value(MAX_MEMBER_CHARS, what=f"`{name}`")
        if name == "jobs" and value is not None:
            raise InvalidField("jobs", "must be one list of jobs")
        if behind_jobs and name in {"defaults", "priority", "matrix"} and value is not None:
            raise InvalidField(name, "must come before `jobs`")
        self.members[name] = value

    def _names(self) -> Iterator[str]:
        if self._text.peek() == "}":
            self._text.take()
            return
        while True:
            name = self._text.value(MAX_MEMBER_CHARS, what="a member's name")
            if not isinstance(name, str) or self._text.take() != ":":
                raise MalformedBody("the body is not valid JSON: a member's name and a colon are expected")
            if name in self.members:
                raise InvalidField(name, "is given twice")
            yield name
            if self._ends("}"):
                return

    def _elements(self) -> Iterator[Line]:
        self._text.take()
        if self._text.peek() == "]":
            self._text.take()
            return
        number = 1
        while True:
            job = self._text.value(MAX_LINE_BYTES, what=f"job {number}")
            yield job if isinstance(job, dict) else MalformedBody("the line must be a JSON object")
            number += 1
            if self._ends("]"):
                return

    def _ends(self, bracket: str) -> bool:
        mark = self._text.take()
        if mark not in {",", bracket}:
            raise MalformedBody(f"the body is not valid JSON: `,` or `{bracket}` is expected, not {mark or 'its end'}")
        return mark == bracket


def expand(matrix: Any) -> Iterator[dict[str, Any]]:
    """Yield a job for each combination of the values that a matrix lists for its fields; the last field varies first.

    `InvalidField` where it is no object of lists, or has more combinations than a batch may have lines.
    """
    if not isinstance(matrix, Mapping) or not matrix:
        raise InvalidField("matrix", "must be an object of fields and the values that each takes")
    size = 1
    for name, values in matrix.items():
        if not isinstance(values, list) or not values:
            raise InvalidField(f"matrix.{name}", "must be a list of at least one value")
        size *= len(values)
    if size > MAX_LINES:
        raise InvalidField("matrix", f"has {size:,} combinations; a batch has at most {MAX_LINES:,} lines")
    return (dict(zip(matrix, values, strict=True)) for values in product(*matrix.values()))


class _Text:
    """What came in and was not read yet."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._decoder = json.JSONDecoder(parse_constant=refuse_constant)
        self._held = ""
        self._at = 0
        self._ended = False

    def peek(self) -> str:
        """Return the next character that is not blank, without taking it; nothing at the end."""
        while True:
            while self._at < len(self._held):
                if self._held[self._at] not in _BLANK:
                    return self._held[self._at]
                self._at += 1
            if self._ended:
                return ""
            self._more()

    def take(self) -> str:
        """Take that character."""
        found = self.peek()
        self._at += len(found)
        return found

    def value(self, most: int, *, what: str) -> Any:
        """Take one JSON value of at most so many characters."""
        self.peek()
        while True:
            try:
                found, end = self._decoder.raw_decode(self._held, self._at)
            except json.JSONDecodeError as error:
                if self._ended:
                    raise MalformedBody(f"the body is not valid JSON in {what}: {error.msg}") from error
            except (ValueError, RecursionError) as error:
                raise MalformedBody(f"the body is not valid JSON in {what}") from error
            else:
                # A number may go on in what comes next.
                if end < len(self._held) or self._ended:
                    self._at = end
                    return found
            size = len(self._held) - self._at
            if size > most:
                raise MalformedBody(f"the body is not valid JSON in {what}, or that is longer than {most:,} characters")
            # Twice as much, so that a long value is not tried at each chunk.
            while not self._ended and len(self._held) - self._at < 2 * size + 1:
                self._more()

    def _more(self) -> None:
        chunk = next(self._chunks, b"")
        try:
            text = self._decode.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            raise MalformedBody("the body is not valid UTF-8") from error
        self._ended = not chunk
        self._held = self._held[self._at :] + text
        self._at = 0
