"""After a run, when all is calm: no lease, key, file or message of anything is left, and every picture is there."""

import io
import re
from collections.abc import Iterable
from pathlib import Path

from PIL import Image
from redis import Redis

from shared.batch import ArchivePart
from shared.job import Artifact, Job
from shared.keys import PREFIX, account_key, batch_archive_key, batch_key
from tests.chaos.aftermath import Aftermath
from tests.chaos.processes import Deployment
from tests.chaos.report import Report
from tests.chaos.stub_model import colour_of

#: Keys that are there for good; the others belong to a job, or to an hour.
LASTING = re.compile(
    r"uid|ev|secret|accounts|keys|lanes|count|live|busy|waking|sweep|lane:.*|a:\d+|a:last|key:\w+|keys:\d+|client:\w+|w:.*"
    r"|idle:.*|b:\d+|ba:\d+|bu:\d+|bx:\d+|bdone"
)
#: Keys of all jobs together.
OF_JOBS = re.compile(r"done|brief|quarantine|ix:\d+|track:\d+:\w+")
#: Keys of a job; a group is its uid.
OF_A_JOB = re.compile(r"(?:s|j|r|p|told):(\d+)|ob:(\d+):\w+(?:-\d+)?")
#: Keys that go by themselves.
PASSING = re.compile(r"n:\w+|idem:\d+:.*|rate.*|told:a:\d+|ob:off:\d+|u:\d+:\d+")


def check_queue(found: Aftermath, report: Report) -> None:
    """No lease, place or counter of anything is left."""
    redis = found.redis
    patterns = {
        "places in queues": ("q:*", "act:*", "flows:*"),
        "lines and places of batches": ("bl:*", "bq:*", "bh:*", "feeding"),
        "workers' lists of what they hold": ("held:*",),
    }
    report.expect_none("leases left", redis.zrange(f"{PREFIX}lease", 0, -1))
    report.expect_none("deadlines left", redis.zrange(f"{PREFIX}deadline", 0, -1))
    for name, ours in patterns.items():
        report.expect_none(f"{name} left", [key for pattern in ours for key in redis.keys(PREFIX + pattern)])
    report.expect_none("batches that are not complete", list(_open_batches(redis)))
    report.expect_none("counters that are not zero", list(_counters(found)))
    report.expect_none("keys that belong to nothing", list(_strays(found)))


def _batches(redis: Redis) -> set[str]:
    return {name for key in redis.keys(f"{PREFIX}bx:*") for name in redis.lrange(key, 0, -1)}


def _open_batches(redis: Redis) -> Iterable[str]:
    for number in _batches(redis):
        status = redis.hget(batch_key(number), "status")
        if status != "completed":
            yield f"{number}: {status}"


def _counters(found: Aftermath) -> Iterable[str]:
    for key in (f"{PREFIX}count", f"{PREFIX}lanes"):
        yield from (f"{key} {name} {value}" for name, value in found.redis.hgetall(key).items() if value != "0")
    names = ("waiting", "running", "deferred", "reserved")
    for client in found.clients.values():
        key = account_key(client.credentials.account)
        counted = dict(zip(names, found.redis.hmget(key, names), strict=True))
        yield from (f"{key} {name} {value}" for name, value in counted.items() if value not in {None, "0"})


def _strays(found: Aftermath) -> Iterable[str]:
    for key in found.redis.scan_iter(f"{PREFIX}*", count=1000):
        name = key.removeprefix(PREFIX)
        job = OF_A_JOB.fullmatch(name)
        if job is not None:
            if int(job[1] or job[2]) not in found.jobs:
                yield f"{key} is of no job"
        elif PASSING.fullmatch(name):
            if found.redis.ttl(key) == -1:
                yield f"{key} never ends"
        elif not (LASTING.fullmatch(name) or OF_JOBS.fullmatch(name)):
            yield f"{key} is unknown"


def check_files(found: Aftermath, deployment: Deployment, report: Report, *, plain: bool) -> None:
    """Every success has its pictures, whole and of its own seed, and no file belongs to nothing."""
    bucket = deployment.bucket
    files = {str(path.relative_to(bucket)) for path in bucket.rglob("*") if path.is_file()}
    artifacts = [(job, artifact) for job in found.jobs.values() for artifact in job.result.artifacts]
    handles = {job.handle for job in found.jobs.values()}
    faults = [fault for job, artifact in artifacts if (fault := _fault(bucket, job, artifact, plain=plain))]
    superseded = {name for name in files if name.startswith("results/")} - {one.key for _, one in artifacts}
    report.note("pictures", f"{len(artifacts)}, and {len(superseded)} of runs that were fenced off or cancelled")
    report.expect_none("pictures missing, short or of another job", faults)
    archives = [part for number in _batches(found.redis) for part in _archive(found.redis, number)]
    images = sum(len(job.result.artifacts) for job in found.jobs.values() if found.wish_of(job).dialect == "batch")
    report.expect("pictures of batches in archives", sum(part.images for part in archives), images)
    report.expect_none("archives missing", [part.key for part in archives if part.key not in files])
    strays = files - {part.key for part in archives}
    report.expect_none("files of no job", [name for name in strays if name.split("/")[1] not in handles])
    report.expect_none("results left on workers' disks", [path.name for path in deployment.spooled])


def _archive(redis: Redis, number: str) -> list[ArchivePart]:
    return [ArchivePart.from_json(part) for part in redis.lrange(batch_archive_key(number), 0, -1)]


def _fault(bucket: Path, job: Job, artifact: Artifact, *, plain: bool) -> str:
    path = bucket / artifact.key
    if not path.is_file():
        return f"{job.uid}: {artifact.key} is missing"
    data = path.read_bytes()
    if len(data) != artifact.bytes:
        return f"{job.uid}: {artifact.key} has {len(data)} of {artifact.bytes} bytes"
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        if image.size != (artifact.width, artifact.height):
            return f"{job.uid}: {artifact.key} measures {image.size}"
        colour = image.convert("RGB").getpixel((0, 0))
    # A JPEG's colours are near, not equal.
    if plain and max(abs(a - b) for a, b in zip(colour, colour_of(artifact.seed), strict=True)) > 6:
        return f"{job.uid}: {artifact.key} is {colour}, of another seed than {artifact.seed}"
    return ""


def check_messages(redis: Redis, report: Report) -> None:
    """No Celery message is left anywhere, read or unread."""
    queues = [key for key in redis.keys("*") if not key.startswith((PREFIX, "_kombu")) and redis.type(key) == "list"]
    report.expect_none("messages left unread", [f"{key}: {redis.llen(key)}" for key in queues])
    report.expect_none("messages read and not acknowledged", list(redis.hkeys("unacked")))


def check_erased(redis: Redis, bucket: Path, report: Report) -> None:
    """Once every job is erased, nothing is left of any, neither a file nor a key that does not go by itself.

    Archives go with their batches.
    """
    files = [path for path in bucket.rglob("*") if path.is_file() and path.relative_to(bucket).parts[0] != "archives"]
    report.expect_none("files left once all jobs are erased", [str(path) for path in files])
    names = {key: key.removeprefix(PREFIX) for key in redis.scan_iter(f"{PREFIX}*", count=1000)}
    kept = [key for key, name in names.items() if OF_A_JOB.fullmatch(name) or OF_JOBS.fullmatch(name)]
    report.expect_none("keys left once all jobs are erased", sorted(key for key in kept if redis.ttl(key) == -1))
