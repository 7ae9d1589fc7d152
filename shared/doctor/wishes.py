"""Settings that contradict each other, and accounts that contradict their plans."""

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from redis import Redis

from shared.books import Books
from shared.doctor.finding import Finding, error, good, warning
from shared.errors import ConfigurationError, DarkroomError
from shared.ledger import Prices
from shared.plans import Plans
from shared.settings import Settings

_AREA: Final = "settings"
_HERE: Final = frozenset({"", "localhost", "127.0.0.1", "::1"})


def look_at_settings(settings: Settings) -> Iterator[Finding]:
    """Yield each contradiction, or that there is none."""
    found = [*_files(settings), *_times(settings), *_places(settings), *_batches(settings)]
    yield from found or [good(_AREA, "nothing contradicts")]


def look_at_accounts(settings: Settings, redis: Redis) -> Iterator[Finding]:
    """Yield each account whose plan is not there, or whose bounds are not its plan's."""
    try:
        plans, statements = Plans.load(settings), Books(redis).statements()
    except DarkroomError:
        return  # told of already, with the plans or with Redis
    wrong = 0
    for each in statements:
        plan = plans.get(each.plan)
        if plan is None:
            do = f"Put it on another with `darkroom accounts plan {each.name} PLAN`, or set PLANS_FILE."
            yield error("accounts", f"{each.name} is on the plan {each.plan}, which is not there", do)
        elif not each.agrees_with(plan):
            do = f"darkroom accounts plan {each.name} {each.plan}"
            yield warning("accounts", f"{each.name} has other bounds than its plan {each.plan} has now", do)
        wrong += plan is None or not each.agrees_with(plan)
    if not wrong:
        yield good("accounts", f"{len(statements)} accounts agree with their plans")


def _files(settings: Settings) -> Iterator[Finding]:
    try:
        plans = Plans.load(settings)
        Prices.load(settings)
    except ConfigurationError as failure:
        yield error(_AREA, failure.message, "Mend the file, or unset the setting: nothing starts like this.")
        return
    for name, _ in settings.rate_limits:
        if name not in plans:
            yield warning(_AREA, f"RATE_LIMITS names the plan {name}, which is not there", "Mend its name.")


def _times(settings: Settings) -> Iterator[Finding]:
    if settings.link_ttl_s > settings.retention_s:
        yield warning(_AREA, "LINK_TTL_S is longer than RETENTION_S", "Lower LINK_TTL_S: links outlive their pictures.")
    if settings.short_wait_s > settings.sync_wait_s:
        yield warning(_AREA, "SHORT_WAIT_S is longer than SYNC_WAIT_S", "Lower SHORT_WAIT_S.")
    if settings.lease_s >= settings.stall_s:
        do = "Raise STALL_S above LEASE_S: a stuck worker must be ended before its lease matters."
        yield error(_AREA, "LEASE_S is not shorter than STALL_S", do)


def _places(settings: Settings) -> Iterator[Finding]:
    if settings.s3_public_endpoint_url and not settings.s3_bucket:
        yield error(_AREA, "S3_PUBLIC_ENDPOINT_URL is set without S3_BUCKET", "Set S3_BUCKET, or unset it.")
    redis_host = urlsplit(settings.redis_url).hostname or ""
    if redis_host not in _HERE and not settings.s3_bucket:
        do = "Set S3_BUCKET, or let every machine mount one DARKROOM_DATA_DIR."
        yield warning(_AREA, "Redis is on another machine, and pictures go to a folder of this one", do)
    if settings.host in {"0.0.0.0", "::"} and not settings.public_url:  # noqa: S104 - told, not listened on
        do = "Set PUBLIC_URL to where callers reach the API."
        yield warning(_AREA, f"HOST is {settings.host}, and links begin with {settings.base_url}", do)


def _batches(settings: Settings) -> Iterator[Finding]:
    if settings.batch_images < settings.batch_jobs:
        do = "Raise BATCH_IMAGES to BATCH_JOBS at least."
        yield warning(_AREA, "BATCH_IMAGES is less than BATCH_JOBS: batches never fill", do)
