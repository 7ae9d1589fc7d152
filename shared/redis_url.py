"""REDIS_URL where it names sentinels: who they are, and what they are asked for.

    redis+sentinel://[[user]:password@]host[:port][,host[:port]]*/service[/database][?sentinel_password=…]

The password in front is the data servers'. Sentinels are asked for the service's present master at each new
connection, so a failover needs no change here.
"""

from dataclasses import dataclass, field
from typing import Any, Final, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

SENTINEL_SCHEME: Final = "redis+sentinel"
SENTINEL_PORT: Final = 26379
_SENTINEL_PASSWORD: Final = "sentinel_password"  # noqa: S105 - the name of one
_FORM: Final = f"must have the form {SENTINEL_SCHEME}://host:port,host:port/service/database"


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """A service that sentinels watch."""

    sentinels: tuple[tuple[str, int], ...]
    service: str
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read a URL; `ValueError` for one of another form."""
        parts = urlsplit(url)
        credentials, _, hosts = parts.netloc.rpartition("@")
        user, _, password = credentials.partition(":")
        service, _, database = parts.path.strip("/").partition("/")
        query = parse_qs(parts.query, strict_parsing=bool(parts.query))
        if (
            parts.scheme != SENTINEL_SCHEME
            or not service
            or not (database or "0").isdecimal()
            or query.keys() - {_SENTINEL_PASSWORD}
        ):
            raise ValueError(_FORM)
        return cls(
            sentinels=tuple(_address(host) for host in hosts.split(",")),
            service=unquote(service),
            database=int(database or 0),
            username=unquote(user) or None,
            password=unquote(password) or None,
            sentinel_password=query.get(_SENTINEL_PASSWORD, [None])[0],
        )

    @property
    def broker_url(self) -> str:
        """The same in kombu's words, which keep the service's name elsewhere."""
        credentials = ""
        if self.password:
            credentials = f"{quote(self.username or '', safe='')}:{quote(self.password, safe='')}@"
        return ";".join(
            f"sentinel://{credentials}{f'[{host}]' if ':' in host else host}:{port}/{self.database}"
            for host, port in self.sentinels
        )

    @property
    def broker_options(self) -> dict[str, Any]:
        """The rest of it, for kombu's transport options."""
        return {"master_name": self.service, "sentinel_kwargs": self.sentinel_options}

    @property
    def sentinel_options(self) -> dict[str, Any]:
        """How to talk to the sentinels themselves: one that does not answer is given up for the next."""
        options: dict[str, Any] = {"socket_timeout": 1.0, "socket_connect_timeout": 1.0}
        return options | ({"password": self.sentinel_password} if self.sentinel_password else {})


def is_sentinel(url: str) -> bool:
    """Tell whether a URL names sentinels."""
    return url.startswith(f"{SENTINEL_SCHEME}://")


def _address(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError(_FORM)
    return parts.hostname, parts.port or SENTINEL_PORT
