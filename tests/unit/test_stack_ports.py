import socket

from shared.stack.ports import free_port, is_free, reachable


def test_a_port_that_someone_listens_on_is_not_free():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not is_free("127.0.0.1", port)
        assert not is_free("0.0.0.0", port)

    assert is_free("127.0.0.1", port)


def test_a_free_port_is_free():
    assert is_free("127.0.0.1", free_port())


def test_a_wildcard_is_reached_by_the_loopback_address():
    assert reachable("0.0.0.0") == "127.0.0.1"
    assert reachable("::1") == "[::1]"
    assert reachable("10.1.2.3") == "10.1.2.3"
