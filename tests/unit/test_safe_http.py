"""The outbound client against real sockets; only name resolution is given, so that names can lie."""

import socket
import ssl
import threading
from contextlib import contextmanager
from ipaddress import ip_address, ip_network

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import OutboundRefused
from shared.networks import is_permitted
from shared.safe_http import EXCERPT_BYTES, OutboundFailed, SafeHttp, check_url, look_up
from tests.services import Reply, free_port, receiver

LOOPBACK = (ip_network("127.0.0.0/8"),)
#: A time-out that no test waits for.
AMPLE_S = 60.0


def resolver(*addresses):
    """A resolver that gives every name these addresses, and notes what it was asked."""

    def resolve(host, port, timeout_s):
        resolve.asked.append(host)
        return [ip_address(address) for address in addresses]

    resolve.asked = []
    return resolve


@contextmanager
def raw_server(*, answer=b"", drip=None, tls=None):
    """Accept connections, read what comes first, send `answer`, then `drip` again and again until hung up on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            try:
                while True:
                    connection, _ = listener.accept()
                    if tls:
                        connection = tls.wrap_socket(connection, server_side=True)
                    with connection:
                        connection.recv(65536)
                        connection.sendall(answer)
                        while drip and not stopping.wait(0.02):
                            connection.sendall(drip)
            except OSError:  # hung up on, or the test is over
                pass

        stopping = threading.Event()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            host = "https://hooks.example" if tls else "http://127.0.0.1"
            yield f"{host}:{listener.getsockname()[1]}/"
        finally:
            stopping.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.8.8.8", "168.63.129.16",
        "169.254.169.254", "172.16.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1",
        "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:8.8.8.8", "64:ff9b::8.8.8.8",
        "64:ff9b::a00:1", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:a00:1::", "2002:808:808::",
        "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1",
    ],
)  # fmt: skip
def test_no_address_that_leads_inward_is_permitted(address):
    assert not is_permitted(ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "172.32.0.1", "2606:4700::1111", "2a00:1450::1"])
def test_public_addresses_are_permitted(address):
    assert is_permitted(ip_address(address))


@pytest.mark.parametrize(
    ("address", "allow", "permitted"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.2.0.0/16", False),
        ("::1", "127.0.0.0/8", False),
        ("::ffff:10.1.2.3", "10.0.0.0/8", False),
        ("64:ff9b::8.8.8.8", "64:ff9b::/96", True),
        ("64:ff9b::10.1.2.3", "64:ff9b::/96", False),
        ("fd00::1", "fd00::/8", True),
    ],
)
def test_an_allowed_network_opens_itself_and_nothing_behind_it(address, allow, permitted):
    assert is_permitted(ip_address(address), (ip_network(allow),)) is permitted


@pytest.mark.parametrize(
    "url",
    [
        "", "nonsense", "example.com/hook", "//example.com/", "ftp://example.com/", "file:///etc/passwd",
        "gopher://example.com/", "javascript:alert(1)", "http://", "http:///path", "https://user@example.com/",
        "https://user:password@example.com/", "https://:@example.com/", "http://example.com:0/",
        "http://example.com:22/", "http://example.com:25/", "http://example.com:1023/", "http://example.com:65536/",
        "http://example.com:port/", "http://127.0.0.1/", "http://127.1/", "http://2130706433/", "http://0x7f.1/",
        "http://0177.0.0.1/", "http://10.0.0.1:8080/", "http://169.254.169.254/latest/", "http://[::1]/",
        "http://[::ffff:127.0.0.1]/", "http://[fe80::1%25eth0]/", "http://localhost/", "http://LOCALHOST:8080/",
        "http://me.localhost/",
    ],
)  # fmt: skip
def test_what_can_be_refused_without_a_lookup_is_refused_at_once(url):
    with pytest.raises(OutboundRefused):
        check_url(url)


@given(
    st.one_of(
        st.text(),
        st.builds("http://{}".format, st.text()),
        st.builds("https://{}:{}/{}".format, st.text(max_size=70), st.integers(), st.text()),
        st.builds("http://[{}]/".format, st.text(alphabet="0123456789abcdef:.%")),
    )
)
def test_any_text_is_either_a_target_or_refused(url):
    try:
        target = check_url(url)
    except OutboundRefused:
        return
    assert (target.host_header + target.request_uri).isascii()
    assert not set(target.host_header + target.request_uri) & set(" \t\r\n\0")


@pytest.mark.parametrize(
    ("url", "host", "port", "request_uri", "host_header"),
    [
        ("https://Example.com", "example.com", 443, "/", "example.com"),
        ("http://example.com:80/a b?c=d&e#f", "example.com", 80, "/a%20b?c=d&e", "example.com"),
        ("http://example.com:8080/x", "example.com", 8080, "/x", "example.com:8080"),
        ("https://example.com:80/", "example.com", 80, "/", "example.com:80"),
        ("https://[2606:4700::1111]:8443/", "2606:4700::1111", 8443, "/", "[2606:4700::1111]:8443"),
        ("https://bücher.example/", "xn--bcher-kva.example", 443, "/", "xn--bcher-kva.example"),
    ],
)
def test_a_url_is_taken_apart_once(url, host, port, request_uri, host_header):
    target = check_url(url)

    assert (target.host, target.port, target.request_uri) == (host, port, request_uri)
    assert target.host_header == host_header


def test_literal_addresses_inside_an_allowed_network_pass_the_check():
    assert check_url("http://127.0.0.1:8080/", LOOPBACK).port == 8080
    assert check_url("http://localhost/", LOOPBACK).host == "localhost"


def test_a_post_reaches_its_receiver_as_it_was_sent():
    with receiver() as server:
        server.replies.append(Reply(status=201, headers={"X-Seen": "yes"}, body="grüß".encode()))
        answer = SafeHttp(allow=LOOPBACK).post(f"{server.url}/hook?a=1", b'{"a":1}', {"X-Mine": "1"}, timeout_s=AMPLE_S)
        request = server.requests[0]

    assert (answer.status, answer.headers["x-seen"], answer.body_excerpt) == (201, "yes", "grüß")
    assert answer.seconds >= 0
    assert (request.method, request.path, request.body) == ("POST", "/hook?a=1", b'{"a":1}')
    assert request.headers["X-Mine"] == "1"
    assert request.headers["Host"] == f"127.0.0.1:{server.port}"


def test_a_name_is_looked_up_once_and_the_connection_goes_to_the_judged_address():
    resolve = resolver("127.0.0.1")
    with receiver() as server:
        SafeHttp(allow=LOOPBACK, resolve=resolve).post(
            f"http://hooks.example:{server.port}/", b"", {}, timeout_s=AMPLE_S
        )

    assert resolve.asked == ["hooks.example"]
    assert server.requests[0].headers["Host"] == f"hooks.example:{server.port}"


def test_a_name_that_leads_inward_is_refused_without_a_connection():
    with receiver() as server:
        with pytest.raises(OutboundRefused):
            SafeHttp(resolve=resolver("127.0.0.1")).post(
                f"http://hooks.example:{server.port}/", b"", {}, timeout_s=AMPLE_S
            )
        assert server.requests == []


def test_of_several_addresses_only_the_permitted_are_called():
    with receiver() as server:
        SafeHttp(allow=LOOPBACK, resolve=resolver("10.0.0.1", "fe80::1", "127.0.0.1")).post(
            f"http://hooks.example:{server.port}/", b"", {}, timeout_s=AMPLE_S
        )
        assert len(server.requests) == 1


def test_the_next_address_is_tried_where_one_refuses():
    with receiver() as server:
        # The receiver listens on 127.0.0.1 alone.
        SafeHttp(allow=LOOPBACK, resolve=resolver("127.0.0.2", "127.0.0.1")).post(
            f"http://hooks.example:{server.port}/", b"", {}, timeout_s=AMPLE_S
        )
        assert len(server.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_answers_and_not_followed(status):
    with receiver() as server, receiver() as inside:
        server.replies.append(Reply(status=status, headers={"Location": inside.url}))
        answer = SafeHttp(allow=LOOPBACK).post(server.url, b"", {}, timeout_s=AMPLE_S)

    assert answer.status == status
    assert len(server.requests) == 1
    assert inside.requests == []


def test_proxies_and_netrc_of_the_environment_are_not_consulted(monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with receiver() as server, receiver() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        SafeHttp(allow=LOOPBACK).post(server.url, b"", {}, timeout_s=AMPLE_S)

    assert proxy.requests == []
    assert "Authorization" not in server.requests[0].headers


def test_only_the_start_of_a_long_answer_is_read():
    with raw_server(answer=b"HTTP/1.1 200 OK\r\n\r\n", drip=b"x" * 4096) as url:
        answer = SafeHttp(allow=LOOPBACK).post(url, b"", {}, timeout_s=AMPLE_S)

    assert answer.body_excerpt == "x" * EXCERPT_BYTES


@pytest.mark.parametrize(
    ("answer", "drip"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X"),  # a header without end
        (b"HTTP/1.1 200 OK\r\n\r\n", b"."),  # a body without end
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n", b"."),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
def test_a_receiver_that_drips_is_cut_off(answer, drip):
    with raw_server(answer=answer, drip=drip) as url, pytest.raises(OutboundFailed, match="too long"):
        SafeHttp(allow=LOOPBACK).post(url, b"", {}, timeout_s=0.3)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_receiver_that_stays_silent_is_cut_off(scheme):
    with socket.create_server(("127.0.0.1", 0)) as listener:  # connects, but nobody is there
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(OutboundFailed, match="too long"):
            SafeHttp(allow=LOOPBACK).post(url, b"", {}, timeout_s=0.3)


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"])
def test_what_is_not_http_is_a_failure(answer):
    with raw_server(answer=answer) as url, pytest.raises(OutboundFailed, match="valid answer"):
        SafeHttp(allow=LOOPBACK).post(url, b"", {}, timeout_s=AMPLE_S)


def test_a_closed_port_is_a_failure():
    with pytest.raises(OutboundFailed, match="could not be made"):
        SafeHttp(allow=LOOPBACK).post(f"http://127.0.0.1:{free_port()}/", b"", {}, timeout_s=AMPLE_S)


@pytest.mark.parametrize("name", ["no-such-name.invalid", f"{'a' * 64}.example"])
def test_an_unknown_name_is_a_failure(name):
    with pytest.raises(OutboundFailed):
        look_up(name, 80, AMPLE_S)


def test_a_lookup_that_hangs_is_given_up(monkeypatch):
    over = threading.Event()
    monkeypatch.setattr("shared.safe_http.lookup.socket.getaddrinfo", lambda *_args, **_options: over.wait() and [])

    with pytest.raises(OutboundFailed, match="too long"):
        look_up("slow.example", 80, 0.05)
    over.set()


def test_the_systems_resolver_is_asked():
    assert ip_address("127.0.0.1") in look_up("localhost", 80, AMPLE_S)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def certified(authority):
    """TLS for a server whose certificate is for hooks.example alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("hooks.example").configure_cert(context)
    return context


