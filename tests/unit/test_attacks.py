"""Attacks by URL and by image, each refused: `pytest tests/unit/test_attacks.py -v` prints the table.

URLs meet the real client; only names are resolved by a table of our own, so that they can lie. Whatever connects where
it should not meets a server that notes it.
"""

import socket
import struct
import zlib
from contextlib import contextmanager
from ipaddress import ip_address, ip_network

import pytest

from shared.errors import InvalidField, OutboundRefused
from shared.inputs import Inline, check_image, parse_source
from shared.inputs.fetch import fetch_image
from shared.safe_http import OutboundFailed, SafeHttp
from tests.services import Reply, receiver
from tests.unit.test_inputs import (
    BOMB,
    archive,
    canvas,
    chunk,
    film,
    flipped,
    header,
    jpeg_sized,
    lossless,
    many_scans,
    png,
    riff,
    saved,
    second_frame,
)
from tests.unit.test_safe_http import raw_server

LOOPBACK = (ip_network("127.0.0.0/8"),)
AMPLE_S = 60.0

#: attack -> a URL that spells out where it leads
SPELLED = {
    "loopback": "http://127.0.0.1/",
    "loopback, elsewhere in its network": "http://127.8.8.8:8080/",
    "loopback, short": "http://127.1/",
    "loopback, shorter": "http://0/",
    "loopback, decimal": "http://2130706433/",
    "loopback, hexadecimal": "http://0x7f000001/",
    "loopback, hexadecimal parts": "http://0x7f.0x0.0x0.0x1/",
    "loopback, octal": "http://017700000001/",
    "loopback, octal parts": "http://0177.0.0.01/",
    "loopback, mixed notations": "http://0x7f.0.1/",
    "loopback, IPv6": "http://[::1]/",
    "loopback, IPv6 in full": "http://[0:0:0:0:0:0:0:1]/",
    "unspecified, IPv6": "http://[::]:8080/",
    "IPv4-mapped": "http://[::ffff:127.0.0.1]/",
    "IPv4-mapped, hexadecimal": "http://[::ffff:7f00:1]/",
    "IPv4-compatible": "http://[::127.0.0.1]/",
    "NAT64": "http://[64:ff9b::127.0.0.1]/",
    "NAT64 to metadata": "http://[64:ff9b::a9fe:a9fe]/",
    "6to4": "http://[2002:7f00:1::]/",
    "Teredo": "http://[2001:0:7f00:1::]/",
    "metadata": "http://169.254.169.254/latest/meta-data/",
    "metadata, decimal": "http://2852039166/latest/meta-data/",
    "metadata, hexadecimal": "http://0xA9FEA9FE/",
    "metadata, octal": "http://0251.0376.0251.0376/",
    "metadata, mapped": "http://[::ffff:a9fe:a9fe]/",
    "metadata, IPv6": "http://[fd00:ec2::254]/",
    "metadata, behind shared addresses": "http://100.100.100.200/",
    "metadata, on a public address": "http://168.63.129.16/",
    "metadata, among protocol assignments": "http://192.0.0.192/",
    "private 10": "http://10.0.0.1/",
    "private 172": "http://172.16.0.1/",
    "private 192": "http://192.168.0.1/",
    "private, octal": "http://0300.0250.1.1/",
    "private, IPv6": "http://[fc00::1]/",
    "link-local": "http://169.254.1.1/",
    "link-local, IPv6 with a zone": "http://[fe80::1%25eth0]/",
    "site-local": "http://[fec0::1]/",
    "carrier-grade NAT": "http://100.64.0.1/",
    "benchmarking": "http://198.18.0.1/",
    "multicast": "http://224.0.0.1/",
    "multicast, IPv6": "http://[ff02::1]/",
    "broadcast": "http://255.255.255.255/",
    "reserved": "http://240.0.0.1/",
    "documentation": "http://192.0.2.1/",
    "localhost": "http://localhost/",
    "localhost in capitals": "http://LOCALHOST/",
    "localhost with a dot": "http://localhost./",
    "below localhost": "http://admin.localhost/",
    "below localhost, with a dot": "http://admin.localhost.:8080/",
    "loopback with a dot": "http://127.0.0.1./",
    "escaped digits": "http://%31%32%37.0.0.1/",
    "an escaped zero": "http://127.0.0.1%00.example.com/",
    "user name before loopback": "http://example.com@127.0.0.1/",
    "user name and password": "http://user:password@example.com/",
    "empty user name": "http://:@example.com/",
    "a space and a user name": "http://example.com &@127.0.0.1/",
    "two user names": "http://a@b@127.0.0.1/",
    "fragment before a user name": "http://127.0.0.1#@example.com/",
    "IDNA full stops": "http://127\u30020\u30020\u30021/",
    "IDNA circled digits": "http://\u2460\u2461\u2466.\u24ea.\u24ea.\u2460/",
    "IDNA full-width digits": "http://\uff11\uff12\uff17.0.0.1/",
    "IDNA circled letters": "http://\u24dbocalhost/",
    "a tab in the host": "http://127.0.0.1\t/",
    "a line end in the host": "http://exam\nple.com/",
    "a line end and a header": "http://example.com\r\nHost: 127.0.0.1/",
    "file": "file:///etc/passwd",
    "gopher": "gopher://127.0.0.1:6379/_FLUSHALL",
    "ftp": "ftp://example.com/",
    "dict": "dict://127.0.0.1:11211/stats",
    "redis": "redis://127.0.0.1:6379/",
    "javascript": "javascript:alert(1)",
    "no scheme": "//127.0.0.1/",
    "no slashes": "http:127.0.0.1",
    "backslashes": "http:\\\\127.0.0.1/",
    "no host": "http:///etc/passwd",
    "port of SSH": "http://example.com:22/",
    "port of SMTP": "http://example.com:25/",
    "port 0": "http://example.com:0/",
    "port too large": "http://example.com:65536/",
    "two ports": "http://example.com:80:22/",
    "port in other digits": "http://example.com:\u0668\u0660/",
}

