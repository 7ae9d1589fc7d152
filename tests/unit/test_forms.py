"""What a form's parts are read into."""

import io
from contextlib import contextmanager

from werkzeug.datastructures import FileStorage
from werkzeug.test import create_environ, encode_multipart

from api.forms import Request

LARGE = b"\x89PNG" + bytes(2_000_000)


@contextmanager
def read(data):
    boundary, body = encode_multipart(data)
    kind = f'multipart/form-data; boundary="{boundary}"'
    with Request(create_environ(method="POST", data=body, content_type=kind)) as request:
        yield request


def test_a_large_file_is_kept_on_disk_while_its_request_waits():
    with read({"prompt": "a fox", "image": FileStorage(io.BytesIO(LARGE), "a.png")}) as request:
        held = request.files["image"].stream
        assert held._rolled, "the whole file is in memory"
        assert held.read() == LARGE
        assert request.form["prompt"] == "a fox"


def test_parts_that_end_where_a_chunk_does_are_whole():
    sizes = [*range(65_300, 65_540, 7), 131_072]

    for size in sizes:
        with read({"image": FileStorage(io.BytesIO(bytes(size)), "a.png"), "after": "x" * 70_000}) as request:
            assert request.files["image"].read() == bytes(size)
            assert request.form["after"] == "x" * 70_000
