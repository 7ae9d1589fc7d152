"""What a dialect's smaller routes may ask of the service: accounts, sessions, the catalog, pictures to keep."""

import time
from typing import Final

from api.auth import name_in_log
from api.links import request_links
from api.services import Services
from shared.accounts import Account
from shared.api_keys import KEY_MARK, Scope
from shared.backlog import new_handle
from shared.inputs import check_image, normalized
from shared.job import Status
from shared.kept import KEPT_S, kept_key

CANCELLED_AT_ONCE: Final = 200


class ServiceDesk:
    """The service, as far as dialects see it."""

    def __init__(self, services: Services, *, base_url: str, scope: Scope) -> None:
        self._services = services
        self._scope = scope
        self.base_url = base_url

    def account(self, key: str) -> Account:
        """Return the account that an API key or a session opens for what is asked here.

        `Unauthorized` where it opens none, `RateLimited`, `ScopeMissing`.
        """
        account = self._opened(key)
        name_in_log(account)
        self._services.limits.count(account)
        account.require(self._scope)
        return account

    def log_in(self, token: str, secret: str) -> str:
        """Return a signed session for a client token and its secret; `Unauthorized` else."""
        self._services.limits.count_login(token)
        return self._services.sessions.issue(self._services.accounts.log_in(token, secret).id, client=token)

    def log_in_to_demo(self) -> str:
        """Return a signed session of the demo client; `Forbidden` where the operator allows none."""
        self._services.limits.count_login("")
        account = self._services.accounts.demo()
        return self._services.sessions.issue(account.id, client=account.client.token if account.client else "")

    def balance(self, account: Account) -> int | None:
        """Return an account's millicredits, None where it is not metered."""
        return self._services.accounts.balance(account.id)

    def models(self, account: Account) -> tuple[str, ...]:
        """Return the names of the models that an account may use."""
        return tuple(model.name for model in self._services.catalog.models(account.name))

    def model(self, name: str, account: Account) -> str:
        """Return the model that a name or an alias means to an account; `InvalidField` where there is none."""
        return self._services.catalog.resolve(name, account=account.name).name

    def waiting(self, account: Account) -> int:
        """Return how many of an account's jobs wait."""
        return self._services.accounts.waiting(account.id)

    def cancel_waiting(self, account: Account) -> int:
        """Cancel an account's jobs that wait; return how many there were."""
        intake, left = self._services.intake, self.waiting(account)
        cancelled, cursor = 0, None
        while cancelled < left:
            jobs, cursor = intake.list_jobs(
                account, status=Status.QUEUED, track_id=None, before=cursor, limit=CANCELLED_AT_ONCE
            )
            ended = [intake.cancel(job.uid, account=account) for job in jobs]
            cancelled += sum(job.status is Status.CANCELLED for job in ended)
            if cursor is None:
                break
        return cancelled

    def _opened(self, key: str) -> Account:
        accounts = self._services.accounts
        return (
            accounts.authenticate(key)
            if key.startswith(KEY_MARK)
            else accounts.of_client(self._services.sessions.client(key))
        )

    def keep_image(self, data: bytes, account: Account, *, field: str) -> str:
        """Judge and store an image; return a link to it."""
        del account
        key = kept_key(new_handle(), now_s=time.time())
        self._services.storage.put(key, normalized(check_image(data, field=field)), content_type="image/png")
        return request_links(ttl_s=KEPT_S).file(key, filename=f"{field}.png").url
