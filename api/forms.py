"""Reads multipart forms, in which a part may be a file without bearing a file's name.

Werkzeug, as the standard has it, takes a part without one for text. But Node's `form-data` sends buffers so, typed
`application/octet-stream`, and with it the examples of more than one provider.
"""

import io
from collections.abc import Iterator
from typing import IO, Any, Final

import flask
from werkzeug.datastructures import FileStorage, Headers, MultiDict
from werkzeug.formparser import FormDataParser, MultiPartParser
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder

MULTIPART: Final = "multipart/form-data"
#: What a part without a file's name must call itself to be a file.
_FILE_TYPES: Final = ("application/octet-stream", "image/")
_Parsed = tuple[IO[bytes], MultiDict[str, str], MultiDict[str, FileStorage]]


class FormParser(FormDataParser):
    """Werkzeug's, but for what counts as a file. The stream must be bounded: forms are read into memory."""

    def parse(
        self, stream: IO[bytes], mimetype: str, content_length: int | None, options: dict[str, str] | None = None
    ) -> _Parsed:
        """Return the stream, the fields and the files; none where the body is not the form it says it is."""
        boundary = (options or {}).get("boundary", "")
        if mimetype != MULTIPART or not boundary.isascii() or not boundary:
            return super().parse(stream, mimetype, content_length, options)
        fields, files = [], []
        try:
            for part, data in _parts(stream.read(), boundary.encode(), most=self.max_form_parts):
                if isinstance(part, File) or _is_file(part.headers):
                    files.append((part.name, _file(part, data)))
                else:
                    charset = MultiPartParser().get_part_charset(part.headers)
                    fields.append((part.name, data.decode(charset, "replace")))
        except ValueError:
            if not self.silent:
                raise
            return stream, self.cls(), self.cls()
        return stream, self.cls(fields), self.cls(files)


class Request(flask.Request):
    """Flask's, with our forms."""

    form_data_parser_class = FormParser


def _parts(body: bytes, boundary: bytes, *, most: int | None) -> Iterator[tuple[Field | File, bytes]]:
    """Yield each part with what it holds; ValueError where the form is broken, 413 for too many parts."""
    decoder = MultipartDecoder(boundary, max_parts=most)
    decoder.receive_data(body)
    decoder.receive_data(None)
    part: Field | File | None = None
    while not isinstance(event := decoder.next_event(), Epilogue):
        if isinstance(event, Field | File):
            part, found = event, bytearray()
        elif isinstance(event, Data) and part is not None:
            found += event.data
            if not event.more_data:
                yield part, bytes(found)


def _is_file(headers: Headers) -> bool:
    kind, _ = parse_options_header(headers.get("content-type"))
    return kind.lower().startswith(_FILE_TYPES)


def _file(part: Field | File, data: bytes) -> FileStorage:
    name: Any = part.filename if isinstance(part, File) else None
    return FileStorage(io.BytesIO(data), filename=name, name=part.name, headers=part.headers)