#: attack -> what a name resolves to
NAMED = {
    "a name for loopback": ["127.0.0.1"],
    "a name for a private network": ["10.0.0.1"],
    "a name for metadata": ["169.254.169.254"],
    "a name for a mapped address": ["::ffff:127.0.0.1"],
    "a name for NAT64": ["64:ff9b::127.0.0.1"],
    "a name for 6to4": ["2002:a9fe:a9fe::"],
    "a name for shared addresses": ["100.64.0.1"],
    "a name for multicast": ["224.0.0.251"],
    "a name for several inward addresses": ["127.0.0.1", "::1", "10.0.0.1"],
}


@pytest.mark.parametrize("attack", SPELLED)
def test_url(attack):
    def resolve(*_args):
        pytest.fail("was looked up")

    with pytest.raises(OutboundRefused):
        SafeHttp(resolve=resolve).post(SPELLED[attack], b"{}", {}, timeout_s=AMPLE_S)
    with pytest.raises(InvalidField):
        fetched_as_a_picture(SPELLED[attack], resolve)


def fetched_as_a_picture(text, resolve):
    """Do with a field of a request what the API and the courier do."""
    source = parse_source(text, field="image")
    assert not isinstance(source, Inline)
    return fetch_image(SafeHttp(resolve=resolve), source.url, field="image")


@pytest.mark.parametrize("attack", NAMED)
def test_name(attack):
    def resolve(*_args):
        return [ip_address(address) for address in NAMED[attack]]

    with receiver() as server:
        with pytest.raises(OutboundRefused):
            SafeHttp(resolve=resolve).post(f"http://shop.example:{server.port}/", b"", {}, timeout_s=AMPLE_S)
        assert server.requests == []


def test_name_that_changes_its_mind():
    """DNS rebinding: permitted when judged, inward when asked again. It is not asked again."""
    answers = [[ip_address("127.0.0.1")], [ip_address("10.0.0.1")]]
    asked = []

    def resolve(host, *_args):
        asked.append(host)
        return answers[len(asked) - 1]

    with receiver() as server:
        answer = SafeHttp(allow=LOOPBACK, resolve=resolve).post(
            f"http://shop.example:{server.port}/", b"", {}, timeout_s=AMPLE_S
        )

    assert (answer.status, asked) == (200, ["shop.example"])


