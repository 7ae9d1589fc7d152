"""Callers who are slow hold no thread: heads are collected without one, bodies and answers must keep moving."""

import io
import socket
import threading
from contextlib import contextmanager

import pytest

from api import callers
from api.callers import HEAD_BYTES, CallerSocket, head_came

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n"
AMPLE_S = 60.0


@contextmanager
def connection():
    ours, theirs = socket.socketpair()
    with theirs, CallerSocket.over(ours) as sock:
        sock.begin()
        yield sock, theirs


def test_a_head_is_collected_piece_by_piece_and_kept():
    collected = io.BytesIO()
    with connection() as (sock, theirs):
        came = [head_came(sock, collected)]
        for piece in (HEAD[:7], HEAD[7:-1], HEAD[-1:] + b"abc"):
            theirs.sendall(piece)
            came.append(head_came(sock, collected))

    assert came == [False, False, False, True]
    assert collected.getvalue() == HEAD + b"abc"


def test_one_that_hangs_up_is_looked_at():
    collected = io.BytesIO()
    with connection() as (sock, theirs):
        theirs.sendall(b"GET")
        theirs.shutdown(socket.SHUT_WR)
        assert head_came(sock, collected)

    assert collected.getvalue() == b"GET"


def test_no_more_is_collected_than_a_head_may_have():
    collected = io.BytesIO(b"x" * HEAD_BYTES)
    with connection() as (sock, theirs):
        theirs.sendall(b"y")
        assert head_came(sock, collected)

    assert len(collected.getvalue()) == HEAD_BYTES


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(callers, "GRACE_S", 0.2)
    monkeypatch.setattr(callers, "LEAST_BYTES_PER_S", 2**26)


def test_a_body_must_come(impatient):
    with connection() as (sock, theirs):
        theirs.sendall(b"abc")
        assert sock.recv(99) == b"abc"
        with pytest.raises(ConnectionResetError, match="too slow"):
            sock.recv(99)


def receive_all(sock):
    while sock.recv(99):
        pass


def test_a_body_that_drips_must_end(impatient):
    done = threading.Event()
    with connection() as (sock, theirs):

        def drip():
            while not done.wait(0.01):
                theirs.sendall(b".")

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            with pytest.raises(ConnectionResetError, match="too slow"):
                receive_all(sock)
        finally:
            done.set()
            dripping.join()


def test_what_comes_fast_enough_may_go_on(impatient, monkeypatch):
    monkeypatch.setattr(callers, "LEAST_BYTES_PER_S", 0.001)  # each byte is good for a long time
    with connection() as (sock, theirs):
        theirs.sendall(b".")
        sock.recv(1)
        later = threading.Timer(0.5, theirs.sendall, [b"!"])
        later.start()
        assert sock.recv(1) == b"!"
        later.join()


def test_an_answer_must_be_taken(impatient):
    with connection() as (sock, _), pytest.raises(ConnectionResetError, match="too slow"):
        sock.sendall(b"x" * 2**24)


def test_a_shorter_bound_of_somebody_elses_holds():
    """gunicorn drains what is left of a body for a time of its own."""
    with connection() as (sock, _):
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        assert sock.gettimeout() == 0.05


def test_a_file_is_sent(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(b"zip" * 1000)
    with connection() as (sock, theirs), path.open("rb") as file:
        assert sock.sendfile(file) == 3000
        theirs.settimeout(AMPLE_S)
        assert theirs.recv(3000, socket.MSG_WAITALL) == b"zip" * 1000
