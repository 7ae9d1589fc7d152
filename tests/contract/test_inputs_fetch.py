"""Images from callers' addresses, over real sockets: what is followed, what is taken, and what is refused by name."""

import gzip
import io
import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from ipaddress import ip_address, ip_network

import pytest
import trustme
from PIL import Image

from shared.errors import InvalidField
from shared.inputs import ImageUnreachable, fetch_image
from shared.safe_http import MAX_REDIRECTS, OutboundFailed, SafeHttp
from tests.services import Reply, free_port, receiver

LOOPBACK = (ip_network("127.0.0.0/8"),)
#: A time-out that no test waits for.
AMPLE_S = 60.0
BRIEF_S = 0.3


def png(size=(8, 4)):
    stream = io.BytesIO()
    Image.new("RGB", size, "red").save(stream, "PNG")
    return stream.getvalue()


PNG = png()


def everywhere(*addresses):
    return lambda _host, _port, _timeout_s: [ip_address(address) for address in addresses]


def client(**options):
    return SafeHttp(**{"allow": LOOPBACK, "resolve": everywhere("127.0.0.1"), **options})


def fetched(url, *, http=None, **options):
    return fetch_image(http or client(), url, field="init_image", **{"timeout_s": AMPLE_S, **options})


def refused(url, match, *, kind=InvalidField, **options):
    with pytest.raises(InvalidField, match=match) as caught:
        fetched(url, **options)
    assert type(caught.value) is kind
    assert caught.value.field == "init_image"


@pytest.fixture
def server():
    with receiver() as running:
        yield running


