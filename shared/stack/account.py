"""The account that a stack on one machine begins with, and whose key `darkroom up` prints."""

from dataclasses import asdict
from typing import Final

from redis.exceptions import RedisError

from shared.accounts import Accounts
from shared.errors import ConfigurationError, Unauthorized
from shared.redis_client import connect
from shared.settings import Settings
from shared.stack.folder import Folder

NAME: Final = "local"


def local_account(settings: Settings, folder: Folder) -> dict[str, str]:
    """Return the account's credentials as the folder keeps them, made anew where Redis does not know them."""
    kept = folder.credentials().get("account")
    try:
        with connect(settings) as redis:
            accounts = Accounts(redis)
            if kept is None or not _opens(accounts, kept["key"]):
                kept = asdict(accounts.create_key(NAME))
                folder.keep(account=kept)
    except RedisError as error:
        raise ConfigurationError("REDIS_URL", f"the server cannot be used: {error}") from error
    return dict(kept)


def _opens(accounts: Accounts, key: str) -> bool:
    try:
        accounts.authenticate(key)
    except Unauthorized:
        return False
    return True
