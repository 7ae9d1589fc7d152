"""Who is calling: a Bearer API key, checked against the accounts; and whether it may do that, and as often."""

from typing import Final, cast

import structlog
from flask import g, request

from api.services import services
from shared import tracing
from shared.accounts import Account
from shared.api_keys import Scope
from shared.errors import Unauthorized

#: Methods that change nothing.
READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def require_account() -> None:
    """Before a request: find its account, or raise what forbids it."""
    _require(Scope.READ if request.method in READING else Scope.SUBMIT)


def require_admin() -> None:
    """Before a request about the account itself: the same, for keys with the scope `admin`."""
    _require(Scope.ADMIN)


def _require(scope: Scope) -> None:
    account = services().accounts.authenticate(bearer_key(request.headers.get("Authorization", "")))
    name_in_log(account)
    services().limits.count(account)
    account.require(scope)
    g.account = account


def current_account() -> Account:
    """Return the account of this request."""
    return cast("Account", g.account)


def name_in_log(account: Account) -> None:
    """Say of every further line that is logged in this request, and of its span, whose it is."""
    structlog.contextvars.bind_contextvars(account=account.id)
    tracing.tracer().annotate({"darkroom.account": account.id})


def bearer_key(header: str) -> str:
    """Return the key in an Authorization header; `Unauthorized` where there is none."""
    scheme, _, key = header.partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Unauthorized("An API key is required: send it as `Authorization: Bearer KEY`.")
    return key.strip()