@pytest.fixture
def secure(certified):
    """A receiver that notes which names it was asked for."""
    names = []
    certified.sni_callback = lambda _socket, name, _context: names.append(name)
    with receiver(tls=certified) as server:
        server.names = names
        yield server


@pytest.fixture
def trusting(authority):
    """A client that trusts the authority, for which every name is 127.0.0.1."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return SafeHttp(allow=LOOPBACK, resolve=resolver("127.0.0.1"), tls=context)


def test_tls_is_checked_against_the_name_and_not_the_address(secure, trusting):
    answer = trusting.post(f"https://hooks.example:{secure.port}/", b"{}", {}, timeout_s=AMPLE_S)

    assert answer.status == 200
    assert secure.names == ["hooks.example"]


@pytest.mark.parametrize("host", ["other.example", "127.0.0.1"])
def test_a_certificate_for_another_name_is_refused(secure, trusting, host):
    with pytest.raises(OutboundFailed, match="certificate"):
        trusting.post(f"https://{host}:{secure.port}/", b"{}", {}, timeout_s=AMPLE_S)

    assert secure.requests == []


def test_a_certificate_of_an_unknown_authority_is_refused(secure):
    with pytest.raises(OutboundFailed, match="certificate"):
        SafeHttp(allow=LOOPBACK, resolve=resolver("127.0.0.1")).post(
            f"https://hooks.example:{secure.port}/", b"{}", {}, timeout_s=AMPLE_S
        )


def test_plain_http_where_tls_was_meant_is_a_failure(trusting):
    with receiver() as server, pytest.raises(OutboundFailed):
        trusting.post(f"https://hooks.example:{server.port}/", b"{}", {}, timeout_s=AMPLE_S)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_secure_receiver_that_drips_is_cut_off(certified, trusting, answer):
    with (
        raw_server(answer=answer, drip=b".", tls=certified) as url,
        pytest.raises(OutboundFailed, match="too long"),
    ):
        trusting.post(url, b"", {}, timeout_s=0.5)
