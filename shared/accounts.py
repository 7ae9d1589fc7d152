"""Accounts, their plans, and what opens them: an API key, or a client token with its secret."""

import base64
import hmac
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from redis import Redis

from shared.api_keys import KEY_MARK, USUAL_SCOPES, ApiKeys, Scope, ScopeMissing, digest_of, prefix_of, read_scopes
from shared.backlog.scripts import Script
from shared.books import Books
from shared.errors import Forbidden, Unauthorized
from shared.keys import account_key, client_token_key, demo_key, names_key
from shared.ledger import MILLICREDITS
from shared.plans import Plans
from shared.settings import Settings

#: A key's last use is noted at most so often.
NOTE_USE_EVERY_MS: Final = 60_000


class UnknownClient(Unauthorized):
    """There is no such client."""

    code = "unknown_client"


class WrongSecret(Unauthorized):
    """The secret is wrong."""

    code = "wrong_secret"


class NoDemo(Forbidden):
    """Demo clients are not allowed here."""

    code = "no_demo"


@dataclass(frozen=True, slots=True)
class Client:
    """One of an account's programs, by its client token, and where it wants to be told of its jobs."""

    token: str
    notify_url: str = ""
    upload_url: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """Who submits. `webhook_secrets` are live Standard Webhooks secrets, the one that signs first."""

    id: str
    name: str
    plan: str
    pool: str
    webhook_secrets: tuple[str, ...] = field(repr=False)
    #: The client that the key or the session belongs to, where that is known.
    client: Client | None = None
    #: What opened it: the prefix of the API key, which may be a session's client's; empty where nobody is calling.
    key: str = ""
    scopes: frozenset[Scope] = frozenset()

    def require(self, scope: Scope) -> None:
        """Raise `ScopeMissing` where what opened the account does not have the scope."""
        if scope not in self.scopes:
            raise ScopeMissing(scope)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What `keys create` hands out. `key` and `secret` cannot be shown again."""

    account: str
    name: str
    plan: str
    key: str = field(repr=False)
    client_token: str
    secret: str = field(repr=False)
    webhook_secret: str = field(repr=False)
    prefix: str
    scopes: tuple[Scope, ...]
    #: Epoch milliseconds; None: the key never expires.
    expires_ms: int | None


class Accounts:
    """Reads and writes accounts and keys."""

    def __init__(self, redis: Redis, *, plans: Plans | None = None) -> None:
        self._redis = redis
        self._plans = plans or Plans.load(Settings())
        self._open = Script("open_key", prelude=False)

    def create_key(
        self,
        name: str,
        *,
        plan: str = "paid",
        pool: str = "default",
        credits_: int | None = None,
        notify_url: str = "",
        upload_url: str = "",
        demo: bool = False,
        key_name: str = "",
        scopes: Iterable[Scope] = USUAL_SCOPES,
        expires_ms: int | None = None,
    ) -> Credentials:
        """Make a key for the account of that name, making the account first where there is none.

        `credits_` adds that many credits (1 credit = 1,000 millicredits); an account never given any is not metered.
        `notify_url` and `upload_url` are where its client is told of jobs and sent their pictures. With `demo` whoever
        asks for a demo session gets one of this client's. `key_name`, `scopes` and `expires_ms` are the key's own; its
        client's sessions may do what the key may, as long as the key opens anything.
        """
        account = self._find_or_create(name, plan=plan, pool=pool)
        if credits_ is not None:
            Books(self._redis).grant(account.id, credits_ * MILLICREDITS)
        client_token, secret = secrets.token_hex(16), secrets.token_urlsafe(32)
        scopes = tuple(scopes)
        key = ApiKeys(self._redis).make(
            account.id, client=client_token, now_ms=_now_ms(), name=key_name, scopes=scopes, expires_ms=expires_ms
        )
        with self._redis.pipeline() as pipe:
            pipe.hset(
                client_token_key(client_token),
                mapping={
                    "account": account.id,
                    "secret": digest_of(secret),
                    "key": digest_of(key),
                    "created": _now_ms(),
                    "notify": notify_url,
                    "upload": upload_url,
                },
            )
            if demo:
                pipe.set(demo_key(), client_token)
            pipe.execute()
        return Credentials(
            account=account.id,
            name=account.name,
            plan=account.plan,
            key=key,
            client_token=client_token,
            secret=secret,
            webhook_secret=account.webhook_secrets[0],
            prefix=prefix_of(key),
            scopes=scopes,
            expires_ms=expires_ms,
        )

    def authenticate(self, key: str) -> Account:
        """Return the account that a key opens; `Unauthorized` where it opens none, or no more."""
        if not key.startswith(KEY_MARK):
            raise Unauthorized
        return self._opened(digest_of(key), "")

    def of_client(self, client_token: str) -> Account:
        """Return the account of a client that has logged in; `Unauthorized` once its key opens nothing."""
        return self._opened("", client_token)

    def log_in(self, client_token: str, secret: str) -> Account:
        """Return the account of a client token; `UnknownClient` or `WrongSecret` where they do not fit."""
        if not client_token.isascii():
            raise UnknownClient
        digest = self._redis.hget(client_token_key(client_token), "secret")
        if digest is None:
            raise UnknownClient
        if not hmac.compare_digest(_text(digest), digest_of(secret)):
            raise WrongSecret
        return self.of_client(client_token)

    def demo(self) -> Account:
        """Return the account that demo sessions open; `NoDemo` where the operator has made none, or withdrew it."""
        try:
            return self.of_client(_text(self._redis.get(demo_key())))
        except Unauthorized:
            raise NoDemo from None

    def waiting(self, account: str) -> int:
        """Return how many of an account's jobs wait."""
        return int(self._redis.hget(account_key(account), "waiting") or 0)

    def balance(self, account: str) -> int | None:
        """Return an account's millicredits that are not reserved, None where it is not metered."""
        found = self._redis.hget(account_key(account), "balance")
        return None if found is None else int(found)

    def get(self, account: str) -> Account:
        """Return an account by its id; `Unauthorized` where there is none."""
        values = self._redis.hmget(account_key(account), ["name", "plan", "pool", "webhook_secrets"])
        if values[0] is None:
            raise Unauthorized
        name, plan, pool, webhook_secrets = (_text(value) for value in values)
        return Account(account, name, plan, pool, tuple(webhook_secrets.split()))

    def _opened(self, digest: str, client_token: str) -> Account:
        found = self._open(self._redis, digest, client_token, NOTE_USE_EVERY_MS)
        if found is None:
            raise Unauthorized
        account, client, key, scopes, name, plan, pool, webhook_secrets, notify, upload = map(_text, found)
        return Account(
            account,
            name,
            plan,
            pool,
            tuple(webhook_secrets.split()),
            client=Client(client, notify, upload) if client else None,
            key=key,
            scopes=frozenset(read_scopes(scopes)),
        )

    def _find_or_create(self, name: str, *, plan: str, pool: str) -> Account:
        found = self._redis.hget(names_key(), name)
        if found is not None:
            return self.get(_text(found))
        account = str(self._redis.incr(account_key("last")))
        limits = self._plans.of(plan)
        self._redis.hset(
            account_key(account),
            mapping={
                "name": name,
                "plan": plan,
                "pool": pool,
                "weight": limits.weight,
                "max_waiting": limits.max_waiting,
                "max_running": limits.max_running,
                "webhook_secrets": _webhook_secret(),
                "created": _now_ms(),
            },
        )
        if not self._redis.hsetnx(names_key(), name, account):  # another process was first
            self._redis.delete(account_key(account))
            return self._find_or_create(name, plan=plan, pool=pool)
        return self.get(account)


def _webhook_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""