#: attack -> where a permitted server sends us; {inside} is a server that must not hear of us
REDIRECTS = {
    "redirect to metadata": "http://169.254.169.254/latest/",
    "redirect to a private network": "http://10.0.0.1/",
    "redirect to a name that leads inward": "http://inside.example:{inside}/",
    "redirect to another scheme": "file:///etc/passwd",
    "redirect to a user name": "http://a@127.0.0.1:{inside}/",
    "redirect to a low port": "http://127.0.0.1:25/",
    "redirect in decimal": "http://2852039166/",
    "redirect without a scheme": "//169.254.169.254/",
    "redirect with a line end": "http://169.254.169.254/%0d%0aHost:x",
    "redirect to IPv6": "http://[::1]:{inside}/",
}


@pytest.mark.parametrize("attack", REDIRECTS)
def test_redirect(attack):
    def resolve(host, *_args):
        return [ip_address("10.1.1.1" if host == "inside.example" else "127.0.0.1")]

    with receiver() as server, receiver() as inside:
        server.replies.append(Reply(status=302, headers={"Location": REDIRECTS[attack].format(inside=inside.port)}))
        with pytest.raises(InvalidField):
            fetch_image(SafeHttp(allow=LOOPBACK, resolve=resolve), server.url, field="image")
        assert inside.requests == []


def test_redirect_without_end():
    with receiver() as server:
        server.replies += [Reply(status=302, headers={"Location": "/again"})] * 20
        with pytest.raises(InvalidField, match="redirects more than"):
            fetch_image(SafeHttp(allow=LOOPBACK), server.url, field="image")
        assert len(server.requests) == 6


