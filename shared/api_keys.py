"""API keys: made, listed and withdrawn. What a key opens is `Accounts.authenticate`'s business.

A key is shown once, when it is made; Redis holds its SHA-256 only. A key carries 256 random bits, so a plain hash is
enough: there is nothing to guess by dictionary, and nothing to compare byte by byte, for a key is found by its hash.
Its first characters, its prefix, name it in lists and on the command line; no two keys share one.
"""

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from redis import Redis

from shared.errors import Forbidden, RequestError
from shared.keys import account_key, account_keys_key, api_key_key, client_token_key, prefixes_key

KEY_MARK: Final = "dr_"
PREFIX_CHARS: Final = 10


class Scope(StrEnum):
    """What a key may do. None includes another."""

    SUBMIT = "submit"  #: submit, cancel, retry and erase jobs
    READ = "read"  #: read jobs, their images and events, and what there is to draw with
    ADMIN = "admin"  #: what concerns the account itself: list and withdraw its keys


#: Of a key that was made without saying more.
USUAL_SCOPES: Final = (Scope.SUBMIT, Scope.READ)


class ScopeMissing(Forbidden):
    """This key may not do that."""

    code = "missing_scope"

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        super().__init__(f"This key may not do that: it lacks the scope `{scope}`.")


class KeyNotFound(RequestError):
    """There is no such key."""

    code = "key_not_found"
    http_status = 404


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyInfo:
    """An API key as lists show it. Times are epoch milliseconds."""

    prefix: str
    #: Id and name of the account that it opens.
    account: str
    account_name: str
    #: What whoever made it calls it.
    name: str
    scopes: tuple[Scope, ...]
    created_ms: int
    #: When it was last used, give or take a minute; None: never.
    used_ms: int | None
    #: From when on it opens nothing; None: never.
    expires_ms: int | None


class ApiKeys:
    """Makes, lists and withdraws keys."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def make(
        self,
        account: str,
        *,
        client: str,
        now_ms: int,
        name: str = "",
        scopes: Iterable[Scope] = USUAL_SCOPES,
        expires_ms: int | None = None,
    ) -> str:
        """Make a key for an account and one of its clients, and return it: nobody can tell it again."""
        key = KEY_MARK + secrets.token_urlsafe(32)
        while not self._redis.hsetnx(prefixes_key(), prefix_of(key), digest_of(key)):  # another key begins so
            key = KEY_MARK + secrets.token_urlsafe(32)
        with self._redis.pipeline() as pipe:
            pipe.hset(
                api_key_key(digest_of(key)),
                mapping={
                    "account": account,
                    "client": client,
                    "prefix": prefix_of(key),
                    "name": name,
                    "scopes": write_scopes(scopes),
                    "created": now_ms,
                    **({} if expires_ms is None else {"expires": expires_ms}),
                },
            )
            pipe.sadd(account_keys_key(account), prefix_of(key))
            pipe.execute()
        return key

    def of_account(self, account: str) -> list[KeyInfo]:
        """Return an account's keys, the oldest first; those that have expired among them."""
        return self._read(sorted(_text(prefix) for prefix in self._redis.smembers(account_keys_key(account))))

    def all(self) -> list[KeyInfo]:
        """Return every key, the oldest first."""
        return self._read(sorted(_text(prefix) for prefix in self._redis.hkeys(prefixes_key())))

    def revoke(self, prefix: str, *, account: str | None = None) -> KeyInfo:
        """Withdraw a key, and its client with it; from then on both open nothing, in every process.

        `KeyNotFound` where there is none, or where it is another account's than the one given.
        """
        found = self._read([prefix])
        if not found or account not in {None, found[0].account}:
            raise KeyNotFound
        digest = _text(self._redis.hget(prefixes_key(), prefix))
        client = _text(self._redis.hget(api_key_key(digest), "client"))
        with self._redis.pipeline() as pipe:
            pipe.delete(api_key_key(digest), client_token_key(client))
            pipe.srem(account_keys_key(found[0].account), prefix)
            pipe.hdel(prefixes_key(), prefix)
            pipe.execute()
        return found[0]

    def _read(self, prefixes: list[str]) -> list[KeyInfo]:
        if not prefixes:
            return []
        digests = [_text(digest) for digest in self._redis.hmget(prefixes_key(), prefixes) if digest is not None]
        with self._redis.pipeline(transaction=False) as pipe:
            for digest in digests:
                pipe.hgetall(api_key_key(digest))
            found = [_decoded(values) for values in pipe.execute() if values]
        with self._redis.pipeline(transaction=False) as pipe:
            for values in found:
                pipe.hget(account_key(values["account"]), "name")
            names = [_text(name) for name in pipe.execute()]
        infos = [_info(values, name) for values, name in zip(found, names, strict=True)]
        return sorted(infos, key=lambda info: (info.created_ms, info.prefix))


def digest_of(secret: str) -> str:
    """Return what is kept of a secret."""
    # What callers send as JSON may hold halves of characters; they fit no secret.
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def prefix_of(key: str) -> str:
    """Return what a key is called by: 42 of its 256 bits."""
    return key[:PREFIX_CHARS]


def read_scopes(text: str) -> tuple[Scope, ...]:
    """Return the scopes that a list with commas names; `ValueError` for any other word."""
    named = {part.strip() for part in text.split(",") if part.strip()}
    unknown = sorted(named - set(Scope))
    if unknown or not named:
        raise ValueError(f"must be some of {', '.join(Scope)}, with commas between, not {text!r}")
    return tuple(scope for scope in Scope if scope in named)


def write_scopes(scopes: Iterable[Scope]) -> str:
    """Return scopes as `read_scopes` reads them."""
    return ",".join(scope for scope in Scope if scope in set(scopes))


def _info(values: dict[str, str], account_name: str) -> KeyInfo:
    return KeyInfo(
        prefix=values["prefix"],
        account=values["account"],
        account_name=account_name,
        name=values["name"],
        scopes=read_scopes(values["scopes"]),
        created_ms=int(values["created"]),
        used_ms=int(values["used"]) if "used" in values else None,
        expires_ms=int(values["expires"]) if "expires" in values else None,
    )


def _decoded(values: dict[bytes | str, bytes | str]) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in values.items()}


def _text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""
