"""Reads multipart forms, in which a part may be a file without bearing a file's name.

Werkzeug, as the standard has it, takes a part without one for text. But Node's `form-data` sends buffers so, typed
`application/octet-stream`, and with it the examples of more than one provider; Stability's own in Go send pictures
without any type.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from io import BytesIO
from itertools import chain
from typing import IO, Any, Final

import flask
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.formparser import FormDataParser, MultiPartParser
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

MULTIPART: Final = "multipart/form-data"
#: What a part without a file's name must call itself to be a file.
_FILE_TYPES: Final = ("application/octet-stream", "image/")
#: What a part that calls itself nothing of the kind begins with to be one: PNG's, JPEG's and WebP's first bytes.
_PICTURE: Final = re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|RIFF.{4}WEBP", re.DOTALL)
_PICTURE_BYTES: Final = 12
_CHUNK_BYTES: Final = 64 * 1024
_Parsed = tuple[IO[bytes], MultiDict[str, str], MultiDict[str, FileStorage]]


class FormParser(FormDataParser):
    """Werkzeug's, but for what counts as a file. Large parts go to disk, as with Werkzeug's own."""

    def parse(
        self, stream: IO[bytes], mimetype: str, content_length: int | None, options: dict[str, str] | None = None
    ) -> _Parsed:
        """Return the stream, the fields and the files; none where the body is not the form it says it is."""
        boundary = (options or {}).get("boundary", "")
        if mimetype != MULTIPART or not boundary.isascii() or not boundary:
            return super().parse(stream, mimetype, content_length, options)
        fields, files = [], []
        with ExitStack() as opened:
            try:
                for part, held in self._parts(stream, boundary.encode(), opened):
                    if _is_file(part) or _is_picture(held):
                        files.append((part.name, _file(part, held)))
                    else:
                        charset = MultiPartParser().get_part_charset(part.headers)
                        fields.append((part.name, held.read().decode(charset, "replace")))
            except ValueError:
                if not self.silent:
                    raise
                return stream, self.cls(), self.cls()
            opened.pop_all()  # the request closes its files
        return stream, self.cls(fields), self.cls(files)

    def _parts(self, stream: IO[bytes], boundary: bytes, opened: ExitStack) -> Iterator[tuple[Field | File, IO[bytes]]]:
        """Yield each part with what it holds; ValueError where the form is broken, 413 for too many parts."""
        decoder = MultipartDecoder(boundary, max_parts=self.max_form_parts)
        part: Field | File | None = None
        for chunk in chain(iter(lambda: stream.read(_CHUNK_BYTES), b""), (None,)):
            decoder.receive_data(chunk)
            while not isinstance(event := decoder.next_event(), NeedData | Epilogue):
                if isinstance(event, Field | File):
                    part = event
                    held = opened.enter_context(self.stream_factory(None, None, None)) if _is_file(part) else BytesIO()
                elif isinstance(event, Data) and part is not None:
                    held.write(event.data)
                    if not event.more_data:
                        held.seek(0)
                        yield part, held


class Request(flask.Request):
    """Flask's, with our forms."""

    form_data_parser_class = FormParser


def _is_file(part: Field | File) -> bool:
    kind, _ = parse_options_header(part.headers.get("content-type"))
    return isinstance(part, File) or kind.lower().startswith(_FILE_TYPES)


def _is_picture(held: IO[bytes]) -> bool:
    found = _PICTURE.match(held.read(_PICTURE_BYTES))
    held.seek(0)
    return found is not None


def _file(part: Field | File, held: IO[bytes]) -> FileStorage:
    name: Any = part.filename if isinstance(part, File) else None
    return FileStorage(held, filename=name, name=part.name, headers=part.headers)