@contextmanager
def raw_server(answer, drip=b""):
    """Answer every connection with these bytes, then with `drip` again and again until hung up on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with suppress(OSError):  # the test is over
                while True:
                    connection, _ = listener.accept()
                    with connection, suppress(OSError):  # hung up on
                        connection.recv(65536)
                        connection.sendall(answer)
                        while drip and not stopping.wait(0.01):
                            connection.sendall(drip)

        stopping = threading.Event()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            stopping.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def answer(*headers, body=b"", status="200 OK"):
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode("latin-1") + body


@pytest.mark.parametrize(
    "content_type", ["image/png", "IMAGE/PNG; q=1", "image/jpeg", "application/octet-stream", "binary/octet-stream", ""]
)
def test_a_picture_is_fetched_and_its_first_bytes_decide(server, content_type):
    server.replies.append(Reply(headers={"Content-Type": content_type}, body=PNG))
    image = fetched(f"{server.url}/a.jpg?b=c")

    assert (image.format, image.width, image.height) == ("PNG", 8, 4)
    request = server.requests[0]
    assert (request.method, request.path, request.body) == ("GET", "/a.jpg?b=c", b"")


def test_nothing_of_the_caller_is_told_to_anyone(server):
    with receiver() as elsewhere:
        server.replies.append(Reply(status=302, headers={"Location": elsewhere.url, "Set-Cookie": "a=b"}))
        elsewhere.replies.append(Reply(body=PNG))
        fetched(server.url)

    for request, port in ((server.requests[0], server.port), (elsewhere.requests[0], elsewhere.port)):
        assert request.headers == {
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "Connection": "close",
            "Host": f"127.0.0.1:{port}",
            "User-Agent": "Darkroom/1",
        }


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(server, status):
    server.replies += [Reply(status=status, headers={"Location": "/näxt?a b#c"}), Reply(body=PNG)]

    assert fetched(f"{server.url}/first").width == 8
    assert [request.path for request in server.requests] == ["/first", "/n%E4xt?a%20b"]


def test_as_many_redirects_as_allowed(server):
    server.replies += [Reply(status=302, headers={"Location": "/"})] * MAX_REDIRECTS + [Reply(body=PNG)]

    assert fetched(server.url).width == 8


def test_a_redirect_in_circles_ends(server):
    server.replies += [Reply(status=302, headers={"Location": "/"})] * 99
    refused(server.url, "redirects more than 5 times")

    assert len(server.requests) == MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    ("location", "match"),
    [
        ("http://10.0.0.1/", "does not go"),
        ("http://169.254.169.254/latest/meta-data/", "does not go"),
        ("http://[::1]/", "does not go"),
        ("http://[::ffff:127.0.0.1]/", "does not go"),
        ("http://0x0a000001/", "does not go"),
        ("//10.0.0.1/", "does not go"),
        ("file:///etc/passwd", "Only http"),
        ("ftp://example.com/", "Only http"),
        ("gopher://127.0.0.1:6379/_FLUSHALL", "Only http"),
        ("data:image/png;base64,AAAA", "Only http"),
        ("http://127.0.0.1:25/", "Port 25"),
        ("http://me:secret@example.com/", "credentials"),
        ("http://[", "no URL"),
        ("https://", "no host"),
    ],
)
def test_each_redirect_is_judged_like_the_first_address(server, location, match):
    server.replies.append(Reply(status=302, headers={"Location": location}))
    refused(server.url, match)

    assert len(server.requests) == 1


def test_a_name_behind_a_redirect_is_judged_by_its_addresses(server):
    addresses = {"good.example": "127.0.0.1", "evil.example": "10.0.0.1"}
    server.replies.append(Reply(status=302, headers={"Location": "http://evil.example/"}))
    http = client(resolve=lambda host, _port, _timeout_s: [ip_address(addresses[host])])

    refused(f"http://good.example:{server.port}/", "does not go", http=http)


def test_a_name_that_changes_its_mind_is_judged_anew(server):
    answers = [["127.0.0.1"], ["10.0.0.1"]]
    server.replies.append(Reply(status=302, headers={"Location": "/again"}))
    http = client(resolve=lambda _host, _port, _timeout_s: [ip_address(address) for address in answers.pop(0)])

    refused(f"http://rebind.example:{server.port}/", "does not go", http=http)


def test_https_does_not_lead_to_http(server):
    authority = trustme.CA()
    certified, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("secure.example").configure_cert(certified)
    authority.configure_trust(trusting)
    with receiver(tls=certified) as secure:
        secure.replies += [
            Reply(status=302, headers={"Location": "/next"}),
            Reply(body=PNG),
            Reply(status=302, headers={"Location": server.url}),
        ]
        address, http = f"https://secure.example:{secure.port}/", client(tls=trusting)

        assert fetched(address, http=http).width == 8
        refused(address, "from https to http", http=http)

    assert server.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "http://10.1.2.3/a.png",
        "file:///etc/passwd",
        "http://localhost:6379/",
        "https://user@example.com/a.png",
        "http://",
    ],
)
def test_addresses_that_lead_inward_are_refused(url):
    refused(url, "cannot be fetched", http=SafeHttp())


@pytest.mark.parametrize("content_type", ["text/html", "application/json", "application/pdf", "video/mp4", "nonsense"])
def test_what_its_server_does_not_call_an_image_is_not_read(server, content_type):
    server.replies.append(Reply(headers={"Content-Type": content_type}, body=PNG))
    refused(server.url, f"content type is '{content_type}'")


@pytest.mark.parametrize("body", [b"", b"<html>404</html>", b"GIF89a", PNG[:-1], b"%PDF-1.4"])
def test_what_is_no_picture_is_refused_whatever_its_server_calls_it(server, body):
    server.replies.append(Reply(headers={"Content-Type": "image/png"}, body=body))
    refused(server.url, "is empty|picture")


@pytest.mark.parametrize("status", [204, 206, 300, 304, 400, 401, 403, 404, 405, 410, 418, 451])
def test_a_status_that_will_not_change_is_the_callers_to_mend(server, status):
    server.replies.append(Reply(status=status, body=b"" if status in {204, 304} else PNG))
    refused(server.url, f"status {status}")


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_a_status_that_may_pass_is_worth_another_try(server, status):
    server.replies.append(Reply(status=status))
    refused(server.url, f"status {status}", kind=ImageUnreachable)

    assert ImageUnreachable.retryable
    assert not InvalidField.retryable


def test_a_redirect_to_nowhere_is_a_status(server):
    server.replies.append(Reply(status=302))
    refused(server.url, "status 302")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "x-unknown"])
def test_compressed_answers_are_refused_unread(server, encoding):
    bomb = gzip.compress(gzip.compress(bytes(2**22)))
    server.replies.append(Reply(headers={"Content-Encoding": encoding}, body=bomb))
    refused(server.url, "compressed")


def test_identity_is_no_compression(server):
    server.replies.append(Reply(headers={"Content-Encoding": "Identity"}, body=PNG))
    assert fetched(server.url).width == 8


def test_a_body_announced_too_large_is_not_read():
    # It comes so slowly that reading it would end in a time-out.
    with raw_server(answer("Content-Length: 99999999999"), drip=b".") as url:
        refused(url, "larger than 20,971,520 bytes", timeout_s=5.0)


@pytest.mark.parametrize("header", ["Content-Type: image/png", "Content-Length: -1", "Content-Length: nonsense"])
def test_a_body_without_end_is_cut_at_the_limit(header):
    with raw_server(answer(header), drip=PNG * 99) as url:
        refused(url, "larger than 50,000 bytes", max_bytes=50_000)


def test_chunks_without_end_are_cut_at_the_limit():
    with raw_server(answer("Transfer-Encoding: chunked"), drip=b"4000\r\n" + bytes(0x4000) + b"\r\n") as url:
        refused(url, "larger than 50,000 bytes", max_bytes=50_000)


def test_a_chunk_of_negative_length_is_no_leave_to_read_without_end():
    with raw_server(answer("Transfer-Encoding: chunked", body=b"-1\r\n"), drip=bytes(65_536)) as url:
        refused(url, "valid answer", kind=ImageUnreachable)
        with pytest.raises(OutboundFailed, match="valid answer"):
            client().post(url, b"", {}, timeout_s=AMPLE_S)


def test_the_limit_is_exact(server):
    server.replies += [Reply(body=PNG), Reply(body=PNG)]

    assert fetched(server.url, max_bytes=len(PNG)).width == 8
    refused(server.url, "larger than", max_bytes=len(PNG) - 1)


def test_what_follows_the_announced_length_is_not_read():
    with raw_server(answer(f"Content-Length: {len(PNG)}", body=PNG), drip=b"more") as url:
        assert fetched(url).width == 8


@pytest.mark.parametrize(
    "broken",
    [
        answer("Content-Length: 5000", body=PNG),
        answer("Transfer-Encoding: chunked", body=b"5000\r\n" + PNG),
        answer("Transfer-Encoding: chunked", body=b"nonsense\r\n" + PNG),
        answer(*[f"X-{number}: a" for number in range(200)], body=PNG),
        answer("X-Long: " + "a" * 70_000, body=PNG),
        b"",
        b"nonsense",
        PNG,
    ],
    ids=["short", "short chunk", "no chunk", "many headers", "huge header", "nothing", "no http", "only a picture"],
)
def test_an_answer_that_is_not_whole_is_worth_another_try(broken):
    with raw_server(broken) as url:
        refused(url, "valid answer", kind=ImageUnreachable)


def test_a_picture_whose_end_is_where_the_connection_ends():
    with raw_server(answer("Content-Type: image/png", body=PNG)) as url:
        assert fetched(url).width == 8


def test_a_picture_in_chunks():
    chunks = b"".join(b"%x;extension\r\n%b\r\n" % (1, PNG[at : at + 1]) for at in range(len(PNG)))
    with raw_server(answer("Transfer-Encoding: chunked", body=chunks + b"0\r\nTrailer: a\r\n\r\n")) as url:
        assert fetched(url).width == 8


@pytest.mark.parametrize(
    ("start", "drip"),
    [
        (answer(), b"."),  # looks complete when it is cut off
        (answer("Content-Length: 4000"), b"."),
        (answer("Transfer-Encoding: chunked"), b"1\r\n.\r\n"),
        (answer("Transfer-Encoding: chunked", body=b"0\r\n"), b"Trailer: a\r\n"),
        (b"HTTP/1.1 200 OK\r\nX-", b"a"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["body", "length", "chunks", "trailers", "header", "continue"],
)
def test_a_server_that_drips_is_cut_off(start, drip):
    with raw_server(start, drip=drip) as url:
        refused(url, "too long", kind=ImageUnreachable, timeout_s=BRIEF_S)


def test_the_time_is_one_for_all_redirects(server):
    def slow(_host, _port, _timeout_s):
        """Take a part of the time: no hop alone takes too long."""
        threading.Event().wait(BRIEF_S / 3)
        return [ip_address("127.0.0.1")]

    server.replies += [Reply(status=302, headers={"Location": "/"})] * MAX_REDIRECTS + [Reply(body=PNG)]
    address = f"http://slow.example:{server.port}/"
    refused(address, "too long", kind=ImageUnreachable, timeout_s=BRIEF_S, http=client(resolve=slow))


def test_a_server_that_is_not_there_is_worth_another_try():
    refused(f"http://127.0.0.1:{free_port()}/", "could not be made", kind=ImageUnreachable)


def test_limits_of_the_picture_are_passed_on(server):
    server.replies += [Reply(body=PNG), Reply(body=PNG)]

    refused(server.url, "at most 31 pixels", max_pixels=31)
    refused(server.url, "must be a JPEG picture", formats=("JPEG",))
