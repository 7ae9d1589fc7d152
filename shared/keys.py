"""The names of everything Darkroom keeps in Redis.

All share one hash tag. What each key holds is told in `docs/architecture.md`; the Lua scripts spell the same names.
"""

from typing import Final

PREFIX: Final = "{dr}:"


def account_key(account: str) -> str:
    """Hash: an account's name, plan, limits, counters and balance."""
    return f"{PREFIX}a:{account}"


def names_key() -> str:
    """Hash: account name -> account id."""
    return f"{PREFIX}accounts"


def api_key_key(digest: str) -> str:
    """Hash: what an API key opens, by the key's SHA-256."""
    return f"{PREFIX}key:{digest}"


def prefixes_key() -> str:
    """Hash: every API key's prefix -> its SHA-256."""
    return f"{PREFIX}keys"


def account_keys_key(account: str) -> str:
    """Set: the prefixes of an account's API keys."""
    return f"{PREFIX}keys:{account}"


def rate_prefix() -> str:
    """Strings: how many requests a key, or logins a client, has had of late; what their names begin with."""
    return f"{PREFIX}rate"


def client_token_key(token: str) -> str:
    """Hash: what a client token opens, with its secret's SHA-256."""
    return f"{PREFIX}client:{token}"


def demo_key() -> str:
    """String: the client token whose sessions are given to whoever asks for a demo."""
    return f"{PREFIX}demo"


def secret_key() -> str:
    """String: the secret that signs links, shared by all processes where SECRET_KEY is unset."""
    return f"{PREFIX}secret"


def spec_key(uid: int | str) -> str:
    """String: a job's submission, JSON."""
    return f"{PREFIX}s:{uid}"


def job_key(uid: int | str) -> str:
    """Hash: a job's state."""
    return f"{PREFIX}j:{uid}"


def result_key(uid: int | str) -> str:
    """String: a job's result, JSON."""
    return f"{PREFIX}r:{uid}"


def previews_key(uid: int | str) -> str:
    """List: a job's previews, JSON each, the oldest first."""
    return f"{PREFIX}p:{uid}"


def index_key(account: str) -> str:
    """List: an account's uids, ascending."""
    return f"{PREFIX}ix:{account}"


def events_key() -> str:
    """Stream: what happened to jobs."""
    return f"{PREFIX}ev"


def outbox_key() -> str:
    """Sorted set: webhooks to deliver, scored by when they are due (epoch milliseconds)."""
    return f"{PREFIX}ob"


def outbox_entry_key(entry: str) -> str:
    """Hash: one webhook to deliver."""
    return f"{PREFIX}ob:{entry}"


def dead_key(account: str) -> str:
    """Sorted set: an account's webhooks that were given up, by when (epoch milliseconds)."""
    return f"{PREFIX}ob:dead:{account}"


def disabled_key(account: str) -> str:
    """Sorted set: an account's endpoints that are called no more, by since when (epoch milliseconds)."""
    return f"{PREFIX}ob:off:{account}"


def job_log_key(uid: int | str) -> str:
    """List: the latest webhook calls about a job, the oldest first."""
    return f"{PREFIX}told:{uid}"


def account_log_key(account: str) -> str:
    """List: the latest webhook calls for an account, the oldest first."""
    return f"{PREFIX}told:a:{account}"


def track_key(account: str, digest: str) -> str:
    """List: the uids that bear one track_id, ascending."""
    return f"{PREFIX}track:{account}:{digest}"


def workers_key() -> str:
    """Sorted set: live workers' nodes, scored by when they were last heard (epoch milliseconds)."""
    return f"{PREFIX}live"


def worker_key(node: str) -> str:
    """Hash: a worker's incarnation, pool, models and last claim."""
    return f"{PREFIX}w:{node}"


def done_key() -> str:
    """Sorted set: jobs that have ended, scored by when (epoch milliseconds)."""
    return f"{PREFIX}done"


def brief_key() -> str:
    """Sorted set: jobs that are kept for a time of their own, scored by when it is over (epoch milliseconds)."""
    return f"{PREFIX}brief"


def tombstone_key(uid: int) -> str:
    """Hash: of 128 neighbouring uids, the accounts of those that are past their retention."""
    return f"{PREFIX}t:{uid // 128}"


def held_key(node: str) -> str:
    """Set: the uids of the jobs a worker holds."""
    return f"{PREFIX}held:{node}"


def quarantine_key() -> str:
    """Sorted set: jobs that were lost with too many workers, by when."""
    return f"{PREFIX}quarantine"


def idle_key(pool: str, model: str) -> str:
    """Sorted set: idle workers of a pool that serve a model."""
    return f"{PREFIX}idle:{pool}/{model}"


def lanes_key() -> str:
    """Hash: how many jobs wait in each lane."""
    return f"{PREFIX}lanes"


def leases_key() -> str:
    """Sorted set: running jobs, by when their lease ends (epoch milliseconds)."""
    return f"{PREFIX}lease"


def gates_key() -> str:
    """Set: pools and lanes that are paused or draining."""
    return f"{PREFIX}gates"


def pool_key(pool: str) -> str:
    """Hash: a pool's virtual times, whether it or a lane of it is paused or draining, and how fast its lanes are."""
    return f"{PREFIX}lane:{pool}"


def usage_key(account: str, day: int) -> str:
    """Hash: what an account used on a day (UTC, counted from 1970-01-01)."""
    return f"{PREFIX}u:{account}:{day}"


def batch_key(number: int | str) -> str:
    """Hash: a batch's state and counts."""
    return f"{PREFIX}b:{number}"


def batch_lines_key(number: int | str) -> str:
    """List: a batch's lines that are not jobs yet; while they come in, by the upload's handle."""
    return f"{PREFIX}bl:{number}"


def batch_index_key(account: str) -> str:
    """List: the numbers of an account's batches, ascending."""
    return f"{PREFIX}bx:{account}"


def batch_archive_key(number: int | str) -> str:
    """List: the parts of a batch's archive, JSON."""
    return f"{PREFIX}ba:{number}"


def archives_key() -> str:
    """Sorted set: batches whose archive is to be written, scored by when it is due (epoch milliseconds)."""
    return f"{PREFIX}bz"


def feeding_key() -> str:
    """Set: batches that have something to feed, take out or put back."""
    return f"{PREFIX}feeding"


def finished_batches_key() -> str:
    """Sorted set: batches that are over, scored by when (epoch milliseconds)."""
    return f"{PREFIX}bdone"


def active_key(lane: str, band: int) -> str:
    """Sorted set: accounts that may be served in a lane and band, by start tag."""
    return f"{PREFIX}act:{lane}:{band}"


def queue_key(lane: str, band: int, account: str) -> str:
    """Sorted set: an account's waiting jobs in a lane and band, the oldest first."""
    return f"{PREFIX}q:{lane}:{band}:{account}"


def all_dead_key() -> str:
    """Sorted set: all accounts' webhooks that were given up, by when (epoch milliseconds)."""
    return f"{PREFIX}ob:dead"


def sweep_key() -> str:
    """Hash: when the last sweep was (epoch milliseconds), and on which server."""
    return f"{PREFIX}sweep"


def count_key() -> str:
    """Hash: waiting and running jobs, and lines of batches that were not fed, in all."""
    return f"{PREFIX}count"
