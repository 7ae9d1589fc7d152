"""What the API works with, put together once per process."""

from functools import cached_property
from typing import Self, cast

from flask import current_app
from redis import Redis

from api.batch_intake import BatchIntake
from api.events import EventHub
from api.intake import Intake
from api.limits import Limits
from shared.accounts import Accounts
from shared.api_keys import ApiKeys
from shared.backlog import Backlog, Batches
from shared.books import Books
from shared.catalog import Catalog
from shared.celery_app import Bell, CeleryBell, make_celery
from shared.deliveries import Deliveries
from shared.ledger import Prices
from shared.metrics.standing import Standing
from shared.plans import Plans
from shared.redis_client import connect, signing_secret
from shared.sessions import Sessions
from shared.settings import Settings
from shared.storage import Storage, open_storage

#: Seconds that a request waits for a Redis that does not answer. A refused connection fails at once.
REDIS_TIMEOUT_S = 2.0
SPARE_CONNECTIONS = 8
_EXTENSION = "darkroom"


class Services:
    """The parts that requests use. None of them connects before it is used."""

    def __init__(self, settings: Settings, *, redis: "Redis", bell: Bell) -> None:
        self.settings = settings
        self.catalog = Catalog.load(settings)
        self.backlog = Backlog(redis, bell, limit=settings.backlog_limit, lease_s=settings.lease_s)
        self.batches = Batches(redis, bell, self.backlog, limit=settings.backlog_limit)
        self.plans = Plans.load(settings)
        self.prices = Prices.load(settings)
        self.accounts = Accounts(redis, plans=self.plans)
        self.keys = ApiKeys(redis)
        self.books = Books(redis, bell)
        self.limits = Limits(settings, redis, plans=self.plans)
        self.deliveries = Deliveries(redis, bell)
        self.hub = EventHub(redis, capacity=max(1, settings.web_threads * 3 // 4))
        self.standing = Standing(redis, limit=settings.backlog_limit)
        self._redis = redis

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return the services that the settings name."""
        redis = connect(settings, timeout_s=REDIS_TIMEOUT_S)
        # One for each thread, and some for the events' reader; redis-py's own limit is 100.
        redis.connection_pool.max_connections = settings.web_threads + SPARE_CONNECTIONS
        return cls(settings, redis=redis, bell=CeleryBell(make_celery(settings)))

    @cached_property
    def storage(self) -> Storage:
        """The storage; opened at first use, because the secret that signs links may live in Redis."""
        return open_storage(self.settings, secret=signing_secret(self.settings, self._redis))

    @cached_property
    def sessions(self) -> Sessions:
        """Logins by client token; the secret that signs them may live in Redis too."""
        return Sessions(signing_secret(self.settings, self._redis))

    @cached_property
    def intake(self) -> Intake:
        """Submits, reads and cancels."""
        return Intake(
            self.backlog,
            self.catalog,
            storage=lambda: self.storage,
            plans=self.plans,
            prices=self.prices,
            networks=self.settings.outbound_allow,
        )

    @cached_property
    def batch_intake(self) -> BatchIntake:
        """Takes batches in."""
        return BatchIntake(self.intake, self.batches)


def install(services: Services, extensions: dict[str, object]) -> None:
    """Make the services known to an app."""
    extensions[_EXTENSION] = services


def services() -> Services:
    """Return the current app's services."""
    return cast("Services", current_app.extensions[_EXTENSION])