OK = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"
#: attack -> (what the server says first, what it goes on saying, what is raised)
SERVERS = {
    "slow body": (OK + b"Content-Length: 9999\r\n\r\n", b".", OutboundFailed),
    "slow headers": (b"HTTP/1.1 200 OK\r\n", b"X", OutboundFailed),
    "slow status line": (b"H", b"T", OutboundFailed),
    "endless interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", OutboundFailed),
    "silence": (b"", None, OutboundFailed),
    "a header of a megabyte": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2**20 + b"\r\n\r\n", None, OutboundFailed),
    "ten thousand headers": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000 + b"\r\n", None, OutboundFailed),
    "an endless body": (OK + b"\r\n", b"x" * 65536, OutboundRefused),
    "an endless chunked body": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n", OutboundRefused,
    ),
    "a negative chunk": (OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n", b"x" * 65536, OutboundFailed),
    "a length that is a lie": (OK + b"Content-Length: 99999999999\r\n\r\n", None, OutboundRefused),
    "a compressed body": (OK + b"Content-Encoding: gzip\r\n\r\n" + BOMB[:999], None, OutboundRefused),
    "HTML": (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>", None, OutboundRefused),
    "SVG that claims to be text": (b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n\r\n<svg/>", None, OutboundRefused),
    "no HTTP at all": (b"SSH-2.0-OpenSSH_9.9\r\n", None, OutboundFailed),
}  # fmt: skip


@pytest.mark.parametrize("attack", SERVERS)
def test_server(attack):
    said, then, raised = SERVERS[attack]
    # Only what never ends is waited for; what ends by itself has ample time.
    patience_s = 0.4 if raised is OutboundFailed else AMPLE_S
    with raw_server(answer=said, drip=then) as url, pytest.raises(raised):
        SafeHttp(allow=LOOPBACK).get(url, media_types=("image/",), max_bytes=1_000_000, timeout_s=patience_s)


NOISE = saved(format_="JPEG", quality=95)
SVG = b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"
#: attack -> a file that claims to be a picture
IMAGES = {
    "PNG bomb by its size": lambda: png(header(60_000, 60_000), chunk(b"IDAT", BOMB)),
    "PNG of giant width": lambda: png(header(2**31 - 1, 1), chunk(b"IDAT", BOMB)),
    "PNG of giant height": lambda: png(header(1, 2**31 - 1), chunk(b"IDAT", BOMB)),
    "PNG of no width": lambda: png(header(0, 8), chunk(b"IDAT", zlib.compress(b"\0" * 8))),
    "PNG, cut": lambda: saved()[:-30],
    "PNG, cut to its header": lambda: saved()[:33],
    "PNG, a bit flipped": lambda: flipped(saved(), 50),
    "PNG, animated": lambda: film("PNG"),
    "PNG whose chunk claims 4 GiB": lambda: saved()[:33] + struct.pack(">I", 2**32 - 1) + b"IDAT",
    "JPEG bomb by its size": lambda: jpeg_sized(65_500, 65_500),
    "JPEG, cut": lambda: NOISE[: len(NOISE) // 2],
    "JPEG of endless scans": many_scans,
    "JPEG of two frames": second_frame,
    "JPEG's first bytes alone": lambda: b"\xff\xd8\xff",
    "WebP bomb by its size": lambda: riff(canvas(16_384, 16_384), lossless(16_384, 16_384)),
    "WebP larger than its canvas": lambda: riff(canvas(8, 8), lossless(4_000, 4_000)),
    "WebP, cut": lambda: saved(format_="WEBP")[:-9],
    "WebP, animated": lambda: film("WEBP"),
    "GIF, animated": lambda: film("GIF"),
    "GIF": lambda: saved(format_="GIF"),
    "TIFF": lambda: saved(format_="TIFF"),
    "BMP": lambda: saved(format_="BMP"),
    "SVG": lambda: SVG,
    "SVG after a byte-order mark": lambda: b"\xef\xbb\xbf" + SVG,
    "SVG after white space": lambda: b"\n\t " + SVG,
    "HTML": lambda: b"<!doctype html><script>alert(1)</script>",
    "HTML in a comment": lambda: b"<!-- \x89PNG\r\n\x1a\n --><script>alert(1)</script>",
    "PostScript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "PDF": lambda: b"%PDF-1.7\n",
    "ZIP": archive,
    "ZIP before a PNG": lambda: archive() + saved(),
    "HTML before a PNG": lambda: b"<script>alert(1)</script>" + saved(),
    "an executable": lambda: b"\x7fELF" + bytes(99),
    "gzip bomb": lambda: b"\x1f\x8b\x08" + BOMB,
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("attack", IMAGES)
def test_image(attack):
    with pytest.raises(InvalidField) as caught:
        check_image(IMAGES[attack](), field="init_image")

    assert caught.value.field == "init_image"


#: attack -> what makes a picture that carries something else besides
POLYGLOTS = {
    "PNG before a ZIP": lambda: saved() + archive(),
    "PNG before HTML": lambda: saved() + b"<script>alert(1)</script>",
    "JPEG before a ZIP": lambda: NOISE + archive(),
    "WebP before HTML": lambda: saved(format_="WEBP", lossless=True) + b"<script>alert(1)</script>",
}


@pytest.mark.parametrize("attack", POLYGLOTS)
def test_polyglot_keeps_nothing_but_the_picture(attack):
    kept = check_image(POLYGLOTS[attack](), field="image").data

    assert b"script" not in kept
    assert b"PK\x03\x04" not in kept


@pytest.mark.parametrize("attack", ["HTML", "SVG", "ZIP", "PDF", "PNG, animated", "JPEG, cut"])
def test_file_that_its_server_calls_a_picture(attack):
    with receiver() as server:
        body = IMAGES[attack]()
        server.replies.append(Reply(headers={"Content-Type": "image/png"}, body=body))
        with pytest.raises(InvalidField):
            fetch_image(SafeHttp(allow=LOOPBACK), server.url, field="image")


@contextmanager
def _proxy(monkeypatch):
    with receiver() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        yield proxy


def test_proxy_of_the_environment_is_not_asked(monkeypatch):
    with receiver() as server, _proxy(monkeypatch) as proxy:
        SafeHttp(allow=LOOPBACK).get(server.url, media_types=("",), max_bytes=99, timeout_s=AMPLE_S)

    assert proxy.requests == []
    assert len(server.requests) == 1


def test_the_table_is_as_long_as_promised():
    attacks = [*SPELLED, *NAMED, *REDIRECTS, *SERVERS, *IMAGES, *POLYGLOTS]

    assert len(set(attacks)) >= 60, len(set(attacks))
    assert socket.getdefaulttimeout() is None
