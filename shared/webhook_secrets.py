"""The secrets that sign an account's webhooks. Two live at once while receivers change from one to the next."""

import base64
import secrets

from redis import Redis

from shared.backlog.scripts import OUTAGES, Script
from shared.errors import BacklogUnavailable, RequestError
from shared.keys import account_key, names_key


class UnknownAccount(RequestError):
    """There is no account of this name."""

    code = "unknown_account"


class WebhookSecrets:
    """Reads and replaces them, by the account's name. Raises `UnknownAccount`, and `BacklogUnavailable`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._change = Script("secret", prelude=False)

    def live(self, name: str) -> list[str]:
        """Return an account's live secrets, the newest first; every webhook is signed with each of them."""
        account = self._account(name)
        try:
            return str(self._redis.hget(account_key(account), "webhook_secrets") or "").split()
        except OUTAGES as error:
            raise BacklogUnavailable from error

    def rotate(self, name: str) -> list[str]:
        """Make a new secret and keep the one before it alive; return both. One older than that is retired."""
        return list(self._change(self._redis, self._account(name), new_secret()))

    def retire(self, name: str) -> list[str]:
        """Let the older secret go; return the one that is left."""
        return list(self._change(self._redis, self._account(name), ""))

    def _account(self, name: str) -> str:
        try:
            account = self._redis.hget(names_key(), name)
        except OUTAGES as error:
            raise BacklogUnavailable from error
        if account is None:
            raise UnknownAccount(f"There is no account called {name}.")
        return str(account)


def new_secret() -> str:
    """Return a fresh secret in Standard Webhooks' form: 256 random bits."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
