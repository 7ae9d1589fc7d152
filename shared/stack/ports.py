"""Ports: which are free."""

import socket

_LOOPBACK = "127.0.0.1"


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(host: str = _LOOPBACK) -> int:
    """Return a port that is free at the moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def reachable(host: str) -> str:
    """Return the address under which this machine reaches a server that listens on `host`, ready for a URL."""
    if host in {"", "0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        return _LOOPBACK
    return f"[{host}]" if ":" in host else host
